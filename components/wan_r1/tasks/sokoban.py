"""Sokoban: a level with boxes that are pushed onto targets, its rules, and solvers optimal in moves and in pushes.

A solution is counted in moves of the player, a push being one. *The* solution of a level is the only sequence of moves
that is as short, and no solution of any length needs fewer pushes: so it is optimal in both, and unique. Which box ends
on which target is free.

A place (see `wan_r1.tasks.level.Place`) is the whole state: the player's cell and then each box's, in the level's order
of boxes: ``(row, column, row, column, ...)``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import MOVES, Cell, Place, Solution

MOST_STATES = 20_000_000
"""States (places of player and boxes) up to which a level is solved: memory is about ten bytes each."""

_STEPS = tuple(MOVES.values())


@dataclass(frozen=True, kw_only=True)
class SokobanSolution(Solution):
    """A shortest solution: as `Solution`, with the pushes that it makes and the fewest that any solution makes."""

    pushes: int
    fewest_pushes: int


@dataclass(frozen=True, kw_only=True)
class SokobanLevel:
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

    @cached_property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits."""
        return self._hash(())

    @cached_property
    def layout_id(self) -> str:
        """The same without the board's place on the canvas."""
        return self._hash(("canvas", "offset"))

    def _hash(self, without: tuple[str, ...]) -> str:
        content = {name: value for name, value in self._values().items() if name not in without}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _values(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def cell_size(self) -> float:
        """Side of a cell as a fraction of the frame's side."""
        return 1.0 / self.canvas

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

    @cached_property
    def solution(self) -> SokobanSolution | None:
        """The shortest solution in moves; ``None`` if there is none."""
        board = Board(self)
        solved = board.solve()
        return board.solution(solved, self.start)

    def solve(self) -> SokobanSolution:
        """`solution` of a level that must have one.

        Raises:
            ValueError: if the boxes cannot be brought to the targets.
        """
        if self.solution is None:
            raise ValueError(f"level {self.level_id}: the boxes {self.boxes} cannot be pushed onto {self.targets}")
        return self.solution

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values, the ``state`` column of the data set."""
        return json.loads(json.dumps(self._values()))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SokobanLevel:
        """Inverse of `to_state`.

        Raises:
            ValueError: if a field is missing or malformed, naming it.
        """
        try:
            return cls(
                family=str(state["family"]),
                rows=int(state["rows"]),
                columns=int(state["columns"]),
                canvas=int(state["canvas"]),
                offset=_cell(state["offset"]),
                blocked=tuple(_cell(c) for c in state["blocked"]),
                player=_cell(state["player"]),
                boxes=tuple(_cell(c) for c in state["boxes"]),
                targets=tuple(_cell(c) for c in state["targets"]),
            )
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None


def _cell(value: Any) -> Cell:
    row, column = value
    return int(row), int(column)


@dataclass(frozen=True)
class Solved:
    """Every state of a board, by its code (see `Board`).

    Attributes:
        moves: int16, fewest moves to a solved state; -1 where there is no way.
        ways: int64, number of sequences of so many moves.
        pushes: int16, fewest pushes of any solution; -1 where there is none.
    """

    moves: NDArray[np.int16]
    ways: NDArray[np.int64]
    pushes: NDArray[np.int16]


class Board:
    """The free cells of a level numbered in reading order, and search over all states at once.

    The code of a state is the player's number and then the boxes' in ascending order, as digits to the base of the
    number of free cells; boxes are alike here.
    """

    def __init__(self, level: SokobanLevel) -> None:
        self.level = level
        grid = itertools.product(range(level.rows), range(level.columns))
        self.cells = [cell for cell in grid if level.is_free(cell)]
        self.number = {cell: i for i, cell in enumerate(self.cells)}
        n, boxes = len(self.cells), len(level.boxes)
        if n ** (boxes + 1) > MOST_STATES:
            raise ValueError(
                f"{boxes} boxes on {n} free cells have {n ** (boxes + 1)} states; at most {MOST_STATES} are searched: "
                "use fewer boxes, more walls or a smaller board"
            )
        # One more row and column for what is outside, so that steps from there stay there.
        self._step = np.full((len(_STEPS), n + 1), n, np.int64)
        for i, (down, right) in enumerate(_STEPS):
            for k, (row, column) in enumerate(self.cells):
                self._step[i, k] = self.number.get((row + down, column + right), n)

    def state(self, code: int) -> Place:
        """The state of a code, boxes in reading order."""
        numbers = []
        for _ in range(len(self.level.boxes) + 1):
            code, number = divmod(code, len(self.cells))
            numbers.append(number)
        return tuple(itertools.chain.from_iterable(self.cells[i] for i in reversed(numbers)))

    def code(self, place: Place) -> int:
        """The code of a state."""
        player, *boxes = (self.number[cell] for cell in place_cells(place))
        for box in sorted(boxes):
            player = player * len(self.cells) + box
        return player

    def solve(self) -> Solved:
        """Search backwards from every solved state: before a move the player stood a cell back, and may have pulled."""
        moves = np.full(len(self.cells) ** (len(self.level.boxes) + 1), -1, np.int16)
        ways, pushes = np.zeros(moves.shape, np.int64), moves.copy()
        ended = self._ended()
        moves[ended], ways[ended] = 0, 1
        frontier = ended
        while len(frontier):
            depth = moves[frontier[0]] + 1
            found = [part for pulling in (False, True) for part in self._before(frontier, pulling)]
            codes = np.concatenate([codes for codes, _ in found])
            counted = np.concatenate([ways[frontier[rows]] for _, rows in found])
            new = moves[codes] < 0
            codes = codes[new]
            np.add.at(ways, codes, counted[new])
            moves[codes] = depth
            frontier = np.unique(codes)
        layer, count = ended, 0
        while len(layer):
            # All states from which the player walks to the layer, and then those a pull before any of them.
            pushes[layer] = count
            frontier, here = layer, [layer]
            while len(frontier):
                frontier = self._unseen(frontier, False, pushes)
                pushes[frontier] = count
                here.append(frontier)
            layer, count = self._unseen(np.concatenate(here), True, pushes), count + 1
        return Solved(moves, ways, pushes)

    def _ended(self) -> NDArray[np.int64]:
        """Codes of all solved states."""
        targets = sorted(self.number[cell] for cell in self.level.targets)
        codes = np.array([i for i in range(len(self.cells)) if i not in targets], np.int64)
        for box in targets:
            codes = codes * len(self.cells) + box
        return codes

    def _before(self, codes: NDArray[np.int64], pulling: bool) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """States from which one walk (or push, if ``pulling``) leads to these: their codes, and the index of these."""
        n = len(self.cells)
        boxes = np.empty((len(self.level.boxes), len(codes)), np.int64)
        player = codes
        for k in reversed(range(len(boxes))):
            player, boxes[k] = np.divmod(player, n)
        parts = codes - player * n ** len(boxes)
        for i in range(len(_STEPS)):
            # MOVES lists each direction beside its opposite.
            back, ahead = self._step[i ^ 1][player], self._step[i][player]
            clear = back < n
            for box in boxes:
                clear &= back != box
            if not pulling:
                rows = np.flatnonzero(clear)
                yield back[rows] * n ** len(boxes) + parts[rows], rows
                continue
            for k, box in enumerate(boxes):
                rows = np.flatnonzero(clear & (box == ahead))
                moved = boxes[:, rows]
                moved[k] = player[rows]
                moved.sort(axis=0)
                new = back[rows]
                for one in moved:
                    new = new * n + one
                yield new, rows

    def _unseen(self, codes: NDArray[np.int64], pulling: bool, known: NDArray[np.int16]) -> NDArray[np.int64]:
        """Codes of the states a walk (or a push) before these that are not known yet."""
        found = np.concatenate([part for part, _ in self._before(codes, pulling)])
        return np.unique(found[known[found] < 0])

    def solution(self, solved: Solved, start: Place) -> SokobanSolution | None:
        """The shortest solution in moves from a state, or ``None``."""
        code = self.code(start)
        left = int(solved.moves[code])
        if left < 0:
            return None
        path, pushes = [start], 0
        while left:
            after = (self.level.after(path[-1], step) for step in _STEPS)
            there = next(place for place in after if place and solved.moves[self.code(place)] == left - 1)
            pushes += there[2:] != path[-1][2:]
            path.append(there)
            left -= 1
        return SokobanSolution(
            path=tuple(path),
            count=int(solved.ways[code]),
            pushes=pushes,
            fewest_pushes=int(solved.pushes[code]),
        )


def place_cells(place: Place) -> list[Cell]:
    """The cells of a state: the player's, then the boxes'."""
    return list(zip(place[::2], place[1::2], strict=True))


def reachable(level: SokobanLevel, player: Cell, boxes: Sequence[Cell]) -> set[Cell]:
    """Cells to which the player can walk without a push."""
    found, order = {player}, [player]
    for row, column in order:
        for down, right in _STEPS:
            cell = (row + down, column + right)
            if cell not in found and cell not in boxes and level.is_free(cell):
                found.add(cell)
                order.append(cell)
    return found


def _pushes(
    level: SokobanLevel, player: Cell, boxes: tuple[Cell, ...], movable: Sequence[int]
) -> list[tuple[Cell, tuple[Cell, ...]]]:
    """What one push of one of the ``movable`` boxes can lead to: the player's cell and the boxes' after it."""
    walk, found = reachable(level, player, boxes), []
    for i in movable:
        row, column = boxes[i]
        for down, right in _STEPS:
            there = (row + down, column + right)
            if (row - down, column - right) in walk and level.is_free(there) and there not in boxes:
                found.append((boxes[i], (*boxes[:i], there, *boxes[i + 1 :])))
    return found


def order_matters(level: SokobanLevel) -> bool:
    """Whether in some order the boxes cannot be brought home one after the other, however they are pushed.

    Such a level asks for a plan: a box that looks nearest may have to wait, or to be moved out of the way first.
    """
    return not all(_one_by_one(level, order) for order in itertools.permutations(range(len(level.boxes))))


def _one_by_one(level: SokobanLevel, order: Sequence[int]) -> bool:
    """Whether the boxes can be brought home one after the other in this order, each staying where it was put."""
    here = {(level.player, level.boxes)}
    for i in order:
        home: set[tuple[Cell, tuple[Cell, ...]]] = set()
        seen: set[tuple[Cell, tuple[Cell, ...]]] = set()
        order_of_search = list(here)
        for player, boxes in order_of_search:
            key = min(reachable(level, player, boxes)), boxes
            if key in seen:
                continue
            seen.add(key)
            if boxes[i] in level.targets:
                home.add((player, boxes))
            order_of_search.extend(_pushes(level, player, boxes, (i,)))
        here = home
    return bool(here)


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
