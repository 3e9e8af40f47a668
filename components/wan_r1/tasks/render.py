"""Drawing of grid levels: the background once, then the player as an anti-aliased disc on each frame.

Sizes are fractions of a cell, so a level looks the same from 32 to 1024 px. Straight lines are aligned to pixels, and
all coverage is computed from geometry (no resampling), so the same level gives the same bytes on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.patterns import pattern_tile
from wan_r1.tasks.textures import Colour, Material, Texture

PLAYER_DIAMETER = 0.6
"""Diameter of the player's disc, in cells."""
GOAL_SIDE = 0.75
"""Side of the goal's square, in cells: wider than the player, so that a rim shows when the player rests on it."""
WALL_WIDTH = 0.125
"""Width of a wall, in cells; at least one pixel."""
MIN_CELL = 8
"""Smallest cell in pixels at which walls, goal and player can be told apart."""


def cell_pixels(size: int, canvas: int) -> int:
    """Pixels per side of a cell.

    Raises:
        ConfigError: if the size is no multiple of the canvas, or a cell would have fewer than `MIN_CELL` pixels.
    """
    if size % canvas or size // canvas < MIN_CELL:
        better = max(MIN_CELL, round(size / canvas)) * canvas
        raise ConfigError(
            f"size={size} px does not suit canvas={canvas}: it must be a multiple of {canvas} with at least {MIN_CELL} "
            f"px a cell, such as {better}"
        )
    return size // canvas


def draw_background(level: GridLevel, texture: Texture, size: int, *, checkered: bool = False) -> NDArray[np.uint8]:
    """A level without its player.

    Args:
        level: what to draw.
        texture: its colours.
        size: height and width of the frame in pixels, a multiple of the level's canvas.
        checkered: whether every other cell has a slightly different floor, for boards whose cells no walls show.

    Returns:
        RGB image, ``[H, W, 3]``.
    """
    cell = cell_pixels(size, level.canvas)
    top, left = level.offset[0] * cell, level.offset[1] * cell
    bottom, right = top + level.rows * cell, left + level.columns * cell
    image = surface(texture.outside, texture.outside_material, size, cell).copy()
    board = image[top:bottom, left:right]
    board[:] = surface(texture.floor, texture.floor_material, size, cell)[: bottom - top, : right - left]
    if checkered:
        odd = (np.add.outer(np.arange(level.rows), np.arange(level.columns)) % 2 == 1).repeat(cell, 0).repeat(cell, 1)
        shade = np.subtract(texture.odd_floor, texture.floor)
        board[odd] = np.clip(board[odd] + shade, 0, 255).astype(np.uint8)

    for row, column in level.blocked:
        corner = top + row * cell, left + column * cell
        blend(image, corner, _tile_coverage(cell), texture.trap)
        blend(image, corner, _cross_coverage(cell), texture.trap_mark)
    blend(image, (top + level.goal[0] * cell, left + level.goal[1] * cell), _goal_coverage(cell), texture.goal)

    wall = surface(texture.wall, texture.wall_material, size, cell)
    for edge in (top, bottom):
        draw_line(image, edge, left, right, cell, wall, vertical=False)
    for edge in (left, right):
        draw_line(image, edge, top, bottom, cell, wall, vertical=True)
    for row, column in level.right_walls:
        y = top + row * cell
        draw_line(image, left + (column + 1) * cell, y, y + cell, cell, wall, vertical=True)
    for row, column in level.down_walls:
        x = left + column * cell
        draw_line(image, top + (row + 1) * cell, x, x + cell, cell, wall, vertical=False)
    return image


@lru_cache(maxsize=64)
def surface(colour: Colour, material: Material | None, size: int, cell: int) -> NDArray[np.uint8]:
    """A frame of ``size x size`` pixels covered with a material, the same in every cell; not to be written to."""
    tile = np.broadcast_to(np.array(colour, np.uint8), (cell, cell, 3))
    if material is not None:
        share = pattern_tile(material.pattern, cell)[..., None]
        tile = np.rint(np.array(colour) + share * np.subtract(material.grain, colour)).astype(np.uint8)
    image = np.tile(tile, (size // cell, size // cell, 1))
    image.flags.writeable = False
    return image


def moving_frames(positions: NDArray[np.floating]) -> int:
    """Frames, at least one, up to the first of those that show the player at rest to the end."""
    changed = np.flatnonzero((positions[1:] != positions[:-1]).any(1))
    return 2 + int(changed[-1]) if len(changed) else min(1, len(positions))


def hold_last(video: NDArray[np.uint8], frames: int) -> NDArray[np.uint8]:
    """The video with what its first ``frames`` frames end in to its end, in place."""
    video[frames:] = video[frames - 1 : frames]
    return video


def draw_player(
    background: NDArray[np.uint8], positions: NDArray[np.floating], colour: Colour, cell: float
) -> NDArray[np.uint8]:
    """The background with the player at each position.

    Args:
        background: ``[H, W, 3]``.
        positions: centre (x, y) of the player per frame as fractions of the frame, ``[F, 2]``; inside the frame.
        colour: the player's colour.
        cell: side of a cell in pixels.

    Returns:
        RGB video, ``[F, H, W, 3]``.
    """
    height, width, _ = background.shape
    moving = moving_frames(positions)
    video = np.empty((len(positions), height, width, 3), np.uint8)
    video[:moving] = background
    radius = PLAYER_DIAMETER * cell / 2
    x = np.asarray(positions[:moving, 0], np.float64) * width
    y = np.asarray(positions[:moving, 1], np.float64) * height
    # Only a window around the disc is touched: pixels [first, first + side) on each axis, kept inside the frame.
    side = min(int(np.ceil(2 * radius)) + 3, height, width)
    first_x = np.clip(np.floor(x - radius).astype(int) - 1, 0, width - side)
    first_y = np.clip(np.floor(y - radius).astype(int) - 1, 0, height - side)
    columns = first_x[:, None] + np.arange(side)
    rows = first_y[:, None] + np.arange(side)
    across = columns + 0.5 - x[:, None]
    down = rows + 0.5 - y[:, None]
    distance = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2)
    coverage = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
    place = np.arange(moving)[:, None, None], rows[:, :, None], columns[:, None, :]
    window = video[place]
    video[place] = np.rint(window + coverage * (np.array(colour, np.float64) - window)).astype(np.uint8)
    return hold_last(video, moving)


def draw_line(
    image: np.ndarray, edge: int, begin: int, end: int, cell: int, wall: np.ndarray, *, vertical: bool
) -> None:
    """A wall centred on the pixel edge ``edge``, from ``begin`` to ``end`` and the corners there, kept in the frame;
    ``wall`` is a frame covered with what it is made of."""
    size = image.shape[0]
    width = max(1, round(WALL_WIDTH * cell))
    across = min(max(edge - width // 2, 0), size - width)
    along = slice(max(begin - width // 2, 0), min(end - width // 2 + width, size))
    place = (along, slice(across, across + width)) if vertical else (slice(across, across + width), along)
    image[place] = wall[place]


def blend(image: np.ndarray, corner: tuple[int, int], coverage: np.ndarray, colour: Colour) -> None:
    """Paint a square at ``corner`` (y, x) with a colour where ``coverage`` ``[side, side, 1]`` says, in place."""
    side = coverage.shape[0]
    window = image[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    window[:] = np.rint(window + coverage * (np.array(colour, np.float64) - window)).astype(np.uint8)


@lru_cache(maxsize=32)
def _centred(cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (x, y) of a cell's pixel centres from the cell's centre, in pixels."""
    along = np.arange(cell) + 0.5 - cell / 2
    return np.broadcast_to(along, (cell, cell)), np.broadcast_to(along[:, None], (cell, cell))


def rounded_square(cell: int, half: float, corner: float) -> np.ndarray:
    """Coverage ``[cell, cell, 1]`` of a square with half side ``half`` and corner radius ``corner`` pixels."""
    x, y = (np.abs(axis) - (half - corner) for axis in _centred(cell))
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0)
    return np.clip(corner + 0.5 - outside, 0, 1)[..., None]


@lru_cache(maxsize=32)
def _goal_coverage(cell: int) -> np.ndarray:
    return rounded_square(cell, round(GOAL_SIDE * cell / 2), GOAL_SIDE * cell / 16)


@lru_cache(maxsize=32)
def _tile_coverage(cell: int) -> np.ndarray:
    return rounded_square(cell, round(0.42 * cell), 0.12 * cell)


@lru_cache(maxsize=32)
def _cross_coverage(cell: int) -> np.ndarray:
    x, y = _centred(cell)
    diagonal = np.minimum(np.abs(x - y), np.abs(x + y)) / np.sqrt(2)
    arm = np.clip(0.06 * cell + 0.5 - diagonal, 0, 1)
    reach = np.clip(0.22 * cell + 0.5 - np.maximum(np.abs(x), np.abs(y)), 0, 1)
    return (arm * reach)[..., None]
