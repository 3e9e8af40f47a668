"""Ways for the robot: planned on an occupancy grid, straightened, rounded, and timed.

A motion's effort is its length in metres plus `TURN` metres for each radian that it turns. Effort over time rises from
rest to a constant rate and falls back to rest, so that driving and turning both start and stop softly.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from wan_r1.tasks.level import Place
from wan_r1.tasks.robot import ROBOT_RADIUS

if TYPE_CHECKING:
    from wan_r1.tasks.navigation_level import NavigationLevel

GRID = 0.1
"""Side of a cell of the occupancy grid, in metres."""
MARGIN = 0.08
"""Beyond its radius the robot's plan keeps this distance: more than half of a cell's diagonal, so that no straight step
between free cells comes nearer than the radius."""
_STRAIGHT_MARGIN = 0.02
"""Beyond its radius, on lines that replace several steps."""
TURN = 0.4
"""Metres of effort for a radian of turning."""
RAMP = 0.5
"""Effort spent, beyond that of the way itself, on speeding up and slowing down."""
_ROUNDING = (0.6, 0.4, 0.25, 0.12)
"""Lengths in metres before and after a corner over which it is rounded: the longest that keeps clear."""
_FINE = 0.03
"""Metres between points of a way that are computed."""


def plan(level: NavigationLevel) -> tuple[Place, ...] | None:
    """Corners of a shortest way on the grid, straightened, in centimetres; ``None`` if there is none."""
    start, goal = (np.array(end, np.float64) / 100 for end in (level.start, level.goal))
    if level.open_between(level.start, level.goal):
        return level.start, level.goal
    columns, rows = (max(1, int(size / GRID)) for size in level.size)
    x, y = (np.arange(columns) + 0.5) * GRID, (np.arange(rows) + 0.5) * GRID
    cells = np.stack(np.meshgrid(x, y), axis=-1)
    free = level.clearance(cells) >= ROBOT_RADIUS + MARGIN
    numbers = np.where(free, np.arange(free.size).reshape(free.shape), -1)
    here, there, lengths = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        first = numbers[: rows - down, max(0, -right) : columns - max(0, right)]
        second = numbers[down:, max(0, right) : columns + min(0, right)]
        both = (first >= 0) & (second >= 0)
        here.append(first[both])
        there.append(second[both])
        lengths.append(np.full(both.sum(), GRID * math.hypot(down, right)))
    if not sum(len(part) for part in here):
        return None
    links = coo_array((np.concatenate(lengths), (np.concatenate(here), np.concatenate(there))), shape=(free.size,) * 2)
    source, sink = (_entrance(level, cells, free, end) for end in (start, goal))
    if source is None or sink is None:
        return None
    away, before = dijkstra(links.tocsr(), directed=False, indices=source, return_predecessors=True)
    if not np.isfinite(away[sink]):
        return None
    chain = [sink]
    while chain[-1] != source:
        chain.append(int(before[chain[-1]]))
    line = np.stack([start, *(cells.reshape(-1, 2)[cell] for cell in reversed(chain)), goal])
    corners = [tuple(int(value) for value in np.rint(100 * point)) for point in _straightened(level, line)]
    return tuple(corner for number, corner in enumerate(corners) if not number or corner != corners[number - 1])


def _entrance(level: NavigationLevel, cells: NDArray, free: NDArray, point: NDArray) -> int | None:
    """Number of the nearest free cell that can be driven to straight from a point."""
    away = np.where(free, np.hypot(*np.moveaxis(cells - point, -1, 0)), np.inf).ravel()
    for cell in np.argsort(away, kind="stable")[:12]:
        if not np.isfinite(away[cell]):
            break
        if level.line_clearance(point, cells.reshape(-1, 2)[cell]) >= ROBOT_RADIUS:
            return int(cell)
    return None


def _straightened(level: NavigationLevel, line: NDArray[np.float64]) -> NDArray[np.float64]:
    """As few of a line's points as keep clear when they are joined straight, each as far ahead as can be."""
    kept, here = [0], 0
    while here < len(line) - 1:
        there = here + 1
        for ahead in range(len(line) - 1, here + 1, -1):
            if level.line_clearance(line[here], line[ahead]) >= ROBOT_RADIUS + _STRAIGHT_MARGIN:
                there = ahead
                break
        kept.append(there)
        here = there
    return line[kept]


def motion(level: NavigationLevel, path: tuple[Place, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the robot does along a way: effort so far ``[N]``, and pose (x, y, heading) ``[N, 3]`` in metres, radians.

    It turns on the spot to its first leg, drives with rounded corners where there is room, and turns to its target.
    """
    corners = np.array(path, np.float64) / 100
    points = [corners[:1]]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        points.append(_rounded(level, before, corner, after))
    line = _dense(np.concatenate([*points, corners[-1:]]))
    steps = np.diff(line, axis=0)
    along = np.arctan2(steps[:, 1], steps[:, 0])
    # Each step is driven in its own direction; between steps the robot turns.
    x, y = (np.repeat(axis, 2) for axis in line.T)
    heading = np.unwrap(np.concatenate([[math.radians(level.heading)], np.repeat(along, 2), [level.facing(*line[-1])]]))
    poses = np.stack([x, y, heading], axis=1)
    moved = np.diff(poses, axis=0)
    effort = np.hypot(moved[:, 0], moved[:, 1]) + TURN * np.abs(moved[:, 2])
    return np.concatenate([[0.0], np.cumsum(effort)]), poses


def effort_of(level: NavigationLevel, path: tuple[Place, ...]) -> float:
    """What a video must have room for, in metres at full speed."""
    return float(motion(level, path)[0][-1]) + RAMP


def timed(effort: NDArray[np.float64], poses: NDArray[np.float64], frames: int, duration: float) -> NDArray[np.float32]:
    """Pose in each frame of a motion that takes ``duration`` frames and then rests, ``[F, 3]``."""
    total = float(effort[-1])
    ramp = min(RAMP, total)
    # From rest at constant acceleration, then at constant rate, then back: the area below is the whole effort.
    rate = (total + ramp) / duration
    soft = ramp / rate
    time = np.minimum(np.arange(frames), duration)
    left = duration - time
    done = np.where(
        time < soft,
        rate * time**2 / (2 * soft),
        np.where(left < soft, total - rate * left**2 / (2 * soft), rate * (time - soft / 2)),
    )
    # Steps of no effort have no length in time: the last of them counts.
    distinct = np.append(np.diff(effort) > 1e-12, True)
    found = [np.interp(done, effort[distinct], poses[distinct, axis]) for axis in range(3)]
    return np.stack(found, axis=1).astype(np.float32)


def _rounded(
    level: NavigationLevel, before: NDArray[np.float64], corner: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A corner as a curve that touches both legs, if there is room for one; points ``[N, 2]``."""
    legs = [before - corner, after - corner]
    lengths = [float(np.hypot(*leg)) for leg in legs]
    for reach in _ROUNDING:
        if reach > 0.45 * min(lengths):
            continue
        begin, end = (corner + leg * reach / length for leg, length in zip(legs, lengths, strict=True))
        share = np.linspace(0, 1, 17)[:, None]
        curve = (1 - share) ** 2 * begin + 2 * share * (1 - share) * corner + share**2 * end
        if float(level.clearance(curve).min()) >= ROBOT_RADIUS + 0.005:
            return curve
    return corner[None]


def _dense(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """A line with more points, none farther apart than `_FINE`."""
    parts = [line[:1]]
    for begin, end in itertools.pairwise(line):
        length = float(np.hypot(*(end - begin)))
        if length < 1e-9:
            continue
        share = np.linspace(0, 1, max(2, math.ceil(length / _FINE) + 1))[1:, None]
        parts.append(begin * (1 - share) + end * share)
    return np.concatenate(parts)
