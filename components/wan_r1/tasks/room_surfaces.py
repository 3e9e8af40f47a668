"""What a room is made of: its boxes, and one picture (an atlas) of all their faces, painted and lit.

Everything that does not depend on the camera is painted here once a level: materials, fronts of furniture, windows, the
light on each side, and the soft shadows where things meet the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.furniture import COLOURS, KINDS
from wan_r1.tasks.navigation_level import ROOM_HEIGHT, Furniture, NavigationLevel
from wan_r1.tasks.patterns import pattern_tile
from wan_r1.tasks.room_paints import paint_part
from wan_r1.tasks.textures import Colour, Material, Texture

SOUTH, EAST, NORTH, WEST, TOP, BOTTOM = range(6)
"""Faces of a box by where they look."""

LIGHT = (0.84, 0.76, 0.9, 0.8, 1.0, 0.6)
"""Share of the light on each face: no two sides of a corner look alike."""
_TILE = 0.5
"""Metres after which a material repeats."""
_SKIRTING = 0.09
"""Height in metres of the board along the foot of a wall."""
_PAINTED = 52
"""Pixels a metre, at least, at which faces are painted before they are reduced, so that a line looks as wide in every
picture."""
_BORDER = 2
"""Pixels around each face in the atlas, so that no face bleeds into another."""


@dataclass(frozen=True, kw_only=True)
class RoomScene:
    """A furnished room to look at.

    Attributes:
        size: the floor's (east-west, north-south) in metres.
        boxes: float32 ``[N, 6]``, (x0, y0, z0, x1, y1, z1) in metres.
        owners: for each box the number of its furniture, -1 for a wall.
        corners: float32 ``[N + 1, 6, 2]``, pixel (x, y) of the atlas where each face begins; the last is the room
            itself, whose faces are seen from inside: its `BOTTOM` is the floor.
        scale: pixels of the atlas in a metre.
        atlas: RGB ``[H, W, 3]``.
    """

    size: tuple[float, float]
    boxes: NDArray[np.float32]
    owners: NDArray[np.int16]
    corners: NDArray[np.float32]
    scale: float
    atlas: NDArray[np.uint8]


@lru_cache(maxsize=16)
def room_scene(level: NavigationLevel, texture: Texture, scale: int) -> RoomScene:
    """A level's room in a texture, its atlas at ``scale`` pixels a metre."""
    finer = -(-_PAINTED // scale)
    painted = _painted(level, texture, scale * finer)
    faces = painted if finer == 1 else [[_reduced(face, finer) for face in six] for six in painted]
    atlas, corners = _pack(faces)
    return replace(bare_scene(level), corners=corners, scale=float(scale), atlas=atlas)


def _solid(level: NavigationLevel) -> list[tuple[tuple[float, ...], int]]:
    """All boxes with their owners."""
    found: list[tuple[tuple[float, ...], int]] = []
    for x0, y0, x1, y1 in level.walls:
        found.append(((x0 / 100, y0 / 100, 0.0, x1 / 100, y1 / 100, ROOM_HEIGHT), -1))
    for number, piece in enumerate(level.furniture):
        found += [(box, number) for box, _ in placed_parts(piece)]
    return found


def _reduced(face: NDArray[np.float32], finer: int) -> NDArray[np.float32]:
    """A face at a coarser scale, each pixel the mean of what it covers."""
    height, width, _ = face.shape
    whole = cv2.copyMakeBorder(face, 0, -height % finer, 0, -width % finer, cv2.BORDER_REPLICATE)
    size = whole.shape[1] // finer, whole.shape[0] // finer
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)


def _painted(level: NavigationLevel, texture: Texture, scale: int) -> list[list[NDArray[np.float32]]]:
    """The six faces of each box, and of the room itself, at a scale."""
    faces: list[list[NDArray[np.float32]]] = []
    for wall in level.walls:
        x0, y0, x1, y1 = (value / 100 for value in wall)
        faces.append(_inner_wall(texture, x1 - x0, y1 - y0, scale))
    for piece in level.furniture:
        faces += [_part_faces(box, paint, piece, scale) for box, paint in placed_parts(piece)]
    return [*faces, _shell(level, texture, scale)]


def placed_parts(piece: Furniture) -> list[tuple[tuple[float, ...], str]]:
    """The boxes of a piece where they stand, in metres, with their paints."""
    found = []
    for x0, y0, z0, x1, y1, z1, paint in KINDS[piece.kind].parts(piece.width, piece.depth, piece.height):
        w, d = piece.width, piece.depth
        # From the piece's own axes, its front looking south, by quarter turns anticlockwise.
        a, b, c, e = {
            0: (x0, y0, x1, y1),
            1: (d - y1, x0, d - y0, x1),
            2: (w - x1, d - y1, w - x0, d - y0),
            3: (y0, w - x1, y1, w - x0),
        }[piece.turn]
        box = (piece.x + a, piece.y + b, z0, piece.x + c, piece.y + e, z1)
        found.append((tuple(value / 100 for value in box), paint))
    return found


def material(
    colour: Colour, made_of: Material | None, width: int, height: int, scale: float, tile: float = _TILE
) -> NDArray[np.float32]:
    """A surface of ``width x height`` pixels, float32 ``[height, width, 3]``."""
    surface = np.empty((height, width, 3), np.float32)
    surface[:] = colour
    if made_of is not None:
        side = max(4, round(tile * scale))
        share = pattern_tile(made_of.pattern, side).astype(np.float32)
        share = np.tile(share, (-(-height // side), -(-width // side)))[:height, :width, None]
        surface += share * np.subtract(made_of.grain, colour).astype(np.float32)
    return surface


def _pixels(metres: float, scale: float) -> int:
    return max(1, round(metres * scale))


def _part_faces(box: tuple[float, ...], paint: str, piece: Furniture, scale: float) -> list[NDArray[np.float32]]:
    x0, y0, z0, x1, y1, z1 = box
    sides = {SOUTH: x1 - x0, EAST: y1 - y0, NORTH: x1 - x0, WEST: y1 - y0}
    colour = COLOURS[piece.colour]
    found = []
    for face in range(6):
        if face in sides:
            width, height = _pixels(sides[face], scale), _pixels(z1 - z0, scale)
            # Sides are numbered in the order in which a piece turns: the one at its turn is its front.
            image = paint_part(paint, colour, width, height, scale, "front" if face == piece.turn else "side")
            if z0 < 0.05:
                image *= _foot(height, scale)[:, None, None]
        else:
            width, height = _pixels(x1 - x0, scale), _pixels(y1 - y0, scale)
            image = paint_part(paint, colour, width, height, scale, "top")
        found.append(image * np.float32(LIGHT[face]))
    return found


def _foot(height: int, scale: float) -> NDArray[np.float32]:
    """Light from the top to the foot of a face that stands on the floor."""
    up = (height - 0.5 - np.arange(height)) / scale
    return (1 - 0.22 * np.exp(-up / 0.15)).astype(np.float32)


def _wall(texture: Texture, colour: Colour, made_of: Material | None, metres: float, scale: float) -> NDArray:
    width, height = _pixels(metres, scale), _pixels(ROOM_HEIGHT, scale)
    image = material(colour, made_of, width, height, scale)
    return image * _foot(height, scale)[:, None, None]


def _add_skirting(image: NDArray[np.float32], colour: Colour, scale: float) -> None:
    image[-_pixels(_SKIRTING, scale) :] = np.array(colour, np.float32)


def _inner_wall(texture: Texture, across: float, along: float, scale: float) -> list[NDArray[np.float32]]:
    found = []
    for face, metres in enumerate((across, along, across, along)):
        image = _wall(texture, texture.wall, texture.wall_material, metres, scale)
        found.append(image * np.float32(LIGHT[face]))
    flat = np.full((_pixels(along, scale), _pixels(across, scale), 3), texture.wall, np.float32)
    return [*found, flat, flat]


def _shell(level: NavigationLevel, texture: Texture, scale: float) -> list[NDArray[np.float32]]:
    """The room's own faces: its walls, its ceiling (`TOP`) and its floor (`BOTTOM`)."""
    width, depth = level.size
    dice = np.random.default_rng(int(level.layout_id, 16))
    found = []
    for face, metres in enumerate((width, depth, width, depth)):
        image = _wall(texture, texture.outside, texture.outside_material, metres, scale)
        _add_windows(image, metres, scale, dice)
        _add_skirting(image, texture.wall, scale)
        found.append(image * np.float32(LIGHT[(face + 2) % 4]))
    shape = _pixels(depth, scale), _pixels(width, scale)
    pale = 0.35 * np.array(texture.outside, np.float32) + 0.65 * 255
    ceiling = np.empty((*shape, 3), np.float32)
    ceiling[:] = pale
    for axis, metres in ((0, depth), (1, width)):
        for line in range(1, int(metres)):
            at = round(line * scale)
            ceiling[(slice(at, at + 1), slice(None)) if axis == 0 else (slice(None), slice(at, at + 1))] *= 0.93
    return [*found, ceiling * np.float32(0.95), _floor(level, texture, scale)]


def _add_windows(image: NDArray[np.float32], metres: float, scale: float, dice: np.random.Generator) -> None:
    """Windows and pictures on a wall, at places of its own: without them, walls would look the same everywhere."""
    at = 0.5 + float(dice.random())
    while at + 1.2 < metres - 0.3:
        window = bool(dice.random() < 0.45)
        wide, high, foot = (1.1, 1.1, 1.0) if window else (0.45 + 0.3 * float(dice.random()), 0.5, 1.45)
        colour = np.array([196, 226, 246] if window else 90 + 120 * dice.random(3), np.float32)
        left, right = round(at * scale), round((at + wide) * scale)
        top, low = (round((ROOM_HEIGHT - foot - up) * scale) for up in (high, 0.0))
        frame = max(1, round(0.06 * scale))
        image[top:low, left:right] = (236, 236, 232) if window else (70, 54, 42)
        inside = image[top + frame : low - frame, left + frame : right - frame]
        inside[:] = colour
        if window:
            inside *= np.linspace(1.04, 0.9, inside.shape[0], dtype=np.float32)[:, None, None]
            image[top:low, (left + right) // 2 - frame // 2 : (left + right) // 2 + (frame + 1) // 2] = (236, 236, 232)
        elif inside.size:
            inside[inside.shape[0] // 2 :] = 0.6 * colour
        at += wide + 0.8 + 1.6 * float(dice.random())


def _floor(level: NavigationLevel, texture: Texture, scale: float) -> NDArray[np.float32]:
    width, depth = level.size
    shape = _pixels(depth, scale), _pixels(width, scale)
    image = material(texture.floor, texture.floor_material, shape[1], shape[0], scale)
    if texture.floor_material is None:
        rows, columns = ((np.arange(count) / scale // _TILE).astype(int) for count in shape)
        odd = np.add.outer(rows, columns) % 2 == 1
        image[odd] += np.subtract(texture.odd_floor, texture.floor).astype(np.float32)
    # Soft shadows: the nearer to a wall or to furniture, the darker.
    open_floor = np.zeros((shape[0] + 2, shape[1] + 2), np.uint8)
    open_floor[1:-1, 1:-1] = 1
    for x0, y0, x1, y1 in level.obstacles:
        a, b, c, d = (round(value * scale) + 1 for value in (x0, y0, x1, y1))
        open_floor[b:d, a:c] = 0
    away = cv2.distanceTransform(open_floor, cv2.DIST_L2, 5)[1:-1, 1:-1] / np.float32(scale)
    return image * (1 - np.float32(0.4) * np.exp(-away / np.float32(0.12)))[..., None]


def _pack(faces: list[list[NDArray[np.float32]]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """All faces on shelves of one picture, and where each begins."""
    corners = np.zeros((len(faces), 6, 2), np.float32)
    entries = [(face.shape[0], face.shape[1], n, k) for n, six in enumerate(faces) for k, face in enumerate(six)]
    entries.sort(key=lambda one: (-one[0], one[2], one[3]))
    wide = max(max(width for _, width, _, _ in entries) + 2 * _BORDER, 512)
    x = y = shelf = 0
    for height, width, n, k in entries:
        if x + width + 2 * _BORDER > wide:
            x, y, shelf = 0, y + shelf, 0
        shelf = max(shelf, height + 2 * _BORDER)
        corners[n, k] = x + _BORDER, y + _BORDER
        x += width + 2 * _BORDER
    atlas = np.zeros((y + shelf, wide, 3), np.uint8)
    for n, six in enumerate(faces):
        for k, face in enumerate(six):
            left, top = (int(value) - _BORDER for value in corners[n, k])
            painted = np.rint(face).clip(0, 255).astype(np.uint8)
            tile = cv2.copyMakeBorder(painted, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
            atlas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return atlas, corners


def bare_scene(level: NavigationLevel) -> RoomScene:
    """A level's room without its looks, for what can be seen from where."""
    solid = _solid(level)
    boxes = np.array([box for box, _ in solid], np.float32).reshape(-1, 6)
    return RoomScene(
        size=level.size,
        boxes=boxes,
        owners=np.array([owner for _, owner in solid], np.int16),
        corners=np.zeros((len(boxes) + 1, 6, 2), np.float32),
        scale=1.0,
        atlas=np.zeros((1, 1, 3), np.uint8),
    )
