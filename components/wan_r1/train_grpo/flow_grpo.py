"""Flow-GRPO, the paper's objective (Wan-R1, arXiv 2603.27866, Eq. 6-7; Flow-GRPO, arXiv 2505.05470).

For every stochastic transition of a rollout, with ratio ``r = exp(log p_theta - log p_old)``:

    L = mean[ max(-A r, -A clip(r, 1 - eps, 1 + eps)) ] + beta KL(p_theta || p_ref)

The KL is exact (Gaussians of one variance) and its reference is the policy that training started from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wan_r1.video_model.sampling import Transition
from wan_r1.video_model.sde import SdeStep, sde_step, transition_kl
from wan_r1.video_model.wan import VideoModel


@dataclass(frozen=True, kw_only=True)
class FlowGrpoLoss:
    """Loss of one transition with what is logged of it.

    Attributes:
        loss: scalar with gradient.
        ratio: `[batch]`, detached; exactly 1 before the first update.
        clip_fraction: share of videos whose ratio is outside the clip range.
        kl: mean KL to the starting policy.
    """

    loss: torch.Tensor
    ratio: torch.Tensor
    clip_fraction: float
    kl: float


def flow_grpo_loss(
    model: VideoModel,
    transition: Transition,
    advantages: torch.Tensor,
    *,
    velocity: torch.Tensor,
    reference_velocity: torch.Tensor | None,
    sigma_first: float,
    kind: str,
    noise: float,
    clip_range: float,
    kl_beta: float,
) -> FlowGrpoLoss:
    """The clipped surrogate and KL of one stochastic transition, replayed by the same step that made it.

    Args:
        model: gives the mask.
        transition: a rollout's, for the videos of this batch.
        advantages: `[batch]`.
        velocity: of the trained weights at the transition's start, with gradients.
        reference_velocity: of the starting weights there; None with a ``kl_beta`` of 0.
        sigma_first: the grid's second sigma.
        kind: diffusion coefficient.
        noise: its scale.
        clip_range: eps of the clip.
        kl_beta: weight of the KL.
    """
    mask = model.mask(transition.x)

    def replayed(at: torch.Tensor) -> SdeStep:
        return sde_step(
            transition.x,
            at,
            sigma=transition.sigma,
            sigma_next=transition.sigma_next,
            sigma_first=sigma_first,
            kind=kind,
            noise=noise,
            sample=transition.sample,
            mask=mask,
        )

    step = replayed(velocity)
    ratio = torch.exp(step.log_prob - transition.log_prob)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = torch.maximum(-advantages * ratio, -advantages * clipped).mean()
    kl = torch.zeros(())
    if reference_velocity is not None and kl_beta > 0:
        kl = transition_kl(step, replayed(reference_velocity).mean, mask).mean()
        loss = loss + kl_beta * kl
    outside = (ratio.detach() - 1).abs() > clip_range
    return FlowGrpoLoss(
        loss=loss, ratio=ratio.detach(), clip_fraction=outside.float().mean().item(), kl=float(kl.detach())
    )


def rows_of(transition: Transition, rows: torch.Tensor | slice) -> Transition:
    """A transition of some of its videos."""
    return Transition(
        sigma=transition.sigma,
        sigma_next=transition.sigma_next,
        x=transition.x[rows],
        sample=transition.sample[rows],
        mean=transition.mean[rows],
        log_prob=transition.log_prob[rows],
    )
