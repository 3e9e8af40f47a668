"""Which videos of a rollout an optimizer step learns from, and this process's share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from wan_r1.train_grpo.advantages import Advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.training.backward import Idle, Loss
from wan_r1.training.processes import Processes
from wan_r1.video_model.wan import VideoModel


@dataclass(frozen=True, kw_only=True)
class Minibatch:
    """The videos of one optimizer step.

    Attributes:
        total: how many they are over all processes.
        places: where this process's videos stand among them, int64 `[mine]`.
        rows: the same videos in this process's rollout, int64 `[mine]`.
        advantages: theirs, `[mine]`.
    """

    total: int
    places: torch.Tensor
    rows: torch.Tensor
    advantages: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One forward and backward pass of an optimizer step.

    Attributes:
        size: videos of this process.
        weight: of their mean loss in the step's loss; those of all passes and processes add up to 1.
        loss: of a part of them.
        idle: what this process does where others have more of them.
    """

    size: int
    weight: float
    loss: Loss
    idle: Idle


def minibatches(
    config: TrainGrpoConfig,
    advantages: Advantages,
    processes: Processes,
    *,
    generator: torch.Generator,
    device: torch.device,
    least: int = 0,
) -> Iterator[Minibatch]:
    """The optimizer steps of a rollout: whole mixed groups, dealt anew in every epoch.

    Groups are compared and dealt over all processes, each of which learns from its own: so all take the same steps.

    Args:
        config: parameters.
        advantages: of all processes' groups.
        processes: that share them; the groups at `Processes.share` are in this one's rollout, in that order.
        generator: the same in all processes.
        device: where advantages go.
        least: steps to take even where fewer groups are mixed, since other videos join each of them.
    """
    mixed = torch.from_numpy(advantages.mixed).nonzero()[:, 0]
    values = torch.from_numpy(advantages.values)
    for _ in range(config.epochs):
        order = mixed[torch.randperm(len(mixed), generator=generator)] if config.minibatches > 1 else mixed
        for groups in order.tensor_split(max(least, min(config.minibatches, len(mixed)))):
            group = groups.repeat_interleave(advantages.trained.shape[1])
            video = torch.from_numpy(advantages.trained)[groups].reshape(-1)
            places = processes.owns(group).nonzero()[:, 0]
            group, video = group[places], video[places]
            yield Minibatch(
                total=len(groups) * advantages.trained.shape[1],
                places=places,
                rows=group // processes.count * config.group_size + video,
                advantages=values[group, video].to(device),
            )


def in_parts(work: Callable[[slice], torch.Tensor], like: torch.Tensor, size: int, idle: Idle) -> torch.Tensor:
    """``work`` of at most ``size`` videos at a time, joined; 0 takes all at once.

    Args:
        work: of a part, in the shape of ``like``.
        like: says how many videos there are.
        size: of a part.
        idle: what this process does in the passes that others make more.
    """
    size = size or max(1, len(like))
    starts = range(0, len(like), size)
    # Asked first: from here on nobody waits for anything but passes.
    missing = idle.missing(len(starts))
    done = [work(slice(start, start + size)) for start in starts]
    for _ in range(missing):
        idle.forward()
    return torch.cat(done) if done else torch.empty_like(like)


def idle_on(prompts: Prompts, model: VideoModel, policy: torch.nn.Module, processes: Processes) -> Idle:
    """Idles on the first level's image, as a video in which nothing moves."""

    def forward() -> torch.Tensor:
        frames = model.latent_frames(prompts.tasks[0].frames)
        condition = prompts.condition(torch.zeros(1, dtype=torch.int64))
        return model.velocity(condition.first_latent.repeat(1, 1, frames, 1, 1), 1.0, condition, policy)

    return Idle(missing=processes.missing, forward=forward)
