"""Procedural materials: how much of a second colour each pixel of a surface has, as one tile that fits every cell.

A pattern is a function of the place within a cell, the same in every cell, so that what the player covers in the first
frame is known from the other cells. Tiles are computed at 256 samples a cell or more and averaged, so that a pattern
looks the same from 8 px a cell on; only sums, products and whole-number hashes are used, so that the same tile gives
the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SAMPLES = 256
"""Least samples a cell in each direction."""

Grid = NDArray[np.float64]


def _hash(x: NDArray[np.int64], y: NDArray[np.int64], seed: int) -> Grid:
    """A number in [0, 1) for each lattice point."""
    value = (x * 0x1F1F1F1F + y * 0x2C1B3C6D + seed * 0x297A2D39) & 0x7FFFFFFF
    value = ((value ^ (value >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
    value = ((value ^ (value >> 12)) * 0x297A2D39) & 0x7FFFFFFF
    return ((value ^ (value >> 15)) & 0xFFFF) / 0x10000


def _noise(u: Grid, v: Grid, across: int, down: int, seed: int) -> Grid:
    """Smooth noise in [0, 1] on a lattice of ``across x down`` points a cell that wraps around."""
    x, y = u * across, v * down
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    share_x, share_y = x - column, y - row
    share_x, share_y = (share * share * (3 - 2 * share) for share in (share_x, share_y))
    corners = [[_hash((column + right) % across, (row + lower) % down, seed) for right in (0, 1)] for lower in (0, 1)]
    upper, lower = (one * (1 - share_x) + other * share_x for one, other in corners)
    return upper * (1 - share_y) + lower * share_y


def _speckle(u: Grid, v: Grid) -> Grid:
    return 0.6 * _noise(u, v, 6, 6, 1) + 0.4 * _noise(u, v, 16, 16, 2)


def _stripes(u: Grid, v: Grid) -> Grid:
    return ((u + v) * 3 % 1 < 0.5).astype(np.float64)


def _brick(u: Grid, v: Grid) -> Grid:
    """Four courses a cell, each other one shifted by half a brick; the second colour is mortar.

    No joint lies on a cell's edge, where a thin wall would be all joint.
    """
    u, v = u + 0.125, v + 0.125
    course = np.floor(v * 4).astype(np.int64)
    brick = u * 2 + 0.5 * (course % 2)
    mortar = (v * 4 % 1 < 0.14) | (brick % 1 < 0.07)
    shade = 0.3 * _hash(np.floor(brick).astype(np.int64) % 2, course % 4, 3)
    return np.where(mortar, 1.0, shade)


def _planks(u: Grid, v: Grid) -> Grid:
    """Two boards a cell with grain along them and a dark joint between them."""
    board = np.floor(v * 2)
    grain = 0.5 * _noise(u, v, 2, 18, 4) + 0.3 * _noise(u, v, 4, 40, 5) + 0.15 * (board % 2)
    return np.where(v * 2 % 1 < 0.06, 1.0, grain)


def _grass(u: Grid, v: Grid) -> Grid:
    blades = _noise(u + 0.04 * np.where(v % 0.25 < 0.125, 1, -1), v, 22, 5, 6)
    return 0.7 * blades + 0.3 * _noise(u, v, 4, 4, 7)


def _marble(u: Grid, v: Grid) -> Grid:
    """Soft clouds with thin veins where two noises are equal."""
    one, other = _noise(u, v, 3, 3, 8), _noise(u, v, 5, 5, 9)
    vein = np.clip(1 - np.abs(one - other) * 9, 0, 1)
    return np.clip(0.35 * one + 0.8 * vein, 0, 1)


def _weave(u: Grid, v: Grid) -> Grid:
    """Threads that go over and under each other."""
    x, y = u * 8, v * 8
    over = (np.floor(x) + np.floor(y)) % 2 == 0
    along = np.where(over, x % 1, y % 1)
    return 1 - 4 * along * (1 - along)


PATTERNS: dict[str, Callable[[Grid, Grid], Grid]] = {
    "speckle": _speckle,
    "stripes": _stripes,
    "brick": _brick,
    "planks": _planks,
    "grass": _grass,
    "marble": _marble,
    "weave": _weave,
}
"""Share of the second colour, 0 to 1, at places (x, y) of a cell, fractions of its side; by name."""


@lru_cache(maxsize=128)
def pattern_tile(name: str, cell: int) -> Grid:
    """Share of the second colour in each pixel of a cell of ``cell`` pixels, ``[cell, cell]``."""
    finer = -(-_SAMPLES // cell)
    along = (np.arange(cell * finer) + 0.5) / (cell * finer)
    u, v = np.meshgrid(along, along)
    samples = PATTERNS[name](u, v)
    return samples.reshape(cell, finer, cell, finer).mean((1, 3))
