"""Verified successes of earlier iterations, to learn from again (self-imitation: arXiv 1806.05635, RLEP 2507.07451).

A success costs a rollout, a decoding and a verification, and is as good as a demonstration afterwards. The forward
process needs no log-probability of it, so it stays usable however far the policy has moved. What counts as a success is
the training reward alone: a policy that learns from a judge replays what the judge likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from wan_r1.train_grpo.curriculum import balancing_weights
from wan_r1.train_grpo.rollouts import Prompts, Rollout
from wan_r1.training.views import other_views, symmetric
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import Weights

SUCCESS = 0.9
"""Training reward from which a video is kept: solved by the paper's trajectory reward, where a level that is not solved
gets 0.7 at most."""


@dataclass(frozen=True, kw_only=True)
class Success:
    """The best video of a group that has a success.

    Attributes:
        level: index of its level in `Prompts`.
        video: clean latents, `[views, channels, frames, height, width]`, in main memory: it may go to other processes.
            The first view is what was sampled.
        rate: share of successes in the group.
        frames: what was verified, uint8 `[frames, height, width, 3]`; None once its views are made of it.
    """

    level: int
    video: torch.Tensor
    rate: float
    frames: np.ndarray | None


def successes_of(rollout: Rollout) -> list[Success]:
    """What a rollout has to remember, one a group at most."""
    size, found = rollout.rewards.shape[1], []
    for group, rewards in enumerate(rollout.rewards):
        row = group * size + int(rewards.argmax())
        if rewards.max() >= SUCCESS:
            found.append(
                Success(
                    level=int(rollout.levels[group]),
                    video=rollout.latents[row][None].clone().cpu(),
                    rate=float((rewards >= SUCCESS).mean()),
                    frames=rollout.videos[row],
                )
            )
    return found


def with_views(
    successes: list[Success], views: int, model: VideoModel, prompts: Prompts, *seeds: object
) -> list[Success]:
    """The successes with other views of them, see `wan_r1.training.views`.

    Args:
        successes: with one view each, and its frames.
        views: how many each shall have, where its family is symmetric.
        model: encodes them.
        prompts: the levels.
        seeds: of which views are taken, with the level's index.
    """
    able = [k for k, success in enumerate(successes) if symmetric(prompts.tasks[success.level].family)]
    found, turned = [replace(success, frames=None) for success in successes], []
    if views == 1 or not able:
        return found
    for k in able:
        task, frames = prompts.tasks[successes[k].level], successes[k].frames
        assert frames is not None, "views are made once"
        # The condition is made from the level's own image, not from what the codec makes of it.
        clip = np.concatenate([task.first_frame[None], frames[1:]])
        turned += other_views(clip, task.family, views - 1, *seeds, successes[k].level)
    latents = model.encode_videos(np.stack(turned)).cpu().split(views - 1)
    for k, more in zip(able, latents, strict=True):
        found[k] = replace(found[k], video=torch.cat([found[k].video, more]))
    return found


@dataclass(kw_only=True)
class Replay:
    """The newest success of each level, and how rare successes were on it.

    One a level: a level has one shortest solution, and levels that are solved each time would crowd out the others.

    Attributes:
        videos: clean latents by index of the level in `Prompts`, `[views, channels, frames, height, width]` each.
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

    def draw(
        self, count: int, prompts: Prompts, generator: torch.Generator, balance: float = 0.0
    ) -> tuple[torch.Tensor, Condition]:
        """``count`` successes with their conditions, families alike, a level as likely as it is rarely solved.

        What the policy does each time teaches it nothing; what it did once in a group teaches most. There must be one.

        Args:
            count: of successes.
            prompts: the levels.
            generator: draws them.
            balance: see `balancing_weights`.
        """
        levels = torch.tensor(sorted(self.videos))
        tasks = [prompts.tasks[level] for level in levels.tolist()]
        rates = np.array([self.rates[level] for level in levels.tolist()])
        weights = torch.from_numpy(balancing_weights(tasks, balance) / rates).float()
        chosen = levels[torch.multinomial(weights, count, replacement=True, generator=generator)]
        kept = [self.videos[level] for level in chosen.tolist()]
        views = [0] * count
        if max(len(video) for video in kept) > 1:
            drawn = torch.rand(count, generator=generator).tolist()
            views = [int(share * len(video)) for share, video in zip(drawn, kept, strict=True)]
        latents = torch.stack([video[view] for video, view in zip(kept, views, strict=True)])
        return prompts.of_views(latents.to(prompts.first_latents.device), chosen, torch.tensor(views) > 0)

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
