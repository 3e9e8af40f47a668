"""Irregular maze: curved roads on a planar graph, where the shortest way is the shortest by true length.

Junctions are Voronoi vertices of Poisson-disc seeds and roads are Bezier curves along Voronoi edges. A spanning tree is
laid first, then some loops are closed; roads keep so far apart that no two can be taken for one.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Voronoi

from wan_r1.tasks.draw_roads import draw_irregular, irregular_regions
from wan_r1.tasks.irregular_level import UNIT, IrregularLevel, bezier
from wan_r1.tasks.render import draw_player
from wan_r1.tasks.road_family import RoadFamily
from wan_r1.tasks.roads import Regions, sample_line
from wan_r1.tasks.textures import Texture

_SPACING = {"easy": 0.27, "medium": 0.21, "hard": 0.16}
"""Least distance of two Poisson-disc seeds, in sides of the frame (VR-Bench: .30, .20, .15)."""
_LEAST_SPACING = 2.6
"""The same in cells, so that roads 0.8 cells wide have ground between them on any canvas."""
_LOOPS = {"easy": 0.25, "medium": 0.3, "hard": 0.35}
"""Share of the roads that close a loop which are laid."""
_BORDER = 1.0
"""Least distance of a road's middle from the frame's edge, in cells."""
_SHORTEST = 1.7
"""Junctions closer than this, in cells, become one."""
_APART = 1.3
"""Least distance, in cells, of the middles of two roads that do not meet, and of two that do beyond `_FORK`."""
_FORK = 1.6
"""From this distance from their junction on two roads must be `_APART`; this makes angles of 48 degrees and more."""
_BEND = 0.3
"""Largest distance of a control point from the straight line, as a share of the road's length."""


class Irregular(RoadFamily[IrregularLevel]):
    """See the module."""

    name = "irregular"
    level_type = IrregularLevel
    symmetric = True
    LENGTHS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "easy": (0.3, 0.8),
        "medium": (0.5, 1.4),
        "hard": (0.8, 3.0),
    }

    def draw(self, dice: random.Random, difficulty: str, canvas: int) -> IrregularLevel | None:
        """Junctions and roads of a connected network; its ends are both junction 0."""
        seeds = _poisson_disc(dice, canvas, max(_SPACING[difficulty] * canvas, _LEAST_SPACING))
        if len(seeds) < 5:
            return None
        points, edges = _network(seeds, canvas)
        dice.shuffle(edges)
        laid = _lay_roads(dice, points, edges, _LOOPS[difficulty], canvas)
        kept = _largest_part(laid)
        if len(kept) < 3:
            return None
        number = {old: new for new, old in enumerate(sorted(kept))}
        roads = sorted((number[a], number[b], *controls) for (a, b), controls in laid.items() if a in number)
        return IrregularLevel(
            family=self.name,
            canvas=canvas,
            junctions=tuple(points[old] for old in sorted(kept)),
            roads=tuple((a, b, c, d, e, f) for a, b, c, d, e, f in roads),
            start=(0,),
            goal=(0,),
        )

    def render(
        self, level: IrregularLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames with the player at ``positions``, or one frame without the player; as `GridFamily.render`."""
        background = draw_irregular(level, texture, size)
        if positions is None:
            return background[None]
        return draw_player(background, positions, texture.player, size / level.canvas)

    def regions(self, level: IrregularLevel, size: int) -> Regions:
        """What each pixel of a frame of the level shows."""
        return irregular_regions(level, size)

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        road = t.floor_noun.replace("floor", "road")
        return (
            f"Top-down view of winding roads. The {t.player_noun} takes the shortest way along the {road} at constant "
            f"speed, never leaves it, and stops on the {t.goal_noun}."
        )


def _poisson_disc(dice: random.Random, canvas: int, spacing: float) -> NDArray[np.float64]:
    """Random points ``[N, 2]`` in and a little around the frame, no two closer than ``spacing``, in cells."""
    low, high = -0.3 * spacing, canvas + 0.3 * spacing
    found: list[tuple[float, float]] = []
    tries = int(12 * (canvas / spacing + 1) ** 2)
    for _ in range(tries):
        x, y = dice.uniform(low, high), dice.uniform(low, high)
        if all((x - a) ** 2 + (y - b) ** 2 >= spacing**2 for a, b in found):
            found.append((x, y))
    return np.array(found).reshape(-1, 2)


def _network(seeds: NDArray[np.float64], canvas: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Voronoi vertices inside the frame in parts of a cell, those close together merged, and the edges between them."""
    diagram = Voronoi(seeds)
    inside = ((diagram.vertices >= _BORDER) & (diagram.vertices <= canvas - _BORDER)).all(1)
    edges = [(a, b) for a, b in diagram.ridge_vertices if a >= 0 and b >= 0 and inside[a] and inside[b]]
    points = {int(k): diagram.vertices[k] for edge in edges for k in edge}
    while True:
        numbers = sorted(points)
        first, second = np.triu_indices(len(numbers), 1)
        places = np.array([points[k] for k in numbers]).reshape(-1, 2)
        distances = np.hypot(*(places[first] - places[second]).T)
        nearest = int(distances.argmin()) if len(distances) else -1
        if nearest < 0 or distances[nearest] >= _SHORTEST:
            break
        a, b = numbers[first[nearest]], numbers[second[nearest]]
        points[a] = (points[a] + points.pop(b)) / 2
        edges = [tuple(a if end == b else end for end in edge) for edge in edges]
    number = {old: new for new, old in enumerate(sorted(points))}
    joined = {tuple(sorted((number[a], number[b]))) for a, b in edges if a != b}
    whole = [(round(float(x) * UNIT), round(float(y) * UNIT)) for _, (x, y) in sorted(points.items())]
    return whole, sorted((a, b) for a, b in joined)


def _lay_roads(
    dice: random.Random,
    points: list[tuple[int, int]],
    edges: list[tuple[int, int]],
    loops: float,
    canvas: int,
) -> dict[tuple[int, int], tuple[int, int, int, int]]:
    """Control points of the roads laid: first a forest along the edges in their order, then some that close loops."""
    part = list(range(len(points)))

    def root(k: int) -> int:
        while part[k] != k:
            k = part[k]
        return k

    laid: dict[tuple[int, int], tuple[int, int, int, int]] = {}
    lines: dict[tuple[int, int], NDArray[np.float64]] = {}
    spare = []
    for a, b in edges:
        if root(a) == root(b):
            spare.append((a, b))
        elif road := _bend_road(dice, points, (a, b), lines, canvas):
            laid[a, b], lines[a, b] = road
            part[root(a)] = root(b)
    for edge in spare:
        if dice.random() < loops and (road := _bend_road(dice, points, edge, lines, canvas)):
            laid[edge], lines[edge] = road
    return laid


def _bend_road(
    dice: random.Random,
    points: list[tuple[int, int]],
    edge: tuple[int, int],
    others: Mapping[tuple[int, int], NDArray[np.float64]],
    canvas: int,
) -> tuple[tuple[int, int, int, int], NDArray[np.float64]] | None:
    """A curve between two junctions that keeps clear of the other roads and of the border; straighter if need be."""
    a, b = (np.array(points[k]) / UNIT for k in edge)
    along = b - a
    across = np.array([-along[1], along[0]])
    for bend in (_BEND, 0.6 * _BEND, 0.3 * _BEND, 0.0):
        first, second = (a + along * k / 3 + across * dice.uniform(-bend, bend) for k in (1, 2))
        controls = np.rint(np.array([first, second]) * UNIT).astype(int)
        line = sample_line(bezier(np.array([a, *(controls / UNIT), b])), 0.25)
        if ((line >= _BORDER - 0.1) & (line <= canvas - _BORDER + 0.1)).all() and _is_clear(edge, line, others, points):
            return (int(controls[0, 0]), int(controls[0, 1]), int(controls[1, 0]), int(controls[1, 1])), line
    return None


def _is_clear(
    edge: tuple[int, int],
    line: NDArray[np.float64],
    others: Mapping[tuple[int, int], NDArray[np.float64]],
    points: list[tuple[int, int]],
) -> bool:
    """Whether a road's line keeps `_APART` from the others, but where they meet."""
    for other, its in others.items():
        mine, theirs = line, its
        for shared in set(edge) & set(other):
            here = np.array(points[shared]) / UNIT
            mine = mine[np.hypot(*(mine - here).T) > _FORK]
            theirs = theirs[np.hypot(*(theirs - here).T) > _FORK]
        if len(mine) and len(theirs):
            apart = ((mine[:, None] - theirs[None]) ** 2).sum(-1)
            if apart.min() < _APART**2:
                return False
        if set(edge) & set(other) and not _forks(line, its):
            return False
    return True


def _forks(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two roads that meet leave their junction in directions at least 45 degrees apart."""
    ends = [(one, other), (one[::-1], other), (one, other[::-1]), (one[::-1], other[::-1])]
    a, b = min(ends, key=lambda pair: float(np.hypot(*(pair[0][0] - pair[1][0]))))
    first, second = a[min(3, len(a) - 1)] - a[0], b[min(3, len(b) - 1)] - b[0]
    return float(first @ second) <= 0.7 * float(np.hypot(*first) * np.hypot(*second))


def _largest_part(roads: Mapping[tuple[int, int], object]) -> set[int]:
    """Junctions of the largest connected part."""
    around: dict[int, list[int]] = {}
    for a, b in roads:
        around.setdefault(a, []).append(b)
        around.setdefault(b, []).append(a)
    best: set[int] = set()
    seen: set[int] = set()
    for first in sorted(around):
        if first in seen:
            continue
        part, order = {first}, [first]
        for k in order:
            for other in around[k]:
                if other not in part:
                    part.add(other)
                    order.append(other)
        seen |= part
        best = max(best, part, key=len)
    return best


FAMILY = Irregular()
