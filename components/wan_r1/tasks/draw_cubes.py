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
from wan_r1.tasks.render import PLAYER_DIAMETER, cell_pixels, hold_last, surface
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
_EDGELESS = (LADDER, RUNG)
_RUNGS = ((0.22, 0.78, 0, 1, LADDER), (0.32, 0.68, 0.1, 0.1 + 0.26, RUNG), (0.32, 0.68, 0.6, 0.6 + 0.26, RUNG))
"""The part of a ladder that is one cube high: from and to across it, from and to upwards; on the far side of the column
in front of it."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What each pixel of a fine drawing shows.

    Attributes:
        labels: int16 [fine H, fine W], number of a face; 0 is what is around.
        sorts: int [faces], one of the constants above.
        owners: int [faces], the cube, or after all cubes the ladder, that a face belongs to; -1 for what is around.
        planes: float [faces, 3], depth at (x, y) cells of the frame is ``planes @ (x, y, 1)``.
        heights: float [faces], height of the face's cube, from 0 (lowest) to 1.
        fine: pixels of the drawing per pixel of the frame.
    """

    labels: NDArray[np.int16]
    sorts: NDArray[np.int64]
    owners: NDArray[np.int64]
    planes: NDArray[np.float64]
    heights: NDArray[np.float64]
    fine: int


@dataclass(frozen=True, kw_only=True)
class _Faces:
    """The faces of a level, far to near; each face of a cube has an edge, which is drawn right after it.

    Attributes:
        outlines: float64 [faces, 4, 3], corners in space.
        sorts: one of the constants above for each.
        owners: the cube, or after all cubes the ladder, that each belongs to.
        heights: height of each one's cube, from 0 (lowest) to 1.
        sides: (axis that is constant on it, its value) of each.
    """

    outlines: NDArray[np.float64]
    sorts: list[int]
    owners: list[int]
    heights: list[float]
    sides: list[tuple[int, float]]

    def draw(
        self, level: Maze3DLevel, image: NDArray[np.int16], scale: float, numbers: Sequence[int], edges: Sequence[int]
    ) -> None:
        """Fill each face with its number, and draw the edge of each that has one with the number of its edge."""
        corners = np.rint((level.project(self.outlines) * scale - 0.5) * 2**_FRACTION).astype(np.int32)
        thick = max(1, round(EDGE_WIDTH * scale))
        for outline, sort, number, edge in zip(corners, self.sorts, numbers, edges, strict=True):
            cv2.fillConvexPoly(image, outline, number, cv2.LINE_8, _FRACTION)
            if sort not in _EDGELESS:
                cv2.polylines(image, [outline], True, edge, thick, cv2.LINE_8, _FRACTION)


def _find_faces(level: Maze3DLevel) -> _Faces:
    things: list[tuple[float, int, tuple[int, ...]]] = [
        (x + y + z, owner, (x, y, z)) for owner, (x, y, z) in enumerate(level.cubes)
    ]
    for number, (x, y, z, *step, height) in enumerate(level.ladders, len(level.cubes)):
        # Each rung is drawn before all that is nearer than its place in front of the cubes behind it.
        things += [(x + y + z + k - 0.5, number, (x, y, z + k, *step)) for k in range(1, height + 1)]
    top = max(1, max(z for _, _, z in level.cubes))
    found: list[tuple[Sequence[tuple[float, ...]], int, int, float, tuple[int, float]]] = []
    for _, owner, (x, y, z, *step) in sorted(things):
        if step:
            along_x = step[0] == -1
            its: tuple[int, float] = (1, x) if along_x else (2, y)
            for left, right, low, high, sort in _RUNGS:
                rect = ((left, low), (right, low), (right, high), (left, high))
                outline = [(x, y + a, z + b) if along_x else (x + a, y, z + b) for a, b in rect]
                found.append((outline, sort, owner, 0.0, its))
            continue
        goal = level.cubes[owner] == level.goal
        for points, sort, of_goal, its in (
            (((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)), TOP, GOAL_TOP, (0, z + 1)),
            (((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)), RIGHT, GOAL_RIGHT, (1, x + 1)),
            (((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)), LEFT, GOAL_LEFT, (2, y + 1)),
        ):
            outline = [(x + a, y + b, z + c) for a, b, c in points]
            found.append((outline, of_goal if goal else sort, owner, z / top, its))
    outlines, sorts, owners, heights, sides = zip(*found, strict=True)
    return _Faces(
        outlines=np.array(outlines, np.float64),
        sorts=list(sorts),
        owners=list(owners),
        heights=list(heights),
        sides=list(sides),
    )


@lru_cache(maxsize=4)
def picture(level: Maze3DLevel, size: int, fine: int) -> Picture:
    """A level's faces, drawn far to near at ``fine`` times the frame's size; not to be written to."""
    cell = cell_pixels(size, level.canvas)
    labels = np.zeros((size * fine, size * fine), np.int16)
    sorts, owners, heights, planes = [OUTSIDE], [-1], [0.0], [(0.0, 0.0, -np.inf)]
    right, down = (value / UNIT for value in level.offset)

    def plane(axis: int, at: float) -> tuple[float, float, float]:
        """x + y + z over the plane on which one axis is constant, by the place in the picture."""
        a, b = ((0.0, 2.0), (-1.5 / ACROSS, -1.0), (1.5 / ACROSS, -1.0))[axis]
        return a, b, 3 * at - a * right - b * down

    faces = _find_faces(level)
    numbers = []
    for sort, owner, height, side in zip(faces.sorts, faces.owners, faces.heights, faces.sides, strict=True):
        numbers.append(len(sorts))
        # Behind a face's number is its edge's.
        for one in (sort,) if sort in _EDGELESS else (sort, EDGE):
            sorts.append(one)
            owners.append(owner)
            heights.append(height)
            planes.append(plane(*side))
    faces.draw(level, labels, cell * fine, numbers, [number + 1 for number in numbers])
    return Picture(
        labels=labels,
        sorts=np.array(sorts),
        owners=np.array(owners),
        planes=np.array(planes),
        heights=np.array(heights),
        fine=fine,
    )


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
    image = surface(texture.outside, texture.outside_material, size, cell).copy()
    # Around what is drawn there is nothing to blend. Four bytes and two are taken at once; the fourth is of no use.
    here = _drawn_part(drawn)
    labels = drawn.labels[tuple(slice(drawn.fine * part.start, drawn.fine * part.stop) for part in here)]
    rest = _reduced(np.pad(table[:, :3], ((0, 0), (0, 1))), np.uint32, labels, drawn.fine)[..., :3].astype(np.float32)
    share = _reduced(table[:, 3:], np.uint16, labels, drawn.fine).astype(np.float32)
    share /= 255
    rest += share[..., :1] * surface(texture.floor, texture.floor_material, size, cell)[here]
    rest += share[..., 1:] * image[here]
    image[here] = np.rint(rest).clip(0, 255)
    return image


def _drawn_part(drawn: Picture) -> tuple[slice, slice]:
    """Rows and columns of the frame's pixels that show more than what is around."""
    parts = []
    for axis in (1, 0):
        found = np.flatnonzero(drawn.labels.any(axis))
        parts.append(slice(int(found[0]) // drawn.fine, int(found[-1]) // drawn.fine + 1))
    return parts[0], parts[1]


def _reduced(table: NDArray[np.uint8], whole: type[np.generic], labels: NDArray[np.int16], fine: int) -> NDArray:
    """The colours that a table has for labels, each block of ``fine x fine`` of them averaged.

    Args:
        table: ``[faces, channels]``.
        whole: type with as many bytes as there are channels, which is taken at once.
        labels: ``[fine H, fine W]``.
        fine: pixels per side of a block.
    """
    taken = np.ascontiguousarray(table).view(whole)[:, 0][labels]
    colours = taken.view(np.uint8).reshape(*labels.shape, -1)
    size = labels.shape[1] // fine, labels.shape[0] // fine
    return np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA))


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
    a, b, c = (axis.astype(np.float32)[labels] for axis in drawn.planes.T)
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
        visible: ``[moving, side, side]``, see `visible_windows`; from there on the ball is at rest.
    """
    size, side = background.shape[0], visible.shape[1]
    video = np.empty((len(points), *background.shape), np.uint8)
    video[: len(visible)] = background
    pixels = points[: len(visible)] * cell
    corner = np.floor(pixels).astype(int) - side // 2
    around = np.arange(side)
    columns, rows = corner[:, 0, None] + around, corner[:, 1, None] + around
    across, down = columns + 0.5 - pixels[:, 0, None], rows + 0.5 - pixels[:, 1, None]
    distance = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2)
    cover = np.clip(PLAYER_DIAMETER * cell / 2 + 0.5 - distance, 0, 1) * visible
    cover *= ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None, :]
    # Outside of the frame the cover is 0 and the pixel at the edge stays what the frames inside make it.
    place = (
        np.arange(len(visible))[:, None, None],
        rows.clip(0, size - 1)[:, :, None],
        columns.clip(0, size - 1)[:, None, :],
    )
    window = video[place].astype(np.float32)
    inside = cover > 0
    mixed = window + cover[..., None] * (np.array(colour, np.float32) - window)
    frame, row, column = (np.broadcast_to(axis, inside.shape)[inside] for axis in place)
    video[frame, row, column] = np.rint(mixed[inside]).astype(np.uint8)
    return hold_last(video, len(visible))


def visible_shares(level: Maze3DLevel) -> dict[int, float]:
    """Share of each cube, and after them of each ladder, that is seen, measured at 8 pixels a cell."""
    faces, cell = _find_faces(level), 8
    owners = [owner + 1 for owner in faces.owners]
    image = np.zeros((cell * level.canvas, cell * level.canvas), np.int16)
    faces.draw(level, image, cell, owners, owners)
    seen = np.bincount(image.ravel(), minlength=len(level.cubes) + len(level.ladders) + 1)[1:]
    # A cube looks like three rhombs of sides 1, a ladder like a strip of 0.56 by its height.
    whole = [3 * ACROSS] * len(level.cubes) + [0.56 * ACROSS * height for *_, height in level.ladders]
    shares = (float(count / (cell**2 * area)) for count, area in zip(seen, whole, strict=True))
    return dict(enumerate(shares))


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
