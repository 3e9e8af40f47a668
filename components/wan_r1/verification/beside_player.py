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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows of scenes' backgrounds without and with the player, and the player's opacity.

    Args:
        scenes: the scenes, all of one size.
        which: int [T], scene of each window.
        position: float32 [T, 2], (x, y) of the player in pixels.
        rows: int [T, h], rows of each window, one after the other; outside of the frame its edge is repeated.
        columns: int [T, w], its columns, likewise.

    Returns:
        Pictures without and with it float32 [T, h, w, 3] and opacity float32 [T, h, w, 1].
    """
    height, width = scenes[0].opacity.shape
    # Colours last: so the few values of a pixel lie together, and a window is taken out several times faster.
    backgrounds = np.stack([np.moveaxis(scene.background, 0, -1) for scene in scenes])
    looks = np.stack([np.dstack([*scene.colour, scene.opacity]) for scene in scenes])
    # The player's look lies with its centre at the origin; a fraction of a pixel is interpolated between four.
    origin = position - np.array([scene.anchor for scene in scenes], np.float32)[which]
    whole = np.floor(origin).astype(int)
    right, down = (origin - whole).astype(np.float32).T[:, :, None, None, None]
    y, x = (
        (np.concatenate([lines[:, :1] - 1, lines], axis=1) - whole[:, axis, None]) % size
        for lines, axis, size in ((rows, 1, height), (columns, 0, width))
    )
    player = looks[which[:, None, None], y[:, :, None], x[:, None, :]]
    player = down * player[:, :-1] + (1 - down) * player[:, 1:]
    player = right * player[:, :, :-1] + (1 - right) * player[:, :, 1:]
    inside = rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None, :]
    behind = backgrounds[which[:, None, None], *inside]
    opacity = player[..., 3:]
    return behind, behind * (1 - opacity) + player[..., :3], opacity


def lost_shares(
    frames: np.ndarray, drawn: np.ndarray, opacity: np.ndarray, contrast: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Shares of patches' contrast that are gone beside the player, and what they explain, float32 [2, T].

    That is a share of the squared difference, less what blur explains of it. Both are 0 where too little shows.

    Args:
        frames: float32 [T, h, w, 3], windows of the video.
        drawn: float32 [T, h, w, 3], the same as they should be, from `with_player`.
        opacity: float32 [T, h, w, 1], of the player.
        contrast: float32 [T, h, w, 3], what the background has there less the floor's colour.
        weights: float32 [T, h, w], of each pixel; nothing within `REACH` pixels of the window's border may count.
    """
    many, height, width, _ = drawn.shape
    # All windows in one call, as one tall image: what it mixes of two of them does not count.
    size = 2 * REACH + 1
    blurred = cv2.GaussianBlur(drawn.reshape(many * height, width, 3), (size, size), BLUR).reshape(drawn.shape)
    root = np.sqrt(weights)[..., None]
    seen = root * contrast
    total = (seen**2).sum((1, 2, 3))
    seen *= 1 - opacity
    vectors = np.stack([seen, root * (blurred - drawn), root * (frames - drawn)], axis=1).reshape(many, 3, -1)
    (cc, cl, cd), (_, ll, ld), (_, _, dd) = np.moveaxis(vectors @ vectors.swapaxes(1, 2), 0, -1)
    blur = np.clip((ld * cc - cd * cl) / np.maximum(ll * cc - cl**2, 1e-3), 0, MOST_BLUR)
    shares = (blur * cl - cd) / np.maximum(cc, 1e-3)
    # What is left of the difference may come from a player that is a little elsewhere, larger or fainter than drawn.
    explained = shares**2 * cc / np.maximum(dd - 2 * blur * ld + blur**2 * ll, 1e-3)
    return np.where(cc >= _LEAST_SEEN * total, (shares, explained), 0).astype(np.float32)
