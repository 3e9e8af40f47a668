"""Flow-GRPO, the paper's objective (Wan-R1, arXiv 2603.27866, Eq. 6-7; Flow-GRPO, arXiv 2505.05470).

For every stochastic transition of a rollout, with ratio ``r = exp(log p_theta - log p_old)``:

    L = mean[ max(-A r, -A clip(r, 1 - eps, 1 + eps)) ] + beta KL(p_theta || p_ref)

The KL is exact (Gaussians of one variance) and its reference is the policy that training started from. Two variants of
the field change the surrogate alone:

- `guarded_ratio` (GRPO-Guard, arXiv 2510.22319): ``log r`` has a mean below zero, ``-b`` with
  ``b = mean|mu - mu_old|^2 / (2 s^2)``, which is larger the less noise a step takes, so that clipping is one-sided.
  With ``log r = s (log p_theta - log p_old + b)`` it has none, and the loss is divided by ``-dt`` to weigh steps alike.
- `step_weighting` (Flash-GRPO): where groups differ in their stochastic step, each is weighted by one over the
  gradient's scale there, ``kappa = sqrt(-dt) (1 / g + g (1 - sigma) / (2 sigma))``, relative to the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.minibatches import Batch, Minibatch, in_parts
from wan_r1.train_grpo.rollouts import Rollout
from wan_r1.training.backward import Idle
from wan_r1.training.processes import Processes
from wan_r1.video_model.sampling import Transition, sde_rollout
from wan_r1.video_model.sde import SdeStep, diffusion_coefficient, masked_mean, sde_step, transition_kl
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import Weights, using


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
    guarded: bool = False,
    weight: float = 1.0,
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
        guarded: whether the ratio is normalised as in GRPO-Guard.
        weight: of the surrogate, see `step_weights`.
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
    log_ratio = step.log_prob - transition.log_prob
    if guarded:
        bias = masked_mean((step.mean - transition.mean) ** 2, mask) / (2 * step.std**2)
        log_ratio = step.std * (log_ratio + bias)
        weight = weight / (transition.sigma - transition.sigma_next)
    ratio = torch.exp(log_ratio)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = weight * torch.maximum(-advantages * ratio, -advantages * clipped).mean()
    kl = torch.zeros(())
    if reference_velocity is not None and kl_beta > 0:
        kl = transition_kl(step, replayed(reference_velocity).mean, mask).mean()
        loss = loss + kl_beta * kl
    outside = (ratio.detach() - 1).abs() > clip_range
    return FlowGrpoLoss(
        loss=loss, ratio=ratio.detach(), clip_fraction=outside.float().mean().item(), kl=float(kl.detach())
    )


def gradient_scale(kind: str, noise: float, sigma: float, sigma_next: float, sigma_first: float) -> float:
    """How strongly a step's log-prob depends on the velocity: ``|d mean / dv| / s`` (Flash-GRPO's kappa).

    With ``mean = x (...) + v (1 + g^2 (1 - sigma) / (2 sigma)) dt`` and ``s = g sqrt(-dt)`` that is
    ``sqrt(-dt) (1 / g + g (1 - sigma) / (2 sigma))``. For CPS, whose mean is
    ``(1 - sigma_next) (x - sigma v) + sqrt(sigma_next^2 - s^2) (x + (1 - sigma) v)``, it follows from that mean.
    """
    if kind == "cps":
        std = sigma_next * math.sin(noise * math.pi / 2)
        slope = (1 - sigma) * math.sqrt(max(sigma_next**2 - std**2, 0.0)) - (1 - sigma_next) * sigma
        return abs(slope) / std
    g = diffusion_coefficient(kind, noise, sigma, sigma_first)
    return math.sqrt(sigma - sigma_next) * (1 / g + g * (1 - sigma) / (2 * sigma))


def step_weights(config: TrainGrpoConfig, grid: torch.Tensor, stochastic: torch.Tensor) -> dict[int, float]:
    """Weight of the surrogate by step: one over `gradient_scale`, with mean 1 over the rollout; all 1 if not asked for.

    Args:
        config: names the coefficient and says whether.
        grid: sigmas, `[steps + 1]`.
        stochastic: steps that take noise, of all groups, int64 `[groups, stochastic steps]`.
    """
    steps = sorted(set(stochastic.reshape(-1).tolist()))
    if config.step_weighting == "equal":
        return dict.fromkeys(steps, 1.0)
    sigmas = grid.tolist()
    scale = {
        step: 1 / gradient_scale(config.sde_kind, config.sde_noise, sigmas[step], sigmas[step + 1], sigmas[1])
        for step in steps
    }
    mean = sum(scale[step] for step in stochastic.reshape(-1).tolist()) / stochastic.numel()
    return {step: value / mean for step, value in scale.items()}


def stochastic_steps(config: TrainGrpoConfig, groups: int, iteration: int, generator: torch.Generator) -> torch.Tensor:
    """Which steps take noise and gradients, the same for all videos of a group: int64 `[groups, stochastic steps]`.

    `fixed`: those of `sde_window`. `sliding` (MixGRPO): the window moves on by one every `sde_window_every` iterations,
    up to the last step but one, and starts again. `random` (Flash-GRPO): one of the window a group, drawn anew.
    """
    window = torch.tensor(config.sde_window)
    if config.sde_window_moves == "random":
        return window[torch.randint(len(window), (groups, 1), generator=generator)]
    if config.sde_window_moves == "sliding":
        # The last step's noise would stay in the video.
        places = config.rollout_steps - 1 - max(config.sde_window)
        window = window + (iteration // config.sde_window_every) % places
    return window.expand(groups, -1)


@dataclass(kw_only=True)
class FlowGrpo:
    """Rollouts by the SDE, and their loss.

    Attributes:
        config: parameters.
        model: whose trained weights sample.
        policy: the model's transformer as it is trained.
        reference: weights that training started from.
        grid: sigmas of a rollout, `[steps + 1]`.
        processes: that share each batch.
        idle: what this process does where others have more of it.
    """

    config: TrainGrpoConfig
    model: VideoModel
    policy: torch.nn.Module
    reference: Weights
    grid: torch.Tensor
    processes: Processes
    idle: Idle

    @property
    def sampling_weights(self) -> Weights:
        """Weights that roll out in place of the trained ones: none, a ratio is to the weights that are trained."""
        return {}

    def draw(
        self, groups: int, shape: torch.Size, iteration: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stochastic steps by group, and the noise that all videos of a rollout take there.

        Args:
            groups: of all processes.
            shape: of all their latents, `[videos, channels, frames, height, width]`.
            iteration: counts from 0.
            generator: the iteration's.

        Returns:
            `[groups, stochastic steps]` and `[stochastic steps, *shape]`.
        """
        steps = stochastic_steps(self.config, groups, iteration, generator)
        self.weights = step_weights(self.config, self.grid, steps)
        return steps, torch.stack([torch.randn(shape, generator=generator) for _ in range(steps.shape[1])])

    def sample(
        self, noise: torch.Tensor, condition: Condition, stochastic: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, list[Transition]]:
        """Clean latents and transitions of some videos; arguments as of `sde_rollout`."""
        return sde_rollout(
            self.model,
            noise,
            condition,
            self.grid,
            stochastic=stochastic,
            z=z,
            kind=self.config.sde_kind,
            noise_scale=self.config.sde_noise,
        )

    def batches(
        self, rollout: Rollout, minibatch: Minibatch, generator: torch.Generator
    ) -> Iterator[Callable[[], Batch]]:
        """One batch a transition; each is prepared when its turn has come."""
        transitions = rollout.transitions
        if self.processes.sharded:
            # A step that only other processes' groups have taken is one of this process too, without a video.
            found = {transition.index: transition for transition in transitions}
            none = transitions[0].take(slice(0, 0))
            transitions = [found.get(index, none) for index in sorted(set(self.processes.everyones(list(found))))]
        for transition in transitions:
            yield partial(self._batch, rollout, transition, minibatch)

    def _batch(self, rollout: Rollout, whole: Transition, minibatch: Minibatch) -> Batch:
        config, model = self.config, self.model
        # Where each video of the minibatch stands in the transition; not all need have taken this step.
        place = torch.full((len(rollout.tasks),), -1)
        place[whole.rows] = torch.arange(len(whole.rows))
        taken = place[minibatch.rows] >= 0
        rows = minibatch.rows[taken]
        transition, condition = whole.take(place[rows]), rollout.condition.take(rows)
        advantages = minibatch.advantages[taken.to(minibatch.advantages.device)]
        reference = None
        if config.kl_beta:
            with torch.no_grad(), using(model.transformer, self.reference):
                reference = in_parts(
                    lambda part: model.velocity(transition.x[part], transition.sigma, condition.take(part)),
                    transition.x,
                    config.micro_batch,
                    self.idle,
                )

        def loss(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            mine = transition.take(part)
            result = flow_grpo_loss(
                model,
                mine,
                advantages[part],
                velocity=model.velocity(mine.x, mine.sigma, condition.take(part), self.policy),
                reference_velocity=None if reference is None else reference[part],
                sigma_first=float(self.grid[1]),
                kind=config.sde_kind,
                noise=config.sde_noise,
                clip_range=config.clip_range,
                kl_beta=config.kl_beta,
                guarded=config.guarded_ratio,
                weight=self.weights[whole.index],
            )
            return result.loss, {
                "ratio_mean": result.ratio.mean().item(),
                "ratio_std": result.ratio.std().item() if len(mine.rows) > 1 else 0.0,
                "clip_fraction": result.clip_fraction,
                "kl": result.kl,
            }

        # Every video has as many transitions; the mean is over both.
        steps = rollout.stochastic_steps
        return Batch(size=len(rows), weight=len(rows) / (minibatch.total * steps), loss=loss, idle=self.idle)
