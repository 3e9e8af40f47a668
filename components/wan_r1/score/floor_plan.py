"""A robot's recovered way on the plan of its floor, as frames for the page."""

from __future__ import annotations

import cv2
import numpy as np

from wan_r1.tasks.furniture import COLOURS
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.robot import ROBOT_RADIUS
from wan_r1.verification import Verdict

_PAPER, _FLOOR, _WALL, _WAY, _BROKEN = (250, 250, 250), (228, 224, 216), (60, 62, 70), (20, 120, 220), (214, 40, 40)
_MARGIN = 8


def plan_frames(level: NavigationLevel, verdict: Verdict, shown: np.ndarray, side: int) -> np.ndarray:
    """The plan with the way up to each shown frame, north at the top, ``[len(shown), side, side, 3]``.

    Args:
        level: the floor.
        verdict: what was recovered.
        shown: numbers of frames.
        side: pixels.
    """
    scale = (side - 2 * _MARGIN) / max(level.size)

    def pixel(x: float, y: float) -> tuple[int, int]:
        return round(_MARGIN + x * scale), round(side - _MARGIN - y * scale)

    plan = np.full((side, side, 3), _PAPER, np.uint8)
    cv2.rectangle(plan, pixel(0, 0), pixel(*level.size), _FLOOR, -1)
    cv2.rectangle(plan, pixel(0, 0), pixel(*level.size), _WALL, 2)
    for wall in level.walls:
        cv2.rectangle(plan, pixel(wall[0] / 100, wall[1] / 100), pixel(wall[2] / 100, wall[3] / 100), _WALL, -1)
    for number, piece in enumerate(level.furniture):
        x0, y0, x1, y1 = piece.footprint
        cv2.rectangle(plan, pixel(x0, y0), pixel(x1, y1), COLOURS[piece.colour], -1)
        target = number == level.target
        cv2.rectangle(plan, pixel(x0, y0), pixel(x1, y1), _BROKEN if target else _WALL, 3 if target else 1)
    broken = {found.frame for found in verdict.violations}
    points = np.array([pixel(x, y) for x, y, _ in verdict.poses], np.int32)
    frames = np.repeat(plan[None], len(shown), axis=0)
    for image, frame in zip(frames, shown.tolist(), strict=True):
        cv2.polylines(image, [points[: frame + 1]], False, _WAY, 2, cv2.LINE_AA)
        x, y, heading = (float(value) for value in verdict.poses[frame])
        colour = _BROKEN if any(bad <= frame for bad in broken) else _WAY
        cv2.circle(image, pixel(x, y), max(3, round(ROBOT_RADIUS * scale)), colour, 2, cv2.LINE_AA)
        ahead = pixel(x + 0.45 * np.cos(heading), y + 0.45 * np.sin(heading))
        cv2.line(image, pixel(x, y), ahead, colour, 2, cv2.LINE_AA)
    return frames
