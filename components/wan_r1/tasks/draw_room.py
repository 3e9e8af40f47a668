"""First-person pictures of a furnished room: a ray caster for boxes on a floor, many cameras at once.

The camera looks level, so a vertical face has one depth in each column of the picture, and a horizontal one has one
depth in each row. For each box that makes its depths, and the places in the atlas of painted faces, sums and products
of a row and a column; the nearest box wins in each pixel, and one look-up in the atlas colours all pixels at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.navigation_level import ROOM_HEIGHT
from wan_r1.tasks.robot import CAMERA_HEIGHT, FOCAL, HORIZON
from wan_r1.tasks.room_surfaces import BOTTOM, EAST, NORTH, SOUTH, TOP, WEST, RoomScene

_FINE = {32: 4, 48: 4, 64: 4, 96: 3, 128: 3}
"""Rays along each side of a pixel by the largest size of picture for which so many are cast; above, see `rays`."""
_BATCH_RAYS = 2**18
"""Rays cast at a time: more does not fit in a core's cache."""
_TEXELS = 0.4
"""Pixels of the atlas in a metre, for each ray in the focal length: those of the picture at 2.5 m."""
_FAR = np.float32(1e9)
"""Depth of what is not hit."""
_NEAR = np.float32(0.01)


def rays(size: int) -> int:
    """Rays along each side of a pixel in a picture of ``size`` pixels."""
    for largest, fine in _FINE.items():
        if size <= largest:
            return fine
    return 2 if size <= 256 else 1


def texels(size: int) -> int:
    """Pixels of the atlas in a metre for pictures of ``size`` rays a side."""
    return int(np.clip(round(_TEXELS * FOCAL * size), 12, 110))


@dataclass(frozen=True, kw_only=True)
class Lens:
    """Directions of the rays: ``across`` by column and ``down`` by row, for a metre ahead."""

    across: NDArray[np.float32]
    down: NDArray[np.float32]


@lru_cache(maxsize=16)
def lens(size: int) -> Lens:
    """The camera's rays in a picture of ``size`` rays a side."""
    middle = np.arange(size) + 0.5
    return Lens(
        across=((middle / size - 0.5) / FOCAL).astype(np.float32),
        down=((middle / size - HORIZON) / FOCAL).astype(np.float32),
    )


@dataclass(kw_only=True)
class _Buffers:
    """What is known of each ray so far: its depth, its place in the atlas, and who owns what it hits."""

    depth: NDArray[np.float32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    owner: NDArray[np.int16] | None


def draw_room(scene: RoomScene, poses: NDArray[np.floating], size: int, fine: int = 1) -> NDArray[np.uint8]:
    """What cameras see.

    Args:
        scene: the room.
        poses: ``[P, 3]``, x and y in metres, heading in radians.
        size: height and width of a picture in pixels.
        fine: rays along each side of a pixel, averaged.

    Returns:
        RGB ``[P, size, size, 3]``.
    """
    side = size * fine
    chunk = max(1, _BATCH_RAYS // side**2)
    pictures = np.empty((len(poses), size, size, 3), np.uint8)
    for first in range(0, len(poses), chunk):
        some = np.asarray(poses[first : first + chunk], np.float32)
        hit = _cast(scene, some, side, owners=False)
        seen = _colours(scene, hit)
        for number, picture in enumerate(seen.reshape(len(some), side, side, 3), first):
            pictures[number] = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) if fine > 1 else picture
    return pictures


def owners_seen(scene: RoomScene, poses: NDArray[np.floating], side: int) -> NDArray[np.int16]:
    """Number of the furniture that each ray hits, ``[P, side, side]``; -1 is the room."""
    hit = _cast(scene, np.asarray(poses, np.float32), side, owners=True)
    assert hit.owner is not None
    return hit.owner


def depths_seen(scene: RoomScene, poses: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Metres straight ahead to what each ray hits, ``[P, side, side]``."""
    return _cast(scene, np.asarray(poses, np.float32), side, owners=False).depth


def _colours(scene: RoomScene, hit: _Buffers) -> NDArray[np.uint8]:
    count, rows, columns = hit.depth.shape
    flat = (count * rows, columns)
    return np.asarray(
        cv2.remap(scene.atlas, hit.x.reshape(flat), hit.y.reshape(flat), cv2.INTER_LINEAR), np.uint8
    ).reshape(count, rows, columns, 3)


def _cast(scene: RoomScene, poses: NDArray[np.float32], side: int, *, owners: bool) -> _Buffers:
    """Depth and place in the atlas of what each ray hits first."""
    seen = lens(side)
    x, y = poses[:, 0, None], poses[:, 1, None]
    ahead, left = np.cos(poses[:, 2, None]), np.sin(poses[:, 2, None])
    # Direction of a column's rays on the floor for a metre ahead; never exactly along an axis.
    right, up = (
        np.where(np.abs(part) < 1e-6, np.float32(1e-6), part).astype(np.float32)
        for part in (ahead + seen.across * left, left - seen.across * ahead)
    )
    hit = _room(scene, x, y, right, up, seen, owners)
    if len(scene.boxes):
        _boxes(scene, x, y, right, up, seen, hit)
    return hit


def _room(
    scene: RoomScene,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    right: NDArray[np.float32],
    up: NDArray[np.float32],
    seen: Lens,
    owners: bool,
) -> _Buffers:
    """The room itself from inside: where each ray leaves its walls, floor and ceiling."""
    width, depth = scene.size
    scale, corners = np.float32(scene.scale), scene.corners[-1]
    to_x = (np.where(right > 0, np.float32(width), np.float32(0)) - x) / right
    to_y = (np.where(up > 0, np.float32(depth), np.float32(0)) - y) / up
    wall = np.minimum(to_x, to_y)
    face = np.where(to_x < to_y, np.where(right > 0, EAST, WEST), np.where(up > 0, NORTH, SOUTH))
    along = np.where(to_x < to_y, y + wall * up, x + wall * right)
    shape = (len(x), len(seen.down), right.shape[1])
    hit = _Buffers(
        depth=np.broadcast_to(wall[:, None], shape).copy(),
        x=np.broadcast_to((corners[face, 0] + along * scale - np.float32(0.5))[:, None], shape).copy(),
        y=np.empty(shape, np.float32),
        owner=np.full(shape, -1, np.int16) if owners else None,
    )
    np.multiply(seen.down[:, None], wall[:, None], out=hit.y)
    hit.y += np.float32(ROOM_HEIGHT - CAMERA_HEIGHT)
    hit.y *= scale
    hit.y += (corners[face, 1] - np.float32(0.5))[:, None]
    for level, flat, rows in (
        (CAMERA_HEIGHT, BOTTOM, np.flatnonzero(seen.down > 0)),
        (CAMERA_HEIGHT - ROOM_HEIGHT, TOP, np.flatnonzero(seen.down < 0)),
    ):
        # The floor is a flat face below the camera, the ceiling one above it.
        part = slice(rows[0], rows[-1] + 1)
        far = (np.float32(level) / seen.down[part])[:, None]
        nearer = far < wall[:, None]
        _put_flat(hit, part, slice(None), nearer, far, x, y, right, up, corners[flat], scale, (0.0, 0.0), None)
    return hit


def _put_flat(hit, rows, columns, where, far, x, y, right, up, corner, scale, origin, owner) -> None:
    """Write a horizontal face, ``far`` by row, into the buffers ``where`` it is seen."""
    window = (slice(None), rows, columns)
    np.copyto(hit.depth[window], far, where=where)
    for buffer, at, step, first, begin in (
        (hit.x, x, right, corner[0], origin[0]),
        (hit.y, y, up, corner[1], origin[1]),
    ):
        value = far * (step * scale)[:, None]
        value += (at * scale + np.float32(first - 0.5 - begin * scale))[:, None]
        np.copyto(buffer[window], value, where=where)
    if hit.owner is not None and owner is not None:
        np.copyto(hit.owner[window], owner, where=where)


def _boxes(
    scene: RoomScene,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    right: NDArray[np.float32],
    up: NDArray[np.float32],
    seen: Lens,
    hit: _Buffers,
) -> None:
    """Every box where it is nearer than what is known, from where rays enter and leave it on the floor plan."""
    x0, y0, _, x1, y1, _ = (axis[:, None, None] for axis in scene.boxes.T)
    first, second = (x0 - x) / right, (x1 - x) / right
    in_x, out_x = np.minimum(first, second), np.maximum(first, second)
    first, second = (y0 - y) / up, (y1 - y) / up
    in_y, out_y = np.minimum(first, second), np.maximum(first, second)
    enter, leave = np.maximum(in_x, in_y), np.minimum(out_x, out_y)
    struck = (enter < leave) & (leave > _NEAR) & (enter < hit.depth.max(1))
    by_x = in_x > in_y
    enter = np.where(struck, np.maximum(enter, _NEAR), _FAR)
    leave = np.where(struck, leave, -_FAR)
    face = np.where(by_x, np.where(right > 0, WEST, EAST), np.where(up > 0, SOUTH, NORTH))
    any_column = struck.any(1)
    for number in np.flatnonzero(any_column.any(1)):
        found = np.flatnonzero(any_column[number])
        columns = slice(int(found[0]), int(found[-1]) + 1)
        _box(
            scene,
            int(number),
            (enter[number][:, columns], leave[number][:, columns], face[number][:, columns], by_x[number][:, columns]),
            (x, y, right[:, columns], up[:, columns]),
            seen.down,
            columns,
            hit,
        )


def _box(scene: RoomScene, number: int, struck: tuple, rays_of: tuple, down, columns: slice, hit: _Buffers) -> None:
    """One box: its sides, and its top or its bottom if the camera is above or below."""
    enter, leave, face, by_x = struck
    x, y, right, up = rays_of
    x0, y0, z0, _, _, z1 = (float(value) for value in scene.boxes[number])
    corners, scale, owner = scene.corners[number], np.float32(scene.scale), scene.owners[number]
    sure = enter < _FAR
    near, far = float(enter[sure].min()), float(leave[sure].max())
    edges = [(CAMERA_HEIGHT - z) / depth for z in (z0, z1) for depth in (near, far)]
    inside = np.flatnonzero((down >= min(edges)) & (down <= max(edges)))
    if not len(inside):
        return
    rows = slice(int(inside[0]), int(inside[-1]) + 1)
    window = (slice(None), rows, columns)
    slope = down[rows, None]
    up_at = np.float32(CAMERA_HEIGHT) - slope * enter[:, None]
    where = (up_at <= z1) & (up_at >= z0) & (enter[:, None] < hit.depth[window])
    if where.any():
        along = np.where(by_x, y + enter * up - np.float32(y0), x + enter * right - np.float32(x0))
        np.copyto(hit.depth[window], enter[:, None], where=where)
        np.copyto(hit.x[window], (corners[face, 0] - np.float32(0.5) + along * scale)[:, None], where=where)
        high = (np.float32(z1) - up_at) * scale + (corners[face, 1] - np.float32(0.5))[:, None]
        np.copyto(hit.y[window], high, where=where)
        if hit.owner is not None:
            np.copyto(hit.owner[window], owner, where=where)
    for z, flat in ((z1, TOP), (z0, BOTTOM)):
        drop = CAMERA_HEIGHT - z
        if (flat == TOP and drop <= 0) or (flat == BOTTOM and drop >= 0):
            continue
        # Rows on the other side of the horizon never meet the face.
        with np.errstate(divide="ignore"):
            depth = np.where(slope * drop > 0, np.float32(drop) / slope, _FAR)
        where = (depth > enter[:, None]) & (depth < leave[:, None]) & (depth < hit.depth[window])
        if where.any():
            _put_flat(hit, rows, columns, where, depth, x, y, right, up, corners[flat], scale, (x0, y0), owner)
