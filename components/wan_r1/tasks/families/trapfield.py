"""Trapfield: an open field with traps, placed so that one trap-free path is shorter than all others."""

from __future__ import annotations

import random

from wan_r1.tasks.family import Board, GridFamily, around_cells
from wan_r1.tasks.level import MOVES, Cell, steps_from
from wan_r1.tasks.textures import Texture

_DENSITY = {"easy": 0.5, "medium": 0.7, "hard": 0.7}
"""Largest share of the cells off the solution that get a trap before the traps that rule out other ways."""
_DETOURS = 0.85
"""Share of medium and hard levels whose solution is longer than the Manhattan distance."""


class Trapfield(GridFamily):
    """See the module."""

    name = "trapfield"
    checkered = True

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """On boards of 3, 3 and 4 cells (canvas 4): 2-4, 3-8, 3-8; of 7, 11, 15 (canvas 16): 6-12, 10-44, 14-60."""
        longest = side * side - 1 if side < 4 else side * side // 2
        return (side - 1, 2 * side - 2) if difficulty == "easy" else (max(3, side - 1), min(4 * side, longest))

    def hardest(self, difficulty: str, canvas: int) -> int:
        """On 3 x 3 cells no way of more than 6 moves keeps clear of itself."""
        most = self.span(difficulty, canvas)[1]
        return min(most, 6) if self.side(difficulty, canvas) == 3 else most

    def draw(self, dice: random.Random, difficulty: str, side: int, low: int, high: int) -> Board | None:
        """A winding path first; then traps at random; then traps on every other way that is not longer."""
        around = around_cells(side)
        detour = None if difficulty == "easy" else dice.random() < _DETOURS
        path = _winding_path(dice, around, low, high, detour)
        if path is None:
            return None
        on_path = set(path)
        density = _DENSITY[difficulty] * dice.random()
        trapped = {cell for cell in around if cell not in on_path and dice.random() < density}
        free = {cell: [c for c in around[cell] if c not in trapped] for cell in around if cell not in trapped}
        while True:
            there, back = steps_from(free, path[0]), steps_from(free, path[-1])
            # No cell of the path touches another but its neighbours along it, so any rival leaves it somewhere.
            rivals = [c for c in there if c not in on_path and there[c] + back[c] < len(path)]
            if not rivals:
                traps = tuple(cell for cell in around if cell not in free)
                return Board(start=path[0], goal=path[-1], blocked=traps)
            # One at a time on small boards; a few at once where each look at the whole board costs more.
            for trap in dice.sample(rivals, 1 + len(rivals) // 16):
                for other in free.pop(trap):
                    free[other].remove(trap)

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        return (
            f"Top-down view of {t.trap_noun} on a {t.floor_noun}. The {t.player_noun} takes the shortest way, never "
            f"touches a trap, and stops on the {t.goal_noun}."
        )


def _winding_path(
    dice: random.Random, around: dict[Cell, list[Cell]], low: int, high: int, detour: bool | None
) -> list[Cell] | None:
    """A random walk of ``low`` to ``high`` moves whose cells touch only their neighbours along it, or ``None``.

    With ``detour`` it is longer than the Manhattan distance of its ends, with ``False`` as short, with ``None`` either.
    """
    cells = list(around)
    for _ in range(200):
        path, wanted = [dice.choice(cells)], dice.randint(low, high)
        moves = set(MOVES.values())
        if detour is False:
            # Two directions only, such as down and left: every such walk is as short as can be.
            moves = {(dice.choice((-1, 1)), 0), (0, dice.choice((-1, 1)))}
        while len(path) <= wanted:
            (row, column), on_path = path[-1], set(path)
            free = [cell for cell in around[path[-1]] if cell not in on_path]
            ahead = [
                cell
                for cell in free
                if (cell[0] - row, cell[1] - column) in moves and len(on_path.intersection(around[cell])) == 1
            ]
            if not ahead:
                break
            path.append(dice.choice(ahead))
        straight = abs(path[0][0] - path[-1][0]) + abs(path[0][1] - path[-1][1])
        if len(path) > wanted and not (detour and wanted == straight):
            return path
    return None


FAMILY = Trapfield()
