"""A level of curved roads in a plane."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Place
from wan_r1.tasks.roads import Road, RoadGraph, RoadSolution

UNIT = 64
"""Positions are kept as whole numbers of this part of a cell, so that a level has one content whatever made it."""
_CURVE = 12
"""Straight pieces that a Bezier curve is made of: off the curve by less than a hundredth of a cell."""

Point = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class IrregularLevel:
    """Junctions in a plane, joined by roads that are cubic Bezier curves.

    Attributes:
        family: name of the family that made it.
        canvas: cells per side of the square frame.
        junctions: (x, y) of each junction, in parts of a cell (`UNIT`).
        roads: (first junction, second junction, x and y of the first control point, x and y of the second), sorted;
            the first junction has the smaller number.
        start: the player's junction.
        goal: the goal's junction.
    """

    family: str
    canvas: int
    junctions: tuple[Point, ...]
    roads: tuple[tuple[int, int, int, int, int, int], ...]
    start: Place
    goal: Place

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

    @cached_property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits."""
        text = json.dumps(self.to_state(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def layout_id(self) -> str:
        """The same: the roads fill the frame, so that no level is another one shifted."""
        return self.level_id

    @property
    def cell_size(self) -> float:
        """Side of a cell as a fraction of the frame's side."""
        return 1.0 / self.canvas

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

    def center(self, place: Place) -> tuple[float, float]:
        """A junction's (x, y) as fractions of the frame."""
        x, y = self.graph.points[place]
        return x / self.canvas, y / self.canvas

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether a road joins two junctions."""
        return self.graph.road(a, b) is not None

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """The line along the roads of a path, ``[points, 2]``, fractions of the frame."""
        return self.graph.line(path) / self.canvas

    @cached_property
    def solution(self) -> RoadSolution | None:
        """The shortest way by length."""
        return self.graph.solve(self.start, self.goal)

    def solve(self) -> RoadSolution:
        """`solution` of a level that must have one.

        Raises:
            ValueError: if the goal cannot be reached.
        """
        if self.solution is None:
            raise ValueError(f"level {self.level_id}: the goal {self.goal} cannot be reached from {self.start}")
        return self.solution

    def with_ends(self, start: Place, goal: Place) -> IrregularLevel:
        """The level with another start and goal; what is known of its roads is kept."""
        level = replace(self, start=start, goal=goal)
        level.__dict__["graph"] = self.graph
        return level

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values."""
        return {
            "family": self.family,
            "canvas": self.canvas,
            "junctions": [list(point) for point in self.junctions],
            "roads": [list(road) for road in self.roads],
            "start": list(self.start),
            "goal": list(self.goal),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> IrregularLevel:
        """Inverse of `to_state`.

        Raises:
            ValueError: if a field is missing or malformed, naming it.
        """
        try:
            return cls(
                family=str(state["family"]),
                canvas=int(state["canvas"]),
                junctions=tuple((int(x), int(y)) for x, y in state["junctions"]),
                roads=tuple((int(a), int(b), int(c), int(d), int(e), int(f)) for a, b, c, d, e, f in state["roads"]),
                start=tuple(int(k) for k in state["start"]),
                goal=tuple(int(k) for k in state["goal"]),
            )
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None


def bezier(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``[points, 2]`` on the cubic Bezier curve with the control points ``corners`` ``[4, 2]``."""
    return _BERNSTEIN @ corners


def _bernstein() -> NDArray[np.float64]:
    t = np.linspace(0, 1, _CURVE + 1)[:, None]
    return np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)


_BERNSTEIN = _bernstein()
