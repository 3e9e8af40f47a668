"""Verified successes of earlier iterations, to learn from again (self-imitation: arXiv 1806.05635, RLEP 2507.07451).

A success costs a rollout, a decoding and a verification, and is as good as a demonstration afterwards. The forward
process needs no log-probability of it, so it stays usable however far the policy has moved. What counts as a success is
the training reward alone: a policy that learns from a judge replays what the judge likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from wan_r1.train_grpo.rollouts import Prompts, Rollout
from wan_r1.video_model.wan import Condition
from wan_r1.video_model.weights import Weights

SUCCESS = 0.9
"""Training reward from which a video is kept: solved by the paper's trajectory reward, where a level that is not solved
gets 0.7 at most."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """The best video of a group that has a success.

    Attributes:
        level: index of its level in `Prompts`.
        video: clean latents, `[channels, frames, height, width]`, in main memory: it may go to other processes.
        rate: share of successes in the group.
    """

    level: int
    video: torch.Tensor
    rate: float


def successes_of(rollout: Rollout) -> list[Success]:
    """What a rollout has to remember, one a group at most."""
    groups = rollout.latents.split(rollout.rewards.shape[1])
    return [
        Success(
            level=level,
            video=latents[int(rewards.argmax())].clone().cpu(),
            rate=float((rewards >= SUCCESS).mean()),
        )
        for level, rewards, latents in zip(rollout.levels.tolist(), rollout.rewards, groups, strict=True)
        if rewards.max() >= SUCCESS
    ]


@dataclass(kw_only=True)
class Replay:
    """The newest success of each level, and how rare successes were on it.

    One a level: a level has one shortest solution, and levels that are solved each time would crowd out the others.

    Attributes:
        videos: clean latents by index of the level in `Prompts`, `[channels, frames, height, width]` each.
        rates: share of successes in the group that each was taken from.
    """

    videos: dict[int, torch.Tensor] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.videos)

    def keep(self, successes: Iterable[Success]) -> None:
        """Remember successes; a level that failed this time keeps its older one."""
        for success in successes:
            self.videos[success.level] = success.video
            self.rates[success.level] = success.rate

    def draw(self, count: int, prompts: Prompts, generator: torch.Generator) -> tuple[torch.Tensor, Condition]:
        """``count`` successes with their conditions, families alike, a level as likely as it is rarely solved.

        What the policy does each time teaches it nothing; what it did once in a group teaches most. There must be one.
        """
        levels = torch.tensor(sorted(self.videos))
        families = [prompts.tasks[level].family for level in levels.tolist()]
        of_family = Counter(families)
        weights = torch.tensor(
            [
                1 / (self.rates[level] * of_family[family])
                for level, family in zip(levels.tolist(), families, strict=True)
            ]
        )
        chosen = levels[torch.multinomial(weights, count, replacement=True, generator=generator)]
        latents = torch.stack([self.videos[level] for level in chosen.tolist()]).to(prompts.first_latents.device)
        return latents, prompts.condition(chosen)

    def state(self) -> Weights:
        """Its content as tensors, for a checkpoint."""
        return {
            f"{level}:{name}": torch.as_tensor(values[level])
            for name, values in (("video", self.videos), ("rate", self.rates))
            for level in values
        }

    @classmethod
    def from_state(cls, state: Weights) -> Replay:
        """Inverse of `state`."""
        replay = cls()
        for key, tensor in state.items():
            level, name = key.split(":")
            if name == "video":
                replay.videos[int(level)] = tensor
            else:
                replay.rates[int(level)] = float(tensor)
        return replay
