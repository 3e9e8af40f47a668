"""Sokoban: a level with boxes that are pushed onto targets, its rules and its solution.

A solution is counted in moves of the player, a push being one. *The* solution of a level is the only sequence of moves
that is as short, and no solution of any length needs fewer pushes: so it is optimal in both, and unique. Which box ends
on which target is free.

A place (see `wan_r1.tasks.level.Place`) is the whole state: the player's cell and then each box's, in the level's order
of boxes: ``(row, column, row, column, ...)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Cell, LevelContent, Place, Solution, read_board
from wan_r1.tasks.sokoban_search import Board, Solved


@dataclass(frozen=True, kw_only=True)
class SokobanSolution(Solution):
    """A shortest solution: as `Solution`, with the pushes that it makes and the fewest that any solution makes."""

    pushes: int
    fewest_pushes: int


@dataclass(frozen=True, kw_only=True)
class SokobanLevel(LevelContent[SokobanSolution]):
    """One Sokoban level.

    Attributes:
        family: name of the family that made it.
        rows: rows of the board.
        columns: columns of the board.
        canvas: cells per side of the square frame.
        offset: (row, column) of the board's corner on the canvas, in cells.
        blocked: wall cells, sorted.
        player: the player's cell at the start.
        boxes: the boxes' cells at the start, sorted.
        targets: cells that each must have a box at the end, sorted.
    """

    family: str
    rows: int
    columns: int
    canvas: int
    offset: Cell
    blocked: tuple[Cell, ...]
    player: Cell
    boxes: tuple[Cell, ...]
    targets: tuple[Cell, ...]

    def __post_init__(self) -> None:
        standing = (self.player, *self.boxes)
        for cell in (*standing, *self.targets):
            if not self.is_free(cell):
                raise ValueError(f"{cell} is not a free cell of the {self.rows} x {self.columns} board")
        if len(set(standing)) != len(standing):
            raise ValueError(f"player {self.player} and boxes {self.boxes} are not on cells of their own")
        if len(set(self.targets)) != len(self.boxes) or not self.boxes:
            raise ValueError(f"{len(self.boxes)} boxes need as many different targets, not {self.targets}")

    @property
    def start(self) -> Place:
        """The state at the start."""
        return tuple(itertools.chain(self.player, *self.boxes))

    @property
    def goal(self) -> Place:
        """The state in which the solution ends; of a level without one, the targets with the player where it is."""
        if self.solution is None:
            return tuple(itertools.chain(self.player, *self.targets))
        return self.solution.path[-1]

    @cached_property
    def _walls(self) -> frozenset[Cell]:
        return frozenset(self.blocked)

    def is_free(self, cell: Cell) -> bool:
        """Whether a cell is on the board and no wall."""
        return 0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns and cell not in self._walls

    def center(self, place: Place) -> tuple[float, float]:
        """Centre ``(x, y)`` of the player in a state, or of a cell, as fractions of the frame."""
        return (self.offset[1] + place[1] + 0.5) / self.canvas, (self.offset[0] + place[0] + 0.5) / self.canvas

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """The player's centres along a path, ``[states, 2]``."""
        return np.array([self.center(place) for place in path], np.float64).reshape(-1, 2)

    def after(self, place: Place, step: Cell) -> Place | None:
        """The state after one move by ``step`` (row, column), pushing what is there; ``None`` if that is illegal."""
        player, *boxes = place_cells(place)
        there = (player[0] + step[0], player[1] + step[1])
        if not self.is_free(there):
            return None
        if there in boxes:
            beyond = (there[0] + step[0], there[1] + step[1])
            if beyond in boxes or not self.is_free(beyond):
                return None
            boxes[boxes.index(there)] = beyond
        return tuple(itertools.chain(there, *boxes))

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether one move from state ``a`` to state ``b`` keeps the rules."""
        return len(a) == len(self.start) and self.after(a, (b[0] - a[0], b[1] - a[1])) == tuple(b) and a != b

    def search_board(self) -> Board:
        """The board for searches, which is too large to be kept; `ValueError` if it has too many states."""
        grid = itertools.product(range(self.rows), range(self.columns))
        return Board([cell for cell in grid if self.is_free(cell)], len(self.boxes))

    @cached_property
    def solution(self) -> SokobanSolution | None:
        """The shortest solution in moves; ``None`` if there is none."""
        board = self.search_board()
        return self.solution_on(board, board.solve(self.targets))

    def solution_on(self, board: Board, solved: Solved) -> SokobanSolution | None:
        """`solution` of a level whose board has been searched for its targets."""
        index = board.index(self.player, self.boxes)
        if solved.moves[index] < 0:
            return None
        place, path = self.start, [self.start]
        for player in board.players(solved, index):
            here = self.after(place, (player[0] - place[0], player[1] - place[1]))
            assert here is not None
            path.append(place := here)
        return SokobanSolution(
            path=tuple(path),
            count=board.count_solutions(solved, index),
            pushes=sum(a[2:] != b[2:] for a, b in itertools.pairwise(path)),
            fewest_pushes=int(solved.pushes[index]),
        )

    def order_matters(self) -> bool:
        """Whether in some order the boxes cannot be brought home one after the other; see `Board.order_matters`."""
        return self.search_board().order_matters(self.player, self.boxes, self.targets)

    def _why_unsolved(self) -> str:
        return f"the boxes {self.boxes} cannot be pushed onto {self.targets}"

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return read_board(state, ("player",), ("blocked", "boxes", "targets"))


def place_cells(place: Place) -> list[Cell]:
    """The cells of a state: the player's, then the boxes'."""
    return list(zip(place[::2], place[1::2], strict=True))


def push_along(level: SokobanLevel, positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where the boxes are while the player moves: each is pushed along when the player comes within a cell of it.

    Args:
        level: the level, with its boxes at the start.
        positions: the player's centres (x, y) as fractions of the frame, ``[F, 2]``.

    Returns:
        The boxes' centres likewise, ``[F, boxes, 2]``. Walls and other boxes do not stop them: whether a box may be
        where it is pushed is another question.
    """
    corner = np.array([level.offset[1], level.offset[0]]) + 0.5
    # In cells, with cells' centres at whole numbers.
    walk = (np.asarray(positions, np.float64) * level.canvas - corner).tolist()
    boxes = [[float(column), float(row)] for row, column in level.boxes]
    found = np.empty((len(walk), len(boxes), 2))
    here = [float(level.player[1]), float(level.player[0])]
    for frame, there in enumerate(walk):
        bends = ([there[0], here[1]], [here[0], there[1]])
        # The player goes along the grid: of the two ways it takes the one whose bend is nearer to a cell's centre.
        bend = min(bends, key=lambda point: sum(abs(value - round(value)) for value in point))
        for begin, end in ((here, bend), (bend, there)):
            for axis in (0, 1):
                way = end[axis] - begin[axis]
                for box in boxes if way else ():
                    ahead = box[axis] - begin[axis]
                    beside = abs(box[1 - axis] - begin[1 - axis])
                    if beside < 0.5 and ahead * way > 0 and abs(ahead) < abs(way) + 1:
                        box[axis] = end[axis] + (1.0 if way > 0 else -1.0)
        here = there
        found[frame] = boxes
    return (found + corner) / level.canvas
