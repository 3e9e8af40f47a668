"""What is known before the first generated frame is read: the look of a level's background and player, and its rules.

Everything is learned from the given first frame and the level's geometry, so the same code reads our textures and the
sprites of other data sets. A scene is made once a level and kept; videos are then compared with it.

Frames are read at about `PIXELS_PER_CELL` pixels a cell, whatever their size: larger frames are reduced by area first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wan_r1.tasks.level import Cell, GridLevel
from wan_r1.verification.appearance import Appearance, SceneError, learn_appearance

PIXELS_PER_CELL = 8
"""Resolution at which videos are read."""
BAND = 1 / 8
"""Half width of the band around a cell's border in which walls are looked for, in cells."""

SIDES: tuple[Cell, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps (row, column) to the four neighbours, in the order of the `Scene.arms` axis."""

PATCH_KINDS = ("floor_changed", "wall_changed", "goal_changed", "obstacle_changed", "outside_changed")
FLOOR, WALL, GOAL, OBSTACLE, OUTSIDE = range(len(PATCH_KINDS))

_SAME_FLOOR = 3.0
"""Largest extra difference, in levels, at which two cells count as having the same floor."""


@dataclass(frozen=True, kw_only=True)
class Scene(Appearance):
    """A grid level as it should look, at the reading resolution, and its rules on the canvas' grid ``[C, C]``.

    Attributes:
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


def reading_size(side: int, canvas: int, cell: int = PIXELS_PER_CELL) -> int:
    """Pixels per side at which frames of ``side`` pixels are read, at ``cell`` pixels a cell."""
    return min(side, canvas * cell)


def reduce_frames(frames: np.ndarray, side: int) -> np.ndarray:
    """Frames ``[F, H, W, 3]`` uint8 reduced by area to ``side x side`` pixels; as they are if they have that size.

    By halves as long as that goes: OpenCV averages two pixels many times faster than any other number.
    """
    return frames if frames.shape[1:3] == (side, side) else reduce_videos([frames], side)[0]


def reduce_videos(videos: Sequence[np.ndarray], side: int) -> np.ndarray:
    """The same of several videos of one shape, always a copy: ``[n, F, side, side, 3]``."""
    reduced = np.empty((len(videos), len(videos[0]), side, side, 3), np.uint8)
    for video, small in zip(videos, reduced, strict=True):
        if video.shape == small.shape:
            small[:] = video
        else:
            for frame, place in zip(video, small, strict=True):
                _reduce(frame, place)
    return reduced


def _reduce(frame: np.ndarray, place: np.ndarray) -> None:
    side = len(place)
    while frame.shape[0] % (2 * side) == 0 and frame.shape[0] == frame.shape[1] and len(frame) > 2 * side:
        frame = cv2.resize(frame, (frame.shape[1] // 2, frame.shape[0] // 2), interpolation=cv2.INTER_AREA)
    cv2.resize(frame, (side, side), dst=place, interpolation=cv2.INTER_AREA)


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
    *many, height, width = images.shape
    # Two products of large matrices: small ones, image by image, take several times as long.
    across = (images.reshape(-1, width) @ weights.T).reshape(-1, height, len(weights))
    columns = across.swapaxes(1, 2).reshape(-1, height) @ weights.T
    return columns.reshape(*many, len(weights), len(weights)).swapaxes(-1, -2)


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
    cell = side / canvas
    top, left = ((level.start[axis] + level.offset[axis]) * cell for axis in (0, 1))
    centre_x, centre_y = (value * side for value in level.center(level.start))
    looks = learn_appearance(
        image,
        background,
        unknown,
        floor,
        corner=(top, left),
        centre=(centre_x, centre_y),
        cell=cell,
        name=f"on the start cell {level.start} of level {level.level_id}",
    )
    weights = patch_weights(side, canvas)
    contrast = patch_means(looks.background, weights).transpose(1, 2, 0) - floor
    return Scene(
        **{**vars(looks), "hideouts": looks.hideouts & _pixels_of(rules["free"], side)},
        contrast=contrast.astype(np.float32),
        patch_leak=patch_means(looks.leak, weights).transpose(1, 2, 0),
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
    sorts = [border_sorts(level, place) for place in others]
    low, high = slice(0, inset), slice(n - inset, n)
    every = slice(0, n)
    edges = ((low, every), (high, every), (every, low), (every, high))
    strips = ((low, inside), (high, inside), (inside, low), (inside, high))
    rims = ((inset, inside), (n - inset - 1, inside), (inside, inset), (inside, n - inset - 1))
    unknown = np.zeros(image.shape[:2], bool)
    unknown_here = unknown[y : y + n, x : x + n]
    for i, sort in enumerate(border_sorts(level, level.start)):
        if not strong[rims[i]].any():
            continue
        # Its corners too: they belong to two sides, so no other cell's are sure to be the same.
        unknown_here[edges[i]] = True
        same = [k for k, other in enumerate(sorts) if other[i] == sort]
        if same:
            new[strips[i]] = np.median(tiles[same][(slice(None), *strips[i])], axis=0)
            unknown_here[strips[i]] = False
    return result, floor, unknown


def border_sorts(level: GridLevel, place: Cell) -> list[tuple[bool, bool, bool]]:
    """What is on each side of a cell: (may be crossed, is on the board, is blocked)."""
    around = [(place[0] + row, place[1] + column) for row, column in SIDES]
    return [(level.open_between(place, other), level.contains(other), other in level.blocked) for other in around]
