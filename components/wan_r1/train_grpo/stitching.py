"""Successes on levels that are too long for the policy yet: it goes on itself from the last right move it made.

A policy that solves every level of five moves solves none of six, and there is nothing to reward: each video goes wrong
somewhere. But it makes some moves rightly, and from the place that it reached the rest of the way is short. So the
policy is given that frame as a first image, and what it shows from there replaces the rest of the video. The joined
video is verified as a whole, like any other, against the level that was given; if it is a success, it is replayed
(`wan_r1.train_grpo.replay`). No solution is shown to the policy: every frame is its own.

Return to a promising state and explore from there is Go-Explore (arXiv 2004.12919); to join parts of trajectories is
called stitching in offline reinforcement learning (D4RL, arXiv 2004.07219).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from wan_r1.rewards import Judge, RewardFn, RewardInputs
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.replay import SUCCESS, Success
from wan_r1.train_grpo.rollouts import Prompts, Rollout
from wan_r1.training.processes import Processes
from wan_r1.verification import Verdict, verify
from wan_r1.video_model.wan import Condition, VideoModel

OdeSampler = Callable[[torch.Tensor, Condition], torch.Tensor]
"""From initial noise and conditions to clean latents of the sampling policy."""

NEAR = 0.1
"""Cells by which the player may be farther from a place's middle than it comes later."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A video that failed, and where it can be gone on from.

    Attributes:
        group: its group's place in the rollout.
        video: uint8 `[frames, height, width, 3]`.
        moves: right moves, from 1 on.
        frame: in which the player stands where the last of them leads.
    """

    group: int
    video: np.ndarray
    moves: int
    frame: int


@dataclass(frozen=True, kw_only=True)
class Stitched:
    """What came of it: successes for the replay, how many groups had a video to go on from, and how many videos were
    sampled for it."""

    successes: list[Success]
    tried: int
    sampled: int


def last_right_move(task: Task, verdict: Verdict) -> tuple[int, int] | None:
    """How many moves a video makes rightly, and the frame in which the player stands where the last one leads.

    Returns:
        ``(moves, frame)``; None if there is no such move, or nothing left to show after it.
    """
    # The walk ends where a rule is broken; a precision by length, as roads have, would not tell how many moves it was.
    places = zip(verdict.walk, task.solution, strict=False)
    moves = next((k for k, (place, right) in enumerate(places) if place != right), len(verdict.walk)) - 1
    if verdict.error is not None or verdict.em or moves < 1:
        return None
    begin, frames = verdict.walk_frames[moves], len(verdict.track)
    later = [*verdict.walk_frames[moves + 1 :], *(violation.frame for violation in verdict.violations), frames]
    end = min([frame for frame in later if frame > begin], default=frames)
    # A place is entered before its middle is reached, and a level begins with a player in the middle; but no time is
    # lost by waiting there.
    away = np.linalg.norm(verdict.track[begin:end] - np.asarray(task.level.center(verdict.walk[moves])), axis=1)
    away = np.nan_to_num(away, nan=np.inf)
    frame = begin + int(np.argmax(away <= away.min() + NEAR * task.level.cell_size))
    return (moves, frame) if 0 < frame < frames - 1 else None


def stitch(
    model: VideoModel,
    prompts: Prompts,
    rollout: Rollout,
    *,
    noise: torch.Tensor,
    sampler: OdeSampler,
    reward: RewardFn,
    processes: Processes,
    judge: Judge | None = None,
    chunk: int = 0,
) -> Stitched:
    """Go on from the best video of each group that has no success, again and again while that gets further.

    Args:
        model: encodes and decodes.
        prompts: the levels.
        rollout: groups of this process.
        noise: initial noise of each round and group, `[rounds, groups, channels, frames, height, width]`.
        sampler: draws latents from the policy that rolled out.
        reward: the training reward, which decides what a success is.
        processes: that go on together.
        judge: for the reward `judge`.
        chunk: videos that are sampled and verified at a time; 0 takes all at once.
    """
    group_size = rollout.rewards.shape[1]
    attempts = _attempts(rollout)
    tried, sampled, successes = len(attempts), 0, []
    for round_, its_noise in enumerate(noise, 1):
        videos = _gone_on(model, prompts, rollout, attempts, its_noise, sampler, processes, chunk)
        tasks = [rollout.tasks[attempt.group * group_size] for attempt in attempts]
        further, sampled = [], sampled + len(videos)
        for part in _parts(len(attempts), chunk):
            verdicts = verify(videos[part], tasks[part])
            given = RewardInputs(videos=videos[part], tasks=tasks[part], verdicts=verdicts, judge=judge)
            rewards = reward(given).reward.tolist()
            for attempt, task, video, verdict, its_reward in zip(
                attempts[part], tasks[part], videos[part], verdicts, rewards, strict=True
            ):
                if its_reward >= SUCCESS:
                    found = (attempt.group, np.concatenate([task.first_frame[None], video[1:]]), group_size + round_)
                    successes.append(found)
                elif (place := last_right_move(task, verdict)) and place[0] > attempt.moves:
                    further.append(replace(attempt, video=video, moves=place[0], frame=place[1]))
        attempts = further
    return Stitched(successes=_remembered(model, rollout, successes, chunk), tried=tried, sampled=sampled)


def _attempts(rollout: Rollout) -> list[Attempt]:
    """The video of each group without a success that goes furthest, if it makes a right move at all."""
    group_size, found = rollout.rewards.shape[1], []
    for group in np.flatnonzero(rollout.rewards.max(1) < SUCCESS).tolist():
        rows = range(group * group_size, (group + 1) * group_size)
        places = {row: last_right_move(rollout.tasks[row], rollout.verdicts[row]) for row in rows}
        able = [(place, row) for row, place in places.items() if place is not None]
        if able:
            (moves, frame), row = max(able, key=lambda one: (one[0][0], -one[0][1]))
            found.append(Attempt(group=group, video=rollout.videos[row], moves=moves, frame=frame))
    return found


def _gone_on(
    model: VideoModel,
    prompts: Prompts,
    rollout: Rollout,
    attempts: list[Attempt],
    noise: torch.Tensor,
    sampler: OdeSampler,
    processes: Processes,
    chunk: int,
) -> np.ndarray:
    """The attempts' videos up to their frame, from there on what the policy shows when that frame is given to it."""
    # Where weights are sharded all processes sample as often; the first image of a group stands in for what is missing.
    missing = processes.missing(len(attempts))
    groups = [attempt.group for attempt in attempts] + [0] * missing
    images = [attempt.video[attempt.frame] for attempt in attempts] + [rollout.videos[0, 0]] * missing
    videos = []
    for part in _parts(len(groups), chunk):
        known = prompts.condition(rollout.levels[groups[part]])
        first = model.encode_videos(np.stack(images[part])[:, None])
        latents = sampler(noise[groups[part]].to(model.device), replace(known, first_latent=first))
        videos.append(model.decode(latents))
    if not attempts:
        return np.zeros((0, *rollout.videos.shape[1:]), np.uint8)
    shown = np.concatenate(videos)
    return np.stack(
        [
            np.concatenate([attempt.video[: attempt.frame + 1], after[1 : len(after) - attempt.frame]])
            for attempt, after in zip(attempts, shown, strict=False)
        ]
    )


def _remembered(
    model: VideoModel, rollout: Rollout, successes: list[tuple[int, np.ndarray, int]], chunk: int
) -> list[Success]:
    found = []
    for part in _parts(len(successes), chunk):
        latents = model.encode_videos(np.stack([video for _, video, _ in successes[part]])).cpu()
        found += [
            Success(level=int(rollout.levels[group]), video=video[None].clone(), rate=1 / tries, frames=frames)
            for (group, frames, tries), video in zip(successes[part], latents, strict=True)
        ]
    return found


def _parts(count: int, chunk: int) -> list[slice]:
    return [slice(start, start + (chunk or count)) for start in range(0, count, chunk or max(count, 1))]
