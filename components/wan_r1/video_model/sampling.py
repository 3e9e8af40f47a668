"""Samplers: the deterministic Euler ODE, and rollouts with a stochastic window for reinforcement learning."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from wan_r1.video_model.sde import sde_step

if TYPE_CHECKING:
    from wan_r1.video_model.wan import Condition, VideoModel


@torch.no_grad()
def ode_sample(
    model: VideoModel,
    noise: torch.Tensor,
    condition: Condition,
    sigmas: torch.Tensor,
    transformer: torch.nn.Module | None = None,
) -> torch.Tensor:
    """Walk the flow from noise to data by Euler steps ``x + v dt``.

    Args:
        model: gives velocities.
        noise: `[batch, channels, frames, height, width]`, float32.
        condition: of the same batch.
        sigmas: grid from 1 to 0, `[steps + 1]`.
        transformer: another transformer than the model's own.

    Returns:
        Clean latents with the conditioning frame in its place.
    """
    x = noise
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = x + model.velocity(x, sigma, condition, transformer) * (sigma_next - sigma)
    return with_first_frame(model, x, condition)


def with_first_frame(model: VideoModel, x: torch.Tensor, condition: Condition) -> torch.Tensor:
    """Put the clean conditioning latent back into the first latent frame."""
    mask = model.mask(x)
    return mask * x + (1 - mask) * condition.first_latent


@dataclass(kw_only=True)
class Transition:
    """One stochastic step of a rollout, all that a replay needs.

    Attributes:
        index: which step of the grid it is.
        sigma: noise level before the step.
        sigma_next: noise level after it.
        rows: which videos of the rollout took it, int64 `[batch]`.
        x: latents before, `[batch, channels, frames, height, width]`, float32.
        sample: latents after.
        mean: mean of the transition under the rollout's policy.
        log_prob: `[batch]` under the rollout's policy.
    """

    index: int
    sigma: float
    sigma_next: float
    rows: torch.Tensor
    x: torch.Tensor
    sample: torch.Tensor
    mean: torch.Tensor
    log_prob: torch.Tensor

    def take(self, places: torch.Tensor | slice, rows: torch.Tensor | None = None) -> Transition:
        """The transition of the videos at ``places``, which are called ``rows`` from then on if these are given."""
        return Transition(
            index=self.index,
            sigma=self.sigma,
            sigma_next=self.sigma_next,
            rows=self.rows[places] if rows is None else rows,
            x=self.x[places],
            sample=self.sample[places],
            mean=self.mean[places],
            log_prob=self.log_prob[places],
        )


@torch.no_grad()
def sde_rollout(
    model: VideoModel,
    noise: torch.Tensor,
    condition: Condition,
    sigmas: torch.Tensor,
    *,
    stochastic: torch.Tensor,
    z: torch.Tensor,
    kind: str,
    noise_scale: float,
) -> tuple[torch.Tensor, list[Transition]]:
    """A rollout that is stochastic on a few steps and the ODE elsewhere.

    Noise on a few early steps explores plans and leaves the clip itself undistorted, since the ODE's tail removes what
    it adds (MixGRPO, arXiv 2507.21802; Flow-GRPO-Fast).

    Args:
        model: gives velocities.
        noise: `[batch, channels, frames, height, width]`, float32.
        condition: of the same batch.
        sigmas: grid from 1 to 0, `[steps + 1]`.
        stochastic: each video's stochastic steps in order, int64 `[batch, stochastic steps]`.
        z: standard normal noise of these steps, `[stochastic steps, batch, channels, frames, height, width]`.
        kind: diffusion coefficient.
        noise_scale: its scale.

    Returns:
        Clean latents, and the transitions in the order of the steps.
    """
    x, transitions = noise, []
    levels = sigmas.tolist()
    mask = model.mask(x)
    for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        velocity = model.velocity(x, sigma, condition)
        rows, which = (stochastic == index).nonzero(as_tuple=True)
        following = x + velocity * (sigma_next - sigma)
        if len(rows):
            step = sde_step(
                x[rows],
                velocity[rows],
                sigma=sigma,
                sigma_next=sigma_next,
                sigma_first=levels[1],
                kind=kind,
                noise=noise_scale,
                z=z[which, rows].to(x.device),
                mask=mask,
            )
            transitions.append(
                Transition(
                    index=index,
                    sigma=sigma,
                    sigma_next=sigma_next,
                    rows=rows,
                    x=x[rows],
                    sample=step.sample,
                    mean=step.mean,
                    log_prob=step.log_prob,
                )
            )
            following[rows] = step.sample
        x = following
    return with_first_frame(model, x, condition), transitions
