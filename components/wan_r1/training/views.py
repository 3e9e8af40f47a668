"""Other views of a solution: turned by quarters and mirrored, each of which shows another level and its solution.

A policy learns long solutions by heart where it has few of them. Plans do not depend on the compass, so that a solution
is worth up to eight; the prompts name no direction. Only where a family says so: an isometric cube is lit from one
side, and a room has an up.
"""

from __future__ import annotations

import numpy as np

from wan_r1.tasks.families import FAMILIES
from wan_r1.training.randomness import numpy_generator

VIEWS = 8


def symmetric(family: str) -> bool:
    """Whether a turned or mirrored picture of a level of this family shows another level of it."""
    return bool(getattr(FAMILIES[family], "symmetric", False))


def view_of(video: np.ndarray, view: int) -> np.ndarray:
    """One of the 8 views of square frames `[frames, size, size, 3]`: 0 to 3 quarter turns, from 4 on mirrored too."""
    turned = np.rot90(video, view % 4, axes=(1, 2))
    return turned[:, :, ::-1] if view >= 4 else turned


def other_views(video: np.ndarray, family: str, count: int, *seeds: object) -> list[np.ndarray]:
    """``count`` different views of a video that are not the video itself; none where its family has none.

    Args:
        video: uint8 `[frames, size, size, 3]`.
        family: of its level.
        count: 0 to 7.
        seeds: of the choice.
    """
    if not count or not symmetric(family):
        return []
    chosen = numpy_generator("views", *seeds).permutation(np.arange(1, VIEWS))[:count]
    return [view_of(video, int(view)) for view in chosen]
