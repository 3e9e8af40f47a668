"""Roads: a graph with a length and a line on each edge, which the levels that are no grid are made of.

Lengths and points are in cells (see `wan_r1.tasks.level.Level.canvas`), x right, y down.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import LevelContent, Place, Solution
from wan_r1.tasks.render import PLAYER_DIAMETER

_SAME = 1e-6
"""Largest difference, in cells, of two lengths that count as equal."""


@dataclass(frozen=True, kw_only=True)
class Road:
    """A road between two places.

    Attributes:
        ends: the two places, the smaller first.
        line: float64 [points, 2], from the first end to the second.
        length: of the way along it; that of its line, unless said otherwise.
    """

    ends: tuple[Place, Place]
    line: NDArray[np.float64]
    length: float

    @classmethod
    def along(cls, a: Place, b: Place, line: NDArray[np.float64]) -> Road:
        """The road from ``a`` to ``b`` along a line."""
        if b < a:
            a, b, line = b, a, line[::-1]
        return cls(ends=(a, b), line=line, length=float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()))


@dataclass(frozen=True, kw_only=True)
class RoadSolution(Solution):
    """A shortest way over roads.

    Attributes:
        length: its length.
        margin: how much longer the next best way is that visits no place twice; infinite if there is none.
    """

    length: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Regions:
    """What each pixel of a frame shows, for whoever compares frames with it.

    Attributes:
        labels: int32 [H, W], index into `kinds`; -1 where pixels are mixed of several things.
        kinds: for each label the violation that a change of it is (see `wan_r1.verification.verdict.VIOLATIONS`).
        repeats: whether what is of one kind looks the same at the same place of every cell, as our materials do.
    """

    labels: NDArray[np.int32]
    kinds: tuple[str, ...]
    repeats: bool = True


class RoadGraph:
    """Places joined by roads; between two places there is one road at most.

    Attributes:
        points: where each place is, (x, y).
        roads: all roads by their ends, the smaller end first.
    """

    def __init__(self, points: Mapping[Place, tuple[float, float]], roads: Sequence[Road]) -> None:
        """Keep the places and roads given; a road's ends must be places."""
        self.points = dict(points)
        self.roads = {road.ends: road for road in roads}
        self._around: dict[Place, list[tuple[Place, float]]] = {place: [] for place in self.points}
        for (a, b), road in self.roads.items():
            self._around[a].append((b, road.length))
            self._around[b].append((a, road.length))

    def road(self, a: Place, b: Place) -> Road | None:
        """The road between two places, or ``None``."""
        return self.roads.get((a, b) if a < b else (b, a))

    def neighbours(self, place: Place) -> list[Place]:
        """Places that one road leads to."""
        return [other for other, _ in self._around.get(place, ())]

    def distances(self, source: Place, without: tuple[Place, Place] | None = None) -> dict[Place, float]:
        """Length of the shortest way from ``source`` to each place that can be reached, without one of the roads."""
        found: dict[Place, float] = {}
        queue = [(0.0, source)]
        while queue:
            length, place = heapq.heappop(queue)
            if place in found:
                continue
            found[place] = length
            for other, further in self._around[place]:
                if other not in found and (place, other) != without and (other, place) != without:
                    heapq.heappush(queue, (length + further, other))
        return found

    def solve(self, start: Place, goal: Place) -> RoadSolution | None:
        """The shortest way, or ``None`` if there is none."""
        to_goal = self.distances(goal)
        if start not in to_goal:
            return None
        counts: dict[Place, int] = {}
        for place, length in to_goal.items():
            counts[place] = sum(counts[b] for b in self._nearer(place, to_goal)) if length else 1
        path = [start]
        while path[-1] != goal:
            path.append(min(self._nearer(path[-1], to_goal)))
        # Another way leaves out at least one road of the best one.
        others = [self.distances(goal, (a, b)).get(start, np.inf) for a, b in itertools.pairwise(path)]
        best = to_goal[start]
        return RoadSolution(
            path=tuple(path),
            count=counts[start],
            length=best,
            margin=float(min(others, default=np.inf) - best),
        )

    def _nearer(self, place: Place, to_goal: Mapping[Place, float]) -> list[Place]:
        """Neighbours through which a shortest way leads."""
        here = to_goal[place]
        return [b for b, length in self._around[place] if abs(to_goal[b] + length - here) <= _SAME and here > 0]

    def line(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """The line through places one road apart, ``[points, 2]``.

        Raises:
            ValueError: naming two places that no road joins.
        """
        parts = [np.array([self.points[path[0]]])]
        for a, b in itertools.pairwise(path):
            road = self.road(a, b)
            if road is None:
                raise ValueError(f"no road joins {a} and {b}")
            parts.append((road.line if a < b else road.line[::-1])[1:])
        return np.concatenate(parts)

    @cached_property
    def lines(self) -> list[NDArray[np.float64]]:
        """The line of each road, in the order of `roads`."""
        return [road.line for road in self.roads.values()]


class GraphLevel(LevelContent[RoadSolution]):
    """Base of the levels that are made of roads."""

    start: Place
    goal: Place
    way: tuple[Place, ...] = ()
    """The places of a way that another tool takes for the solution though there is a shorter one; empty if none."""

    @property
    def player_diameter(self) -> float:
        """Diameter of the player, in cells."""
        return PLAYER_DIAMETER

    @property
    def box_side(self) -> float:
        """Side of the square around start and goal that VR-Bench's metrics look at, in cells."""
        raise NotImplementedError

    @cached_property
    def graph(self) -> RoadGraph:
        """Its places and roads, on the canvas in cells."""
        raise NotImplementedError

    def center(self, place: Place) -> tuple[float, float]:
        """Where the player's centre is shown when it stands at a place, (x, y) as fractions of the frame."""
        x, y = self.graph.points[place]
        return x / self.canvas, y / self.canvas

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether a road joins two places."""
        return self.graph.road(a, b) is not None

    def length_of(self, path: Sequence[Place]) -> float:
        """Length of a way over places one road apart, as `solution` measures it."""
        roads = (self.graph.roads[min(a, b), max(a, b)] for a, b in itertools.pairwise(path))
        return sum(road.length for road in roads)

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """The line along the roads of a path, ``[points, 2]``, fractions of the frame."""
        return self.graph.line(path) / self.canvas

    @cached_property
    def solution(self) -> RoadSolution | None:
        """The shortest way by length."""
        return self.graph.solve(self.start, self.goal)

    def with_ends(self, start: Place, goal: Place) -> Self:
        """The level with another start and goal; what is known of its roads is kept."""
        level: Self = replace(cast(Any, self), start=start, goal=goal)
        level.__dict__["graph"] = self.graph
        return level


def whole_numbers(rows: Sequence[Sequence[Any]], columns: int) -> tuple[tuple[int, ...], ...]:
    """Rows of so many whole numbers, as a level's state has them.

    Raises:
        ValueError: if a row has more or fewer.
    """
    found = tuple(tuple(int(value) for value in row) for row in rows)
    for row in found:
        if len(row) != columns:
            raise ValueError(f"{list(row)} has {len(row)} numbers instead of {columns}")
    return found


def place_along(line: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points ``[N, 2]`` at the given lengths ``[N]`` along a line ``[points, 2]``; its ends beyond them."""
    before = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.stack([np.interp(lengths, before, line[:, axis]) for axis in (0, 1)], axis=1)


def sample_line(line: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
    """Points ``[N, 2]`` along a line, at most ``spacing`` apart, its ends included."""
    total = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
    return place_along(line, np.linspace(0, total, max(2, int(np.ceil(total / spacing)) + 1)))
