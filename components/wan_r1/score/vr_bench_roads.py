"""VR-Bench's games without a grid: pathfinder (roads) and maze3d (cubes), whose states keep their own solution.

A pathfinder's solution is the way over the fewest junctions, of which many levels have a shorter one by true length;
such a level keeps the benchmark's as its ``way``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.irregular_level import ROAD_WIDTH, UNIT, IrregularLevel
from wan_r1.tasks.level import Level, Place
from wan_r1.tasks.maze3d_level import Cube
from wan_r1.tasks.perspective_level import PerspectiveLevel, ball_share, cells_for, project, rest
from wan_r1.tasks.roads import place_along

FRAMES_PER_SECOND = 24.0
_PIXELS_PER_SECOND = 100.0
_FEWEST_ROAD_FRAMES = 48
_CUBES_PER_SECOND = 2.0
_FEWEST_CUBE_FRAMES = 10
_SAME_NODE = 1 / 16
"""Ends of segments that are so close, in cells, are one junction: as many cross there as there seem to."""


@dataclass(frozen=True, kw_only=True)
class GameLevel:
    """A level of the benchmark's with the solution that its reference video shows.

    Attributes:
        level: the level.
        path: its solution.
        trajectory: the player's centre (x, y) in each frame of that video as fractions of the frame, ``[F, 2]``.
    """

    level: Level
    path: tuple[Place, ...]
    trajectory: NDArray[np.float32]


def require(values: Any, key: str, where: str = "") -> Any:
    """The value at a key such as ``metadata.segments``.

    Args:
        values: JSON values.
        key: names of nested fields.
        where: what the values are of, for messages, such as ``metadata.ladders[0].``.

    Raises:
        ValueError: naming the key, if it is missing.
    """
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            raise ValueError(f"the state lacks {where}{key}")
        values = values[part]
    return values


def require_numbers(values: Any, key: str, shape: tuple[int, ...], where: str = "") -> NDArray[np.float64]:
    """The numbers at a key as an array of some shape, in which -1 allows one or more; as `require`.

    Raises:
        ValueError: naming the key, if it is missing or holds something else.
    """
    found = require(values, key, where)
    try:
        numbers = np.asarray(found, np.float64)
    except (ValueError, TypeError):
        numbers = np.zeros(0)
    given = numbers.shape
    fits = len(given) == len(shape) and all(side in (-1, one) for side, one in zip(shape, given, strict=True))
    if not fits or not numbers.size or not np.isfinite(numbers).all():
        text = " x ".join("n" if side < 0 else str(side) for side in shape) + " numbers" if shape else "a number"
        raise ValueError(f"{where}{key} is {str(found)[:60]}; expected {text}")
    return numbers


def read_pathfinder(values: Mapping[str, Any]) -> GameLevel:
    """A level of curved roads. A cell is so large that a road has our width, as nearly as an even number of cells a
    side allows (frames are read several times faster if their side divides into blocks).

    Raises:
        ValueError: naming the key that is missing or wrong.
    """
    side = _side(values)
    road_width = float(require_numbers(values, "metadata.road_width", ()))
    if not side / 64 <= road_width <= side / 6:
        raise ValueError(f"metadata.road_width is {road_width:g} px; expected {side / 64:g} to {side / 6:g}")
    canvas = 2 * round(ROAD_WIDTH * side / road_width / 2)
    scale = canvas / side
    segments = require_numbers(values, "metadata.segments", (-1, 3, 2))
    nodes: list[NDArray[np.float64]] = []

    def find(point: NDArray[np.float64]) -> int:
        """The node at a point; -1 if there is none."""
        away = [float(np.hypot(*(point - other))) for other in nodes]
        return int(np.argmin(away)) if away and min(away) * scale <= _SAME_NODE else -1

    ends: list[tuple[int, int]] = []
    roads: dict[tuple[int, int], tuple[int, int, int, int, int, int]] = {}
    for number, (begin, middle, end) in enumerate(segments):
        for point in (begin, end):
            if find(point) < 0:
                nodes.append(point)
        a, b = find(begin), find(end)
        pair = (min(a, b), max(a, b))
        ends.append((a, b))
        if a == b:
            continue
        if pair in roads:
            raise ValueError(f"metadata.segments[{number}] joins two nodes that another segment joins; expected one")
        # A quadratic curve is a cubic one whose control points are two thirds of the way to its own.
        controls = [point + (middle - point) * 2 / 3 for point in ((begin, end) if a < b else (end, begin))]
        (p, q), (r, s) = (_in_units(point * scale) for point in controls)
        roads[pair] = (*pair, p, q, r, s)
    both = {}
    for name in ("start_point", "end_point"):
        both[name] = find(point := require_numbers(values, f"metadata.{name}", (2,)))
        if both[name] < 0:
            raise ValueError(f"metadata.{name} is {point.tolist()}, where no segment of metadata.segments ends")
    start, goal = both.values()
    level = IrregularLevel(
        family="irregular",
        canvas=canvas,
        junctions=tuple(_in_units(point * scale) for point in nodes),
        roads=tuple(sorted(roads.values())),
        start=(start,),
        goal=(goal,),
    )
    path = _chain(ends, require_numbers(values, "metadata.solution_segments", (-1,)), start, goal)
    line = level.graph.line(path)
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    frames = max(int(FRAMES_PER_SECOND * length / scale / _PIXELS_PER_SECOND), _FEWEST_ROAD_FRAMES)
    trajectory = place_along(line, np.linspace(0, length, frames)) / canvas
    if path != level.solve().path:
        level = replace(level, way=path)
    return GameLevel(level=level, path=path, trajectory=trajectory.astype(np.float32))


def read_maze3d(values: Mapping[str, Any]) -> GameLevel:
    """A level of cubes and ladders in the benchmark's perspective.

    Raises:
        ValueError: naming the key that is missing or wrong.
    """
    side = _side(values)
    grid = _cube(values, "metadata.grid_size")
    ladders = []
    for where, ladder in _each(values, "metadata.ladders"):
        ladders.append((*_cube(ladder, "base_pos", where), int(require_numbers(ladder, "height", (), where))))
    cubes = require_numbers(values, "metadata.cubes", (-1, 3)).astype(int).tolist()
    level = PerspectiveLevel(
        family="maze3d",
        canvas=cells_for(grid),
        grid=grid,
        cubes=tuple(sorted({(x, y, z) for x, y, z in cubes})),
        ladders=tuple(sorted(set(ladders))),
        start=_cube(values, "metadata.start_pos"),
        goal=_cube(values, "metadata.goal_pos"),
    )
    for name, cube in (("player", level.start), ("goal", level.goal)):
        box = [
            float(require_numbers(values, f"entities.{name}.bbox.{key}", ())) for key in ("x", "y", "width", "height")
        ]
        shown = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])
        due = project(rest([cube]), grid)[0] * side
        if np.hypot(*(shown - due)) > ball_share(grid) * side / 2:
            raise ValueError(
                f"entities.{name}.bbox is around {np.round(shown).tolist()}, but the benchmark's view of the grid "
                f"{list(grid)} shows cube {list(cube)} at {np.round(due).tolist()} px: another view is not known"
            )
    path: list[Place] = [level.start]
    for where, piece in _each(values, "metadata.path"):
        begin, end = (_cube(piece, name, where) for name in ("start", "end"))
        places = _straight(begin, end) if begin[2] == end[2] else [begin, end]
        for here, there in itertools.pairwise([path[-1], *places[begin == path[-1] :]]):
            if not level.open_between(here, there):
                raise ValueError(
                    f"{where[:-1]} leads from {list(here)} to {list(there)}, between which metadata.cubes and "
                    "metadata.ladders have no way"
                )
            path.append(there)
    if path[-1] != level.goal:
        raise ValueError(f"metadata.path ends at {list(path[-1])}, not at metadata.goal_pos {list(level.goal)}")
    points = rest(path)
    lengths = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(points, axis=0)).sum(1))])
    frames = max(int(FRAMES_PER_SECOND * lengths[-1] / _CUBES_PER_SECOND), _FEWEST_CUBE_FRAMES)
    walked = np.linspace(0, lengths[-1], frames)
    space = np.stack([np.interp(walked, lengths, points[:, axis]) for axis in range(3)], axis=1)
    if len(path) - 1 > level.solve().steps:
        level = replace(level, way=tuple(path))
    return GameLevel(level=level, path=tuple(path), trajectory=project(space, grid).astype(np.float32))


def _side(values: Mapping[str, Any]) -> float:
    """Pixels per side of the picture that the state's numbers are for."""
    width, height = (float(require_numbers(values, f"render.image_{name}", ())) for name in ("width", "height"))
    if width != height or width < 1:
        raise ValueError(f"render.image_width and image_height are {width:g} and {height:g}; expected a square")
    return width


def _in_units(point: NDArray[np.float64]) -> tuple[int, int]:
    """A point in cells in parts of a cell."""
    return round(float(point[0]) * UNIT), round(float(point[1]) * UNIT)


def _chain(
    ends: Sequence[tuple[int, int]], chosen: NDArray[np.float64], start: int, goal: int
) -> tuple[tuple[int], ...]:
    """The nodes that some segments lead through from start to goal, whatever their order."""
    left = [int(number) for number in chosen]
    if not all(0 <= number < len(ends) for number in left):
        raise ValueError(f"metadata.solution_segments is {left}; expected numbers from 0 to {len(ends) - 1}")
    left = [number for number in left if ends[number][0] != ends[number][1]]
    path = [start]
    while path[-1] != goal:
        onward = [number for number in left if path[-1] in ends[number]]
        if len(onward) != 1:
            raise ValueError(
                f"metadata.solution_segments is no way from start_point to end_point: {len(onward)} of its segments "
                f"lead on after {len(path) - 1}"
            )
        left.remove(onward[0])
        path.append(sum(ends[onward[0]]) - path[-1])
    return tuple((node,) for node in path)


def _each(values: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    """The items of a list at a key, each after what it is of, for messages."""
    found = require(values, key)
    if not isinstance(found, list):
        raise ValueError(f"{key} is {str(found)[:60]}; expected a list")
    return [(f"{key}[{number}].", item) for number, item in enumerate(found)]


def _cube(values: Any, key: str, where: str = "") -> Cube:
    x, y, z = require_numbers(values, key, (3,), where).astype(int).tolist()
    return x, y, z


def _straight(begin: Cube, end: Cube) -> list[Cube]:
    """The cubes from one to another of the same height, a step apart, first along x and then along y."""
    places = [begin]
    while places[-1] != end:
        x, y, z = places[-1]
        right, left = np.sign(end[0] - x), np.sign(end[1] - y)
        places.append((x + int(right), y, z) if right else (x, y + int(left), z))
    return places
