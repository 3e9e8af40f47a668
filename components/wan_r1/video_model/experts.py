"""Two transformers that share the noise levels, as one module (Wan2.2-A14B)."""

from __future__ import annotations

from collections.abc import Callable
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
        self.in_step = False
        """Whether an expert must run in all processes where it runs in one, as sharded weights take (`shard`)."""

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

        if self.in_step:
            return (self._in_step(run, high),)
        everything = slice(None)
        if bool(high.all()):
            return (run(self.transformer, everything),)
        if not bool(high.any()):
            return (run(self.transformer_2, everything),)
        rows = torch.cat([high.nonzero()[:, 0], (~high).nonzero()[:, 0]])
        split = int(high.sum())
        outputs = torch.cat([run(self.transformer, rows[:split]), run(self.transformer_2, rows[split:])])
        return (outputs[rows.argsort()],)

    def _in_step(
        self, run: Callable[[WanTransformer3DModel, torch.Tensor | slice], torch.Tensor], high: torch.Tensor
    ) -> torch.Tensor:
        """Each expert that any process has a video for runs, in the same order in all; without one, for nothing."""
        wanted = torch.stack([high.any(), (~high).any()]).to(torch.int32)
        torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
        parts: list[torch.Tensor] = []
        places: list[torch.Tensor] = []
        nothing: torch.Tensor | int = 0
        for expert, its, any_process in zip(
            (self.transformer, self.transformer_2), (high, ~high), wanted.tolist(), strict=True
        ):
            if bool(its.any()):
                places.append(its.nonzero()[:, 0])
                parts.append(run(expert, places[-1]))
            elif any_process:
                nothing = 0 * run(expert, slice(0, 1)).sum()
        return torch.cat(parts)[torch.cat(places).argsort()] + nothing


def components(transformer: torch.nn.Module) -> dict[str, WanTransformer3DModel]:
    """A model's transformers by the name of their folder in a diffusers pipeline."""
    if isinstance(transformer, WanExperts):
        return {"transformer": transformer.transformer, "transformer_2": transformer.transformer_2}
    assert isinstance(transformer, WanTransformer3DModel)
    return {"transformer": transformer}
