"""Trapfield: an open field with traps, placed so that one trap-free path is shorter than all others."""

from __future__ import annotations

import random

from wan_r1.tasks.family import Board, GridFamily, around_cells
from wan_r1.tasks.level import Cell, steps_from
from wan_r1.tasks.textures import Texture

_DENSITY = {"easy": 0.4, "medium": 0.5, "hard": 0.6}
"""Largest share of the cells off the solution that get a trap before the traps that rule out other ways."""
_DETOURS = 0.75
"""Share of medium and hard levels whose solution must be longer than the Manhattan distance."""


class Trapfield(GridFamily):
    """See the module."""

    name = "trapfield"
    checkered = True

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """On boards of 3, 3 and 4 cells (canvas 4): 2-4, 3-8, 3-8; of 7, 11, 15 (canvas 16): 6-12, 10-44, 14-60."""
        longest = side * side - 1 if side < 4 else side * side // 2
        return (side - 1, 2 * side - 2) if difficulty == "easy" else (max(3, side - 1), min(4 * side, longest))

    def draw(self, dice: random.Random, difficulty: str, side: int, low: int, high: int) -> Board | None:
        """A winding path first; then traps at random; then traps on every other way that is not longer."""
        around = around_cells(side)
        detour = difficulty != "easy" and dice.random() < _DETOURS
        path = _winding_path(dice, around, low, high, detour)
        if path is None:
            return None
        on_path = set(path)
        density = _DENSITY[difficulty] * dice.random()
        traps = {cell for cell in around if cell not in on_path and dice.random() < density}
        while True:
            free = {c: [o for o in around[c] if o not in traps] for c in around if c not in traps}
            there, back = steps_from(free, path[0]), steps_from(free, path[-1])
            # No cell of the path touches another but its neighbours along it, so any rival leaves it somewhere.
            rivals = [c for c in there if c not in on_path and there[c] + back[c] < len(path)]
            if not rivals:
                return Board(start=path[0], goal=path[-1], blocked=tuple(traps))
            traps.add(dice.choice(rivals))

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        return (
            f"Top-down view of {t.trap_noun} on a {t.floor_noun}. The {t.player_noun} takes the shortest way, never "
            f"touches a trap, and stops on the {t.goal_noun}."
        )


def _winding_path(
    dice: random.Random, around: dict[Cell, list[Cell]], low: int, high: int, detour: bool
) -> list[Cell] | None:
    """A random walk of ``low`` to ``high`` moves whose cells touch only their neighbours along it, or ``None``."""
    cells = list(around)
    for _ in range(200):
        path, wanted = [dice.choice(cells)], dice.randint(low, high)
        while len(path) <= wanted:
            on_path = set(path)
            ahead = [c for c in around[path[-1]] if c not in on_path and len(on_path.intersection(around[c])) == 1]
            if not ahead:
                break
            path.append(dice.choice(ahead))
        (row, column), (last_row, last_column) = path[0], path[-1]
        straight = abs(row - last_row) + abs(column - last_column)
        if len(path) > wanted and (not detour or len(path) - 1 > straight):
            return path
    return None


FAMILY = Trapfield()
