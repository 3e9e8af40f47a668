"""Drawing of cubes and ladders: what each pixel shows once, then the ball on each frame behind what is nearer.

The scene is drawn as numbers of its faces, far to near, at a multiple of the frame's size. From these come the colours
(reduced by area), and the depth at each pixel: a face is flat, so that its depth is linear in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.draw_roads import fineness
from wan_r1.tasks.maze3d_level import ACROSS, UNIT, Maze3DLevel
from wan_r1.tasks.render import PLAYER_DIAMETER, cell_pixels, surface
from wan_r1.tasks.roads import Regions
from wan_r1.tasks.textures import Colour, Texture

EDGE_WIDTH = 0.06
"""Width of a cube's edges, in cells."""
_RIGHT, _LEFT = 0.28, 0.5
"""Share of the walls' colour on the sides of a cube, so that its faces can be told apart."""
_HAZE = 0.4
"""Share of the surroundings' colour on the lowest tops: the higher, the clearer."""
_FRACTION = 4
"""Bits of a pixel's fraction in OpenCV's coordinates."""

OUTSIDE, GOAL_TOP, TOP, RIGHT, LEFT, GOAL_RIGHT, GOAL_LEFT, EDGE, LADDER, RUNG = range(10)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What each pixel of a fine drawing shows.

    Attributes:
        labels: int32 [fine H, fine W], number of a face; 0 is what is around.
        sorts: int [faces], one of the constants above.
        owners: int [faces], the cube, or after all cubes the ladder, that a face belongs to; -1 for what is around.
        planes: float [faces, 3], depth at (x, y) cells of the frame is ``planes @ (x, y, 1)``.
        heights: float [faces], height of the face's cube, from 0 (lowest) to 1.
        fine: pixels of the drawing per pixel of the frame.
    """

    labels: NDArray[np.int32]
    sorts: NDArray[np.int64]
    owners: NDArray[np.int64]
    planes: NDArray[np.float64]
    heights: NDArray[np.float64]
    fine: int


@lru_cache(maxsize=4)
def picture(level: Maze3DLevel, size: int, fine: int) -> Picture:
    """A level's faces, drawn far to near at ``fine`` times the frame's size; not to be written to."""
    cell = cell_pixels(size, level.canvas)
    scale = cell * fine
    labels = np.zeros((size * fine, size * fine), np.int32)
    sorts, owners, heights, planes = [OUTSIDE], [-1], [0.0], [(0.0, 0.0, -np.inf)]
    right, down = (value / UNIT for value in level.offset)
    top = max(1, max(z for _, _, z in level.cubes))

    def plane(axis: int, at: float) -> tuple[float, float, float]:
        """x + y + z over the plane on which one axis is constant, by the place in the picture."""
        a, b = ((0.0, 2.0), (-1.5 / ACROSS, -1.0), (1.5 / ACROSS, -1.0))[axis]
        return a, b, 3 * at - a * right - b * down

    def face(sort: int, owner: int, height: float, its: tuple[float, float, float]) -> int:
        sorts.append(sort)
        owners.append(owner)
        heights.append(height)
        planes.append(its)
        return len(sorts) - 1

    def corners(points: Sequence[tuple[float, float, float]]) -> NDArray[np.int32]:
        return np.rint((level.project(np.array(points)) * scale - 0.5) * 2**_FRACTION).astype(np.int32)

    def fill(points: Sequence[tuple[float, float, float]], number: int) -> None:
        cv2.fillConvexPoly(labels, corners(points), number, cv2.LINE_8, _FRACTION)

    thick = max(1, round(EDGE_WIDTH * scale))
    things: list[tuple[float, int, tuple[int, ...]]] = [
        (x + y + z, owner, (x, y, z)) for owner, (x, y, z) in enumerate(level.cubes)
    ]
    for number, (x, y, z, *step, height) in enumerate(level.ladders, len(level.cubes)):
        # Each rung is drawn before all that is nearer than its place in front of the cubes behind it.
        things += [(x + y + z + k - 0.5, number, (x, y, z + k, *step)) for k in range(1, height + 1)]
    for _, owner, (x, y, z, *step) in sorted(things):
        level_of = z / top
        if step:
            _draw_rungs(fill, face, plane, owner, (x, y, z), step[0] == -1)
            continue
        goal = level.cubes[owner] == level.goal
        for points, sort, its in (
            (((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)), GOAL_TOP if goal else TOP, plane(0, z + 1)),
            (((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)), GOAL_RIGHT if goal else RIGHT, plane(1, x + 1)),
            (((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)), GOAL_LEFT if goal else LEFT, plane(2, y + 1)),
        ):
            outline = [(x + a, y + b, z + c) for a, b, c in points]
            fill(outline, face(sort, owner, level_of, its))
            edge = face(EDGE, owner, level_of, its)
            cv2.polylines(labels, [corners(outline)], True, edge, thick, cv2.LINE_8, _FRACTION)
    return Picture(
        labels=labels,
        sorts=np.array(sorts),
        owners=np.array(owners),
        planes=np.array(planes),
        heights=np.array(heights),
        fine=fine,
    )


def _draw_rungs(fill, face, plane, owner: int, place: tuple[int, int, int], along_x: bool) -> None:
    """The part of a ladder that is one cube high, on the far side of the column in front of it."""
    x, y, z = place

    def at(across: float, up: float) -> tuple[float, float, float]:
        return (x, y + across, z + up) if along_x else (x + across, y, z + up)

    its = plane(1, x) if along_x else plane(2, y)
    fill([at(0.22, 0), at(0.78, 0), at(0.78, 1), at(0.22, 1)], face(LADDER, owner, 0.0, its))
    for up in (0.1, 0.6):
        fill([at(0.32, up), at(0.68, up), at(0.68, up + 0.26), at(0.32, up + 0.26)], face(RUNG, owner, 0.0, its))


def draw_cubes(level: Maze3DLevel, texture: Texture, size: int) -> NDArray[np.uint8]:
    """A level of cubes and ladders without its ball, RGB ``[H, W, 3]``.

    Raises:
        ConfigError: if the size does not suit the level's canvas.
    """
    cell, drawn = cell_pixels(size, level.canvas), picture(level, size, fineness(size))
    floor, wall, goal, ladder, rung = (
        np.array(colour, float)
        for colour in (texture.floor, texture.wall, texture.goal, texture.trap, texture.trap_mark)
    )
    # Each face: a share of the floor's material, a share of the surroundings', and the rest of its colour.
    shares = np.zeros((len(drawn.sorts), 2))
    colours = np.zeros((len(drawn.sorts), 3))
    haze = _HAZE * (1 - drawn.heights)
    for sort, of_wall in ((TOP, 0.0), (RIGHT, _RIGHT), (LEFT, _LEFT)):
        own = drawn.sorts == sort
        shares[own, 0], shares[own, 1] = (1 - of_wall) * (1 - haze[own]), (1 - of_wall) * haze[own]
        colours[own] = of_wall * wall
    shares[drawn.sorts == OUTSIDE, 1] = 1
    for sort, colour in (
        (GOAL_TOP, goal),
        (GOAL_RIGHT, (1 - _RIGHT) * goal + _RIGHT * wall),
        (GOAL_LEFT, (1 - _LEFT) * goal + _LEFT * wall),
        (EDGE, 0.8 * wall + 0.2 * floor),
        (LADDER, ladder),
        (RUNG, rung),
    ):
        colours[drawn.sorts == sort] = colour
    table = np.rint(np.concatenate([colours, 255 * shares], axis=1)).clip(0, 255).astype(np.uint8)
    fine = table[drawn.labels]
    whole = (size, size)
    rest = cv2.resize(np.ascontiguousarray(fine[..., :3]), whole, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize(np.ascontiguousarray(fine[..., 3:]), whole, interpolation=cv2.INTER_AREA).astype(np.float32)
    share /= 255
    rest += share[..., :1] * surface(texture.floor, texture.floor_material, size, cell)
    rest += share[..., 1:] * surface(texture.outside, texture.outside_material, size, cell)
    return np.rint(rest).clip(0, 255).astype(np.uint8)


def visible_windows(level: Maze3DLevel, points: NDArray[np.float64], size: int, side: int) -> NDArray[np.float32]:
    """Share of each pixel where the ball would be nearer than what is drawn; see `RoadFamily.visibility`.

    The ball is taken for a disc through its centre that faces the viewer: it touches nothing that it stands before.
    """
    drawn, cell = picture(level, size, fineness(size)), size // level.canvas
    fine, width = drawn.fine, side * drawn.fine
    corner = (np.floor(points * cell).astype(int) - side // 2) * fine
    around = np.arange(width)
    columns, rows = corner[:, 0, None] + around, corner[:, 1, None] + around
    limit = size * fine
    labels = drawn.labels[rows.clip(0, limit - 1)[:, :, None], columns.clip(0, limit - 1)[:, None, :]]
    a, b, c = np.moveaxis(drawn.planes[labels].astype(np.float32), -1, 0)
    scale = np.float32(cell * fine)
    x, y = ((axis + np.float32(0.5)) / scale for axis in (columns, rows))
    depth = a * x[:, None, :] + b * y[:, :, None] + c
    nearer = (level.depths(points).astype(np.float32)[:, None, None] >= depth).astype(np.float32)
    return nearer.reshape(len(points), side, fine, side, fine).mean((2, 4))


def draw_ball(
    background: NDArray[np.uint8],
    points: NDArray[np.float64],
    colour: Colour,
    cell: int,
    visible: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """The background with the ball at each point, as far as it is visible.

    Args:
        background: ``[H, W, 3]``.
        points: ``[F, 2]`` centres in cells.
        colour: the ball's.
        cell: pixels a cell.
        visible: ``[F, side, side]``, see `visible_windows`.
    """
    size, side = background.shape[0], visible.shape[1]
    video = np.empty((len(points), *background.shape), np.uint8)
    video[:] = background
    pixels = points * cell
    corner = np.floor(pixels).astype(int) - side // 2
    around = np.arange(side)
    columns, rows = corner[:, 0, None] + around, corner[:, 1, None] + around
    across, down = columns + 0.5 - pixels[:, 0, None], rows + 0.5 - pixels[:, 1, None]
    distance = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2)
    cover = np.clip(PLAYER_DIAMETER * cell / 2 + 0.5 - distance, 0, 1) * visible
    cover *= ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    # Outside of the frame the cover is 0 and the pixel at the edge stays what the frames inside make it.
    place = (
        np.arange(len(points))[:, None, None],
        rows.clip(0, size - 1)[:, :, None],
        columns.clip(0, size - 1)[:, None, :],
    )
    window = video[place].astype(np.float32)
    inside = cover > 0
    mixed = window + cover[..., None] * (np.array(colour, np.float32) - window)
    frame, row, column = (np.broadcast_to(axis, inside.shape)[inside] for axis in place)
    video[frame, row, column] = np.rint(mixed[inside]).astype(np.uint8)
    return video


def visible_shares(level: Maze3DLevel) -> dict[int, float]:
    """Share of each cube, and after them of each ladder, that is seen, measured at 8 pixels a cell."""
    drawn = picture(level, 8 * level.canvas, 1)
    seen = np.bincount(drawn.owners[drawn.labels].ravel() + 1, minlength=len(level.cubes) + len(level.ladders) + 1)[1:]
    unit = 8**2
    # A cube looks like three rhombs of sides 1, a ladder like a strip of 0.56 by its height.
    whole = [3 * ACROSS] * len(level.cubes) + [0.56 * ACROSS * height for *_, height in level.ladders]
    return {number: float(count / (unit * area)) for number, (count, area) in enumerate(zip(seen, whole, strict=True))}


def cube_regions(level: Maze3DLevel, size: int) -> Regions:
    """What each pixel of a level of cubes shows; where several faces meet it is nothing."""
    drawn = picture(level, size, fineness(size))
    blocks = drawn.labels.reshape(size, drawn.fine, size, drawn.fine).swapaxes(1, 2).reshape(size, size, -1)
    label = blocks[..., 0]
    sort = drawn.sorts[blocks]
    goal = np.isin(sort, (GOAL_TOP, GOAL_RIGHT, GOAL_LEFT)).all(-1)
    ladder = np.isin(sort, (LADDER, RUNG)).all(-1)
    one = (blocks == label[..., None]).all(-1) & (sort[..., 0] != EDGE)
    kinds = ["outside_changed", "goal_changed", "ladder_changed", *("floor_changed" for _ in drawn.sorts[1:])]
    labels = np.where(one, np.where(label == 0, 0, label + 2), -1)
    labels[goal], labels[ladder] = 1, 2
    return Regions(labels=labels.astype(np.int32), kinds=tuple(kinds))
