"""Sokoban: boxes to be pushed onto targets in the fewest moves, which are also the fewest pushes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.family import DIFFICULTIES, MIN_CANVAS, around_cells, walk_steadily
from wan_r1.tasks.level import Cell, steps_from
from wan_r1.tasks.sokoban import Board, SokobanLevel, order_matters
from wan_r1.tasks.sokoban_drawing import draw_sokoban
from wan_r1.tasks.textures import Texture

_BOARDS = 2_000
"""Boards drawn before the family is declared unable to make a level; a healthy difficulty needs a few."""
_LOOKS = 60
"""Starts that are looked at on a board, and """
_PER_BOARD = 16
"""levels that are taken from it at most: on the next board levels are more different."""
_PLANNED = 0.6
"""Share of hard levels, from boards of 5 cells on, that must be of the sort in which the order of boxes matters."""
_LEAST_FREE = {1: 5, 2: 8}
"""Fewest free cells of a board by its number of boxes."""


class Sokoban:
    """See the module and `wan_r1.tasks.sokoban`."""

    name = "sokoban"
    smallest_canvas = MIN_CANVAS

    def side(self, difficulty: str, canvas: int) -> int:
        """Cells per side of the board on a canvas.

        On a canvas of 4 cells: easy and medium 3, hard 4; of 8: 4, 5, 7; of 12 and more: 5, 6, 7. Larger boards would
        be no harder, only more of a walk: what makes a level hard is how its boxes block each other.
        """
        if difficulty not in DIFFICULTIES:
            raise ConfigError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
        if canvas < MIN_CANVAS:
            raise ConfigError(f"canvas={canvas} is too small; use at least {MIN_CANVAS} cells")
        if canvas < 8:
            return {"easy": 3, "medium": canvas - 1, "hard": min(canvas, 6)}[difficulty]
        return {"easy": 4 + (canvas >= 12), "medium": 5 + (canvas >= 12), "hard": 7}[difficulty]

    def boxes(self, difficulty: str, side: int) -> int:
        """Boxes on a board: one, but two on hard boards and on medium ones of 5 cells or more."""
        return 2 if difficulty == "hard" or (difficulty == "medium" and side >= 5) else 1

    def pushes(self, difficulty: str, side: int) -> int:
        """Fewest pushes that a level may need."""
        small = {"easy": 1, "medium": 2, "hard": 2}
        return small[difficulty] if side < 5 else {"easy": 2, "medium": 4, "hard": 5}[difficulty]

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """Fewest and most moves of a solution on a board of ``side x side`` cells."""
        return {
            "easy": (side - 1, 3 * side),
            "medium": (side + 2, 6 * side),
            "hard": (side + (1 if side < 5 else 5), 9 * side),
        }[difficulty]

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Fewest moves a level of this difficulty may have."""
        return self.steps(difficulty, self.side(difficulty, canvas))[0]

    def generate(
        self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
    ) -> SokobanLevel:
        """A level with exactly one shortest solution, which also makes the fewest pushes.

        Args:
            rng: the only source of randomness.
            difficulty: easy, medium or hard.
            canvas: cells per side of the frame.
            max_steps: most moves that the video has room for.

        Raises:
            ConfigError: if the difficulty is unknown, the canvas too small or ``max_steps`` below its fewest moves.
        """
        return next(self.board_levels(rng, difficulty, canvas, max_steps))

    def board_levels(
        self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
    ) -> Iterator[SokobanLevel]:
        """Levels of one board, `generate`'s first; arguments and errors as there."""
        side = self.side(difficulty, canvas)
        low, high = self.steps(difficulty, side)
        if max_steps is not None:
            high = min(high, max_steps)
        if low > high:
            raise ConfigError(
                f"{self.name} levels of difficulty={difficulty!r} on canvas={canvas} take at least {low} moves, but "
                f"max_steps={max_steps}; use at least {low}, or an easier difficulty"
            )
        dice = random.Random(int(rng.integers(2**63)))
        planned = difficulty == "hard" and side >= 5 and dice.random() < _PLANNED
        for _ in range(_BOARDS):
            walls = _draw_walls(dice, side, _LEAST_FREE[self.boxes(difficulty, side)])
            if walls is None:
                continue
            found = self._starts(dice, walls, difficulty, side, canvas, low, high, planned)
            level = next(found, None)
            if level is not None:
                yield level
                yield from found
                return
        raise RuntimeError(
            f"family {self.name!r} drew {_BOARDS} boards for difficulty={difficulty!r}, canvas={canvas}, none of which "
            f"has a level of {low} to {high} moves: its steps() and pushes() do not fit its boards"
        )

    def _starts(
        self,
        dice: random.Random,
        walls: tuple[Cell, ...],
        difficulty: str,
        side: int,
        canvas: int,
        low: int,
        high: int,
        planned: bool,
    ) -> Iterator[SokobanLevel]:
        """Levels with these walls and targets drawn at random, from starts all over the board."""
        free = [cell for cell in around_cells(side) if cell not in walls]
        number = self.boxes(difficulty, side)
        targets = tuple(sorted(dice.sample(free, number)))
        rest = [cell for cell in free if cell not in targets][: number + 1]
        form: dict[str, Any] = {"family": self.name, "rows": side, "columns": side, "canvas": canvas, "blocked": walls}
        room = canvas - side + 1
        # Where boxes and player stand does not matter to the board's search.
        board = Board(SokobanLevel(**form, offset=(0, 0), player=rest[-1], boxes=tuple(rest[:-1]), targets=targets))
        solved = board.solve()
        few = solved.pushes >= self.pushes(difficulty, side)
        codes = np.flatnonzero((solved.moves >= low) & (solved.moves <= high) & (solved.ways == 1) & few)
        made = 0
        for code in dice.sample(codes.tolist(), min(len(codes), _LOOKS)):
            start = board.state(code)
            player, *boxes = zip(start[::2], start[1::2], strict=True)
            if not set(targets).isdisjoint((player, *boxes)):
                continue
            offset = (dice.randrange(room), dice.randrange(room))
            level = SokobanLevel(**form, offset=offset, player=player, boxes=tuple(boxes), targets=targets)
            solution = board.solution(solved, start)
            assert solution is not None
            if solution.pushes == solution.fewest_pushes and (not planned or order_matters(level)):
                # It is the same solution; to find it again would cost as much as the whole board.
                level.__dict__["solution"] = solution
                yield level
                made += 1
                if made == _PER_BOARD:
                    return

    def from_state(self, state: Mapping[str, Any]) -> SokobanLevel:
        """The level that the ``state`` column describes.

        Raises:
            ValueError: if it describes none, or one of another family.
        """
        level = SokobanLevel.from_state(dict(state))
        if level.family != self.name:
            raise ValueError(f"level state is of family {level.family!r}, not {self.name!r}")
        return level

    def render(
        self, level: SokobanLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames with the player at ``positions`` and the boxes where it pushes them; see `draw_sokoban`."""
        return draw_sokoban(level, texture, positions, size)

    def trajectory(self, level: SokobanLevel, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Constant speed along the solution, then rest beside the last box pushed.

        Raises:
            ConfigError: if the solution does not fit in the frames.
        """
        return walk_steadily(level.route(level.solve().path), frames, steps_per_frame)

    def prompt(self, texture: Texture) -> str:
        """One sentence on the scene, one on the task."""
        t = texture
        return (
            f"Top-down view of a storeroom. The {t.player_noun} pushes every {t.box_noun} onto a {t.goal_noun} in the "
            f"fewest moves, never pulls, and never enters the {t.wall_noun}."
        )


def _draw_walls(dice: random.Random, side: int, least: int) -> tuple[Cell, ...] | None:
    """Wall cells at random that leave one connected room of ``least`` cells or more, else ``None``."""
    around = around_cells(side)
    # Small boards need their room; on large ones walls make levels, and keep the search small.
    share = dice.uniform(0, 0.25) if side < 5 else dice.uniform(0.25, 0.45)
    free = {cell for cell in around if dice.random() >= share}
    if not free:
        return None
    adjacent = {cell: [other for other in around[cell] if other in free] for cell in free}
    room = set(steps_from(adjacent, dice.choice(sorted(free))))
    return tuple(cell for cell in around if cell not in room) if len(room) >= least else None


FAMILY = Sokoban()
