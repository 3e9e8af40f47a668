"""The forward-process objective with group-relative rewards (DiffusionNFT, arXiv 2509.16117).

Sampled videos are noised again like training data; no log-probabilities and no stored trajectories. With the trained
velocity v, the sampling policy's v_old, the share of good ``r = (clip(A / c, -1, 1) + 1) / 2`` and
``x0_hat(v) = x_sigma - sigma v``:

    L = mean[ r |x0_hat(v) - x0|^2 / w(v) + (1 - r) |x0_hat(2 v_old - v) - x0|^2 / w(2 v_old - v) ]
        + a mean|v - v_ref|^2

with ``w(v) = mean|x0_hat(v) - x0|`` per video, without gradient. Good videos pull the velocity towards themselves, bad
ones push it away: ``2 v_old - v`` mirrors it at the sampling policy. The anchor a keeps it near the starting policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wan_r1.video_model.sde import masked_mean

WEIGHT_FLOOR = 1e-5


@dataclass(frozen=True, kw_only=True)
class ForwardGrpoLoss:
    """Loss of one batch of noised videos, and the anchor's distance that is logged."""

    loss: torch.Tensor
    anchor: float


def good_share(advantages: torch.Tensor, scale: float) -> torch.Tensor:
    """``r = (clip(A / scale, -1, 1) + 1) / 2``: 1 for a wholly good video, 0 for a wholly bad one."""
    return ((advantages / scale).clamp(-1, 1) + 1) / 2


def forward_grpo_loss(
    clean: torch.Tensor,
    noised: torch.Tensor,
    sigma: torch.Tensor,
    good: torch.Tensor,
    *,
    velocity: torch.Tensor,
    sampling_velocity: torch.Tensor,
    reference_velocity: torch.Tensor | None,
    mask: torch.Tensor,
    anchor: float,
) -> ForwardGrpoLoss:
    """The loss from velocities that were computed at the same noised videos.

    Args:
        clean: sampled videos' latents x0, `[batch, channels, frames, height, width]`.
        noised: ``(1 - sigma) x0 + sigma noise``.
        sigma: `[batch]`.
        good: share of good r, `[batch]`, see `good_share`.
        velocity: of the trained weights, with gradients.
        sampling_velocity: of the sampling policy.
        reference_velocity: of the starting policy; None with an ``anchor`` of 0.
        mask: 1 on generated elements.
        anchor: weight of the distance to the starting policy.
    """
    level = sigma.view(-1, 1, 1, 1, 1)

    def distance(v: torch.Tensor) -> torch.Tensor:
        difference = noised - level * v - clean
        weight = masked_mean(difference.detach().abs(), mask).clamp_min(WEIGHT_FLOOR)
        return masked_mean(difference**2, mask) / weight

    mirrored = 2 * sampling_velocity - velocity
    loss = (good * distance(velocity) + (1 - good) * distance(mirrored)).mean()
    drift = torch.zeros(())
    if reference_velocity is not None and anchor > 0:
        drift = masked_mean((velocity - reference_velocity) ** 2, mask).mean()
        loss = loss + anchor * drift
    return ForwardGrpoLoss(loss=loss, anchor=float(drift.detach()))
