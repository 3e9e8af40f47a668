"""Search over all states of a Sokoban board: fewest moves, fewest pushes, whether a solution is the only one.

A state is the player's cell and the set of cells that hold boxes; boxes are alike. Arrays are ``[cells + 1, sets]``:
the free cells in reading order and one row more for what is outside, and all sets of as many cells as there are boxes.
Walking is the same for every set, so that one step of the search for all states is a few operations on whole rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import MOVES, Cell

MOST_STATES = 5_000_000
"""States up to which a board is searched: memory is about forty bytes each."""

STEPS = tuple(MOVES.values())
_BACK = [1, 0, 3, 2]
"""For each step the number of its opposite."""


@dataclass(frozen=True)
class Solved:
    """What is known of every state of a board with given targets.

    Attributes:
        moves: int16 [cells + 1, sets], fewest moves to a solved state; -1 where there is no way.
        pushes: int16 likewise, fewest pushes of any solution; -1 where there is none.
        best: bool likewise, whether there is one solution of so many moves, and none makes fewer pushes than it.
    """

    moves: NDArray[np.int16]
    pushes: NDArray[np.int16]
    best: NDArray[np.bool_]


class Board:
    """The free cells of a board, and what the player can do for each place of a number of boxes.

    Args:
        cells: the free cells, in reading order.
        boxes: how many boxes there are.

    Raises:
        ValueError: if there are more states than `MOST_STATES`.
    """

    def __init__(self, cells: Sequence[Cell], boxes: int) -> None:
        n = len(cells)
        states = n * math.comb(n, boxes)
        if states > MOST_STATES:
            raise ValueError(
                f"{boxes} boxes on {n} free cells have {states} states; at most {MOST_STATES} are searched: use fewer "
                "boxes, more walls or a smaller board"
            )
        self.cells = tuple(cells)
        self.number = {cell: k for k, cell in enumerate(self.cells)}
        self.sets, self._number_of_set = _box_sets(n, boxes)
        self.step = np.full((len(STEPS), n + 1), n, np.intp)
        for i, (down, right) in enumerate(STEPS):
            self.step[i, :n] = [self.number.get((row + down, column + right), n) for row, column in self.cells]
        self.valid = np.ones((n + 1, len(self.sets)), np.bool_)
        self.valid[n] = False
        self.valid[self.sets.T, np.arange(len(self.sets))] = False
        self._find_pushes()

    def _find_pushes(self) -> None:
        """Every push: the states before and after it as flat numbers, and the box's cells before and after it."""
        every, back = np.arange(len(self.sets)), self.step[_BACK]
        # Of all arrays the axes are direction of the push, box that is pushed, set after the push.
        after = np.broadcast_to(self.sets.T, (len(STEPS), *self.sets.T.shape))
        before = back[:, self.sets.T]
        player = back[np.arange(len(STEPS))[:, None, None], before]
        direction, box, boxes = np.nonzero(self.valid[before, every] & (player < len(self.cells)))
        after, before, player = (part[direction, box, boxes] for part in (after, before, player))
        moved = self.sets[boxes]
        moved[np.arange(len(boxes)), box] = before
        earlier = self._index_of(np.sort(moved, axis=1))
        clear = self.valid[player, earlier]
        number = len(self.sets)
        order = np.argsort((player * number + earlier)[clear], kind="stable")
        self.before = (player * number + earlier)[clear][order]
        self.after = (before * number + boxes)[clear][order]
        self._from, self._to = before[clear][order], after[clear][order]
        new = np.flatnonzero(np.diff(self.before, prepend=-1))
        self._groups, self._pushed_from = new, self.before[new]

    def _index_of(self, sets: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of sets given as sorted rows ``[N, boxes]``."""
        place = np.zeros(len(sets), np.intp)
        for column in sets.T:
            place = place * len(self.cells) + column
        return self._number_of_set[place]

    @cached_property
    def zones(self) -> NDArray[np.int16]:
        """For each state the lowest cell that the player can walk to, ``[cells + 1, sets]``."""
        n = len(self.cells)
        found = np.where(self.valid, np.arange(n + 1, dtype=np.int16)[:, None], np.int16(n))
        while True:
            lower = found
            for step in self.step:
                lower = np.minimum(lower, found[step])
            lower[~self.valid] = n
            if np.array_equal(lower, found):
                return found
            found = lower

    @cached_property
    def _zone_pushes(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """`before` and `after` with the lowest cell of the player's zone instead of its own."""
        zone, number = self.zones.ravel().astype(np.intp), len(self.sets)
        return zone[self.before] * number + self.before % number, zone[self.after] * number + self.after % number

    def solve(self, targets: Sequence[Cell]) -> Solved:
        """Search backwards from all states with a box on each target."""
        ends = self._index_of(np.array([sorted(self.number[cell] for cell in targets)]))[0]
        pushes = self._fewest_pushes(ends)
        flat = pushes.ravel()
        # A push that is no part of any solution with the fewest pushes counts as if there were two ways from it on.
        weight = (1 + (flat[self.before] != flat[self.after] + 1)).astype(np.uint8)
        reached = np.zeros(self.valid.shape, np.uint8)
        reached[:, ends] = self.valid[:, ends]
        left = self.valid.astype(np.uint8)
        moves, ways = np.zeros(self.valid.shape, np.int16), reached.copy()
        depth = 0
        while reached.any():
            left -= reached > 0
            moves += left
            earlier = reached[self.step[0]]
            for step in self.step[1:]:
                earlier += reached[step]
            pushed = reached.ravel()[self.after] * weight
            earlier.ravel()[self._pushed_from] += np.add.reduceat(pushed, self._groups) if len(pushed) else pushed
            reached = np.minimum(earlier, 2) * left
            ways += reached
            depth += 1
        moves[ways == 0] = -1
        return Solved(moves, pushes, ways == 1)

    def _fewest_pushes(self, ends: int) -> NDArray[np.int16]:
        """Fewest pushes from each state to one with the boxes on the set ``ends``, -1 where there is no way."""
        before, after = self._zone_pushes
        found = np.full(self.valid.size, -1, np.int16)
        zones = np.unique(self.zones[:, ends][self.valid[:, ends]])
        found[zones.astype(np.intp) * len(self.sets) + ends] = 0
        for pushes in itertools.count(1):
            new = before[(found[after] == pushes - 1) & (found[before] < 0)]
            if not len(new):
                break
            found[new] = pushes
        every = np.where(self.valid, self.zones, 0).astype(np.intp) * len(self.sets) + np.arange(len(self.sets))
        return np.where(self.valid, found[every], np.int16(-1))

    def _onward(self, solved: Solved, flat: int) -> list[int]:
        """States a move nearer to a solved one, by their flat numbers, in reading order of the player's cells."""
        player, boxes = divmod(flat, len(self.sets))
        moves, left = solved.moves.ravel(), int(solved.moves[player, boxes]) - 1
        walks = [int(cell) * len(self.sets) + boxes for cell in self.step[:, player]]
        first, last = np.searchsorted(self.before, (flat, flat + 1))
        return sorted(there for there in (*walks, *self.after[first:last].tolist()) if moves[there] == left)

    def players(self, solved: Solved, index: tuple[int, int]) -> Iterator[Cell]:
        """The player's cells after each move of the shortest solution from a state that has one."""
        flat = index[0] * len(self.sets) + index[1]
        for _ in range(int(solved.moves[index])):
            flat = self._onward(solved, flat)[0]
            yield self.cells[flat // len(self.sets)]

    def count_solutions(self, solved: Solved, index: tuple[int, int]) -> int:
        """How many solutions from a state that has one are as short as the shortest."""
        if solved.best[index]:
            return 1
        ways = {index[0] * len(self.sets) + index[1]: 1}
        for _ in range(int(solved.moves[index])):
            after: dict[int, int] = {}
            for flat, count in ways.items():
                for there in self._onward(solved, flat):
                    after[there] = after.get(there, 0) + count
            ways = after
        return sum(ways.values())

    def state(self, flat: int) -> tuple[Cell, tuple[Cell, ...]]:
        """The player's cell and the boxes' of a state by its flat number, boxes in reading order."""
        player, boxes = divmod(flat, len(self.sets))
        return self.cells[player], tuple(self.cells[k] for k in self.sets[boxes].tolist())

    def index(self, player: Cell, boxes: Sequence[Cell]) -> tuple[int, int]:
        """Where a state stands in the arrays."""
        numbers = np.array([sorted(self.number[box] for box in boxes)])
        return self.number[player], int(self._index_of(numbers)[0])

    @cached_property
    def _pushes_of_box(self) -> dict[tuple[int, int], list[tuple[int, int]]]:
        """For a zone (as a flat state) and a box's cell: the zones and cells to which one push of it leads."""
        before, after = self._zone_pushes
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        rows = (before.tolist(), self._from.tolist(), after.tolist(), self._to.tolist())
        for zone, box, other, there in zip(*rows, strict=True):
            found.setdefault((zone, box), []).append((other, there))
        return found

    def order_matters(self, player: Cell, boxes: Sequence[Cell], targets: Sequence[Cell]) -> bool:
        """Whether in some order the boxes cannot be brought home one after the other, however they are pushed.

        Such a level asks for a plan: a box that looks nearest may have to wait, or to be moved out of the way first.
        """
        cell, number = self.index(player, boxes)
        start = int(self.zones[cell, number]) * len(self.sets) + number
        home = {self.number[target] for target in targets}
        numbers = [self.number[box] for box in boxes]
        return not all(self._one_by_one(start, order, home) for order in itertools.permutations(numbers))

    def _one_by_one(self, start: int, order: Sequence[int], home: set[int]) -> bool:
        """Whether the boxes can be brought home one after the other in this order, each staying where it was put."""
        zones = {start}
        for box in order:
            seen = {(zone, box) for zone in zones}
            search = list(seen)
            for here in search:
                for there in self._pushes_of_box.get(here, ()):
                    if there not in seen:
                        seen.add(there)
                        search.append(there)
            zones = {zone for zone, cell in seen if cell in home}
        return bool(zones)


@lru_cache(maxsize=64)
def _box_sets(cells: int, boxes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All sets of ``boxes`` of the numbers below ``cells``, ``[sets, boxes]`` ascending; and the number of each set by
    its members as digits to the base ``cells``."""
    sets = np.array(list(itertools.combinations(range(cells), boxes)), np.intp).reshape(-1, boxes)
    number = np.zeros(cells**boxes, np.intp)
    number[(sets * cells ** np.arange(boxes)[::-1]).sum(1)] = np.arange(len(sets))
    return sets, number
