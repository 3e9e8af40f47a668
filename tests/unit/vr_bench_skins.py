"""Skins of VR-Bench's games on a grid: RGBA tiles by role, as varied as those that the benchmark ships.

1 is flat and light; 2 has patterned floors and walls, and a player of two colours; 3 is dark, with an opaque goal tile;
4 has a player that fills its tile, on grass between bricks; 5 is all photograph: grain everywhere, soft outlines. A
further one for Sokoban is dark with a bright player that fills its tile.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

SKINS = ("1", "2", "3", "4", "5")
BRIGHT_AND_LARGE = "6"
CELL = {"maze": 30, "trapfield": 64, "sokoban": 64}
"""Pixels a cell."""
Colour = tuple[int, int, int]
Tiles = dict[str, np.ndarray]


def sprites(game: str, skin: str) -> Tiles:
    """Tiles ``[cell, cell, 4]`` uint8: ``player``, ``goal`` (Sokoban's target), ``floor``, ``blocked`` (wall or trap),
    and in Sokoban ``box``."""
    found = _MAKERS[skin](CELL[game], game)
    roles = ("player", "goal", "floor", "blocked", *(("box",) if game == "sokoban" else ()))
    return {role: found[role] for role in roles}


def paste(image: np.ndarray, tile: np.ndarray, top: int, left: int) -> None:
    """A tile on a picture ``[H, W, 3]``, in place."""
    part = image[top : top + len(tile), left : left + len(tile)]
    alpha = tile[..., 3:] / 255
    part[:] = np.rint(part * (1 - alpha) + tile[..., :3] * alpha).astype(np.uint8)


def _plane(cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of a tile's pixels from its middle, as shares of its side."""
    rows, columns = np.mgrid[:cell, :cell] + 0.5 - cell / 2
    return columns / cell, rows / cell


def _tile(cell: int, colour: Colour, shape: np.ndarray | None = None) -> np.ndarray:
    tile = np.zeros((cell, cell, 4), np.uint8)
    tile[..., :3] = colour
    tile[..., 3] = 255 if shape is None else np.rint(255 * shape.astype(float))
    return tile


def _grained(tile: np.ndarray, strength: int, block: int, seed: int) -> np.ndarray:
    """The tile with a pattern of blocks that are lighter and darker by up to ``strength`` levels."""
    cell = len(tile)
    number = cell // block + 1
    grain = np.random.default_rng(seed).integers(-strength, strength + 1, (number, number, 1))
    tile[..., :3] = np.clip(tile[..., :3] + grain.repeat(block, 0).repeat(block, 1)[:cell, :cell], 0, 255)
    return tile


def _photographed(tile: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """The tile with smooth noise of its own in every channel, as in a picture of stone or wood."""
    noise = np.random.default_rng(seed).normal(0, 1, (*tile.shape[:2], 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), len(tile) / 20) + 0.3 * cv2.GaussianBlur(noise, (0, 0), 1)
    tile[..., :3] = np.clip(tile[..., :3] + strength * smooth / smooth.std(), 0, 255)
    return tile


def _ring(tile: np.ndarray, colour: Colour, away: np.ndarray, width: float) -> np.ndarray:
    tile[np.abs(away) < width / 2, :3] = colour
    return tile


def _flat(cell: int, game: str) -> Tiles:
    x, y = _plane(cell)
    disc, side = np.hypot(x, y) < 0.36, np.maximum(np.abs(x), np.abs(y))
    cross = (np.abs(np.abs(x) - np.abs(y)) < 0.1) & (side < 0.36)
    if game == "maze":
        return {
            "player": _tile(cell, (220, 40, 40), disc),
            "goal": _tile(cell, (50, 180, 60)),
            "floor": _tile(cell, (255, 255, 255)),
            "blocked": _tile(cell, (150, 200, 235)),
        }
    if game == "trapfield":
        return {
            "player": _tile(cell, (40, 80, 220), disc),
            "goal": _tile(cell, (60, 190, 90), disc),
            "floor": _tile(cell, (225, 225, 225)),
            "blocked": _tile(cell, (215, 50, 50), cross),
        }
    return {
        "player": _tile(cell, (40, 80, 220), disc),
        "box": _tile(cell, (240, 200, 40), side < 0.34),
        "goal": _tile(cell, (250, 150, 190)),
        "floor": _tile(cell, (250, 250, 250)),
        "blocked": _tile(cell, (120, 120, 125)),
    }


def _patterned(cell: int, game: str) -> Tiles:
    x, y = _plane(cell)
    found = _flat(cell, game)
    for number, role in enumerate(("floor", "blocked")):
        found[role] = _grained(found[role], 14, 5, 7 + number)
    found["player"] = _tile(cell, (30, 30, 40), np.hypot(x, y) < 0.42)
    found["player"][np.hypot(x, y - 0.1) < 0.2, :3] = (250, 210, 60)
    if game == "sokoban":
        found["box"][np.abs(np.abs(x) - np.abs(y)) < 0.05, :3] = (150, 100, 20)
    return found


def _dark(cell: int, game: str) -> Tiles:
    x, y = _plane(cell)
    away, side = np.hypot(x, y), np.maximum(np.abs(x), np.abs(y))
    spikes = (np.abs(y) < 0.4) & (np.abs((4 * x) % 1 - 0.5) < (y + 0.45) / 2)
    robot = (side < 0.38) & ~((np.abs(x) > 0.24) & (y < -0.2))
    player = _tile(cell, (235, 235, 245), robot)
    player[(np.abs(np.abs(x) - 0.14) < 0.07) & (np.abs(y + 0.02) < 0.07), :3] = (20, 160, 240)
    box = _tile(cell, (120, 70, 35), side < 0.42)
    box[(side > 0.34) & (side < 0.42), :3] = (200, 140, 80)
    return {
        "player": player,
        "box": box,
        "goal": _ring(_tile(cell, (60, 20, 80)), (190, 90, 230), away - 0.3, 0.12),
        "floor": _grained(_tile(cell, (28, 30, 38)), 8, 4, 3),
        "blocked": (
            _tile(cell, (210, 70, 40), spikes)
            if game == "trapfield"
            else _grained(_tile(cell, (92, 96, 110)), 16, 6, 4)
        ),
    }


def _filling(cell: int, game: str) -> Tiles:
    x, y = _plane(cell)
    away, side = np.hypot(x, y), np.maximum(np.abs(x), np.abs(y))
    bricks = _tile(cell, (165, 75, 55))
    rows = np.floor((y + 0.5) * 4)
    joints = (np.abs((y + 0.5) * 4 - np.round((y + 0.5) * 4)) < 0.12) | (np.abs((2 * x + rows / 2) % 1 - 0.5) < 0.06)
    bricks[joints, :3] = (205, 200, 190)
    pit = _tile(cell, (45, 30, 20), away < 0.46)
    player = _ring(_tile(cell, (50, 90, 200)), (240, 240, 250), side - 0.44, 0.1)
    player[away < 0.2, :3] = (250, 190, 40)
    crate = _ring(_tile(cell, (190, 140, 80)), (110, 70, 30), side - 0.45, 0.08)
    crate[np.abs(x - y) < 0.06, :3] = (110, 70, 30)
    flag = _tile(cell, (235, 225, 170))
    flag[(np.abs(x) < 0.3) & (y < 0) & (y > -0.35), :3] = (220, 40, 50)
    flag[(np.abs(x + 0.3) < 0.04) & (np.abs(y) < 0.4), :3] = (60, 50, 40)
    return {
        "player": player,
        "box": crate,
        "goal": flag,
        "floor": _grained(_grained(_tile(cell, (96, 160, 70)), 10, 2, 5), 12, 8, 6),
        "blocked": pit if game == "trapfield" else bricks,
    }


def _photograph(cell: int, game: str) -> Tiles:
    x, y = _plane(cell)
    away = np.hypot(x, y)
    outline = np.clip((0.4 + 0.05 * np.cos(5 * np.arctan2(y, x)) - away) * 12, 0, 1)
    cat = _photographed(_tile(cell, (225, 130, 50), outline), 12, 21)
    cat[(np.abs(np.abs(x) - 0.13) < 0.05) & (np.abs(y + 0.08) < 0.06), :3] = (30, 60, 30)
    cat[(np.hypot(x, y - 0.14) < 0.12), :3] = (250, 240, 225)
    side = np.maximum(np.abs(x), np.abs(y))
    cushion = _photographed(_tile(cell, (70, 120, 190)), 10, 22)
    box = _photographed(_tile(cell, (80, 60, 130), np.clip((0.44 - side) * 16, 0, 1)), 10, 23)
    box[np.abs(y) < 0.06, :3] = (230, 200, 90)
    hedge = _photographed(_tile(cell, (45, 85, 45)), 16, 24)
    puddle = _photographed(_tile(cell, (60, 40, 90), np.clip((0.4 - away) * 10, 0, 1)), 8, 25)
    return {
        "player": cat,
        "box": box,
        "goal": cushion,
        "floor": _photographed(_tile(cell, (190, 175, 150)), 9, 26),
        "blocked": puddle if game == "trapfield" else hedge,
    }


def _bright_and_large(cell: int, game: str) -> Tiles:
    found = _dark(cell, game)
    found["player"][..., 3] = 255
    found["player"][found["player"][..., :3].sum(-1) == 0, :3] = (235, 235, 245)
    return found


_MAKERS: dict[str, Callable[[int, str], Tiles]] = dict(
    zip(
        (*SKINS, BRIGHT_AND_LARGE),
        (_flat, _patterned, _dark, _filling, _photograph, _bright_and_large),
        strict=True,
    )
)
