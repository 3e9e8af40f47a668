"""A level on a grid: its geometry, its rules and its shortest solutions.

Positions are fractions of the frame's width and height (x right, y down) unless a name says otherwise; a cell is
``(row, column)``. Geometry does not depend on the resolution, so one level renders from 32 to 1024 px.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from dataclasses import asdict, dataclass

Cell = tuple[int, int]

MOVES: dict[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


@dataclass(frozen=True, kw_only=True)
class GridLevel:
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

    @property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits: equal levels have equal ids, whatever made them."""
        content = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def cell_size(self) -> float:
        """Side of a cell as a fraction of the frame's side."""
        return 1.0 / self.canvas

    def center(self, cell: Cell) -> tuple[float, float]:
        """Centre ``(x, y)`` of a cell, as fractions of the frame."""
        row, column = cell
        return (
            (self.offset[1] + column + 0.5) / self.canvas,
            (self.offset[0] + row + 0.5) / self.canvas,
        )

    def contains(self, cell: Cell) -> bool:
        """Whether the cell lies on the board."""
        return 0 <= cell[0] < self.rows and 0 <= cell[1] < self.columns

    def open_between(self, a: Cell, b: Cell) -> bool:
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

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Cells that can be entered from ``cell`` in one step."""
        around = [(cell[0] + row, cell[1] + column) for row, column in MOVES.values()]
        return [other for other in around if self.open_between(cell, other)]

    def distances(self, source: Cell) -> dict[Cell, int]:
        """Steps from ``source`` to every cell that can be reached."""
        found = {source: 0}
        queue = deque([source])
        while queue:
            cell = queue.popleft()
            for other in self.neighbours(cell):
                if other not in found:
                    found[other] = found[cell] + 1
                    queue.append(other)
        return found

    def solve(self) -> Solution:
        """The shortest paths from start to goal: one of them, and how many there are.

        Raises:
            ValueError: if the goal cannot be reached.
        """
        distance = self.distances(self.goal)
        if self.start not in distance:
            raise ValueError(f"level {self.level_id}: the goal {self.goal} cannot be reached from {self.start}")
        counts: dict[Cell, int] = {self.goal: 1}
        for cell in sorted(distance, key=lambda c: distance[c]):
            if cell != self.goal:
                counts[cell] = sum(counts[o] for o in self.neighbours(cell) if distance.get(o) == distance[cell] - 1)
        path = [self.start]
        while path[-1] != self.goal:
            here = path[-1]
            path.append(min(o for o in self.neighbours(here) if distance.get(o) == distance[here] - 1))
        return Solution(path=tuple(path), count=counts[self.start])

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values, the ``state`` column of the data set."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_state(cls, state: dict) -> GridLevel:
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
                right_walls=tuple(_cell(c) for c in state["right_walls"]),
                down_walls=tuple(_cell(c) for c in state["down_walls"]),
                start=_cell(state["start"]),
                goal=_cell(state["goal"]),
            )
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None

    def __post_init__(self) -> None:
        # Sets beside the sorted tuples: membership is asked for every neighbour of every cell.
        object.__setattr__(self, "_blocked", frozenset(self.blocked))
        object.__setattr__(self, "_right", frozenset(self.right_walls))
        object.__setattr__(self, "_down", frozenset(self.down_walls))
        for name in ("start", "goal"):
            cell = getattr(self, name)
            if not self.contains(cell) or cell in self.blocked:
                raise ValueError(f"{name} {cell} is not a free cell of the {self.rows} x {self.columns} board")


@dataclass(frozen=True, kw_only=True)
class Solution:
    """A shortest solution: its cells from start to goal, and the number of equally short ones (`count`)."""

    path: tuple[Cell, ...]
    count: int

    @property
    def steps(self) -> int:
        """Moves from start to goal."""
        return len(self.path) - 1


def _cell(value) -> Cell:
    row, column = value
    return int(row), int(column)
