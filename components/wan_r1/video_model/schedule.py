"""Noise levels: the grid of sigmas that sampling walks down and that training draws from.

Convention everywhere: ``x_sigma = (1 - sigma) * x0 + sigma * noise``, velocity ``v = noise - x0``, sigma from 1 (noise)
to 0 (data).
"""

from __future__ import annotations

import torch

TIMESTEPS = 1000.0
"""Wan's timestep is 1000 sigma."""


def shift_sigma(u: torch.Tensor, shift: float) -> torch.Tensor:
    """Wan's time shift ``sigma = shift u / (1 + (shift - 1) u)``: a larger shift spends more steps on high noise."""
    return shift * u / (1 + (shift - 1) * u)


def sigma_grid(steps: int, shift: float) -> torch.Tensor:
    """``steps + 1`` sigmas from exactly 1 down to exactly 0, float32 `[steps + 1]`.

    A float32 grid on purpose: a float64 one would make the rollout's and the replay's arithmetic differ.
    """
    return shift_sigma(torch.linspace(1, 0, steps + 1, dtype=torch.float32), shift)


def random_sigmas(count: int, shift: float, generator: torch.Generator) -> torch.Tensor:
    """Independent shifted-uniform sigmas in (0, 1), float32 `[count]`, one from each of ``count`` equal strata.

    Stratification keeps the batch's mean loss from wandering with the draw of sigmas; each sigma's own law is unchanged
    because the strata are permuted.
    """
    u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return shift_sigma(u.clamp(1e-4, 1.0), shift)
