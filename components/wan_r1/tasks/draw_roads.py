"""Drawing of levels made of roads: the background once, at a multiple of the frame's size, then reduced by area."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.irregular_level import ROAD_WIDTH, IrregularLevel
from wan_r1.tasks.render import GOAL_SIDE, cell_pixels, surface
from wan_r1.tasks.roads import Regions, RoadGraph
from wan_r1.tasks.textures import Texture

KERB_WIDTH = 0.1
"""Width of the line on each side of a road, in cells."""
_FINE = 1536
"""Drawn at the multiple of the frame's size nearest to this many pixels, from twice to eight times."""
_FRACTION = 4
"""Bits of a pixel's fraction in OpenCV's coordinates."""


def fineness(size: int) -> int:
    """How many times larger than the frame a background is drawn."""
    return min(max(_FINE // size, 2), 8)


def draw_irregular(level: IrregularLevel, texture: Texture, size: int) -> NDArray[np.uint8]:
    """A level of curved roads without its player, RGB ``[H, W, 3]``.

    Raises:
        ConfigError: if the size does not suit the level's canvas.
    """
    cell = cell_pixels(size, level.canvas)
    image = surface(texture.outside, texture.outside_material, size, cell).astype(np.float32)
    wall = surface(texture.wall, texture.wall_material, size, cell)
    floor = surface(texture.floor, texture.floor_material, size, cell)
    for width, made_of in ((ROAD_WIDTH + 2 * KERB_WIDTH, wall), (ROAD_WIDTH, floor)):
        cover = _road_cover(level.graph, cell, width, size)
        image += cover[..., None] * (made_of - image)
    x, y = level.center(level.goal)
    cover = square_cover((x * size, y * size), cell, size)
    image += cover[..., None] * (np.array(texture.goal, np.float32) - image)
    return np.rint(image).astype(np.uint8)


def _road_cover(graph: RoadGraph, cell: float, width: float, size: int) -> NDArray[np.float32]:
    """Share of each pixel that roads ``width`` cells wide cover, ``[H, W]``."""
    fine = fineness(size)
    mask = np.zeros((size * fine, size * fine), np.uint8)
    _draw_lines(mask, graph, cell * fine, width, [255] * len(graph.roads))
    cover = cv2.resize(mask, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cover, np.float32) / np.float32(255)


def _draw_lines(image: np.ndarray, graph: RoadGraph, cell: float, width: float, values: list[int]) -> None:
    """Each road as a line ``width`` cells wide with round ends, of the value given for it."""
    for line, value in zip(graph.lines, values, strict=True):
        corners = np.rint((line * cell - 0.5) * 2**_FRACTION).astype(np.int32)
        cv2.polylines(image, [corners], False, value, max(1, round(width * cell)), cv2.LINE_8, _FRACTION)


def square_cover(centre: tuple[float, float], cell: float, size: int) -> NDArray[np.float32]:
    """Share of each pixel that the goal's rounded square covers, ``[H, W]``; its centre (x, y) in pixels."""
    half, corner = GOAL_SIDE * cell / 2, GOAL_SIDE * cell / 8
    pixels = np.arange(size, dtype=np.float32) + 0.5
    x = np.abs(pixels - centre[0])[None] - (half - corner)
    y = np.abs(pixels - centre[1])[:, None] - (half - corner)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0)
    return np.clip(corner + 0.5 - outside, 0, 1).astype(np.float32)


def irregular_regions(level: IrregularLevel, size: int) -> Regions:
    """What each pixel of a level of curved roads shows; the kerbs and what is beside them are nothing."""
    cell, graph = size / level.canvas, level.graph
    labels = np.zeros((size, size), np.int32)
    near = ROAD_WIDTH + 4 * KERB_WIDTH
    _draw_lines(labels, graph, cell, near, [-1] * len(graph.roads))
    _draw_lines(labels, graph, cell, ROAD_WIDTH - KERB_WIDTH, list(range(2, 2 + len(graph.roads))))
    x, y = level.center(level.goal)
    labels[square_cover((x * size, y * size), cell, size) > 0.9] = 1
    kinds = ("outside_changed", "goal_changed", *("floor_changed" for _ in graph.roads))
    return Regions(labels=labels, kinds=kinds)
