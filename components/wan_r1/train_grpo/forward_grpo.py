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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.minibatches import Batch, Minibatch, in_parts
from wan_r1.train_grpo.replay import Replay
from wan_r1.train_grpo.rollouts import Prompts, Rollout
from wan_r1.training.backward import Idle
from wan_r1.training.processes import Processes
from wan_r1.training.state import TrainingState
from wan_r1.video_model.sampling import Transition, ode_sample
from wan_r1.video_model.schedule import random_sigmas
from wan_r1.video_model.sde import masked_mean
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import Weights, using

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


@dataclass(kw_only=True)
class ForwardGrpo:
    """Rollouts by the ODE, and the loss of their videos and of known solutions that join them.

    Attributes:
        config: parameters.
        model: whose averaged weights sample.
        policy: the model's transformer as it is trained.
        reference: weights that training started from.
        grid: sigmas of a rollout, `[steps + 1]`.
        state: holds the averaged weights.
        prompts: levels with their demonstrations.
        replay: successes so far.
        processes: that share each batch.
        idle: what this process does where others have more of it.
    """

    config: TrainGrpoConfig
    model: VideoModel
    policy: torch.nn.Module
    reference: Weights
    grid: torch.Tensor
    state: TrainingState
    prompts: Prompts
    replay: Replay
    processes: Processes
    idle: Idle

    @property
    def sampling_weights(self) -> Weights:
        """Weights that roll out in place of the trained ones: their moving average."""
        return self.state.ema

    @property
    def replays(self) -> bool:
        """Whether successes join the optimizer steps by now."""
        return self.config.replay_batch > 0 and len(self.replay) >= max(1, self.config.replay_levels)

    @property
    def has_known_solutions(self) -> bool:
        """Whether an optimizer step has videos even where no group is mixed."""
        return self.replays or self.config.demonstration_batch > 0

    def draw(
        self, groups: int, shape: torch.Size, iteration: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """No step of the ODE takes noise: `[groups, 0]` and `[0, videos]`."""
        return torch.zeros(groups, 0, dtype=torch.int64), torch.zeros(0, shape[0])

    def sample(
        self, noise: torch.Tensor, condition: Condition, stochastic: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, list[Transition]]:
        """Clean latents of some videos."""
        return ode_sample(self.model, noise, condition, self.grid), []

    def batches(
        self, rollout: Rollout, minibatch: Minibatch, generator: torch.Generator
    ) -> Iterator[Callable[[], Batch]]:
        """One batch a noise level; each is prepared when its turn has come."""
        for _ in range(self.config.forward_sigmas):
            yield partial(self._batch, rollout, minibatch, generator)

    def _known_solutions(self, generator: torch.Generator) -> tuple[torch.Tensor, Condition] | None:
        """Videos that are wholly good and join a minibatch, of all processes: replayed successes and demonstrations."""
        config, found = self.config, []
        if self.replays:
            found.append(self.replay.draw(config.replay_batch, self.prompts, generator, config.length_balance))
        if config.demonstration_batch:
            found.append(self.prompts.draw_demonstrations(config.demonstration_batch, generator, config.length_balance))
        if not found:
            return None
        condition = found[0][1]
        for _, more in found[1:]:
            condition = condition.join(more)
        return torch.cat([videos for videos, _ in found]), condition

    def demonstrations(self, generator: torch.Generator) -> Iterator[Callable[[], Batch]]:
        """The batches of an optimizer step without a rollout: demonstrations take the place of replayed successes."""
        count = self.config.demonstration_batch + self.config.replay_batch

        def batch() -> Batch:
            videos, condition = self.prompts.draw_demonstrations(count, generator, self.config.length_balance)
            mine = self.processes.share(count)
            good = torch.ones(len(mine), device=self.model.device)
            return self._of(videos[mine], condition.take(mine), good, mine, count, generator)

        for _ in range(self.config.forward_sigmas):
            yield batch

    def _batch(self, rollout: Rollout, minibatch: Minibatch, generator: torch.Generator) -> Batch:
        config = self.config
        rows, device = minibatch.rows, self.model.device
        clean, condition = rollout.latents[rows], rollout.condition.take(rows)
        good = good_share(minibatch.advantages, config.advantage_scale)
        places, total = minibatch.places, minibatch.total
        known = self._known_solutions(generator)
        if known is not None:
            videos, its_condition = known
            mine = self.processes.share(len(videos))
            clean, condition = torch.cat([clean, videos[mine]]), condition.join(its_condition.take(mine))
            good = torch.cat([good, torch.ones(len(mine), device=device)])
            places, total = torch.cat([places, total + mine]), total + len(videos)
        return self._of(clean, condition, good, places, total, generator)

    def _of(
        self,
        clean: torch.Tensor,
        condition: Condition,
        good: torch.Tensor,
        places: torch.Tensor,
        total: int,
        generator: torch.Generator,
    ) -> Batch:
        """This process's videos, which stand at ``places`` among all ``total``, noised again."""
        config, model, device = self.config, self.model, self.model.device
        sigma = random_sigmas(total, model.shift, generator)[places].to(device)
        noise = torch.randn(total, *clean.shape[1:], generator=generator)[places].to(device)
        level = sigma.view(-1, 1, 1, 1, 1)
        noised = (1 - level) * clean + level * noise
        sharded = self.processes.sharded

        def velocity(of: torch.Tensor) -> torch.Tensor:
            return in_parts(
                lambda part: model.velocity(noised[of][part], sigma[of][part], condition.take(of).take(part)),
                noised[of],
                config.micro_batch,
                self.idle,
            )

        sampling_velocity, reference = torch.zeros_like(clean), None
        # A video that is wholly good takes nothing from the sampling policy's velocity.
        partly = (good < 1).nonzero()[:, 0]
        with torch.no_grad():
            if len(partly) or sharded:
                with using(model.transformer, self.sampling_weights):
                    sampling_velocity[partly] = velocity(partly)
            if config.anchor and (len(clean) or sharded):
                with using(model.transformer, self.reference):
                    reference = velocity(torch.arange(len(clean)))

        def loss(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            result = forward_grpo_loss(
                clean[part],
                noised[part],
                sigma[part],
                good[part],
                velocity=model.velocity(noised[part], sigma[part], condition.take(part), self.policy),
                sampling_velocity=sampling_velocity[part],
                reference_velocity=None if reference is None else reference[part],
                mask=model.mask(clean),
                anchor=config.anchor,
            )
            return result.loss, {"anchor": result.anchor}

        weight = len(clean) / (total * config.forward_sigmas)
        return Batch(size=len(clean), weight=weight, loss=loss, idle=self.idle)
