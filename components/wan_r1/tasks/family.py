"""What a family of levels is, and the common part of the families on a grid.

A family is one module in `wan_r1.tasks.families` that defines ``FAMILY``. A family on a grid derives from `GridFamily`
and says three things: how to draw a board at random (`GridFamily.draw`), how long its solutions are
(`GridFamily.steps`) and what the prompt says (`GridFamily.prompt`); placing, checking, rendering and timing are common.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.level import MOVES, Cell, GridLevel, Level
from wan_r1.tasks.render import cell_pixels, draw_background, draw_player
from wan_r1.tasks.textures import Texture

DIFFICULTIES = ("easy", "medium", "hard")

MIN_CANVAS = 4
"""Smallest canvas, in cells, on which the three difficulties differ."""

_DRAWS = 20_000
"""Boards drawn before a family is declared unable to make a level; a healthy one needs fewer than a hundred."""


class Family(Protocol):
    """The interface of a family."""

    name: str
    smallest_canvas: int
    """Fewest cells per side of the frame for which it can make levels."""

    def generate(self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None) -> Level:
        """A level with exactly one shortest solution, which takes the time of at most ``max_steps`` cells."""

    def from_state(self, state: Mapping[str, Any]) -> Level:
        """The level that the ``state`` column describes; `ValueError` if it describes none."""

    def render(
        self, level: Level, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames ``[F, H, W, 3]`` with the player at ``positions`` ``[F, 2]``, or seen from poses ``[F, 3]``; ``None``:
        one without the player, or from the first pose."""

    def prompt(self, texture: Texture) -> str:
        """What the video model is told."""

    def trajectory(self, level: Level, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Player centre (x, y) per frame as fractions of the frame, ``[F, 2]``, ending at rest on the goal; or the pose
        of a robot's camera (x, y in metres, heading in radians), ``[F, 3]``."""

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Length in cells of the shortest solution of this difficulty: what a video must at least have room for."""


@runtime_checkable
class BoardFamily(Protocol):
    """A family whose boards cost far more to solve than a further level on the same board."""

    def board_levels(
        self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
    ) -> Iterator[Level]:
        """One or more levels of one board, as `Family.generate` would make them."""


@runtime_checkable
class TargetFamily(Protocol):
    """A family whose prompts speak of what is in their level."""

    def level_prompt(self, level: Any, texture: Texture) -> str:
        """What the video model is told of one level."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Continuous parameters of levels within their difficulty; a family obeys those of `BaseFamily.obeys`.

    Attributes:
        loops: share of a maze's inner walls that are opened into loops where the shortest path stays the only one.
        shortest: where the least length lies in the difficulty's range, 0 (its lower end) to 1.
        longest: the same of the largest length.
        boxes: boxes of a Sokoban level; 0 leaves them to the difficulty.
        pushes: fewest pushes that a Sokoban level may need; 0 leaves them to the difficulty.
    """

    loops: float = 0.0
    shortest: float = 0.0
    longest: float = 1.0
    boxes: int = 0
    pushes: int = 0

    @property
    def given(self) -> set[str]:
        """Names of the parameters that are not left at their default."""
        return {field.name for field in fields(self) if getattr(self, field.name) != field.default}


L = TypeVar("L", bound=Level)


class BaseFamily(Generic[L]):
    """What all families share: continuous parameters, and levels that are read from their state."""

    name: ClassVar[str]
    smallest_canvas: ClassVar[int] = MIN_CANVAS
    obeys: ClassVar[frozenset[str]] = frozenset({"shortest", "longest"})
    """The parameters of `Shape` that its levels obey; others change nothing."""
    symmetric: ClassVar[bool] = False
    """Whether a picture of a level that is turned by quarters or mirrored shows another level of the family."""
    narrowest: ClassVar[int] = 0
    """Least difference of the largest and the least length of a solution that its levels can be asked for."""
    level_type: type[L]

    def __init__(self, shape: Shape | None = None) -> None:
        self.shape = shape or Shape()

    def shaped(self, shape: Shape) -> Self:
        """The same family with other continuous parameters."""
        return type(self)(shape)

    def span(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """Least and largest length of a solution of this difficulty in cells, whatever the shape."""
        raise NotImplementedError

    def hardest(self, difficulty: str, canvas: int) -> int:
        """Largest of the least lengths in `span` that levels can be asked for: of so long ones there are enough."""
        return self.span(difficulty, canvas)[1]

    def lengths(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """The part of `span` that the shape asks for."""
        low, high = self.span(difficulty, canvas)
        return low + round(self.shape.shortest * (high - low)), low + round(self.shape.longest * (high - low))

    def moves_within(self, difficulty: str, canvas: int, max_steps: int | None) -> tuple[int, int]:
        """`lengths`, up to the moves that the video has room for.

        Raises:
            ConfigError: if it has not room for the fewest.
        """
        low, high = self.lengths(difficulty, canvas)
        if max_steps is not None:
            high = min(high, max_steps)
        if low > high:
            raise ConfigError(
                f"{self.name} levels of difficulty={difficulty!r} on canvas={canvas} take at least {low} moves, but "
                f"max_steps={max_steps}; use at least {low}, or an easier difficulty"
            )
        return low, high

    def refusal(self, difficulty: str, canvas: int, max_steps: int) -> tuple[str, str] | None:
        """A parameter of the shape with which there are no or hardly any levels, and the values with which there are.

        Args:
            difficulty: easy, medium or hard.
            canvas: cells per side of the frame.
            max_steps: longest solution, in cells, that the video has room for.
        """
        low, high = self.span(difficulty, canvas)
        least, most = self.lengths(difficulty, canvas)
        whose = f"for {difficulty} {self.name} levels on canvas={canvas}"
        if least > self.hardest(difficulty, canvas):
            share = math.floor(100 * (self.hardest(difficulty, canvas) - low) / (high - low)) / 100
            return "shortest", f"0 to {share} {whose}"
        if most - least < self.narrowest:
            share = math.ceil(100 * (least + self.narrowest - low) / (high - low)) / 100
            return "longest", f"{share} to 1 {whose} at shortest={self.shape.shortest}"
        return None

    def from_state(self, state: Mapping[str, Any]) -> L:
        """The level that the ``state`` column describes.

        Raises:
            ValueError: if it describes none, or one of another family.
        """
        level: L = cast(Any, self.level_type).from_state(state)
        if level.family != self.name:
            raise ValueError(f"level state is of family {level.family!r}, not {self.name!r}")
        return level


@dataclass(frozen=True, kw_only=True)
class Board:
    """A drawn board, before it is placed on the canvas; fields as in `GridLevel`."""

    start: Cell
    goal: Cell
    blocked: tuple[Cell, ...] = ()
    right_walls: tuple[Cell, ...] = ()
    down_walls: tuple[Cell, ...] = ()


class GridFamily(BaseFamily[GridLevel]):
    """Base of the families on a grid."""

    symmetric = True
    checkered: ClassVar[bool] = False
    """Whether every other cell of the floor is shaded, for families whose cells no walls show."""
    level_type = GridLevel

    def span(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """Fewest and most moves of a solution of this difficulty, whatever the shape."""
        return self.steps(difficulty, self.side(difficulty, canvas))

    def draw(self, dice: random.Random, difficulty: str, side: int, low: int, high: int) -> Board | None:
        """A random board of ``side x side`` cells that should take ``low`` to ``high`` moves.

        `generate` keeps it only if it does and has exactly one shortest solution, so a family may propose boards freely
        as long as enough of them pass; ``None`` is a proposal given up.
        """
        raise NotImplementedError

    def steps(self, difficulty: str, side: int) -> tuple[int, int]:
        """Fewest and most moves of a solution on a board of ``side x side`` cells."""
        raise NotImplementedError

    def prompt(self, texture: Texture) -> str:
        """What the video model is told."""
        raise NotImplementedError

    def side(self, difficulty: str, canvas: int) -> int:
        """Cells per side of the board on a canvas.

        On a canvas of 4 cells: easy and medium 3, hard 4; of 8: 3, 5, 7; of 12: 5, 8, 11; of 16: 7, 11, 15. A canvas of
        more than 5 cells always keeps one free, so that no board is found at a fixed place.
        """
        check_board(difficulty, canvas)
        if difficulty == "hard":
            return canvas if canvas <= 5 else canvas - 1
        return max(3, int(canvas * {"easy": 0.45, "medium": 0.7}[difficulty]))

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Fewest moves a level of this difficulty may have."""
        return self.lengths(difficulty, canvas)[0]

    def generate(
        self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
    ) -> GridLevel:
        """A level with exactly one shortest solution.

        Args:
            rng: the only source of randomness; one draw is taken from it.
            difficulty: one of `DIFFICULTIES`.
            canvas: cells per side of the frame.
            max_steps: most moves that the video has room for.

        Raises:
            ConfigError: if the difficulty is unknown, the canvas too small or ``max_steps`` below its fewest moves.
        """
        side = self.side(difficulty, canvas)
        low, high = self.moves_within(difficulty, canvas, max_steps)
        # Python's generator is several times faster than numpy's for single small draws.
        dice = random.Random(int(rng.integers(2**63)))
        for _ in range(_DRAWS):
            board = self.draw(dice, difficulty, side, low, high)
            if board is None:
                continue
            level = GridLevel(
                family=self.name,
                rows=side,
                columns=side,
                canvas=canvas,
                offset=(dice.randrange(canvas - side + 1), dice.randrange(canvas - side + 1)),
                blocked=tuple(sorted(board.blocked)),
                right_walls=tuple(sorted(board.right_walls)),
                down_walls=tuple(sorted(board.down_walls)),
                start=board.start,
                goal=board.goal,
            )
            solution = level.solution
            if solution is not None and solution.count == 1 and low <= solution.steps <= high:
                return level
        raise RuntimeError(
            f"family {self.name!r} drew {_DRAWS} boards for difficulty={difficulty!r}, canvas={canvas}, none of which "
            f"has one shortest solution of {low} to {high} moves: its draw() and steps() do not fit each other"
        )

    def render(
        self, level: GridLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """Frames with the player at ``positions``, or one frame without the player.

        Args:
            level: what to draw.
            texture: its colours.
            positions: ``[F, 2]`` player centres (x, y) as fractions of the frame, or ``None``.
            size: height and width in pixels, a multiple of the level's canvas.

        Returns:
            RGB frames, ``[F, H, W, 3]``; without positions ``[1, H, W, 3]``.
        """
        background = draw_background(level, texture, size, checkered=self.checkered)
        if positions is None:
            return background[None]
        return draw_player(background, positions, texture.player, cell_pixels(size, level.canvas))

    def trajectory(self, level: GridLevel, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Constant speed along the solution, then rest on the goal.

        Raises:
            ConfigError: if the solution does not fit in the frames.
        """
        return walk_steadily(level.route(level.solve().path), frames, steps_per_frame)


def check_board(difficulty: str, canvas: int) -> None:
    """Refuse a difficulty that there is none of, and a canvas on which the difficulties do not differ.

    Raises:
        ConfigError: with what is allowed.
    """
    if difficulty not in DIFFICULTIES:
        raise ConfigError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
    if canvas < MIN_CANVAS:
        raise ConfigError(f"canvas={canvas} is too small; use at least {MIN_CANVAS} cells")


def walk_steadily(
    route: NDArray[np.float64], frames: int, steps_per_frame: float, stops: Sequence[int] = ()
) -> NDArray[np.float32]:
    """Constant speed along a route of places one move apart, then rest at its end.

    Args:
        route: ``[moves + 1, 2]``.
        frames: frames of the video.
        steps_per_frame: moves a frame.
        stops: numbers of moves after which a frame must show the place that they lead to: the nearest one does.

    Returns:
        The place in each frame, ``[F, 2]``.

    Raises:
        ConfigError: if the route does not fit in the frames.
    """
    steps = len(route) - 1
    walked = np.arange(frames) * steps_per_frame
    # The tolerance is for speeds such as 0.1 that no float holds exactly.
    if walked[-1] < steps - 1e-6:
        needed = 1 + int(np.ceil(steps / steps_per_frame - 1e-6))
        raise ConfigError(
            f"a solution of {steps} moves does not fit in frames={frames} at steps_per_frame={steps_per_frame}; "
            f"use at least {needed} frames"
        )
    for stop in stops:
        nearest = int(np.abs(walked - stop).argmin())
        if abs(walked[nearest] - stop) > 1e-6:
            walked[nearest] = stop
    moves = np.arange(steps + 1)
    return np.stack([np.interp(walked, moves, route[:, axis]) for axis in (0, 1)], axis=1).astype(np.float32)


def candidates(
    family: Family, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
) -> Iterator[Level]:
    """Levels without end, as `Family.generate` makes them; a `BoardFamily` takes several from each board."""
    while True:
        if isinstance(family, BoardFamily):
            yield from family.board_levels(rng, difficulty, canvas, max_steps)
        else:
            yield family.generate(rng, difficulty, canvas, max_steps)


@lru_cache(maxsize=64)
def around_cells(side: int) -> dict[Cell, list[Cell]]:
    """The neighbours of each cell of an open board of ``side x side`` cells."""
    cells = [(row, column) for row in range(side) for column in range(side)]
    return {
        (row, column): [
            (row + down, column + right)
            for down, right in MOVES.values()
            if 0 <= row + down < side and 0 <= column + right < side
        ]
        for row, column in cells
    }
