"""Ways for a robot's video to cheat: each turns a task with its reference video into one that must not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from wan_r1.tasks.families.navigation import FAMILY
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.task import Task
from wan_r1.tasks.textures import TEXTURES

Cheat = Callable[[Task], np.ndarray]


def seen(task: Task, poses: np.ndarray, level: NavigationLevel | None = None, texture: str | None = None) -> np.ndarray:
    """What a camera sees from poses in the task's room or in another."""
    look = TEXTURES[texture or task.texture]
    return FAMILY.render(level or task.level, look, np.asarray(poses, np.float32), task.height)


def _poses(task: Task) -> np.ndarray:
    return task.trajectory.astype(np.float64)


def _with_target(task: Task, **changes: object) -> NavigationLevel:
    pieces = list(task.level.furniture)
    pieces[task.level.target] = replace(pieces[task.level.target], **changes)
    return replace(task.level, furniture=tuple(pieces))


def _along(task: Task, shares: np.ndarray) -> np.ndarray:
    """Poses at shares of the reference's time."""
    poses = _poses(task)
    at = np.clip(shares, 0, 1) * (len(poses) - 1)
    return np.stack([np.interp(at, np.arange(len(poses)), poses[:, axis]) for axis in range(3)], axis=1)


def _time(task: Task) -> np.ndarray:
    return np.linspace(0, 1, task.frames)


def teleport(task: Task) -> np.ndarray:
    poses = _poses(task)
    poses[1:] = poses[-1]
    return seen(task, poses)


def late_teleport(task: Task) -> np.ndarray:
    poses = _poses(task)
    poses[task.frames // 3 : -3] = poses[task.frames // 3]
    poses[-3:] = poses[-1]
    return seen(task, poses)


def frozen(task: Task) -> np.ndarray:
    return np.repeat(task.video[:1], task.frames, axis=0)


def backwards(task: Task) -> np.ndarray:
    return task.video[::-1].copy()


def straight_through(task: Task) -> np.ndarray:
    """In a straight line to the goal, through whatever stands there."""
    poses = _poses(task)
    share = _time(task)[:, None]
    share = share * share * (3 - 2 * share)
    return seen(task, poses[0] * (1 - share) + poses[-1] * share)


def target_beside_robot(task: Task) -> np.ndarray:
    """The target stands nearer from frame 0 on; the robot only turns to it."""
    level = task.level
    x, y, _ = _poses(task)[0]
    target = level.goal_object
    middle = target.middle
    pull = 0.6
    moved = _with_target(
        task,
        x=round(target.x + 100 * pull * (x - middle[0])),
        y=round(target.y + 100 * pull * (y - middle[1])),
    )
    return seen(task, np.repeat(_poses(task)[:1], task.frames, axis=0), moved)


def target_comes(task: Task) -> np.ndarray:
    """The target slides to the robot, which stands."""
    x, y, _ = _poses(task)[0]
    target = task.level.goal_object
    middle = target.middle
    frames = []
    for share in _time(task):
        moved = _with_target(
            task,
            x=round(target.x + 60 * share * (x - middle[0])),
            y=round(target.y + 60 * share * (y - middle[1])),
        )
        frames.append(seen(task, _poses(task)[:1], moved)[0])
    return np.stack(frames)


def zoom(task: Task) -> np.ndarray:
    """The first picture enlarged bit by bit instead of driving."""
    size = task.height
    frames = []
    for share in _time(task):
        side = max(8, round(size * (1 - 0.7 * share)))
        at = (size - side) // 2
        frames.append(cv2.resize(task.video[0][at : at + side, at : at + side], (size, size)))
    return np.stack(frames)


def crossfade(task: Task) -> np.ndarray:
    share = _time(task)[:, None, None, None]
    return np.rint(task.video[0] * (1 - share) + task.video[-1] * share).astype(np.uint8)


def recoloured(task: Task) -> np.ndarray:
    colour = "blue" if task.level.goal_object.colour not in ("blue", "purple", "black") else "yellow"
    return seen(task, _poses(task), _with_target(task, colour=colour))


def recoloured_half_way(task: Task) -> np.ndarray:
    video, half = recoloured(task), task.frames // 2
    video[:half] = task.video[:half]
    return video


def erased(task: Task) -> np.ndarray:
    """The target is gone from the second frame on."""
    pieces = [one for number, one in enumerate(task.level.furniture) if number != task.level.target]
    video = seen(task, _poses(task), replace(task.level, furniture=tuple(pieces), target=0))
    video[0] = task.video[0]
    return video


def emptied(task: Task) -> np.ndarray:
    """All other furniture is gone, and the robot drives straight to its target."""
    level = replace(task.level, furniture=(task.level.goal_object,), target=0)
    poses, share = _poses(task), _time(task)[:, None]
    return seen(task, poses[0] * (1 - share) + poses[-1] * share, level)


def redecorated(task: Task) -> np.ndarray:
    other = "meadow" if task.texture != "meadow" else "night"
    video = seen(task, _poses(task), texture=other)
    video[0] = task.video[0]
    return video


def shuffled(task: Task) -> np.ndarray:
    order = np.random.default_rng(0).permutation(np.arange(1, task.frames - 2))
    return task.video[np.concatenate([[0], order, [task.frames - 2, task.frames - 1]])]


def mirrored(task: Task) -> np.ndarray:
    return task.video[:, :, ::-1].copy()


def wanders_on(task: Task) -> np.ndarray:
    """To the goal at half of the time and back half-way."""
    share = _time(task)
    return seen(task, _along(task, np.where(share < 0.5, 2 * share, 2 - 2 * share)))


def restless(task: Task) -> np.ndarray:
    """Turns to and fro before the target."""
    poses = _poses(task)
    poses[-4:, 2] += np.radians([20, -20, 20, -20])
    return seen(task, poses)


def looks_away(task: Task) -> np.ndarray:
    poses = _poses(task)
    poses[:, 2] += np.radians(70) * np.clip(_time(task) * 2 - 1, 0, 1)
    return seen(task, poses)


def in_a_blink(task: Task) -> np.ndarray:
    """The whole way in a fifth of the time."""
    return seen(task, _along(task, 5 * _time(task)))


def other_start(task: Task) -> np.ndarray:
    """Sets out from the middle of the way."""
    return seen(task, _along(task, 0.5 + 0.5 * _time(task)))


CHEATS: dict[str, Cheat] = {
    one.__name__: one
    for one in (
        *(teleport, late_teleport, frozen, backwards, straight_through, target_beside_robot, target_comes, zoom),
        *(crossfade, recoloured, recoloured_half_way, erased, emptied, redecorated, shuffled, mirrored, wanders_on),
        *(restless, looks_away, in_a_blink, other_start),
    )
}
"""Every cheat by name."""
HONEST = {"frozen", "wanders_on", "restless", "looks_away"}
"""Those that break no rule: they do not arrive."""
