"""A level of curved roads in a plane."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Place
from wan_r1.tasks.roads import GraphLevel, Road, RoadGraph, whole_numbers

UNIT = 64
"""Positions are kept as whole numbers of this part of a cell, so that a level has one content whatever made it."""
ROAD_WIDTH = 0.8
"""Width of a road, in cells."""
_CURVE = 12
"""Straight pieces that a Bezier curve is made of: off the curve by less than a hundredth of a cell."""

Point = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class IrregularLevel(GraphLevel):
    """Junctions in a plane, joined by roads that are cubic Bezier curves.

    Attributes:
        family: name of the family that made it.
        canvas: cells per side of the square frame.
        junctions: (x, y) of each junction, in parts of a cell (`UNIT`).
        roads: (first junction, second junction, x and y of the first control point, x and y of the second), sorted;
            the first junction has the smaller number.
        start: the player's junction.
        goal: the goal's junction.
        way: junctions of a way from start to goal that another tool takes for the solution though there is a shorter
            one; empty if none. A level without is the same content as before there was this field.
    """

    PLACING: ClassVar[tuple[str, ...]] = ()
    """None: the roads fill the frame, so that no level is another one shifted."""

    family: str
    canvas: int
    junctions: tuple[Point, ...]
    roads: tuple[tuple[int, int, int, int, int, int], ...]
    start: Place
    goal: Place
    way: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        """Refuse roads, starts and goals without their junctions."""
        count = len(self.junctions)
        for a, b, *_ in self.roads:
            if not 0 <= a < b < count:
                raise ValueError(f"road {a}-{b} does not join two of the {count} junctions, the smaller number first")
        for name in ("start", "goal"):
            place = getattr(self, name)
            if len(place) != 1 or not 0 <= place[0] < count:
                raise ValueError(f"{name} {place} is none of the {count} junctions")
        joined = {road[:2] for road in self.roads}
        for (a,), (b,) in itertools.pairwise(self.way):
            if (min(a, b), max(a, b)) not in joined:
                raise ValueError(f"way: no road joins {a} and {b}")
        if self.way and (self.way[0], self.way[-1]) != (self.start, self.goal):
            raise ValueError(f"way: goes from {self.way[0]} to {self.way[-1]}, not from {self.start} to {self.goal}")

    @property
    def box_side(self) -> float:
        """See `GraphLevel.box_side`: the road's width."""
        return ROAD_WIDTH

    def _values(self) -> dict[str, object]:
        values = super()._values()
        if not self.way:
            del values["way"]
        return values

    @cached_property
    def graph(self) -> RoadGraph:
        """Junctions and roads in cells."""
        points: dict[Place, tuple[float, float]] = {
            (k,): (x / UNIT, y / UNIT) for k, (x, y) in enumerate(self.junctions)
        }
        roads = []
        for a, b, *controls in self.roads:
            corners = np.array([points[a,], np.array(controls[:2]) / UNIT, np.array(controls[2:]) / UNIT, points[b,]])
            roads.append(Road.along((a,), (b,), bezier(corners)))
        return RoadGraph(points, roads)

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "family": str(state["family"]),
            "canvas": int(state["canvas"]),
            "junctions": whole_numbers(state["junctions"], 2),
            "roads": whole_numbers(state["roads"], 6),
            **{name: tuple(int(number) for number in state[name]) for name in ("start", "goal")},
            "way": whole_numbers(state.get("way", ()), 1),
        }


def bezier(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``[points, 2]`` on the cubic Bezier curve with the control points ``corners`` ``[4, 2]``."""
    return _BERNSTEIN @ corners


def _bernstein() -> NDArray[np.float64]:
    t = np.linspace(0, 1, _CURVE + 1)[:, None]
    return np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)


_BERNSTEIN = _bernstein()
