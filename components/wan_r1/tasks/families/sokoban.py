"""Sokoban: boxes to be pushed onto targets in the fewest moves, which are also the fewest pushes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.family import BaseFamily, around_cells, check_board, walk_steadily
from wan_r1.tasks.level import Cell, steps_from
from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.tasks.sokoban_drawing import draw_sokoban
from wan_r1.tasks.sokoban_search import Board
from wan_r1.tasks.textures import Texture

_BOARDS = 2_000
"""Boards drawn before the family is declared unable to make a level; a healthy difficulty needs a few."""
_TARGETS = 3
"""Draws of the targets on a board before the next one is drawn: another search costs less than another board."""
_LOOKS = 60
"""Starts that are looked at on a board, and """
_PER_BOARD = 16
"""levels that are taken from it at most: on the next board levels are more different."""
_PLANNED = 0.6
"""Share of hard levels, from boards of 5 cells on, that must be of the sort in which the order of boxes matters."""
_LEAST_FREE = {1: 5, 2: 8, 3: 11}
"""Fewest free cells of a board by its number of boxes."""
_LONGEST = {3: (8,), 4: (13, 28), 5: (24, 30, 30), 6: (29, 36, 36), 7: (25, 50, 50)}
"""By side, for one box and more: to so many moves the fewest can be raised, and so many boxes are possible; and """
_MOST_PUSHES = {3: (2,), 4: (4, 6), 5: (6, 8, 8), 6: (8, 12, 12), 7: (12, 15, 15)}
"""to so many the fewest pushes. Measured: beyond, a level takes more than a hundred boards, or there is none."""


class Sokoban(BaseFamily[SokobanLevel]):
    """See the module and `wan_r1.tasks.sokoban`."""

    name = "sokoban"
    level_type = SokobanLevel
    symmetric = True
    obeys: ClassVar[frozenset[str]] = frozenset({"shortest", "longest", "boxes", "pushes"})

    def side(self, difficulty: str, canvas: int) -> int:
        """Cells per side of the board on a canvas.

        On a canvas of 4 cells: easy and medium 3, hard 4; of 8: 4, 5, 7; of 12 and more: 5, 6, 7. Larger boards would
        be no harder, only more of a walk: what makes a level hard is how its boxes block each other.
        """
        check_board(difficulty, canvas)
        if canvas < 8:
            return {"easy": 3, "medium": canvas - 1, "hard": min(canvas, 6)}[difficulty]
        return {"easy": 4 + (canvas >= 12), "medium": 5 + (canvas >= 12), "hard": 7}[difficulty]

    def boxes(self, difficulty: str, side: int) -> int:
        """Boxes on a board: one, but two on hard boards and on medium ones of 5 cells or more; or as the shape says."""
        usual = 2 if difficulty == "hard" or (difficulty == "medium" and side >= 5) else 1
        return self.shape.boxes or usual

    def pushes(self, difficulty: str, side: int) -> int:
        """Fewest pushes that a level may need."""
        small = {"easy": 1, "medium": 2, "hard": 2}
        usual = small[difficulty] if side < 5 else {"easy": 2, "medium": 4, "hard": 5}[difficulty]
        return self.shape.pushes or usual

    def span(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """Fewest and most moves of a solution of this difficulty, whatever the shape."""
        return self.steps(difficulty, self.side(difficulty, canvas))

    def hardest(self, difficulty: str, canvas: int) -> int:
        """See `BaseFamily.hardest`."""
        side = self.side(difficulty, canvas)
        return min(self.span(difficulty, canvas)[1], _LONGEST[side][self.boxes(difficulty, side) - 1])

    def refusal(self, difficulty: str, canvas: int, max_steps: int) -> tuple[str, str] | None:
        """See `BaseFamily.refusal`; also for the numbers of boxes and of pushes."""
        side = self.side(difficulty, canvas)
        whose = f"for {difficulty} levels on canvas={canvas}, whose boards have {side} cells a side"
        boxes = self.boxes(difficulty, side)
        if not 1 <= boxes <= len(_LONGEST[side]):
            return "boxes", f"1 to {len(_LONGEST[side])} (0 leaves them to the difficulty) {whose}"
        # A push wants a move, and about one more to get behind a box.
        moves = min(self.lengths(difficulty, canvas)[1], max_steps)
        most = min(_MOST_PUSHES[side][boxes - 1], (moves + 1) // 2)
        if not 1 <= self.pushes(difficulty, side) <= most:
            least = f"1 to {most} (0 leaves them to the difficulty)"
            return "pushes", f"{least} {whose}, with boxes={boxes} and at most {moves} moves"
        return super().refusal(difficulty, canvas, max_steps)

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """Fewest and most moves of a solution on a board of ``side x side`` cells."""
        return {
            "easy": (side - 1, 3 * side),
            "medium": (side + 2, 6 * side),
            "hard": (side + (1 if side < 5 else 5), 9 * side),
        }[difficulty]

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Fewest moves a level of this difficulty may have."""
        return self.lengths(difficulty, canvas)[0]

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
        low, high = self.moves_within(difficulty, canvas, max_steps)
        dice = random.Random(int(rng.integers(2**63)))
        boxes, pushes = self.boxes(difficulty, side), self.pushes(difficulty, side)
        planned = difficulty == "hard" and side >= 5 and boxes > 1 and dice.random() < _PLANNED
        for _ in range(_BOARDS):
            walls = _draw_walls(dice, side, _LEAST_FREE[boxes])
            if walls is None:
                continue
            board = Board([cell for cell in around_cells(side) if cell not in walls], boxes)
            form = {"family": self.name, "rows": side, "columns": side, "canvas": canvas, "blocked": walls}
            for _ in range(_TARGETS):
                found = self._levels(dice, board, form, (low, high), pushes, planned)
                level = next(found, None)
                if level is not None:
                    yield level
                    yield from found
                    return
        raise RuntimeError(
            f"family {self.name!r} drew {_BOARDS} boards for difficulty={difficulty!r}, canvas={canvas}, none of which "
            f"has a level of {low} to {high} moves with {boxes} boxes and {pushes} pushes: its numbers do not fit its "
            "boards"
        )

    def _levels(
        self,
        dice: random.Random,
        board: Board,
        form: dict[str, Any],
        moves: tuple[int, int],
        pushes: int,
        planned: bool,
    ) -> Iterator[SokobanLevel]:
        """Levels on a board with targets drawn at random, from starts all over it."""
        targets = tuple(sorted(dice.sample(board.cells, board.sets.shape[1])))
        solved = board.solve(targets)
        good = solved.best & (solved.moves >= moves[0]) & (solved.moves <= moves[1]) & (solved.pushes >= pushes)
        home = [board.number[cell] for cell in targets]
        good[home] = False
        good[:, np.isin(board.sets, home).any(1)] = False
        starts = np.flatnonzero(good)
        room, made = form["canvas"] - form["rows"] + 1, 0
        for number in dice.sample(range(len(starts)), min(len(starts), _LOOKS)):
            player, boxes = board.state(int(starts[number]))
            if planned and not board.order_matters(player, boxes, targets):
                continue
            offset = (dice.randrange(room), dice.randrange(room))
            level = SokobanLevel(**form, offset=offset, player=player, boxes=boxes, targets=targets)
            # What has been searched for need not be searched for again.
            level.__dict__["solution"] = level.solution_on(board, solved)
            yield level
            made += 1
            if made == _PER_BOARD:
                return

    def render(
        self, level: SokobanLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames with the player at ``positions`` and the boxes where it pushes them; see `draw_sokoban`."""
        return draw_sokoban(level, texture, positions, size)

    def trajectory(self, level: SokobanLevel, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Constant speed along the solution, then rest beside the last box pushed.

        A frame shows each place where the player turns back: else a box that it has just pushed there would be seen
        short of its cell.

        Raises:
            ConfigError: if the solution does not fit in the frames.
        """
        path = level.solve().path
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(path)]
        back = [k for k, (a, b) in enumerate(itertools.pairwise(steps), 1) if (a[0] + b[0], a[1] + b[1]) == (0, 0)]
        return walk_steadily(level.route(path), frames, steps_per_frame, stops=back)

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
