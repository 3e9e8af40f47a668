"""A level of cubes and ladders in space, drawn in isometric projection.

A cube ``(x, y, z)`` fills the unit cube with that corner; x goes right and down in the picture, y left and down, z up,
and every unit step along an axis is one cell long there. The player is a ball that rests on a cube.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Place
from wan_r1.tasks.render import PLAYER_DIAMETER
from wan_r1.tasks.roads import GraphLevel, Road, RoadGraph, whole_numbers

UNIT = 16
"""The drawing's place in the frame is kept as whole numbers of this part of a cell."""
ACROSS = float(np.sqrt(0.75))
"""Width of a step along x or y in the picture, in cells."""
BALL = PLAYER_DIAMETER / 2 / float(np.sqrt(1.5))
"""Radius of the ball in units of space: lengths across the line of sight look longer by the root of 3/2."""
LADDER_GAP = 0.2
"""How far the ball goes towards a ladder before it climbs."""

Cube = tuple[int, int, int]
Ladder = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Maze3DLevel(GraphLevel):
    """Cubes that touch side by side can be walked along; ladders lead to cubes that are higher and one step farther.

    Attributes:
        family: name of the family that made it.
        canvas: cells per side of the square frame.
        offset: (right, down) of the corner (0, 0, 0) from the frame's corner, in parts of a cell (`UNIT`).
        cubes: all cubes, sorted.
        ladders: (x, y, z of the lower cube, step along x, step along y, height), sorted; one of the steps is -1.
        start: the player's cube.
        goal: the goal's cube.
    """

    family: str
    canvas: int
    offset: tuple[int, int]
    cubes: tuple[Cube, ...]
    ladders: tuple[Ladder, ...]
    start: Place
    goal: Place

    def __post_init__(self) -> None:
        """Refuse ladders, starts and goals without their cubes."""
        cubes = set(self.cubes)
        for x, y, z, right, left, height in self.ladders:
            if (right, left) not in ((-1, 0), (0, -1)) or height < 2:
                raise ValueError(f"ladder at {(x, y, z)} leads {(right, left, height)}; expected a step back, and up")
            if (x, y, z) not in cubes or (x + right, y + left, z + height) not in cubes:
                raise ValueError(f"ladder at {(x, y, z)} does not join two cubes")
        for name in ("start", "goal"):
            if getattr(self, name) not in cubes:
                raise ValueError(f"{name} {getattr(self, name)} is none of the cubes")

    @property
    def box_side(self) -> float:
        """See `GraphLevel.box_side`: the ball's."""
        return PLAYER_DIAMETER

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where points in space ``[..., 3]`` are shown, ``[..., 2]`` in cells."""
        x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        right, down = self.offset
        return np.stack([(x - y) * ACROSS + right / UNIT, (x + y) / 2 - z + down / UNIT], axis=-1)

    @cached_property
    def ways(self) -> list[tuple[Place, Place, NDArray[np.float64]]]:
        """(first cube, second cube, the ball's way in space ``[points, 3]``) for each pair joined."""
        cubes = set(self.cubes)
        found: list[tuple[Place, Place, NDArray[np.float64]]] = []
        for x, y, z in self.cubes:
            for other in ((x + 1, y, z), (x, y + 1, z)):
                if other in cubes:
                    found.append(((x, y, z), other, np.stack([rest(x, y, z), rest(*other)])))
        for x, y, z, right, left, height in self.ladders:
            upper = (x + right, y + left, z + height)
            low = rest(x, y, z) + LADDER_GAP * np.array([right, left, 0])
            line = np.stack([rest(x, y, z), low, low + np.array([0, 0, height]), rest(*upper)])
            found.append(((x, y, z), upper, line))
        return found

    @cached_property
    def graph(self) -> RoadGraph:
        """Cubes and the ways between them as they are seen; a way is as long in the picture as in space."""
        points: dict[Place, tuple[float, float]] = {}
        for cube in self.cubes:
            x, y = self.project(rest(*cube)).tolist()
            points[cube] = (x, y)
        return RoadGraph(points, [Road.along(a, b, self.project(line)) for a, b, line in self.ways])

    def depths(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """How near the ball is (x + y + z of its centre) when it is seen at points ``[N, 2]`` in cells.

        That is told by the nearest place of a way: no two ways cross in the picture.
        """
        lines = [line for _, _, line in self.ways]
        begin, end = (np.concatenate([line[part] for line in lines]) for part in (slice(None, -1), slice(1, None)))
        first, second = self.project(begin), self.project(end)
        step = second - first
        offset = np.asarray(points, np.float64)[:, None] - first
        share = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0, 1)
        nearest = ((offset - share[..., None] * step) ** 2).sum(-1).argmin(1)
        along = np.take_along_axis(share, nearest[:, None], 1)[:, 0]
        return begin[nearest].sum(-1) * (1 - along) + end[nearest].sum(-1) * along

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": str(state["family"]),
            "canvas": int(state["canvas"]),
            "offset": whole_numbers([state["offset"]], 2)[0],
            "cubes": whole_numbers(state["cubes"], 3),
            "ladders": whole_numbers(state["ladders"], 6),
            **{name: tuple(int(number) for number in state[name]) for name in ("start", "goal")},
        }


def rest(x: int, y: int, z: int) -> NDArray[np.float64]:
    """Centre of the ball that rests on a cube."""
    return np.array([x + 0.5, y + 0.5, z + 1 + BALL])


def spot(x: int, y: int, z: int) -> tuple[int, int]:
    """Where a cube's top is in the picture, on its triangular lattice: what has one spot looks the same."""
    return x - z, y - z
