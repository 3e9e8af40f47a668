"""Drawing of Sokoban levels: wall blocks, targets, crates and the player; sizes as in `wan_r1.tasks.render`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.render import (
    blend,
    cell_pixels,
    draw_line,
    draw_player,
    hold_last,
    moving_frames,
    rounded_square,
    surface,
)
from wan_r1.tasks.sokoban import SokobanLevel, push_along
from wan_r1.tasks.textures import Texture

BOX_SIDE = 0.7
"""Side of a box, in cells: a player that pushes it, a cell away, keeps clear of it."""
TARGET_SIDE = 0.9
"""Side of a target, in cells: a rim shows around a box that rests on it."""
_FRAME = 0.1
"""Width of a box's frame, in cells."""


def draw_sokoban(
    level: SokobanLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
) -> NDArray[np.uint8]:
    """Frames with the player at ``positions`` and the boxes where it has pushed them.

    Args:
        level: what to draw.
        texture: its colours and materials.
        positions: ``[F, 2]`` player centres (x, y) as fractions of the frame; ``None``: one frame of the start without
            the player.
        size: height and width in pixels, a multiple of the level's canvas.

    Returns:
        RGB frames, ``[F, H, W, 3]``; without positions ``[1, H, W, 3]``.
    """
    background = draw_store(level, texture, size)
    if positions is None:
        boxes = push_along(level, np.array([level.center(level.player)]))
        return draw_boxes(background[None].copy(), boxes, texture, size // level.canvas)
    video = draw_player(background, positions, texture.player, cell_pixels(size, level.canvas))
    moving = moving_frames(positions)
    draw_boxes(video[:moving], push_along(level, positions[:moving]), texture, size // level.canvas)
    return hold_last(video, moving)


def draw_store(level: SokobanLevel, texture: Texture, size: int) -> NDArray[np.uint8]:
    """A level without its player and boxes, ``[H, W, 3]``."""
    cell = cell_pixels(size, level.canvas)
    top, left = level.offset[0] * cell, level.offset[1] * cell
    bottom, right = top + level.rows * cell, left + level.columns * cell
    image = surface(texture.outside, texture.outside_material, size, cell).copy()
    image[top:bottom, left:right] = surface(texture.floor, texture.floor_material, size, cell)[top:bottom, left:right]
    for row, column in level.targets:
        blend(image, (top + row * cell, left + column * cell), _target(cell), texture.goal)
    wall = surface(texture.wall, texture.wall_material, size, cell)
    for row, column in level.blocked:
        y, x = top + row * cell, left + column * cell
        image[y : y + cell, x : x + cell] = wall[y : y + cell, x : x + cell]
    for edge in (top, bottom):
        draw_line(image, edge, left, right, cell, wall, vertical=False)
    for edge in (left, right):
        draw_line(image, edge, top, bottom, cell, wall, vertical=True)
    return image


def draw_boxes(video: NDArray[np.uint8], boxes: NDArray[np.floating], texture: Texture, cell: int) -> NDArray[np.uint8]:
    """Boxes over each frame, in place.

    Args:
        video: ``[F, H, W, 3]``.
        boxes: centres (x, y) as fractions of the frame, ``[F, boxes, 2]``.
        texture: its colours.
        cell: pixels a cell.

    Returns:
        The same video.
    """
    _, height, width, _ = video.shape
    side = min(int(np.ceil(BOX_SIDE * cell)) + 3, height, width)
    body, mark = np.array(texture.box, np.float64), np.array(texture.box_mark, np.float64)
    for centre in np.moveaxis(boxes, 1, 0):
        x, y = centre[:, 0] * width, centre[:, 1] * height
        first_x = np.clip(np.floor(x - side / 2).astype(int), 0, width - side)
        first_y = np.clip(np.floor(y - side / 2).astype(int), 0, height - side)
        # A box mostly rests, and where it is pushed it takes the same few places within a pixel.
        within, same = np.unique(np.stack([x - first_x, y - first_y], axis=1), axis=0, return_inverse=True)
        pixels = np.arange(side) + 0.5
        box, cross = _box_coverage(
            (pixels - within[:, :1])[:, None, :] / cell, (pixels - within[:, 1:])[:, :, None] / cell, cell
        )
        colour = body + cross[..., None] * (mark - body)
        for frame, (row, column, k) in enumerate(zip(first_y.tolist(), first_x.tolist(), same.tolist(), strict=True)):
            window = video[frame, row : row + side, column : column + side]
            window[:] = np.rint(window + box[k, ..., None] * (colour[k] - window))
    return video


def _box_coverage(across: np.ndarray, down: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """How much of each pixel a box covers, and how much of that is its frame and cross.

    Args:
        across: offset of the pixels from the box's centre in cells, ``[F, 1, S]``.
        down: likewise, ``[F, S, 1]``.
        cell: pixels a cell.
    """
    x, y = np.abs(across), np.abs(down)
    half, inner = BOX_SIDE / 2, BOX_SIDE / 2 - _FRAME

    def inside(edge: float) -> np.ndarray:
        return np.clip((edge - x) * cell + 0.5, 0, 1) * np.clip((edge - y) * cell + 0.5, 0, 1)

    box, middle = inside(half), inside(inner)
    cross = np.clip((0.045 - np.abs(x - y) / np.sqrt(2)) * cell + 0.5, 0, 1)
    return box, 1 - middle * (1 - 0.75 * cross)


@lru_cache(maxsize=32)
def _target(cell: int) -> np.ndarray:
    return rounded_square(cell, TARGET_SIDE * cell / 2, 0.1 * cell)
