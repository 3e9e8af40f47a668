"""Two transformers that share the noise levels, as one module (Wan2.2-A14B)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanTransformer3DModel

from wan_r1.video_model.schedule import TIMESTEPS


class WanExperts(torch.nn.Module):
    """Sends each video to the transformer that owns its noise level, as the stock pipeline does.

    Whoever samples or trains calls it like a single transformer. A training step moves the expert of each sigma in its
    batch; one that no sigma falls to gets no gradient at all, so that its optimizer state rests too.

    Args:
        transformer: for sigma from ``boundary_ratio`` on (high noise).
        transformer_2: for sigma below it.
        boundary_ratio: sigma in (0, 1).
    """

    def __init__(
        self, transformer: WanTransformer3DModel, transformer_2: WanTransformer3DModel, boundary_ratio: float
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.transformer_2 = transformer_2
        self.boundary_ratio = boundary_ratio

    @property
    def config(self) -> Any:
        """Config of the transformer for high noise; the other takes the same inputs."""
        return self.transformer.config

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the frozen weights."""
        return self.transformer.dtype

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """Velocities of a batch whose entries may have different noise levels.

        Args:
            hidden_states: `[batch, channels, frames, height, width]`.
            timestep: 1000 sigma, `[batch]`, or `[batch, tokens]` with 0 on given tokens.
            encoder_hidden_states: `[batch, tokens, width]`.
            encoder_hidden_states_image: `[batch, image tokens, width]`.
            return_dict: not supported, as callers take a tuple.
        """
        if return_dict:
            raise ValueError("return_dict=True is not supported; the result is a tuple of one tensor")
        level = timestep if timestep.ndim == 1 else timestep.amax(1)
        high = level >= self.boundary_ratio * TIMESTEPS

        def run(expert: WanTransformer3DModel, rows: torch.Tensor | slice) -> torch.Tensor:
            image = encoder_hidden_states_image
            return expert(
                hidden_states=hidden_states[rows],
                timestep=timestep[rows],
                encoder_hidden_states=encoder_hidden_states[rows],
                encoder_hidden_states_image=None if image is None else image[rows],
                return_dict=False,
            )[0]

        everything = slice(None)
        if bool(high.all()):
            return (run(self.transformer, everything),)
        if not bool(high.any()):
            return (run(self.transformer_2, everything),)
        rows = torch.cat([high.nonzero()[:, 0], (~high).nonzero()[:, 0]])
        split = int(high.sum())
        outputs = torch.cat([run(self.transformer, rows[:split]), run(self.transformer_2, rows[split:])])
        return (outputs[rows.argsort()],)


def components(transformer: torch.nn.Module) -> dict[str, WanTransformer3DModel]:
    """A model's transformers by the name of their folder in a diffusers pipeline."""
    if isinstance(transformer, WanExperts):
        return {"transformer": transformer.transformer, "transformer_2": transformer.transformer_2}
    assert isinstance(transformer, WanTransformer3DModel)
    return {"transformer": transformer}
