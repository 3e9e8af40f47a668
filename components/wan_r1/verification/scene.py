"""What is known before the first generated frame is read: the look of a level's background and player, and its rules.

Everything is learned from the given first frame and the level's geometry, so the same code reads our textures and the
sprites of other data sets. A scene is made once a level and kept; videos are then compared with it.

Frames are read at about `PIXELS_PER_CELL` pixels a cell, whatever their size: larger frames are reduced by area first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft

from wan_r1.tasks.level import Cell, GridLevel

PIXELS_PER_CELL = 8
"""Resolution at which videos are read."""
BAND = 1 / 8
"""Half width of the band around a cell's border in which walls are looked for, in cells."""
BLUR = 1.0
"""Standard deviation of the blur that is forgiven, in pixels of the reading resolution."""
MOST_BLUR = 1.2
"""How many times the effect of that blur is forgiven at most."""

SIDES: tuple[Cell, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps (row, column) to the four neighbours, in the order of the `Scene.arms` axis."""

PATCH_KINDS = ("floor_changed", "wall_changed", "goal_changed", "obstacle_changed", "outside_changed")
FLOOR, WALL, GOAL, OBSTACLE, OUTSIDE = range(len(PATCH_KINDS))

_FAINTEST = 24.0
"""Least colour distance between the player and its floor, in levels, at which it can be followed."""
_SAME_FLOOR = 3.0
"""Largest extra difference, in levels, at which two cells count as having the same floor."""
_VISIBLE = 0.08
"""Where the player would stand out by less than this share of what it does on the floor, it can hide."""


class SceneError(ValueError):
    """The given first frame does not show what the level says; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A level as it should look, at the reading resolution ``[H, W]``, and its rules on the canvas' grid ``[C, C]``.

    Attributes:
        background: float32 [3, H, W], the level without its player.
        unknown: bool [H, W], background that the player covers in the given image and nothing tells; not looked at.
        leak: float32 [3, H, W], what a blur by one pixel adds to the background; so much is forgiven.
        colour: float32 [3, H, W], the player's colour times its opacity, with its centre at the origin.
        opacity: float32 [H, W], the player's opacity, likewise.
        look: complex64 [4, H, W // 2 + 1], conjugate spectra of `colour` and of minus `opacity`.
        shape: complex64 [H, W // 2 + 1], conjugate spectrum of the player's shape (0 or 1).
        energy: float32 [H, W], squared difference that the player would make to the background if centred at a pixel;
            infinite where it can hide.
        hideouts: bool [H, W], where it can hide in cells that it may enter.
        paint: float32 [3, H, W], inner product with a difference from the background that tells how much of a pixel
            has the player's mean colour (0 to 1).
        area: pixels of that colour that the player has.
        anchor: (x, y) of the player's centre in pixels when the match is at pixel (0, 0).
        radius: distance in pixels from the player's centre to its farthest pixel.
        contrast: float32 [P, P, 3], mean colour of each patch less the floor's, P = 2 C + 1: odd rows and columns are
            insides of cells, even ones the bands around their borders.
        patch_leak: float32 [P, P, 3], mean of `leak` over each patch.
        kinds: int8 [P, P], index into `PATCH_KINDS` of what a patch shows.
        arms: bool [C, C, 4], whether one may go from a cell to the neighbour on each side.
        free: bool [C, C], cells that may be entered.
        board: bool [C, C], cells on the board.
        to_goal: int32 [C, C], moves to the goal; -1 where it cannot be reached.
        start: start cell on the canvas.
        goal: goal cell on the canvas.
        offset: (row, column) of the board on the canvas.
        steps: moves of a shortest solution.
    """

    background: np.ndarray
    unknown: np.ndarray
    leak: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray
    look: np.ndarray
    shape: np.ndarray
    energy: np.ndarray
    hideouts: np.ndarray
    paint: np.ndarray
    area: float
    anchor: tuple[float, float]
    radius: float
    contrast: np.ndarray
    patch_leak: np.ndarray
    kinds: np.ndarray
    arms: np.ndarray
    free: np.ndarray
    board: np.ndarray
    to_goal: np.ndarray
    start: Cell
    goal: Cell
    offset: Cell
    steps: int


def reading_size(side: int, canvas: int) -> int:
    """Pixels per side at which frames of ``side`` pixels are read."""
    return min(side, canvas * PIXELS_PER_CELL)


def reduce_frames(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames ``[F, H, W, 3]`` uint8 reduced by area to ``side x side`` pixels; as they are if they have that size."""
    if frames.shape[1:3] == (side, side):
        return frames
    return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])


def patch_weights(side: int, canvas: int) -> np.ndarray:
    """Weights float32 ``[2 canvas + 1, side]`` that average pixels over bands around borders and insides of cells."""
    cell = side / canvas
    lines = np.arange(canvas + 1) * cell
    begin = np.empty(2 * canvas + 1)
    end = np.empty_like(begin)
    begin[0::2], end[0::2] = lines - BAND * cell, lines + BAND * cell
    # At the frame's edges the band is as wide as elsewhere, else a blurred wall would have left it.
    begin[0], end[0], begin[-1], end[-1] = 0, 2 * BAND * cell, side - 2 * BAND * cell, side
    begin[1::2], end[1::2] = end[0:-1:2], begin[2::2]
    pixels = np.arange(side)
    cover = np.clip(np.minimum(end[:, None], pixels + 1) - np.maximum(begin[:, None], pixels), 0, 1)
    return (cover / cover.sum(1, keepdims=True)).astype(np.float32)


def patch_means(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of each patch: images ``[..., H, W]`` and `patch_weights` ``[P, H]`` give ``[..., P, P]``."""
    across = images @ weights.T
    return weights @ across


_kept: OrderedDict[tuple, Scene] = OrderedDict()
_KEPT_MOST = 1024


def get_scene(level: GridLevel, first_frame: np.ndarray) -> Scene:
    """The scene of a level, made once and kept.

    Args:
        level: its geometry and rules.
        first_frame: the given image, ``[H, W, 3]`` uint8, square.

    Raises:
        SceneError: if the image does not show a player on the start cell.
    """
    key = (level, first_frame.shape, first_frame.tobytes())
    scene = _kept.get(key)
    if scene is None:
        scene = _make_scene(level, first_frame)
        _kept[key] = scene
        if len(_kept) > _KEPT_MOST:
            _kept.popitem(last=False)
    else:
        _kept.move_to_end(key)
    return scene


def _make_scene(level: GridLevel, first_frame: np.ndarray) -> Scene:
    canvas = level.canvas
    side = reading_size(first_frame.shape[0], canvas)
    image = reduce_frames(first_frame[None], side)[0].astype(np.float32)
    rules = _rules(level)
    background, floor, unknown = _without_player(image, level)
    opacity, colour, anchor, radius = _player(image, background, level)
    towards = (colour.sum((0, 1)) / opacity.sum() - background).transpose(2, 0, 1)
    apart = (towards**2).sum(0)
    paint = np.where(apart > _VISIBLE * ((colour.sum((0, 1)) / opacity.sum() - floor) ** 2).sum(), towards / apart, 0)

    empty = np.ascontiguousarray(background.transpose(2, 0, 1))
    leak = cv2.GaussianBlur(background, (0, 0), BLUR).transpose(2, 0, 1) - empty
    shape = (opacity > 0.1).astype(np.float32)
    look = scipy.fft.rfft2(np.concatenate([colour.transpose(2, 0, 1), -opacity[None]])).conj()
    energy = _energy(empty, opacity, colour)
    on_floor = energy[int((level.center(level.start)[1]) * side), int(level.center(level.start)[0] * side)]
    hideouts = energy < _VISIBLE * on_floor
    weights = patch_weights(side, canvas)
    contrast = patch_means(empty, weights).transpose(1, 2, 0) - floor
    return Scene(
        background=empty,
        unknown=unknown,
        leak=leak,
        colour=colour.transpose(2, 0, 1),
        opacity=opacity,
        look=look,
        shape=scipy.fft.rfft2(shape).conj(),
        energy=np.where(hideouts, np.float32(np.inf), energy),
        hideouts=hideouts & _pixels_of(rules["free"], side),
        paint=paint.astype(np.float32),
        area=float(np.clip(((image - background).transpose(2, 0, 1) * paint).sum(0), -1, 1).sum()),
        anchor=anchor,
        radius=radius,
        contrast=contrast.astype(np.float32),
        patch_leak=patch_means(leak, weights).transpose(1, 2, 0),
        kinds=_patch_kinds(level),
        offset=level.offset,
        **rules,
    )


def _rules(level: GridLevel) -> dict:
    """The level's graph on the canvas' grid; see `Scene`."""
    canvas, (top, left) = level.canvas, level.offset
    arms = np.zeros((canvas, canvas, len(SIDES)), bool)
    board = np.zeros((canvas, canvas), bool)
    board[top : top + level.rows, left : left + level.columns] = True
    free = board.copy()
    for row, column in level.blocked:
        free[top + row, left + column] = False
    for row in range(level.rows):
        for column in range(level.columns):
            for i, (down, right) in enumerate(SIDES):
                arms[top + row, left + column, i] = level.open_between((row, column), (row + down, column + right))
    to_goal = np.full((canvas, canvas), -1, np.int32)
    for (row, column), distance in level.distances(level.goal).items():
        to_goal[top + row, left + column] = distance
    start = (top + level.start[0], left + level.start[1])
    goal = (top + level.goal[0], left + level.goal[1])
    if to_goal[start] < 0:
        raise SceneError(f"level {level.level_id} has no solution: its goal cannot be reached")
    return {
        "arms": arms,
        "board": board,
        "free": free,
        "to_goal": to_goal,
        "start": start,
        "goal": goal,
        "steps": int(to_goal[start]),
    }


def _pixels_of(cells: np.ndarray, side: int) -> np.ndarray:
    """Cells of the canvas [C, C] as a mask of pixels [side, side]."""
    at = ((np.arange(side) + 0.5) * len(cells) / side).astype(int)
    return cells[np.ix_(at, at)]


def _patch_kinds(level: GridLevel) -> np.ndarray:
    canvas, (top, left) = level.canvas, level.offset
    kinds = np.full((2 * canvas + 1, 2 * canvas + 1), OUTSIDE, np.int8)
    kinds[2 * top : 2 * (top + level.rows) + 1, 2 * left : 2 * (left + level.columns) + 1] = WALL
    kinds[2 * top + 1 : 2 * (top + level.rows) : 2, 2 * left + 1 : 2 * (left + level.columns) : 2] = FLOOR
    for row, column in level.blocked:
        kinds[2 * (top + row) + 1, 2 * (left + column) + 1] = OBSTACLE
    kinds[2 * (top + level.goal[0]) + 1, 2 * (left + level.goal[1]) + 1] = GOAL
    return kinds


def _without_player(image: np.ndarray, level: GridLevel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The given image without its player, the floor's mean colour [3], and a mask [H, W] of what could not be told.

    The inside of the start cell becomes the median of the insides of those other free cells that look most like it in
    their corners, where the player does not reach (floors may alternate). A border strip is replaced
    only where the player reaches into it (a sprite that fills its cell), by the median of the strips of free cells
    whose border on that side is of the same sort, so that walls stay; if there are none, it stays unknown.
    """
    cell = image.shape[0] / level.canvas
    n, inset = int(cell), max(1, round(BAND * cell))
    inside = slice(inset, n - inset)

    def tile(place: Cell) -> np.ndarray:
        y, x = (round((place[axis] + level.offset[axis]) * cell) for axis in (0, 1))
        return image[y : y + n, x : x + n]

    others = [
        (row, column)
        for row in range(level.rows)
        for column in range(level.columns)
        if (row, column) not in (level.start, level.goal) and (row, column) not in level.blocked
    ]
    if not others:
        raise SceneError(f"level {level.level_id} has no free cell but start and goal: its floor cannot be learned")
    tiles = np.stack([tile(place) for place in others])
    corners = np.ix_((inset, n - inset - 1), (inset, n - inset - 1))
    unlike = np.abs(tiles[:, *corners] - tile(level.start)[corners]).mean((1, 2, 3))
    alike = tiles[unlike <= unlike.min() + _SAME_FLOOR]
    result = image.copy()
    y, x = (round((level.start[axis] + level.offset[axis]) * cell) for axis in (0, 1))
    new = result[y : y + n, x : x + n]
    new[inside, inside] = np.median(alike[:, inside, inside], axis=0)
    floor = new[inside, inside].mean((0, 1))

    difference = np.abs(tile(level.start) - np.median(alike, axis=0)).max(-1)
    strong = difference > 0.5 * difference[inside, inside].max()
    sorts = [_border_sorts(level, place) for place in others]
    low, high = slice(0, inset), slice(n - inset, n)
    every = slice(0, n)
    edges = ((low, every), (high, every), (every, low), (every, high))
    strips = ((low, inside), (high, inside), (inside, low), (inside, high))
    rims = ((inset, inside), (n - inset - 1, inside), (inside, inset), (inside, n - inset - 1))
    unknown = np.zeros(image.shape[:2], bool)
    unknown_here = unknown[y : y + n, x : x + n]
    for i, sort in enumerate(_border_sorts(level, level.start)):
        if not strong[rims[i]].any():
            continue
        # Its corners too: they belong to two sides, so no other cell's are sure to be the same.
        unknown_here[edges[i]] = True
        same = [k for k, other in enumerate(sorts) if other[i] == sort]
        if same:
            new[strips[i]] = np.median(tiles[same][(slice(None), *strips[i])], axis=0)
            unknown_here[strips[i]] = False
    return result, floor, unknown


def _border_sorts(level: GridLevel, place: Cell) -> list[tuple[bool, bool, bool]]:
    """What is on each side of a cell: (may be crossed, is on the board, is blocked)."""
    around = [(place[0] + row, place[1] + column) for row, column in SIDES]
    return [(level.open_between(place, other), level.contains(other), other in level.blocked) for other in around]


def _player(
    image: np.ndarray, background: np.ndarray, level: GridLevel
) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
    """The player's look, rolled to the origin: opacity [H, W], colour times it [H, W, 3]; its anchor and radius."""
    side = image.shape[0]
    cell = side / level.canvas
    top, left = ((level.start[axis] + level.offset[axis]) * cell for axis in (0, 1))
    window = np.zeros((side, side), bool)
    window[int(top) : int(np.ceil(top + cell)), int(left) : int(np.ceil(left + cell))] = True
    difference = (image - background) * window[..., None]
    strength = np.sqrt((difference**2).sum(-1))
    strongest = np.sort(strength, axis=None)[-max(2, int(0.1 * cell**2)) :].mean()
    if strongest < _FAINTEST:
        raise SceneError(
            f"no player can be told from the floor on the start cell {level.start} of level {level.level_id} in the "
            f"given first frame (colour difference {strongest:.0f} of at least {_FAINTEST:.0f} levels)"
        )
    # Compared with the floor alone opacity and colour cannot be told apart; a sprite is mostly opaque inside.
    # Where its colours happen to be the floor's it is closed, or it would be see-through there on the goal.
    opacity = np.clip(strength / (0.7 * strongest), 0, 1).astype(np.float32)
    opacity[opacity < 0.1] = 0
    opacity = cv2.morphologyEx(opacity, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) * window
    colour = (difference + opacity[..., None] * background) * (opacity > 0)[..., None]
    rows, columns = np.nonzero(opacity)
    weight = opacity[rows, columns]
    y, x = float((rows + 0.5) @ weight / weight.sum()), float((columns + 0.5) @ weight / weight.sum())
    solid = opacity[rows, columns] > 0.3
    radius = float(np.hypot(rows[solid] + 0.5 - y, columns[solid] + 0.5 - x).max()) + 0.5
    # The anchor keeps the start cell's centre, not the sprite's: a sprite may sit low in its cell.
    centre_x, centre_y = (value * side for value in level.center(level.start))
    at = int(centre_y), int(centre_x)
    roll = (-at[0], -at[1])
    return (
        np.roll(opacity, roll, (0, 1)).astype(np.float32),
        np.roll(colour, roll, (0, 1)).astype(np.float32),
        (centre_x - at[1], centre_y - at[0]),
        radius,
    )


def _energy(background: np.ndarray, opacity: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Squared difference [H, W] that the player makes to the background [3, H, W] when centred at each pixel."""
    side = opacity.shape
    planes = scipy.fft.rfft2(background)
    mixed = scipy.fft.rfft2(opacity[..., None] * colour, axes=(0, 1)).transpose(2, 0, 1)
    squares = scipy.fft.rfft2((background**2).sum(0))
    spectrum = squares * scipy.fft.rfft2(opacity**2).conj() - 2 * (planes * mixed.conj()).sum(0)
    return (scipy.fft.irfft2(spectrum, s=side) + (colour**2).sum()).astype(np.float32)
