"""What is left of a wall, an obstacle or the goal that the player stands on or in front of.

A patch's mean says nothing there. So the picture is drawn as it should be, the background with the player where it was
found, and the video's difference from it is explained by two things at once: by so much blur of that drawing as is
forgiven, and by a share of what shows beside the player that is gone (least squares over pixels and channels).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from wan_r1.verification.appearance import BLUR, MOST_BLUR, Appearance

REACH = 3
"""Pixels to each side that the blur of a pixel looks at."""
_LEAST_SEEN = 0.1
"""Least share of a patch's squared contrast beside the player for it to be judged."""


def with_player(
    scenes: Sequence[Appearance], which: np.ndarray, position: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of scenes' backgrounds with the player in them, and its opacity there.

    Args:
        scenes: the scenes, all of one size.
        which: int [T], scene of each window.
        position: float32 [T, 2], (x, y) of the player in pixels.
        rows: int [T, h], rows of each window, inside the frame.
        columns: int [T, w], its columns, likewise.

    Returns:
        Pictures float32 [T, 3, h, w] and opacity float32 [T, h, w].
    """
    height, width = scenes[0].opacity.shape
    # The player's look lies with its centre at the origin; a fraction of a pixel is interpolated between four.
    origin = position - np.array([scene.anchor for scene in scenes], np.float32)[which]
    whole = np.floor(origin).astype(int)
    part = (origin - whole).astype(np.float32)
    looks = np.stack([np.concatenate([scene.colour, scene.opacity[None]]) for scene in scenes])
    player = np.zeros((len(which), rows.shape[1], columns.shape[1], 4), np.float32)
    for down in (0, 1):
        for right in (0, 1):
            share = (part[:, 1] if down else 1 - part[:, 1]) * (part[:, 0] if right else 1 - part[:, 0])
            y = (rows - whole[:, 1:] - down) % height
            x = (columns - whole[:, :1] - right) % width
            player += share[:, None, None, None] * looks[which[:, None, None], :, y[:, :, None], x[:, None, :]]
    player = np.moveaxis(player, -1, 1)
    backgrounds = np.stack([scene.background for scene in scenes])
    behind = np.moveaxis(backgrounds[which[:, None, None], :, rows[:, :, None], columns[:, None, :]], -1, 1)
    opacity = player[:, 3]
    return behind * (1 - opacity[:, None]) + player[:, :3], opacity


def lost_shares(
    frames: np.ndarray,
    drawn: np.ndarray,
    opacity: np.ndarray,
    contrast: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Shares of patches' contrast that are gone beside the player, float32 [T]; 0 where too little of it shows.

    Args:
        frames: float32 [T, 3, h, w], windows of the video.
        drawn: float32 [T, 3, h, w], the same as they should be, from `with_player`.
        opacity: float32 [T, h, w], of the player.
        contrast: float32 [T, 3, h, w], what the background has there less the floor's colour.
        weights: float32 [T, h, w], of each pixel; nothing within three pixels of the window's border may count.
    """
    leak = _blurred(drawn) - drawn
    rest = frames - drawn
    seen = contrast * (1 - opacity[:, None])
    weighted = weights[:, None]

    def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (weighted * one * other).sum((1, 2, 3))

    cc, cl, ll, cd, ld = (
        product(*pair) for pair in ((seen, seen), (seen, leak), (leak, leak), (seen, rest), (leak, rest))
    )
    blur = np.clip((ld * cc - cd * cl) / np.maximum(ll * cc - cl**2, 1e-3), 0, MOST_BLUR)
    shares = -(cd - blur * cl) / np.maximum(cc, 1e-3)
    return np.where(cc >= _LEAST_SEEN * product(contrast, contrast), shares, 0).astype(np.float32)


def _blurred(pictures: np.ndarray) -> np.ndarray:
    kernel = cv2.getGaussianKernel(2 * REACH + 1, BLUR).astype(np.float32).ravel()
    for axis in (2, 3):
        padding = [(0, 0)] * 4
        padding[axis] = (REACH, REACH)
        padded = np.pad(pictures, padding, mode="edge")
        size = pictures.shape[axis]
        pictures = sum(
            share * padded.take(range(shift, shift + size), axis) for shift, share in enumerate(kernel.tolist())
        )
    return pictures
