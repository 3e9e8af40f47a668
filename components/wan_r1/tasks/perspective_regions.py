"""What each pixel of a level in VR-Bench's perspective shows: drawn far to near as numbers of its cubes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.draw_roads import fineness
from wan_r1.tasks.maze3d_level import Cube
from wan_r1.tasks.perspective_level import PerspectiveLevel, nearness
from wan_r1.tasks.roads import Regions

_EDGE = 0.08
"""Width of the strip along a face's edges that is nothing, in cells: black lines are drawn there."""
_LADDER = (-0.05, 0.25)
"""From and to along y, from the lower cube's corner: the poles stand at 0 and 0.2."""
_FRACTION = 4
"""Bits of a pixel's fraction in OpenCV's coordinates."""
_FACES = (
    ((1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)),
    ((0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 1, 1)),
    ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
)
"""Corners of the faces towards the camera: of large x, of large y, and above."""


def perspective_regions(level: PerspectiveLevel, size: int) -> Regions:
    """What each pixel of a frame of the level shows; where several cubes meet, and at their edges, it is nothing."""
    fine = fineness(size)
    image = np.zeros((size * fine, size * fine), np.int16)
    scale = size * fine / level.canvas
    thick = max(1, round(_EDGE * scale))

    def fill(corners: NDArray[np.float64], label: int, edge: bool) -> None:
        outline = np.rint((level.project(corners) * scale - 0.5) * 2**_FRACTION).astype(np.int32)
        cv2.fillConvexPoly(image, outline, label, cv2.LINE_8, _FRACTION)
        if edge:
            cv2.polylines(image, [outline], True, -1, thick, cv2.LINE_8, _FRACTION)

    # Each thing by how near it is: its corner, its number, and of a ladder its height.
    things: list[tuple[float, Cube, int, int]] = []
    for number, cube in enumerate(level.cubes):
        things.append((float(nearness(np.array(cube) + 0.5, level.grid)), cube, number, 0))
    for x, y, z, height in level.ladders:
        middle = np.array([x + 0.5, y + 0.1, z + (1 + height) / 2])
        things.append((float(nearness(middle, level.grid)), (x, y, z), -1, height))
    for _, cube, number, height in sorted(things):
        if height:
            # Below the top of the lower cube it is inside of that.
            low, high = _LADDER
            strip = [(0.5, a, b) for a, b in ((low, 1), (high, 1), (high, height), (low, height))]
            fill(np.add(cube, strip), 2, False)
            continue
        # All faces of a cube have its colour, so that those beside the ball tell what is behind it.
        for face in _FACES:
            fill(np.add(cube, face), 1 if cube == level.goal else 3 + number, True)
    blocks = image.reshape(size, fine, size, fine).swapaxes(1, 2).reshape(size, size, -1)
    labels = np.where((blocks == blocks[..., :1]).all(-1), blocks[..., 0], -1).astype(np.int32)
    kinds = ("outside_changed", "goal_changed", "ladder_changed", *("floor_changed" for _ in level.cubes))
    return Regions(labels=labels, kinds=kinds, repeats=False)
