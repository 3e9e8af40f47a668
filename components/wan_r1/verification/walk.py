"""From positions to a walk over cells, and the rules that a walk can break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wan_r1.verification.scene import SIDES, Scene
from wan_r1.verification.verdict import StrictRules

_CORE = 0.35
"""A cell is entered when the player's centre is within this distance of the cell's, on both axes; in cells."""
_STRIDE = 1 / 8
"""Largest distance between points at which the way between two frames is checked, in cells."""


@dataclass(frozen=True, kw_only=True)
class Walks:
    """The way of the player in ``n`` videos: points at ``L = (F - 1) S + 1`` moments, ``S`` a frame.

    Attributes:
        cell: int32 [n, L, 2], cell (row, column) on the canvas; nearest one, clipped to the canvas.
        core: bool [n, L], near the cell's centre.
        blocked: bool [n, L], on a cell that must not be entered.
        off_board: bool [n, L], outside of the board.
        off_path: bool [n, L], too far from the middle of the path.
        walled: bool [n, L], off the path towards a side that is closed.
        jump: bool [n, F], too far from the frame before.
        fast: bool [n, F], too far from where it was one cell's time before.
        stride: points a frame, S.
    """

    cell: np.ndarray
    core: np.ndarray
    blocked: np.ndarray
    off_board: np.ndarray
    off_path: np.ndarray
    walled: np.ndarray
    jump: np.ndarray
    fast: np.ndarray
    stride: int


def follow_path(
    position: np.ndarray, scenes: Sequence[Scene], which: np.ndarray, speed: np.ndarray, rules: StrictRules
) -> Walks:
    """Check every video's way against its level's graph.

    Args:
        position: float32 [n, F, 2], (x, y) on the canvas in cells, nan where not seen.
        scenes: the scenes, all of one canvas.
        which: int [n], scene of each video.
        speed: float [n], the level's speed in cells a frame.
        rules: tolerances.
    """
    n, frames, _ = position.shape
    stride = max(1, int(np.ceil((float(speed.max(initial=0)) + rules.speed_slack) / _STRIDE)))
    steps = np.arange(stride, dtype=np.float32) / stride
    legs = position[:, :-1, None] + steps[:, None] * (position[:, 1:] - position[:, :-1])[:, :, None]
    # A frame's own point is known even if the next frame's is not (0 * nan is nan).
    legs[:, :, 0] = position[:, :-1]
    points = np.concatenate([legs.reshape(n, -1, 2), position[:, -1:]], axis=1)

    known = ~np.isnan(points[..., 0])
    x, y = np.where(known, points[..., 0], 0), np.where(known, points[..., 1], 0)
    canvas = scenes[0].board.shape[0]
    row, column = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
    inside = (row >= 0) & (row < canvas) & (column >= 0) & (column < canvas)
    row, column = row.clip(0, canvas - 1), column.clip(0, canvas - 1)
    down, right = y - row - 0.5, x - column - 0.5
    at = which[:, None], row, column
    board = np.stack([s.board for s in scenes])[at] & inside
    free = np.stack([s.free for s in scenes])[at] & inside
    arms = np.stack([s.arms for s in scenes])[at]

    # Distance to the middle of the path: to the cell's centre, or to an open arm that lies on this side of it.
    distance = np.hypot(down, right)
    for i, (step_row, step_column) in enumerate(SIDES):
        along = down * step_row + right * step_column
        across = np.abs(right if step_row else down)
        distance = np.where(arms[..., i] & (along >= 0), np.minimum(distance, across), distance)
    off_path = known & free & (distance > rules.path_tolerance)
    # The side it leans to, as an index into SIDES.
    side = np.where(np.abs(down) >= np.abs(right), np.where(down < 0, 0, 1), np.where(right < 0, 2, 3))
    closed = ~np.take_along_axis(arms, side[..., None], -1)[..., 0]

    moved = np.zeros((n, frames), np.float32)
    moved[:, 1:] = np.sqrt(((position[:, 1:] - position[:, :-1]) ** 2).sum(-1))
    jump = moved > (speed + rules.speed_slack)[:, None]
    return Walks(
        cell=np.stack([row, column], axis=-1),
        core=known & inside & (np.maximum(np.abs(down), np.abs(right)) <= _CORE),
        blocked=known & board & ~free,
        off_board=known & ~board,
        off_path=off_path,
        walled=off_path & closed,
        jump=jump,
        fast=_too_fast(position, speed, rules) & ~jump,
        stride=stride,
    )


def _too_fast(position: np.ndarray, speed: np.ndarray, rules: StrictRules) -> np.ndarray:
    """Frames [n, F] before which more than a cell (plus slack) was covered in the time of one."""
    n, frames, _ = position.shape
    fast = np.zeros((n, frames), bool)
    windows = np.maximum(1, np.floor(1 / np.maximum(speed, 1e-6) + 1e-3).astype(int))
    for window in np.unique(windows):
        if 1 < window < frames:
            rows = np.flatnonzero(windows == window)
            way = position[rows, window:] - position[rows, :-window]
            fast[rows, window:] = np.sqrt((way**2).sum(-1)) > 1 + rules.speed_slack
    return fast
