"""Paints of furniture: what the faces of a part look like from its colour, with doors, books, cushions and leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.furniture import COLOURS, Colour
from wan_r1.tasks.patterns import pattern_tile

Image = NDArray[np.float32]

_METAL, _WOOD, _LEAF, _LINEN = (206, 206, 202), (122, 84, 52), (46, 122, 54), (246, 246, 242)


def paint_part(paint: str, colour: Colour, width: int, height: int, scale: float, side: str) -> Image:
    """A face of a part.

    Args:
        paint: its name, a key of the table below.
        colour: the furniture's colour.
        width: pixels.
        height: pixels.
        scale: pixels in a metre.
        side: ``front``, ``side`` or ``top``.

    Returns:
        RGB float32 ``[height, width, 3]``, not yet lit.
    """
    image = np.empty((height, width, 3), np.float32)
    image[:] = _GROUNDS[paint](np.array(colour, np.float32))
    if side == "front" and paint in _FRONTS:
        _FRONTS[paint](image, np.array(colour, np.float32), scale)
    elif paint == "leaves":
        _paint_leaves(image, scale)
    return image


def _darker(colour: Image) -> Image:
    return 0.72 * colour


_GROUNDS: dict[str, Callable[[Image], Image]] = {
    "body": lambda colour: colour,
    "doors": lambda colour: colour,
    "books": lambda colour: colour,
    "fridge": lambda colour: colour,
    "door": lambda colour: colour,
    "cushions": lambda colour: colour,
    "dark": _darker,
    "glow": lambda colour: colour + 0.25 * (255 - colour),
    "wood": lambda colour: np.array(_WOOD, np.float32),
    "leaves": lambda colour: np.array(_LEAF, np.float32),
    "linen": lambda colour: np.array(_LINEN, np.float32),
}


def _box(image: Image, x0: float, y0: float, x1: float, y1: float, colour: NDArray | Colour) -> None:
    """A rectangle in shares of the face, at least a pixel wide and high."""
    height, width, _ = image.shape
    left, top = int(x0 * width), int(y0 * height)
    right, low = max(left + 1, round(x1 * width)), max(top + 1, round(y1 * height))
    image[top:low, left:right] = colour


def _frame(image: Image, x0: float, y0: float, x1: float, y1: float, colour: Image, thick: float) -> None:
    """The outline of a rectangle in shares of the face; ``thick`` in metres' pixels."""
    height, width, _ = image.shape
    wide, high = thick / width, thick / height
    for a, b, c, d in (
        (x0, y0, x1, y0 + high),
        (x0, y1 - high, x1, y1),
        (x0, y0, x0 + wide, y1),
        (x1 - wide, y0, x1, y1),
    ):
        _box(image, a, b, c, d, colour)


def _line_on(colour: Image) -> Image:
    """A colour for lines that can be seen on another: darker, or lighter if it is dark itself."""
    return 0.6 * colour if colour.mean() > 70 else colour + 70


def _paint_doors(image: Image, colour: Image, scale: float) -> None:
    line, thick = _line_on(colour), 0.02 * scale
    for left, right in ((0.03, 0.49), (0.51, 0.97)):
        _frame(image, left, 0.04, right, 0.95, line, thick)
    _box(image, 0.495, 0.0, 0.505, 1.0, line)
    for left in (0.42, 0.55):
        _box(image, left, 0.42, left + 0.03, 0.56, _METAL)


def _paint_books(image: Image, colour: Image, scale: float) -> None:
    spines = [np.array(one, np.float32) for one in COLOURS.values()] + [np.array(_WOOD, np.float32)]
    shelves = 5
    for shelf in range(shelves):
        top, low = 0.03 + shelf * 0.95 / shelves, 0.03 + (shelf + 1) * 0.95 / shelves - 0.02
        _box(image, 0.05, top, 0.95, low, 0.25 * colour)
        count = 13
        for book in range(count):
            number = (book * 5 + shelf * 7 + book * book) % len(spines)
            left = 0.06 + book * 0.88 / count
            shorter = 0.02 + 0.03 * ((book * 3 + shelf) % 4) / 3
            _box(image, left, top + shorter, left + 0.8 * 0.88 / count, low, 0.35 * spines[number] + 110)


def _paint_fridge(image: Image, colour: Image, scale: float) -> None:
    line = _line_on(colour)
    _box(image, 0.0, 0.36, 1.0, 0.375, line)
    _frame(image, 0.0, 0.0, 1.0, 1.0, line, 0.012 * scale)
    for top, low in ((0.14, 0.32), (0.42, 0.66)):
        _box(image, 0.1, top, 0.16, low, _METAL if colour.mean() < 200 else (120, 124, 130))


def _paint_door(image: Image, colour: Image, scale: float) -> None:
    line = _line_on(colour)
    _frame(image, 0.0, 0.0, 1.0, 1.06, np.array(_LINEN, np.float32), 0.05 * scale)
    for top, low in ((0.09, 0.45), (0.54, 0.92)):
        _frame(image, 0.2, top, 0.8, low, line, 0.025 * scale)
    _box(image, 0.8, 0.48, 0.88, 0.52, (220, 190, 90))


def _paint_cushions(image: Image, colour: Image, scale: float) -> None:
    line = _line_on(colour)
    _box(image, 0.495, 0.0, 0.505, 0.6, line)
    _box(image, 0.0, 0.58, 1.0, 0.62, line)


def _paint_leaves(image: Image, scale: float) -> None:
    height, width, _ = image.shape
    side = max(4, round(0.3 * scale))
    share = np.tile(pattern_tile("speckle", side), (-(-height // side), -(-width // side)))[:height, :width, None]
    image *= (0.55 + 0.9 * share).astype(np.float32)


_FRONTS: dict[str, Callable[[Image, Image, float], None]] = {
    "doors": _paint_doors,
    "books": _paint_books,
    "fridge": _paint_fridge,
    "door": _paint_door,
    "cushions": _paint_cushions,
}
