"""A level of cubes and ladders as VR-Bench draws it: in perspective, with a ball that nothing hides.

A cube ``(x, y, z)`` fills the unit cube with that corner. The camera looks at the middle of the grid from the side of
large x, y and z, so that x goes left and down in the picture, y right and down, z up. The view is the one that the
benchmark's figures have (matplotlib, elevation 20 and azimuth 45 degrees), in closed form; a level keeps only the size
of its grid, which decides the scale.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Place
from wan_r1.tasks.maze3d_level import Cube
from wan_r1.tasks.roads import GraphLevel, Road, RoadGraph, RoadSolution, whole_numbers

VIEW = "perspective"
"""Value of ``view`` in a level's state, which tells it from levels in our own projection."""
SIDE = 740
"""Pixels per side of the benchmark's picture, which the numbers of the view are for."""
_MIDDLE = np.array([380.81, 359.19])
"""Where the middle of the grid is shown, in pixels of that picture."""
_LENS = 432.4
"""Pixels a unit of the view at the distance of the grid's middle."""
_DISTANCE = 10.0
"""Distance of the camera in units of the view."""
_BOX = 1.8294640721620434 * 25 / 24
"""Diagonal of the grid in units of the view."""
_UP, _ROUND = np.radians(20.0), np.radians(45.0)
_TOWARDS = np.array([np.cos(_UP) * np.cos(_ROUND), np.cos(_UP) * np.sin(_ROUND), np.sin(_UP)])
_RIGHT = np.array([-np.sin(_ROUND), np.cos(_ROUND), 0.0])
_ABOVE = np.cross(_TOWARDS, _RIGHT)
BALL = 48.1 * 8 / SIDE
"""Diameter of the ball as a fraction of the frame's side, times the mean of the grid's sizes along x and y."""
_BALL_HEIGHT = 1.35
"""Height of the ball's centre above the bottom of the cube that it rests on."""
_BALL_CELLS = 0.88
"""Largest diameter of the ball in cells: a cell is a little more than the ball, about as much as a cube's step."""

Ladder = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class PerspectiveLevel(GraphLevel):
    """Cubes that touch side by side can be walked along; ladders lead straight up to a cube above.

    Attributes:
        family: ``maze3d``.
        canvas: cells per side of the square frame, see `cells_for`.
        grid: units along x, y and z of the grid that the view shows.
        cubes: all cubes, sorted.
        ladders: (x, y, z of the lower cube, height), sorted.
        start: the player's cube.
        goal: the goal's cube.
        way: as in `GraphLevel`.
    """

    family: str
    canvas: int
    grid: Cube
    cubes: tuple[Cube, ...]
    ladders: tuple[Ladder, ...]
    start: Place
    goal: Place
    way: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        """Refuse ladders, starts, goals and ways without their cubes."""
        cubes = set(self.cubes)
        for x, y, z, height in self.ladders:
            if (x, y, z) not in cubes or (x, y, z + height) not in cubes or height < 1:
                raise ValueError(f"ladder at {(x, y, z)} of height {height} does not join two cubes")
        for name in ("start", "goal"):
            if getattr(self, name) not in cubes:
                raise ValueError(f"{name} {getattr(self, name)} is none of the cubes")
        if min(self.grid) < 1:
            raise ValueError(f"grid {self.grid} has a side of no cube")
        for a, b in itertools.pairwise(self.way):
            if not self.open_between(a, b):
                raise ValueError(f"way: {a} and {b} neither touch nor have a ladder between them")
        if self.way and (self.way[0], self.way[-1]) != (self.start, self.goal):
            raise ValueError(f"way: goes from {self.way[0]} to {self.way[-1]}, not from {self.start} to {self.goal}")

    @property
    def player_diameter(self) -> float:
        """See `GraphLevel.player_diameter`."""
        return self.canvas * ball_share(self.grid)

    @property
    def box_side(self) -> float:
        """See `GraphLevel.box_side`: the ball's."""
        return self.player_diameter

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where points in space ``[..., 3]`` are shown, ``[..., 2]`` in cells."""
        return project(points, self.grid) * self.canvas

    @cached_property
    def graph(self) -> RoadGraph:
        """Cubes and the ways between them as they are seen: lengths are those in the picture."""
        points: dict[Place, tuple[float, float]] = {}
        for cube, (x, y) in zip(self.cubes, self.project(rest(self.cubes)).tolist(), strict=True):
            points[cube] = (x, y)
        return RoadGraph(points, [Road.along(a, b, self.project(rest([a, b]))) for a, b in self._joined])

    @cached_property
    def solution(self) -> RoadSolution | None:
        """The shortest way by its length in space, where all steps are equally long however near they are."""
        roads = [replace(road, length=_steps(*road.ends)) for road in self.graph.roads.values()]
        return RoadGraph(self.graph.points, roads).solve(self.start, self.goal)

    def length_of(self, path: Sequence[Place]) -> float:
        """See `GraphLevel.length_of`: in space."""
        return sum(_steps(a, b) for a, b in itertools.pairwise(path))

    @cached_property
    def _joined(self) -> list[tuple[Cube, Cube]]:
        """Pairs of cubes that touch side by side, and those that a ladder joins."""
        cubes = set(self.cubes)
        beside = [
            ((x, y, z), other) for x, y, z in self.cubes for other in ((x + 1, y, z), (x, y + 1, z)) if other in cubes
        ]
        return beside + [((x, y, z), (x, y, z + height)) for x, y, z, height in self.ladders]

    def _values(self) -> dict[str, object]:
        return {**super()._values(), "view": VIEW}

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": str(state["family"]),
            "canvas": int(state["canvas"]),
            "grid": whole_numbers([state["grid"]], 3)[0],
            "cubes": whole_numbers(state["cubes"], 3),
            "ladders": whole_numbers(state["ladders"], 4),
            **{name: tuple(int(number) for number in state[name]) for name in ("start", "goal")},
            "way": whole_numbers(state["way"], 3),
        }


def project(points: NDArray[np.floating], grid: Sequence[int]) -> NDArray[np.float64]:
    """Where points in space ``[..., 3]`` of a grid are shown, ``[..., 2]``: (x, y) as fractions of the frame."""
    offset = _in_view(points, grid)
    nearer = _DISTANCE / (_DISTANCE - offset @ _TOWARDS)
    seen = np.stack([offset @ _RIGHT, -(offset @ _ABOVE)], axis=-1)
    return (_MIDDLE + _LENS * seen * nearer[..., None]) / SIDE


def nearness(points: NDArray[np.floating], grid: Sequence[int]) -> NDArray[np.float64]:
    """How near the camera points in space ``[..., 3]`` are; larger is nearer."""
    eye = _DISTANCE * _TOWARDS
    return -np.linalg.norm(_in_view(points, grid) - eye, axis=-1)


def rest(cubes: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Centres ``[N, 3]`` of the ball that rests on each cube."""
    return np.asarray(cubes, np.float64).reshape(-1, 3) + np.array([0.5, 0.5, _BALL_HEIGHT])


def ball_share(grid: Sequence[int]) -> float:
    """Diameter of the ball as a fraction of the frame's side."""
    return 2 * BALL / (grid[0] + grid[1])


def cells_for(grid: Sequence[int]) -> int:
    """Cells per side of the frame, an even number, with which the ball is up to `_BALL_CELLS` of one."""
    return 2 * int(_BALL_CELLS / ball_share(grid) / 2)


def _steps(a: Place, b: Place) -> float:
    """Length of the way from one cube to another, along the axes."""
    return float(np.abs(np.subtract(a, b)).sum())


def _in_view(points: NDArray[np.floating], grid: Sequence[int]) -> NDArray[np.float64]:
    """Points in units of the view, from the middle of the grid."""
    sides = np.array(grid, np.float64)
    return (np.asarray(points, np.float64) - sides / 2) * (_BOX / np.linalg.norm(sides))
