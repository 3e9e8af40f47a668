"""Whether the background is still the given one: fidelity per pixel; changes of walls, goal, obstacles and floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wan_r1.verification.appearance import MOST_BLUR, Appearance
from wan_r1.verification.scene import FLOOR, GOAL, OBSTACLE, OUTSIDE, PATCH_KINDS, Scene, patch_means
from wan_r1.verification.verdict import StrictRules

_SPREAD = 1.5
"""Pixels by which the player's pixels reach beyond its radius: half a pixel of edge, one of the 3 x 3 mean."""
_CONTRAST = 24.0
"""Colour distance from the floor, in levels, from which a patch shows something that can be lost."""
_FADED_BESIDE_BLUR = 0.25
"""Share of a patch's contrast that must be lost in another way than by blur, for it to count as faded."""


@dataclass(frozen=True, kw_only=True)
class Backgrounds:
    """How far ``n`` videos of ``F`` frames keep their background.

    Attributes:
        fidelity: float32 [n, F], of each frame; see `Verdict.mf`.
        changed: bool [n, F, P, P], patches that are erased, added, recoloured or painted over.
    """

    fidelity: np.ndarray
    changed: np.ndarray


def compare(
    frames: np.ndarray,
    difference: np.ndarray,
    position: np.ndarray,
    scenes: Sequence[Scene],
    which: np.ndarray,
    weights: np.ndarray,
    rules: StrictRules,
) -> Backgrounds:
    """Compare frames with the background of the given first frame, beside the player.

    Args:
        frames: uint8 [n, F, H, W, 3].
        difference: float32 [n, F, 3, H, W], frames less background.
        position: float32 [n, F, 2], (x, y) of the player in pixels; nan (nothing is spared) where it is not seen.
        scenes: the scenes, all of one size.
        which: int [n], scene of each video.
        weights: `wan_r1.verification.scene.patch_weights`.
        rules: thresholds.
    """
    radius = np.array([s.radius for s in scenes], np.float32)[which] + _SPREAD
    return Backgrounds(
        fidelity=unchanged_shares(frames, position, radius, scenes, which, rules.fidelity_tau),
        changed=_changed_patches(difference, position, radius, scenes, which, weights, rules),
    )


def unchanged_shares(
    frames, position, radius, scenes: Sequence[Appearance], which: np.ndarray, tau: float
) -> np.ndarray:
    """Share of each frame's background pixels whose 3 x 3 mean is within ``tau`` in every channel, [n, F].

    The mean over neighbours forgives a decoder's noise, and what a blur of one pixel does is forgiven on top; what is
    erased or moved is wider than that.
    """
    height, width = frames.shape[2:4]
    total = neighbour_sums(frames)
    background = _sum_neighbours(np.stack([s.background.transpose(1, 2, 0) for s in scenes]))
    leak = _sum_neighbours(np.stack([s.leak.transpose(1, 2, 0) for s in scenes]))
    # Fewer neighbours at the frame's edge: the limit for the sum shrinks with them.
    limit = tau * _sum_neighbours(np.ones((height, width, 1), np.float32))
    low = np.ceil(background + np.minimum(leak, 0) - limit).clip(0, None).astype(np.uint16)[which][:, None]
    high = np.floor(background + np.maximum(leak, 0) + limit).astype(np.uint16)[which][:, None]
    channels = (total < low) | (total > high)
    changed = channels[..., 0] | channels[..., 1] | channels[..., 2]

    away_y = (np.arange(height, dtype=np.float32) + 0.5 - position[..., 1:2]) ** 2
    away_x = (np.arange(width, dtype=np.float32) + 0.5 - position[..., 0:1]) ** 2
    # nan compares as False: without a player everything counts as background
    player = away_y[..., :, None] + away_x[..., None, :] < (radius**2)[:, None, None, None]
    share = _count(changed & ~player) / (height * width - _count(player))
    return (1 - share).astype(np.float32)


def _count(masks: np.ndarray) -> np.ndarray:
    """Pixels of each mask bool [n, F, H, W], int [n, F]; as bytes they are added several times faster than as bool."""
    return masks.reshape(*masks.shape[:2], -1).view(np.uint8).sum(-1, dtype=np.int32)


def neighbour_sums(frames: np.ndarray) -> np.ndarray:
    """Sum of each level of frames uint8 [n, F, H, W, channels] and its neighbours inside the frame, uint16.

    Whole numbers are compared several times faster than fractions. All frames are summed in one call, as one tall
    image with a row of zeros below each: for small ones a call costs more than its work.
    """
    n, count, height, width, channels = frames.shape
    tall = np.zeros((n * count, height + 1, width, channels), np.uint8)
    tall[:, :height] = frames.reshape(-1, height, width, channels)
    total = cv2.boxFilter(
        tall.reshape(-1, width, channels), cv2.CV_16U, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    return total.reshape(n, count, height + 1, width, channels)[:, :, :height]


def _sum_neighbours(images: np.ndarray) -> np.ndarray:
    """Sum of each pixel of ``[..., H, W, channels]`` and its neighbours inside the frame."""
    rows = images.copy()
    rows[..., 1:, :, :] += images[..., :-1, :, :]
    rows[..., :-1, :, :] += images[..., 1:, :, :]
    total = rows.copy()
    total[..., 1:, :] += rows[..., :-1, :]
    total[..., :-1, :] += rows[..., 1:, :]
    return total


def _changed_patches(difference, position, radius, scenes, which, weights, rules: StrictRules) -> np.ndarray:
    """Patches [n, F, P, P] that lost their contrast with the floor, or whose colour changed in another way."""
    means = np.ascontiguousarray(np.moveaxis(patch_means(difference, weights), 2, -1))
    contrast, leak = (np.stack([getattr(s, name) for s in scenes]) for name in ("contrast", "patch_leak"))
    kinds = np.stack([s.kinds for s in scenes])
    squared = (contrast**2).sum(-1)
    # What shows something else than floor has a contrast that it must keep; outside is one with its board's border.
    solid = (squared >= _CONTRAST**2) & (kinds != FLOOR) & (kinds != OUTSIDE)
    solid_contrast = np.where(solid[..., None], contrast, 0)
    _, sharp = _split(means, leak, which, 0.0, MOST_BLUR)
    lost, _ = _split(means, solid_contrast, which, -np.inf, np.inf)
    lost_beside_blur, rest = _split(sharp, solid_contrast, which, -np.inf, np.inf)
    faded = (lost < rules.wall_opacity - 1) & (lost_beside_blur < -_FADED_BESIDE_BLUR)
    changed = faded | ((rest**2).sum(-1) > rules.patch_tolerance**2)
    # Corners where walls meet say nothing that the walls do not.
    changed[..., ::2, ::2] = False

    cells = weights > 0
    begin = cells.argmax(1).astype(np.float32)
    end = begin + cells.sum(1)
    gap_x, gap_y = (
        np.maximum(np.maximum(begin - position[..., axis, None], position[..., axis, None] - end), 0) for axis in (0, 1)
    )
    touched = gap_y[..., :, None] ** 2 + gap_x[..., None, :] ** 2 < ((radius - 1) ** 2)[:, None, None, None]
    sorts = np.where(solid, kinds, kinds + len(PATCH_KINDS))
    # Goal and obstacles fill their patch, so that their own tolerance says enough; corners are walls again.
    sorts[(kinds == GOAL) | (kinds == OBSTACLE)] = -1
    sorts[:, ::2, ::2] = -1
    changed |= _drifted(rest, ~touched, sorts, which, rules.drift_tolerance)
    return changed & ~touched


def _drifted(rest: np.ndarray, free: np.ndarray, sorts: np.ndarray, which: np.ndarray, tolerance: float) -> np.ndarray:
    """Patches of a sort whose colour changed on average over the frame: little in each, but all the same way."""
    n, frames, side, _ = free.shape
    kinds = 2 * len(PATCH_KINDS)
    member = (sorts[:, None] == np.arange(kinds)[:, None, None]).reshape(-1, kinds, side**2).astype(np.float32)
    # [n, sorts, patches] x [n, patches, 4 F]: sums of the colours and the number of patches that are not by the player
    values = np.empty((n, side, side, frames, 4), np.float32)
    values[..., 3] = free.transpose(0, 2, 3, 1)
    values[..., :3] = rest.transpose(0, 2, 3, 1, 4) * values[..., 3:]
    sums = (member[which] @ values.reshape(n, side**2, -1)).reshape(n, kinds, frames, 4)
    mean = sums[..., :3] / np.maximum(sums[..., 3:], 1)
    drifted = np.zeros((n, frames, kinds + 1), bool)
    drifted[..., :kinds] = (((mean**2).sum(-1) > tolerance**2) & (sums[..., 3] > 1)).transpose(0, 2, 1)
    # The last entry is that of patches of no sort, -1.
    return drifted[np.arange(n)[:, None, None, None], np.arange(frames)[:, None, None], sorts[which][:, None]]


def _split(values: np.ndarray, along: np.ndarray, which: np.ndarray, least: float, most: float):
    """Values [n, F, P, P, 3] as a share [n, F, P, P] of the vectors ``along`` [scenes, P, P, 3], and the rest.

    The share is kept between ``least`` and ``most``; where the vector is (nearly) 0 the share is 0.
    """
    squared = (along**2).sum(-1)
    unit = along / np.maximum(squared, 1)[..., None]
    share = np.clip(np.einsum("nfpqc,npqc->nfpq", values, unit[which]), least, most)
    return share, values - share[..., None] * along[which][:, None]
