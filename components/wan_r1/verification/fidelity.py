"""Whether the background is still the given one: fidelity per pixel; changes of walls, goal, obstacles and floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from wan_r1.verification.appearance import MOST_BLUR, Appearance, sum_neighbours
from wan_r1.verification.beside_player import REACH, lost_shares, with_player
from wan_r1.verification.scene import FLOOR, GOAL, OBSTACLE, OUTSIDE, PATCH_KINDS, Scene, patch_means
from wan_r1.verification.verdict import StrictRules

_SPREAD = 1.5
"""Pixels by which the player's pixels reach beyond its radius: half a pixel of edge, one of the 3 x 3 mean."""
_CONTRAST = 24.0
"""Colour distance from the floor, in levels, from which a patch shows something that can be lost."""
_FADED_BESIDE_BLUR = 0.25
"""Share of a patch's contrast that must be lost in another way than by blur, for it to count as faded."""
_GOAL_BESIDE_BLUR = 0.15
"""The same of the goal, which blur changes less: honest videos come to .10 after H.264 and .02 otherwise, half a goal
to .20 at least."""
_GOAL_LOST = 0.2
"""Share of what shows of the goal beside the player that must be lost for it to count as changed. Without H.264 honest
videos come to .01, drawings of a player on a goal that is gone to .28 at least."""
_EXPLAINED, _CLEAR = 0.5, 48.0
"""Share of the difference that a wall's loss beside the player must explain to count, and the least contrast in levels
of what is looked at there: a player that is drawn a little differently changes a faint border as much."""
_SMALL = 4096
"""Pixels up to which a frame counts as small."""


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
    radius = np.array([s.radius for s in scenes], np.float32)[which]
    return Backgrounds(
        fidelity=unchanged_shares(frames, position, radius + _SPREAD, scenes, which, rules.fidelity_tau),
        changed=_changed_patches(frames, difference, position, radius, scenes, which, weights, rules),
    )


def unchanged_shares(
    frames, position, radius, scenes: Sequence[Appearance], which: np.ndarray, tau: float
) -> np.ndarray:
    """Share of each frame's background pixels whose 3 x 3 mean is within ``tau`` in every channel, [n, F].

    The mean over neighbours forgives a decoder's noise, and what a blur of one pixel does is forgiven on top; what is
    erased or moved is wider than that.
    """
    count, height, width = frames.shape[1:4]
    background, leak = np.stack([s.nearby for s in scenes], axis=1)
    # Fewer neighbours at the frame's edge: the limit for the sum shrinks with them.
    limit = tau * sum_neighbours(np.ones((height, width, 1), np.float32))
    low = np.ceil(background + np.minimum(leak, 0) - limit).clip(0, None).astype(np.uint16)
    high = np.floor(background + np.maximum(leak, 0) + limit).astype(np.uint16)
    # All frames of a video in one call where they are small: there a call costs more than its work.
    size = count if height * width <= _SMALL else 1
    low, high = (np.tile(each, (1, size, 1, 1)) for each in (low, high))
    total = neighbour_sums(frames).reshape(len(frames), count // size, size * height, width, 3)
    kept = [[cv2.inRange(part, low[k], high[k]) for part in one] for one, k in zip(total, which, strict=True)]
    changed = np.array(kept).reshape(frames.shape[:4]) == 0

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


def _changed_patches(frames, difference, position, radius, scenes, which, weights, rules: StrictRules) -> np.ndarray:
    """Patches [n, F, P, P] that lost their contrast with the floor, or whose colour changed in another way."""
    means = np.ascontiguousarray(patch_means(difference, weights))
    # Channels before patches: numpy goes through long rows several times faster than through threes.
    contrast, leak = (
        np.ascontiguousarray(np.moveaxis(np.stack([getattr(s, name) for s in scenes]), -1, 1))
        for name in ("contrast", "patch_leak")
    )
    kinds = np.stack([s.kinds for s in scenes])
    squared = (contrast**2).sum(1)
    # What shows something else than floor has a contrast that it must keep; outside is one with its board's border.
    solid = (squared >= _CONTRAST**2) & (kinds != FLOOR) & (kinds != OUTSIDE)
    solid_contrast = np.where(solid[:, None], contrast, 0)
    _, sharp = _split(means, leak, which, 0.0, MOST_BLUR)
    lost, _ = _split(means, solid_contrast, which, -np.inf, np.inf)
    lost_beside_blur, rest = _split(sharp, solid_contrast, which, -np.inf, np.inf)
    least, beside_blur = (
        np.where(kinds == GOAL, goal, wall)[which][:, None]
        for goal, wall in ((rules.goal_opacity, rules.wall_opacity), (_GOAL_BESIDE_BLUR, _FADED_BESIDE_BLUR))
    )
    faded = (lost < least - 1) & (lost_beside_blur < -beside_blur)
    changed = faded | ((rest**2).sum(2) > rules.patch_tolerance**2)
    # Corners where walls meet say nothing that the walls do not.
    changed[..., ::2, ::2] = False

    gap = _gaps(position, weights)
    # Whose means the player may change: faint ones at once, walls where it reaches into them.
    clear = solid & (squared >= _CLEAR**2)
    near = np.where(clear, -1.0, _SPREAD - 1).astype(np.float32)
    touched = gap < (np.maximum(radius[:, None, None] + near[which], 0) ** 2)[:, None]
    covered = touched & clear[which][:, None]
    # Neither corners, nor walls at the edge of the frame: these are nearer to the player, and nothing is behind them.
    covered[..., ::2, ::2] = False
    covered[..., [0, -1], :] = covered[..., [0, -1]] = False
    beside = _changed_beside_player(frames, position, scenes, which, weights, covered, rules)
    sorts = np.where(solid, kinds, kinds + len(PATCH_KINDS))
    # Goal and obstacles fill their patch, so that their own tolerance says enough; corners are walls again.
    sorts[(kinds == GOAL) | (kinds == OBSTACLE)] = -1
    sorts[:, ::2, ::2] = -1
    changed |= _drifted(rest, ~touched, sorts, which, rules.drift_tolerance)
    return np.where(touched, beside, changed)


def _gaps(position: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Squared distance of the player's centre from each patch in pixels, float32 [n, F, P, P]."""
    cells = weights > 0
    begin = cells.argmax(1).astype(np.float32)
    end = begin + cells.sum(1)
    x, y = (
        np.maximum(np.maximum(begin - position[..., axis, None], position[..., axis, None] - end), 0) for axis in (0, 1)
    )
    return y[..., :, None] ** 2 + x[..., None, :] ** 2


def _changed_beside_player(
    frames: np.ndarray,
    position: np.ndarray,
    scenes: Sequence[Scene],
    which: np.ndarray,
    weights: np.ndarray,
    covered: np.ndarray,
    rules: StrictRules,
) -> np.ndarray:
    """Which of the patches that the player covers in part, bool [n, F, P, P], are gone beside it, likewise."""
    changed = np.zeros_like(covered)
    video, frame, down, right = np.nonzero(covered)
    if not len(video):
        return changed
    scene = which[video]
    kinds = np.stack([s.kinds for s in scenes])[scene, down, right]
    contrast = np.stack([s.contrast for s in scenes])[scene, down, right]
    # The goal and obstacles are looked at in their whole cell: of its inside little shows.
    whole = (kinds == GOAL) | (kinds == OBSTACLE)
    rows, own_rows, all_rows = _window(down, weights, whole)
    columns, own_columns, all_columns = _window(right, weights, whole)
    behind, drawn, opacity = with_player(scenes, scene, position[video, frame], rows, columns)
    own = (own_rows[:, :, None] * own_columns[:, None, :])[..., None]
    floor = (behind * own).sum((1, 2)) / own.sum((1, 2)) - contrast
    # A wall fills its band: beside its mean colour there is only grain, which compression takes away.
    what = np.where(whole[:, None, None, None], behind - floor[:, None, None], contrast[:, None, None])
    last = len(weights[0]) - 1
    inside = rows.clip(0, last)[:, :, None], columns.clip(0, last)[:, None, :]
    shown = frames[video[:, None, None], frame[:, None, None], *inside].astype(np.float32)
    pixels = all_rows[:, :, None] * all_columns[:, None, :]
    lost, explained = lost_shares(shown, drawn, opacity, what, pixels)
    goal = kinds == GOAL
    gone = (lost > 1 - rules.wall_opacity) & (explained > _EXPLAINED)
    changed[video, frame, down, right] = np.where(goal, lost > _GOAL_LOST, gone)
    return changed


def _window(patch: np.ndarray, weights: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lines of pixels around patches [T] of one axis, int [T, w]; their weights in the patch and in what is looked at.

    That is the patch itself or, where ``whole``, the patch's cell.
    """
    side = weights.shape[1]
    cell = side / (len(weights) // 2)
    half = int(np.ceil(cell / 2)) + REACH
    middle = patch / 2 * cell
    lines = np.floor(middle).astype(int)[:, None] + np.arange(-half, half + (cell % 2 > 0))
    inside = (lines >= 0) & (lines < side)
    inside[:, :REACH] = inside[:, -REACH:] = False
    own = np.where(inside, weights[patch[:, None], lines.clip(0, side - 1)], 0)
    in_cell = inside & (np.abs(lines + 0.5 - middle[:, None]) < cell / 2)
    return lines, own, np.where(whole[:, None], in_cell, own).astype(np.float32)


def _drifted(rest: np.ndarray, free: np.ndarray, sorts: np.ndarray, which: np.ndarray, tolerance: float) -> np.ndarray:
    """Patches of a sort whose colour changed on average over the frame: little in each, but all the same way."""
    n, frames, side, _ = free.shape
    kinds = 2 * len(PATCH_KINDS)
    member = (sorts[:, None] == np.arange(kinds)[:, None, None]).reshape(-1, kinds, side**2).astype(np.float32)
    # [n, 4 F, patches] x [n, patches, sorts]: sums of the colours and the number of patches that are not by the player
    values = np.empty((n, frames, 4, side, side), np.float32)
    values[:, :, 3] = free
    np.multiply(rest, values[:, :, 3:], out=values[:, :, :3])
    sums = (values.reshape(n, 4 * frames, -1) @ member[which].swapaxes(1, 2)).reshape(n, frames, 4, kinds)
    mean = sums[:, :, :3] / np.maximum(sums[:, :, 3:], 1)
    drifted = np.zeros((n, frames, kinds + 1), bool)
    drifted[..., :kinds] = ((mean**2).sum(2) > tolerance**2) & (sums[:, :, 3] > 1)
    # The last entry is that of patches of no sort, -1.
    return drifted[np.arange(n)[:, None, None, None], np.arange(frames)[:, None, None], sorts[which][:, None]]


def _split(values: np.ndarray, along: np.ndarray, which: np.ndarray, least: float, most: float):
    """Values [n, F, 3, P, P] as a share [n, F, P, P] of the vectors ``along`` [scenes, 3, P, P], and the rest.

    The share is kept between ``least`` and ``most``; where the vector is (nearly) 0 the share is 0.
    """
    unit = along / np.maximum((along**2).sum(1), 1)[:, None]
    own, unit = along[which][:, None], unit[which][:, None]
    share = values[:, :, 0] * unit[:, :, 0]
    for channel in (1, 2):
        share += values[:, :, channel] * unit[:, :, channel]
    np.clip(share, least, most, out=share)
    return share, values - share[:, :, None] * own
