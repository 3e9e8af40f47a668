"""Facts about rows of the family `navigation`, recomputed from the level: its poses, its target and its prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.families.navigation import FAMILY, in_view, start_pose
from wan_r1.tasks.level import Place
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.navigation_path import motion
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.robot import ROBOT_RADIUS, STOP_DISTANCE
from wan_r1.tasks.textures import TEXTURES

NAVIGATION_FACTS: dict[str, str] = {
    "path_clear": "the robot keeps its radius from walls and furniture (where there is one)",
    "target_reached": "it ends at rest at the stated distance before its target, facing it",
    "target_in_view": "the first frame shows enough of the target",
    "target_named": "the prompt is the one for the target, which alone answers it",
}
"""Each fact in words; null in rows of other families."""

_NEAR = 0.02
"""Metres by which a pose may be off: room for rounding."""
_TURNED = 0.02
"""Radians likewise."""
_LEAST_SEEN = 0.35
"""Least share of a target in view; hard levels are made with .4 of it."""


def poses_of(values: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The trajectory as poses ``[F, 3]``, or ``None`` if it has another shape or holds no numbers."""
    try:
        poses = np.array(values["trajectory"], np.float64)
    except (ValueError, TypeError):
        return None
    return poses if poses.shape == (values["frames"], 3) and np.isfinite(poses).all() else None


def tell_navigation(row: Any, values: Mapping[str, Any], level: NavigationLevel, path: list[Place]) -> None:
    """Tell the facts of a row whose solution is legal.

    Args:
        row: receives the facts.
        values: the row by column.
        level: its level.
        path: its solution.
    """
    texture = TEXTURES.get(values["texture"])
    if texture is not None:
        prompt = FAMILY.level_prompt(level, texture)
        row.tell("target_named", values["prompt"] == prompt, f"the prompt for the target would be {prompt!r}")
    row.tell("target_in_view", in_view(level, _LEAST_SEEN), "the first picture shows too little of the target")
    poses = poses_of(values)
    if not row.tell(
        "trajectory_true", poses is not None, f"the trajectory is not {values['frames']} poses (x, y, heading)"
    ):
        return
    assert poses is not None
    _, along = motion(level, tuple(path))
    off, order = _followed(poses, along)
    ordered = bool(np.all(np.diff(order) >= 0)) and order[0] == 0 and order[-1] == len(along) - 1
    starts = bool(np.abs(poses[0] - start_pose(level)).max() <= _NEAR)
    row.tell(
        "trajectory_true",
        off <= 1 and ordered and starts,
        f"the poses go through {order[0]} to {order[-1]} of {len(along) - 1} parts of the solution's motion, at most "
        f"{off * _NEAR:.2f} m off it",
    )
    clearance = level.clearance(poses[:, :2])
    worst = int(clearance.argmin())
    row.tell(
        "path_clear",
        clearance[worst] >= ROBOT_RADIUS - 2e-3,
        f"in frame {worst} the robot is {clearance[worst]:.3f} m from a wall or furniture, less than {ROBOT_RADIUS}",
    )
    _tell_reached(row, level, poses)


def tell_recorded(row: Any, values: Mapping[str, Any], level: RecordedLevel) -> None:
    """Tell what can be told of a recording: its poses follow its path, and its prompt is its caption."""
    row.tell("target_named", values["prompt"] == level.caption, f"the caption is {level.caption!r}")
    poses = poses_of(values)
    if not row.tell("trajectory_true", poses is not None, f"the trajectory is not {values['frames']} poses"):
        return
    assert poses is not None
    path = np.array(level.path, np.float64) / 100
    away = np.hypot(*np.moveaxis(poses[:, None, :2] - path[None], -1, 0)).min(1)
    gap = float(np.hypot(*np.diff(path, axis=0).T).max())
    ends = max(np.hypot(*(poses[k, :2] - path[k])) for k in (0, -1))
    row.tell(
        "trajectory_true",
        bool(away.max() <= gap / 2 + _NEAR and ends <= _NEAR),
        f"the poses are up to {away.max():.2f} m off the recorded path, and {ends:.2f} m at its ends",
    )


def _tell_reached(row: Any, level: NavigationLevel, poses: NDArray[np.float64]) -> None:
    x0, y0, x1, y1 = level.goal_object.footprint
    x, y, heading = (float(value) for value in poses[-1])
    away = float(np.hypot(max(x0 - x, x - x1, 0), max(y0 - y, y - y1, 0)))
    turned = abs((heading - level.facing(x, y) + np.pi) % (2 * np.pi) - np.pi)
    moved = float(np.hypot(*(poses[-1, :2] - poses[-2, :2])))
    row.tell(
        "target_reached",
        abs(away - STOP_DISTANCE) <= _NEAR and turned <= _TURNED and moved <= _NEAR,
        f"the robot ends {away:.2f} m from its target, {np.degrees(turned):.0f} degrees past it, moving {moved:.2f} m "
        "in the last frame",
    )


def _followed(poses: NDArray[np.float64], along: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """How far the poses are off a motion, in multiples of what is allowed, and the part of it that each is nearest to.

    Parts are passed in order: of parts as near, a pose takes the first that is not before the last pose's.
    """
    steps = np.diff(along, axis=0)
    lengths = np.maximum((steps**2).sum(1), 1e-18)
    worst, order, last = 0.0, np.zeros(len(poses), np.int64), 0
    for frame, pose in enumerate(poses):
        offset = pose - along[:-1]
        share = np.clip((offset * steps).sum(1) / lengths, 0, 1)
        away = np.abs(offset - share[:, None] * steps).max(1) / _NEAR
        near = np.flatnonzero(away[last:] <= 1) + last
        part = int(near[0]) if len(near) else int(away.argmin())
        worst, order[frame], last = max(worst, float(away[part])), part, max(last, part)
    order[0] = 0 if np.abs(poses[0] - along[0]).max() <= _NEAR else order[0]
    order[-1] = len(along) - 1 if np.abs(poses[-1] - along[-1]).max() <= _NEAR else order[-1]
    return worst, order
