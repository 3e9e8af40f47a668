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
        sigma: noise level before the step.
        sigma_next: noise level after it.
        x: latents before, `[batch, channels, frames, height, width]`, float32.
        sample: latents after.
        mean: mean of the transition under the rollout's policy.
        log_prob: `[batch]` under the rollout's policy.
    """

    sigma: float
    sigma_next: float
    x: torch.Tensor
    sample: torch.Tensor
    mean: torch.Tensor
    log_prob: torch.Tensor


@torch.no_grad()
def sde_rollout(
    model: VideoModel,
    noise: torch.Tensor,
    condition: Condition,
    sigmas: torch.Tensor,
    *,
    window: tuple[int, ...],
    kind: str,
    noise_scale: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, list[Transition]]:
    """A rollout that is stochastic on the steps in ``window`` and the ODE elsewhere.

    Noise on a few early steps explores plans and leaves the clip itself undistorted, since the ODE's tail removes what
    it adds (MixGRPO, arXiv 2507.21802; Flow-GRPO-Fast).

    Returns:
        Clean latents, and the transitions of the window in order.
    """
    x, transitions = noise, []
    levels = sigmas.tolist()
    mask = model.mask(x)
    for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        velocity = model.velocity(x, sigma, condition)
        if index not in window:
            x = x + velocity * (sigma_next - sigma)
            continue
        z = torch.randn(x.shape, generator=generator).to(x.device)
        step = sde_step(
            x,
            velocity,
            sigma=sigma,
            sigma_next=sigma_next,
            sigma_first=levels[1],
            kind=kind,
            noise=noise_scale,
            z=z,
            mask=mask,
        )
        transitions.append(
            Transition(
                sigma=sigma, sigma_next=sigma_next, x=x, sample=step.sample, mean=step.mean, log_prob=step.log_prob
            )
        )
        x = step.sample
    return with_first_frame(model, x, condition), transitions
