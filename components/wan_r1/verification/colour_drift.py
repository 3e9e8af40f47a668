"""Whether all of one sort, such as all walls, has another colour than compression gives it.

In a single cell of a few pixels a codec does more to a colour than a cheat has to; but it does so to and fro, so that
the mean over hundreds of pixels hardly moves, while a cheat moves them all the same way.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.textures import TEXTURES, Colour
from wan_r1.verification.appearance import BLUR, MOST_BLUR

SORTS = {
    "floor_changed": ("floor", "odd_floor", "floor_material"),
    "wall_changed": ("wall", "wall_material"),
    "outside_changed": ("outside", "outside_material"),
    "box_lost": ("box", "box_mark"),
}
"""The sorts by the rule that is broken when one changes, and the colours of a texture that belong to each."""
_OTHERS = ("player", "goal", "trap", "trap_mark")
"""Colours of what is a single cell: a mean is over few pixels there, and the usual reading looks at each."""
_LARGEST = 70.0
"""Most that mean colours may be off: levels (Euclidean) times the root of the number of pixels, over all sorts."""
_FEWEST = 4
"""Pixels of a sort from which its mean is looked at."""


def colour_drift(
    video: NDArray[np.uint8], drawing: NDArray[np.uint8], compressed: NDArray[np.uint8], texture: str, boxes: bool
) -> NDArray[np.bool_]:
    """Where mean colours are beyond what compression or blur make of them, and which sort's is most.

    Args:
        video: ``[F, H, W, 3]``.
        drawing: ``[F, H, W, 3]``, the same as it should be.
        compressed: ``[ways, F, H, W, 3]``, the drawing compressed in several ways.
        texture: name of the texture that it is drawn in; one of `wan_r1.tasks.textures.TEXTURES`.
        boxes: whether the level has any; else what is near to their colour is an edge of something else.

    Returns:
        bool ``[F, len(SORTS)]``, at most one sort a frame.
    """
    member = _members(drawing, texture)
    pixels = member.sum(2)
    counted = np.where((pixels >= _FEWEST) & [boxes or name != "box_lost" for name in SORTS], pixels, 0)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), BLUR) for frame in drawing])
    own, blur, *theirs = (
        member @ (frames.astype(np.float32) - drawing).reshape(len(drawing), -1, 3) / np.maximum(pixels, 1)[..., None]
        for frames in (video, blurred, *compressed)
    )
    beyond = own - own.clip(np.minimum(np.min(theirs, axis=0), 0), np.maximum(np.max(theirs, axis=0), 0))
    share = ((own * blur).sum(-1) / np.maximum((blur**2).sum(-1), 1e-6)).clip(0, MOST_BLUR)
    by_compression, by_blur = ((off**2).sum(-1) * counted for off in (beyond, own - share[..., None] * blur))
    # A blurred video may look compressed too, but then blur explains all of it.
    if (by_blur.sum(1) <= _LARGEST**2).all():
        return np.zeros(pixels.shape, bool)
    largest = np.arange(len(SORTS)) == by_compression.argmax(1)[:, None]
    return largest & (by_compression.sum(1) > _LARGEST**2)[:, None]


def _members(drawing: NDArray[np.uint8], texture: str) -> NDArray[np.float32]:
    """Which pixels are of which sort, float32 ``[F, sorts, H W]``, 0 or 1: each is of its nearest colour's."""
    look = TEXTURES[texture]
    colours: list[Colour] = []
    sorts: list[int] = []
    for sort, names in enumerate((*SORTS.values(), _OTHERS)):
        for value in (getattr(look, name) for name in names):
            if value is not None:
                colours.append(value if isinstance(value, tuple) else value.grain)
                sorts.append(sort)
    palette = np.array(colours, np.float32)
    # |a - b|^2 less |a|^2, which is the same for every colour.
    away = (palette**2).sum(1) - 2 * drawing.reshape(len(drawing), -1, 3).astype(np.float32) @ palette.T
    nearest = np.array(sorts)[away.argmin(-1)]
    return (nearest[:, None] == np.arange(len(SORTS))[:, None]).astype(np.float32)
