"""Regular maze: thin walls on a grid that leave a spanning tree, so that one path joins any two cells; or, by its
shape, loops beside the only shortest path."""

from __future__ import annotations

import random

from wan_r1.tasks.family import Board, GridFamily, around_cells
from wan_r1.tasks.level import Cell, steps_from
from wan_r1.tasks.textures import Texture


class Regular(GridFamily):
    """See the module."""

    name = "regular"
    obeys = frozenset({"loops", "shortest", "longest"})

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """On boards of 3, 3 and 4 cells (canvas 4): 2-4, 5-8, 3-8; of 7, 11, 15 (canvas 16): 6-12, 13-44, 14-60."""
        longest = side * side - 1 if side < 4 else side * side // 2
        return {
            "easy": (side - 1, 2 * side - 2),
            "medium": (side + 2, min(4 * side, longest)),
            "hard": (side - 1, min(4 * side, longest)),
        }[difficulty]

    def draw(self, dice: random.Random, difficulty: str, side: int, low: int, high: int) -> Board | None:
        """A tree that grows mostly from its newest cell (long corridors), at times from any (so none is left out)."""
        around = around_cells(side)
        root = dice.randrange(side), dice.randrange(side)
        adjacent: dict[Cell, list[Cell]] = {root: []}
        growing = [root]
        while growing:
            at = -1 if dice.random() < 0.8 else dice.randrange(len(growing))
            cell = growing[at]
            free = [other for other in around[cell] if other not in adjacent]
            if free:
                new = dice.choice(free)
                adjacent[new] = [cell]
                adjacent[cell].append(new)
                growing.append(new)
            else:
                growing.pop(at)
        start = dice.randrange(side), dice.randrange(side)
        goals = [cell for cell, steps in steps_from(adjacent, start).items() if low <= steps <= high]
        if not goals:
            return None
        goal = dice.choice(goals)
        if self.shape.loops:
            _open_loops(dice, adjacent, around, start, goal, self.shape.loops)
        return Board(
            start=start,
            goal=goal,
            right_walls=tuple((r, c) for r, c in around if c + 1 < side and (r, c + 1) not in adjacent[r, c]),
            down_walls=tuple((r, c) for r, c in around if r + 1 < side and (r + 1, c) not in adjacent[r, c]),
        )

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        return (
            f"Top-down view of a maze. The {t.player_noun} slides along the {t.floor_noun} at constant speed, never "
            f"crosses the {t.wall_noun}, and stops on the {t.goal_noun}."
        )


def _open_loops(
    dice: random.Random,
    adjacent: dict[Cell, list[Cell]],
    around: dict[Cell, list[Cell]],
    start: Cell,
    goal: Cell,
    share: float,
) -> None:
    """Open up to this share of the walls between cells, in place, none that would make another way as short."""
    walls = [(cell, other) for cell in around for other in around[cell] if cell < other and other not in adjacent[cell]]
    here, there = steps_from(adjacent, start), steps_from(adjacent, goal)
    length, left = here[goal], round(share * len(walls))
    for one, other in dice.sample(walls, len(walls)):
        if not left:
            return
        if min(here[one] + there[other], here[other] + there[one]) + 1 <= length:
            continue
        adjacent[one].append(other)
        adjacent[other].append(one)
        here, there = steps_from(adjacent, start), steps_from(adjacent, goal)
        left -= 1


FAMILY = Regular()
