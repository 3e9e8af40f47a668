"""What a level is, and levels on a grid: their geometry, their rules and their shortest solutions.

Positions are fractions of the frame's width and height (x right, y down) unless a name says otherwise; a cell is
``(row, column)``. Geometry does not depend on the resolution, so one level renders from 32 to 1024 px.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int]

Place = tuple[int, ...]
"""Where a player can stop: a cell of a grid, a junction of roads ``(number,)``, a cube ``(x, y, z)``."""

MOVES: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


class Level(Protocol):
    """What the data set, its contract and verification need to know of a level, whatever its family."""

    @property
    def family(self) -> str:
        """Name of the family that made it."""

    @property
    def canvas(self) -> int:
        """Cells per side of the frame: its unit of length and of speed."""

    @property
    def cell_size(self) -> float:
        """Side of a cell as a fraction of the frame's side."""

    @property
    def start(self) -> Place:
        """Where the player starts."""

    @property
    def goal(self) -> Place:
        """Where it should stop."""

    @property
    def level_id(self) -> str:
        """Content hash, 16 hexadecimal digits."""

    @property
    def layout_id(self) -> str:
        """Content hash of the level wherever it lies on the canvas; decides its split."""

    @property
    def solution(self) -> Solution | None:
        """The shortest way; ``None`` if there is none."""

    def solve(self) -> Solution:
        """The same, of a level that must have one; `ValueError` otherwise."""

    def center(self, place: Place, /) -> tuple[float, float]:
        """Where the player's centre is shown when it stands at a place, (x, y) as fractions of the frame."""

    def open_between(self, a: Place, b: Place, /) -> bool:
        """Whether one move from ``a`` to ``b`` keeps the rules."""

    def route(self, path: Sequence[Place], /) -> NDArray[np.float64]:
        """The line that the player's centre follows through places one move apart, ``[points, 2]`` as `center`."""

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values."""


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A shortest solution: its places from start to goal, and the number of equally short ones (`count`)."""

    path: tuple[Place, ...]
    count: int

    @property
    def steps(self) -> int:
        """Moves from start to goal."""
        return len(self.path) - 1


S = TypeVar("S", bound=Solution)


class LevelContent(Generic[S]):
    """What follows from a level's fields: its identity, its JSON values, the solution that it must have.

    A class of levels is a frozen dataclass that derives from this.
    """

    PLACING: ClassVar[tuple[str, ...]] = ("canvas", "offset")
    """Fields that say where in the frame a level lies, not what it is."""

    family: str
    canvas: int

    @cached_property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits: equal levels have equal ids, whatever made them."""
        return self._hash(())

    @cached_property
    def layout_id(self) -> str:
        """The same without the level's place in the frame: a shifted copy of a level has the same layout."""
        return self._hash(self.PLACING)

    def _hash(self, without: tuple[str, ...]) -> str:
        content = {name: value for name, value in self._values().items() if name not in without}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _values(self) -> dict[str, object]:
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}

    @property
    def cell_size(self) -> float:
        """Side of a cell, which is the length of a move, as a fraction of the frame's side."""
        return 1.0 / self.canvas

    @cached_property
    def solution(self) -> S | None:
        """The shortest solution, or one of several; ``None`` if there is none."""
        raise NotImplementedError

    def solve(self) -> S:
        """`solution` of a level that must have one.

        Raises:
            ValueError: naming the level, if there is none.
        """
        if self.solution is None:
            raise ValueError(f"level {self.level_id}: {self._why_unsolved()}")
        return self.solution

    def _why_unsolved(self) -> str:
        level = cast(Level, self)
        return f"the goal {level.goal} cannot be reached from {level.start}"

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values, the ``state`` column of the data set."""
        return json.loads(json.dumps(self._values()))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Inverse of `to_state`.

        Raises:
            ValueError: if a field is missing or malformed, naming it.
        """
        try:
            return cls(**cls._read(state))
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all fields, of the types that they have there."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class GridLevel(LevelContent[Solution]):
    """One level of a grid family.

    The board of ``rows x columns`` cells lies on a square canvas of ``canvas x canvas`` cells with its upper left
    corner ``offset`` cells (row, column) from the canvas' corner.

    Attributes:
        family: name of the family that made it.
        rows: rows of the board.
        columns: columns of the board.
        canvas: cells per side of the square frame.
        offset: (row, column) of the board's corner on the canvas, in cells.
        blocked: cells that must not be entered (traps; solid blocks), sorted.
        right_walls: cells with a wall on their right edge, sorted.
        down_walls: cells with a wall on their lower edge, sorted.
        start: the player's cell.
        goal: the goal's cell.
    """

    family: str
    rows: int
    columns: int
    canvas: int
    offset: Cell
    blocked: tuple[Cell, ...]
    right_walls: tuple[Cell, ...]
    down_walls: tuple[Cell, ...]
    start: Cell
    goal: Cell

    # Sets beside the sorted tuples: membership is asked for every neighbour of every cell.
    @cached_property
    def _blocked(self) -> frozenset[Cell]:
        return frozenset(self.blocked)

    @cached_property
    def _right(self) -> frozenset[Cell]:
        return frozenset(self.right_walls)

    @cached_property
    def _down(self) -> frozenset[Cell]:
        return frozenset(self.down_walls)

    def center(self, cell: Place) -> tuple[float, float]:
        """Centre ``(x, y)`` of a cell, as fractions of the frame."""
        row, column = cell
        return (
            (self.offset[1] + column + 0.5) / self.canvas,
            (self.offset[0] + row + 0.5) / self.canvas,
        )

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """Centres of the cells of a path, ``[cells, 2]``: between them the player goes straight."""
        return np.array([self.center(cell) for cell in path], np.float64).reshape(-1, 2)

    def contains(self, cell: Place) -> bool:
        """Whether the cell lies on the board."""
        return 0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether one step from cell ``a`` to its neighbour ``b`` keeps the rules (no wall, no trap, on the board)."""
        if not (self.contains(a) and self.contains(b)) or b in self._blocked or a in self._blocked:
            return False
        step = (b[0] - a[0], b[1] - a[1])
        if step == (0, 1):
            return a not in self._right
        if step == (0, -1):
            return b not in self._right
        if step == (1, 0):
            return a not in self._down
        if step == (-1, 0):
            return b not in self._down
        return False

    @cached_property
    def _adjacent(self) -> dict[Cell, list[Cell]]:
        """For each free cell those that can be entered from it; as `open_between`, for the whole board at once."""
        free = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        if self.blocked:
            free = [cell for cell in free if cell not in self._blocked]
        adjacent: dict[Cell, list[Cell]] = {cell: [] for cell in free}
        right_walls, down_walls = self._right, self._down
        for cell, others in adjacent.items():
            row, column = cell
            if cell not in right_walls and (right := (row, column + 1)) in adjacent:
                others.append(right)
                adjacent[right].append(cell)
            if cell not in down_walls and (below := (row + 1, column)) in adjacent:
                others.append(below)
                adjacent[below].append(cell)
        return adjacent

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Cells that can be entered from ``cell`` in one step."""
        return list(self._adjacent.get(cell, ()))

    def distances(self, source: Cell) -> dict[Cell, int]:
        """Steps from ``source`` to every cell that can be reached, nearest first."""
        return steps_from(self._adjacent, source)

    @cached_property
    def solution(self) -> Solution | None:
        """The shortest paths from start to goal, one of them and their number; ``None`` if there is none."""
        distance = self.distances(self.goal)
        if self.start not in distance:
            return None
        path, ways = [self.start], {self.start: 1}
        for left in reversed(range(distance[self.start])):
            after: dict[Cell, int] = {}
            for cell, count in ways.items():
                for other in self._adjacent[cell]:
                    if distance[other] == left:
                        after[other] = after.get(other, 0) + count
            ways = after
            path.append(min(other for other in self._adjacent[path[-1]] if distance[other] == left))
        return Solution(path=tuple(path), count=ways[self.goal])

    @classmethod
    def _read(cls, state: Mapping[str, Any]) -> dict[str, Any]:
        return read_board(state, ("start", "goal"), ("blocked", "right_walls", "down_walls"))

    def __post_init__(self) -> None:
        for name in ("start", "goal"):
            cell = getattr(self, name)
            if not self.contains(cell) or cell in self.blocked:
                raise ValueError(f"{name} {cell} is not a free cell of the {self.rows} x {self.columns} board")


def steps_from(adjacent: Mapping[Cell, list[Cell]], source: Cell) -> dict[Cell, int]:
    """Moves from ``source`` to each cell that can be reached, nearest first.

    Args:
        adjacent: the cells that can be entered from each cell.
        source: where to begin.
    """
    found = {source: 0}
    order = [source]
    for cell in order:
        steps = found[cell] + 1
        for other in adjacent.get(cell, ()):
            if other not in found:
                found[other] = steps
                order.append(other)
    return found


def read_board(state: Mapping[str, Any], cells: Sequence[str], lists: Sequence[str]) -> dict[str, Any]:
    """The fields of a level on a board, as `LevelContent.from_state` asks for them.

    Args:
        state: the level's JSON values.
        cells: names of the fields that are a cell, beside ``offset``.
        lists: names of the fields that are cells.
    """
    return {
        "family": str(state["family"]),
        **{name: int(state[name]) for name in ("rows", "columns", "canvas")},
        **{name: _cell(state[name]) for name in ("offset", *cells)},
        **{name: tuple(_cell(cell) for cell in state[name]) for name in lists},
    }


def _cell(value: Any) -> Cell:
    row, column = value
    return int(row), int(column)
