"""One step of the stochastic sampler, for rollout and for replay alike.

The reverse-time SDE with the marginals of the flow ``dx = v dt`` (Wan-R1, arXiv 2603.27866, Eq. 4-5; Flow-GRPO,
arXiv 2505.05470) in Euler-Maruyama form, with diffusion coefficient g(sigma) and dt = sigma_next - sigma < 0:

    mean = x * (1 + g^2 / (2 sigma) dt) + v * (1 + g^2 (1 - sigma) / (2 sigma)) dt
    x'   = mean + s z,    s = g sqrt(-dt),    z ~ N(0, I)

Flow-GRPO, DanceGRPO and Wan differ in g alone; coefficient-preserving sampling (CPS, arXiv 2509.05952) has its own mean
and s. With g = 0 every variant is the Euler step of the ODE. All arithmetic is float32: bfloat16 means would move the
ratio of a replay away from 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

COEFFICIENTS = ("flow_grpo", "dance_grpo", "wan", "cps")
"""`flow_grpo`: a sqrt(sigma / (1 - sigma)); `dance_grpo`: a; `wan`: a sigma_1 sigma; `cps`: coefficient-preserving."""


@dataclass(frozen=True, kw_only=True)
class SdeStep:
    """One stochastic step.

    Attributes:
        sample: the next latents, `[batch, channels, frames, height, width]`, detached.
        mean: mean of the transition, same shape; carries gradients to the velocity.
        std: its standard deviation, a float.
        log_prob: log density of `sample` per trained element, `[batch]`. A mean, not a sum: sums over a video's latents
            overflow the ratio (peers' habit since DDPO).
    """

    sample: torch.Tensor
    mean: torch.Tensor
    std: float
    log_prob: torch.Tensor


def diffusion_coefficient(kind: str, noise: float, sigma: float, sigma_first: float) -> float:
    """g(sigma) of the SDE.

    Args:
        kind: one of `COEFFICIENTS` except ``cps``, which has no g.
        noise: noise scale a (eta in DanceGRPO), from 0.
        sigma: noise level the step starts from, in (0, 1].
        sigma_first: the grid's second sigma, below 1. It bounds sigma in ``flow_grpo``, whose g diverges at 1; a guard
            by equality would miss schedulers that start at 1 - 1e-6.
    """
    if kind == "flow_grpo":
        bounded = min(sigma, sigma_first)
        return noise * math.sqrt(bounded / (1 - bounded))
    if kind == "dance_grpo":
        return noise
    if kind == "wan":
        return noise * sigma_first * sigma
    raise ValueError(f"coefficient={kind!r} is unknown; allowed: {', '.join(COEFFICIENTS)}")


def sde_step(
    x: torch.Tensor,
    velocity: torch.Tensor,
    *,
    sigma: float,
    sigma_next: float,
    sigma_first: float,
    kind: str,
    noise: float,
    z: torch.Tensor | None = None,
    sample: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> SdeStep:
    """Take one step, or replay one that was taken.

    Args:
        x: latents at sigma, `[batch, channels, frames, height, width]`, float32.
        velocity: the model's velocity there, same shape, float32.
        sigma: noise level before the step.
        sigma_next: noise level after it, below sigma.
        sigma_first: the grid's second sigma (see `diffusion_coefficient`).
        kind: one of `COEFFICIENTS`.
        noise: noise scale; 0 gives the Euler step of the ODE.
        z: standard normal noise of x's shape, for a rollout.
        sample: the next latents that a rollout stored, for a replay; then z is not used.
        mask: 1 where an element is sampled and trained, 0 where it is given (the conditioning frame), broadcastable to
            x. Masked elements take no noise and do not count in the log-prob.

    Raises:
        ValueError: if a tensor is not float32, or neither or both of z and sample are given.
    """
    for name, tensor in {"x": x, "velocity": velocity, "z": z, "sample": sample}.items():
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}; the step's arithmetic needs float32")
    if (z is None) == (sample is None):
        raise ValueError("give either z (rollout) or sample (replay)")
    dt = sigma_next - sigma
    if kind == "cps":
        std = sigma_next * math.sin(noise * math.pi / 2)
        data = x - sigma * velocity
        noise_estimate = x + (1 - sigma) * velocity
        mean = (1 - sigma_next) * data + math.sqrt(max(sigma_next**2 - std**2, 0.0)) * noise_estimate
    else:
        g = diffusion_coefficient(kind, noise, sigma, sigma_first)
        std = g * math.sqrt(-dt)
        mean = x * (1 + g**2 / (2 * sigma) * dt) + velocity * (1 + g**2 * (1 - sigma) / (2 * sigma)) * dt
    if mask is None:
        mask = torch.ones_like(x[:1, :1])
    if sample is None:
        assert z is not None
        sample = (mean + std * z * mask).detach()
    if std == 0.0:
        log_prob = torch.zeros(x.shape[0], device=x.device)
    else:
        density = -((sample - mean) ** 2) / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)
        log_prob = masked_mean(density, mask)
    return SdeStep(sample=sample, mean=mean, std=std, log_prob=log_prob)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of each batch entry over the elements with mask 1: `[batch, ...]` -> `[batch]`."""
    weights = mask.expand_as(values)
    dims = tuple(range(1, values.ndim))
    return (values * weights).sum(dims) / weights.sum(dims)


def transition_kl(step: SdeStep, other_mean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL divergence per element between two transitions of equal std: ``mean[(mean - other)^2] / (2 s^2)``, `[batch]`.

    Exact for Gaussians with one covariance; averaged like the log-prob (Flow-GRPO's form).
    """
    return masked_mean((step.mean - other_mean) ** 2, mask) / (2 * step.std**2)
