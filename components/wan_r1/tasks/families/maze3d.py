"""3D maze: cubes and ladders in isometric projection, with a ball that can go behind what is in front of it.

An isometric picture can lie: two cubes far apart may seem to touch. No two tops, and no rung, share a place in the
picture here; two tops that seem to touch do, unless the side of the nearer cube shows between them; and enough of each
cube is seen. Start and goal are any two cubes, so that no direction is more likely than its opposite.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.draw_cubes import cube_regions, draw_ball, draw_cubes, visible_shares, visible_windows
from wan_r1.tasks.level import Place
from wan_r1.tasks.maze3d_level import ACROSS, UNIT, Cube, Ladder, Maze3DLevel, spot
from wan_r1.tasks.perspective_level import VIEW, PerspectiveLevel
from wan_r1.tasks.perspective_regions import perspective_regions
from wan_r1.tasks.render import cell_pixels, moving_frames
from wan_r1.tasks.road_family import RoadFamily, window_side
from wan_r1.tasks.roads import Regions, RoadSolution
from wan_r1.tasks.textures import Texture

_SIDES = {"easy": 0.3, "medium": 0.4, "hard": 0.5}
"""Cubes along x and along y, in sides of the frame; at least 3."""
_HEIGHTS = {"easy": 0.25, "medium": 0.32, "hard": 0.38}
"""Levels of height, likewise."""
_GROWTH = 6
"""Attempts to add a walk or a ladder, for each place of the ground."""
_LOOP = 0.03
"""Share of the places where a cube may come to touch others than the one it was added to."""
_TUNNEL = 0.1
"""Share of the places where a cube may hide the whole top of another one."""
_SEEN = 0.25
"""Least share of a cube, and of a ladder, that must be seen."""
_MARGIN = 0.4
"""Least distance of the drawing from the frame's edge, in cells; the ball needs room above."""


class Maze3D(RoadFamily[Maze3DLevel]):
    """See the module."""

    name = "maze3d"
    level_type = Maze3DLevel
    LENGTHS: ClassVar[Mapping[str, tuple[float, float]]] = {
        "easy": (0.3, 0.8),
        "medium": (0.45, 1.4),
        "hard": (0.65, 3.0),
    }

    def draw(self, dice: random.Random, difficulty: str, canvas: int) -> Maze3DLevel | None:
        """Cubes that grow from one another by walks and ladders; both ends are the first cube."""
        side = max(3, int(_SIDES[difficulty] * canvas))
        growth = _Growth(dice, (side, side, max(3, int(_HEIGHTS[difficulty] * canvas))))
        steps = []
        for _ in range(_GROWTH * side * side):
            growth.step()
            steps.append((len(growth.order), len(growth.ladders)))

        @lru_cache
        def seen_well(cubes: int, ladders: int) -> Maze3DLevel | None:
            part = self._part(growth, cubes, ladders, canvas)
            return part if min(visible_shares(part).values()) >= _SEEN else None

        # Whatever is added hides what was there, so that all is seen well up to some step and never after it.
        level = None
        first, last = 0, len(steps) - 1
        while first <= last:
            middle = (first + last) // 2
            if part := seen_well(*steps[middle]):
                level, first = part, middle + 1
            else:
                last = middle - 1
        if level is None or len(level.cubes) < side + 2:
            return None
        return replace(level, offset=_place_in_frame(dice, level.cubes, canvas))

    def _part(self, growth: _Growth, cubes: int, ladders: int, canvas: int) -> Maze3DLevel:
        """The level of the first cubes and ladders, in the middle of the frame; both ends are some cube."""
        order = growth.order[:cubes]
        low = [min(cube[axis] for cube in order) for axis in range(3)]
        kept = tuple(sorted((x - low[0], y - low[1], z - low[2]) for x, y, z in order))
        return Maze3DLevel(
            family=self.name,
            canvas=canvas,
            offset=_place_in_frame(None, kept, canvas),
            cubes=kept,
            ladders=tuple(
                sorted((x - low[0], y - low[1], z - low[2], a, b, h) for x, y, z, a, b, h in growth.ladders[:ladders])
            ),
            start=kept[0],
            goal=kept[0],
        )

    def places(self, level: Maze3DLevel) -> list[Place]:
        """Cubes whose whole top is seen."""
        at = {spot(*cube): cube for cube in level.cubes}

        def hidden(cube: Cube) -> bool:
            i, j = spot(*cube)
            around = [at.get(place) for place in ((i - 1, j), (i, j - 1), (i - 1, j - 1))]
            return any(other is not None and sum(other) > sum(cube) for other in around)

        return [cube for cube in level.cubes if not hidden(cube)]

    def suits(self, level: Maze3DLevel, solution: RoadSolution) -> bool:
        """Whether the solution climbs a ladder."""
        return len({z for _, _, z in solution.path}) > 1

    def render(
        self, level: Maze3DLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames with the ball at ``positions``, behind what is nearer, or one frame without it."""
        background = draw_cubes(level, texture, size)
        if positions is None:
            return background[None]
        points = np.asarray(positions, np.float64) * level.canvas
        visible = self.visibility(level, points[: moving_frames(positions)], size)
        return draw_ball(background, points, texture.player, size // level.canvas, visible)

    def from_state(self, state: Mapping[str, Any]) -> Any:
        """The level that the ``state`` column describes: one of ours, or one in VR-Bench's perspective.

        Raises:
            ValueError: if it describes none, or one of another family.
        """
        if state.get("view") != VIEW:
            return super().from_state(state)
        level = PerspectiveLevel.from_state(state)
        if level.family != self.name:
            raise ValueError(f"level state is of family {level.family!r}, not {self.name!r}")
        return level

    def regions(self, level: Maze3DLevel | PerspectiveLevel, size: int) -> Regions:
        """What each pixel of a frame of the level shows."""
        return perspective_regions(level, size) if isinstance(level, PerspectiveLevel) else cube_regions(level, size)

    def visibility(
        self, level: Maze3DLevel | PerspectiveLevel, points: NDArray[np.float64], size: int
    ) -> NDArray[np.float32]:
        """How much of each pixel of the ball can be seen; see `RoadFamily.visibility`. In VR-Bench all of it."""
        if isinstance(level, PerspectiveLevel):
            side = window_side(size / level.canvas)
            return np.ones((len(points), side, side), np.float32)
        return visible_windows(level, points, size, window_side(cell_pixels(size, level.canvas)))

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        ball, goal = t.player_noun.replace("disc", "ball"), t.goal_noun.replace("square", "cube")
        return (
            f"Isometric view of cubes and ladders. The {ball} rolls over the cubes and climbs the ladders by the "
            f"shortest way at constant speed and stops on the {goal}."
        )


class _Growth:
    """Cubes and ladders that are added as long as the picture stays true."""

    def __init__(self, dice: random.Random, box: tuple[int, int, int]) -> None:
        self._dice, self._box = dice, box
        first = tuple(dice.randrange(side) for side in box)
        self.order: list[Cube] = [(first[0], first[1], first[2])]
        self.ladders: list[Ladder] = []
        self._at: dict[tuple[int, int], int] = {spot(*self.order[0]): self.order[0][2]}
        """Height of the cube whose top is at a spot."""
        self._rungs: set[tuple[int, int]] = set()
        """Spots where the ball climbs."""
        self._air: set[Cube] = {_above(self.order[0])}
        """Where no cube may be: above cubes and along ladders."""

    def step(self) -> None:
        """Try one walk or ladder from some cube."""
        dice = self._dice
        x, y, z = self.order[-1] if dice.random() < 0.6 else dice.choice(self.order)
        if dice.random() < 0.6:
            right, left = dice.choice(((1, 0), (-1, 0), (0, 1), (0, -1)))
            before = (x, y, z)
            for _ in range(2):
                cube = (before[0] + right, before[1] + left, z)
                if not self._fits(cube, before):
                    return
                self._add(cube)
                before = cube
            return
        height, (right, left) = dice.choice((2, 2, 3)), dice.choice(((-1, 0), (0, -1)))
        up = dice.random() < 0.5
        lower = (x, y, z) if up else (x - right, y - left, z - height)
        upper = (lower[0] + right, lower[1] + left, lower[2] + height)
        rungs = [(lower[0], lower[1], lower[2] + k) for k in range(1, height + 1)]
        air = {*rungs, _above(rungs[-1])}
        spots = {spot(*rung) for rung in rungs}
        new = upper if up else lower
        free = not (air & set(self.order)) and not (spots & (self._at.keys() | self._rungs)) and spot(*new) not in spots
        if free and new not in air and self._fits(new, None):
            self._add(new)
            self.ladders.append((*lower, right, left, height))
            self._rungs |= spots
            self._air |= air

    def _fits(self, cube: Cube, before: Cube | None) -> bool:
        """Whether a cube can be added without a lie in the picture; beside ``before`` it may be."""
        i, j = here = spot(*cube)
        inside = all(0 <= value < side for value, side in zip(cube, self._box, strict=True))
        if not inside or here in self._at or here in self._rungs or cube in self._air or _above(cube) in self.order:
            return False
        for near, upper in (((i - 1, j), True), ((i, j - 1), True), ((i + 1, j), False), ((i, j + 1), False)):
            height = self._at.get(near)
            if height is None:
                continue
            if height == cube[2]:
                touches = (cube[0] + near[0] - i, cube[1] + near[1] - j, cube[2])
                if touches != before and self._dice.random() >= _LOOP:
                    return False
            elif (height > cube[2]) != upper:
                return False
        # It may hide what is behind it, and be hidden, in part; wholly only at times.
        hidden = self._is_hidden(here, cube[2], None)
        hides = any(
            (i + a, j + b) in self._at and self._is_hidden((i + a, j + b), self._at[i + a, j + b], cube)
            for a, b in ((1, 0), (0, 1), (1, 1))
        )
        return not (hidden or hides) or self._dice.random() < _TUNNEL

    def _is_hidden(self, here: tuple[int, int], height: int, new: Cube | None) -> bool:
        """Whether nearer cubes, or a new one, hide the whole top of a cube."""
        at = {spot(*new): new[2]} if new else {}

        def nearer(right: int, left: int) -> bool:
            near = here[0] - right, here[1] - left
            return at.get(near, self._at.get(near, height)) > height

        return nearer(1, 1) or (nearer(1, 0) and nearer(0, 1))

    def _add(self, cube: Cube) -> None:
        self.order.append(cube)
        self._at[spot(*cube)] = cube[2]
        self._air.add(_above(cube))


def _above(cube: Cube) -> Cube:
    return cube[0], cube[1], cube[2] + 1


def _place_in_frame(dice: random.Random | None, cubes: tuple[Cube, ...], canvas: int) -> tuple[int, int]:
    """Where the corner (0, 0, 0) goes, in parts of a cell, so that all cubes and the ball are inside the frame.

    Without dice that is the middle.
    """
    space = np.array(cubes)
    across = (space[:, 0] - space[:, 1]) * ACROSS
    down = (space[:, 0] + space[:, 1]) / 2 - space[:, 2]
    # A cube reaches from 0.87 left to 0.87 right of its corner, and from 1 (the ball: 1.1) above to 1 below.
    spans = ((across.min() - ACROSS, across.max() + ACROSS), (down.min() - 1.1, down.max() + 1.0))
    low = [int(np.ceil((_MARGIN - begin) * UNIT)) for begin, _ in spans]
    high = [int(np.floor((canvas - _MARGIN - end) * UNIT)) for _, end in spans]
    right, lower = (
        dice.randint(min(a, b), max(a, b)) if dice else (a + b) // 2 for a, b in zip(low, high, strict=True)
    )
    return right, lower


FAMILY = Maze3D()
