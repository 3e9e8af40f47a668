"""The common part of the families whose levels are roads: lengths by difficulty, uniqueness, timing."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.family import DIFFICULTIES, BaseFamily
from wan_r1.tasks.level import Level, Place
from wan_r1.tasks.render import MIN_CELL, PLAYER_DIAMETER
from wan_r1.tasks.roads import Regions, RoadGraph, RoadSolution, place_along
from wan_r1.tasks.textures import Texture

MARGIN = 0.1
"""The next best way is longer than the solution by at least this share of it, and by `MARGIN_CELLS`."""
MARGIN_CELLS = 1.0

_DRAWS = 2_000
"""Graphs drawn before a family is declared unable to make a level; a healthy one needs a few."""
_PAIRS = 12
"""Pairs of start and goal tried on a graph."""
_CHOICES = {"easy": 1, "medium": 2, "hard": 3}
"""Fewest places on a solution where more than one way leads on; on a small canvas fewer, see `fewest_choices`."""
_HARDEST = {"easy": 0.75, "medium": 0.75, "hard": 0.25}
"""Share of the range of lengths by difficulty up to which the least length can be raised: longer ways are rare."""
_ROOM = 1.25
"""A video must have room for so many times the least length, so that there are lengths to choose from."""


class RoadLevel(Level, Protocol):
    """A level made of roads."""

    @property
    def graph(self) -> RoadGraph:
        """Its places and roads, on the canvas in cells."""

    @property
    def way(self) -> tuple[Place, ...]:
        """See `wan_r1.tasks.roads.GraphLevel.way`."""

    @property
    def player_diameter(self) -> float:
        """Diameter of the player, in cells."""

    def with_ends(self, start: Place, goal: Place) -> Self:
        """The level with another start and goal."""


R = TypeVar("R", bound=RoadLevel)


class RoadFamily(BaseFamily[R]):
    """Base of the families of roads."""

    smallest_canvas: ClassVar[int] = 8
    narrowest: ClassVar[int] = 2
    LENGTHS: ClassVar[Mapping[str, tuple[float, float]]]
    """Least and largest length of a solution by difficulty, in sides of the frame."""

    def draw(self, dice: random.Random, difficulty: str, canvas: int) -> R | None:
        """A random level whose start and goal are not yet chosen; ``None`` is a proposal given up."""
        raise NotImplementedError

    def suits(self, level: R, solution: RoadSolution) -> bool:
        """Whether a solution is what the family wants, beside its length, its choices and its margin."""
        return True

    def places(self, level: R) -> list[Place]:
        """Places where a start or a goal can be."""
        return list(level.graph.points)

    def span(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """Least and largest length of a solution of this difficulty in cells, whatever the shape."""
        if difficulty not in DIFFICULTIES:
            raise ConfigError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
        if canvas < self.smallest_canvas:
            raise ConfigError(
                f"canvas={canvas} is too small for the family {self.name!r}; use at least {self.smallest_canvas} cells "
                f"(a frame of {MIN_CELL * self.smallest_canvas} px or more)"
            )
        low, high = self.LENGTHS[difficulty]
        return math.ceil(low * canvas), math.ceil(high * canvas)

    def hardest(self, difficulty: str, canvas: int) -> int:
        """See `BaseFamily.hardest`."""
        low, high = self.span(difficulty, canvas)
        return low + int(_HARDEST[difficulty] * (high - low))

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Cells that a video must at least have room for."""
        return math.ceil(_ROOM * self.lengths(difficulty, canvas)[0])

    def generate(self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None) -> R:
        """A level with one shortest solution, shorter than any other by `MARGIN` and `MARGIN_CELLS`.

        Args:
            rng: the only source of randomness; one draw is taken from it.
            difficulty: one of `DIFFICULTIES`.
            canvas: cells per side of the frame.
            max_steps: longest solution, in cells, that the video has room for.

        Raises:
            ConfigError: if the difficulty is unknown, the canvas too small or ``max_steps`` below what it needs.
        """
        low, high = self.lengths(difficulty, canvas)
        needed = self.shortest_allowed(difficulty, canvas)
        if max_steps is not None and max_steps < needed:
            raise ConfigError(
                f"{self.name} levels of difficulty={difficulty!r} on canvas={canvas} need room for at least {needed} "
                f"moves, but max_steps={max_steps}; use at least {needed}, or an easier difficulty"
            )
        most = high if max_steps is None else min(high, max_steps)
        dice = random.Random(int(rng.integers(2**63)))
        for _ in range(_DRAWS):
            level = self.draw(dice, difficulty, canvas)
            found = level and self._choose_ends(dice, level, low, most, fewest_choices(difficulty, canvas))
            if found:
                return found
        raise RuntimeError(
            f"family {self.name!r} drew {_DRAWS} graphs for difficulty={difficulty!r}, canvas={canvas}, none of which "
            f"has one shortest solution of {low} to {most} cells: its draw() and LENGTHS do not fit each other"
        )

    def _choose_ends(self, dice: random.Random, level: R, low: float, high: float, fewest: int) -> R | None:
        places = self.places(level)
        for _ in range(_PAIRS):
            start = dice.choice(places)
            lengths = level.graph.distances(start)
            goals = [place for place in places if low <= lengths.get(place, -1) <= high]
            if not goals:
                continue
            goal = dice.choice(goals)
            solution = level.graph.solve(start, goal)
            if (
                solution is not None
                and count_choices(level.graph, solution) >= fewest
                and is_unique(solution)
                and self.suits(level, solution)
            ):
                chosen = level.with_ends(start, goal)
                chosen.__dict__["solution"] = solution
                return chosen
        return None

    def prompt(self, texture: Texture) -> str:
        """What the video model is told."""
        raise NotImplementedError

    def regions(self, level: R, size: int) -> Regions:
        """What each pixel of a frame of the level shows."""
        raise NotImplementedError

    def visibility(self, level: R, points: NDArray[np.float64], size: int) -> NDArray[np.float32]:
        """How much of each pixel of the player can be seen, with the player at some points of the roads.

        Args:
            level: the level.
            points: ``[N, 2]`` player centres in cells.
            size: height and width of the frame in pixels.

        Returns:
            ``[N, side, side]`` from 0 to 1, in a window of `window_side` pixels around the pixel of each point.
        """
        side = window_side(size / level.canvas)
        return np.ones((len(points), side, side), np.float32)

    def trajectory(self, level: R, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Constant speed along the solution, then rest on the goal.

        Raises:
            ConfigError: if the solution does not fit in the frames.
        """
        route = level.route(level.solve().path) * level.canvas
        length = float(np.linalg.norm(np.diff(route, axis=0), axis=1).sum())
        walked = np.arange(frames, dtype=np.float64) * steps_per_frame
        if walked[-1] < length - 1e-6:
            needed = 1 + math.ceil(length / steps_per_frame - 1e-6)
            raise ConfigError(
                f"a solution of {length:.1f} cells does not fit in frames={frames} at steps_per_frame="
                f"{steps_per_frame}; use at least {needed} frames"
            )
        return (place_along(route, walked) / level.canvas).astype(np.float32)


def fewest_choices(difficulty: str, canvas: int) -> int:
    """Fewest places on a solution of this difficulty where more than one way leads on."""
    return min(_CHOICES[difficulty], max(1, canvas // 4 - 1))


def count_choices(graph: RoadGraph, solution: RoadSolution) -> int:
    """Places on a solution, but for the goal, where more than one way leads on."""
    ahead = [len(graph.neighbours(place)) - (number > 0) for number, place in enumerate(solution.path[:-1])]
    return sum(ways > 1 for ways in ahead)


def window_side(cell: float) -> int:
    """Pixels per side (an odd number) of a window that holds the player wherever in its middle pixel it is."""
    return 2 * math.ceil(PLAYER_DIAMETER * cell / 2 + 1) + 1


def is_unique(solution: RoadSolution) -> bool:
    """Whether the solution is shorter than any other way by the stated margin."""
    return solution.count == 1 and solution.margin >= max(MARGIN_CELLS, MARGIN * solution.length)
