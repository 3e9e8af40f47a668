"""How well a player centred at each pixel explains a frame: a matched filter through Fourier transforms.

With background B, opacity A and colour times opacity S of the player, a frame F that shows the player at u, faded to
opacity o, is ``B + o T_u`` with ``T_u = S_u - A_u B``. Least squares give ``o(u) = <F - B, T_u> / |T_u|^2``.

Large frames are searched only around what differs from the background: by Cauchy and Schwarz a player of opacity o
leaves at least ``o^2 |T_u|^2`` of squared difference within its reach, so a place with less has none that would count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft

from wan_r1.verification.appearance import MOST_BLUR, Appearance
from wan_r1.verification.verdict import StrictRules

_PARTS = ("background", "look", "shape", "energy")
"""What of a scene frames are correlated with."""
_PLANES = 5
"""Planes a frame that are transformed: three of colour, one of these times the background's, one of their squares."""
_TOGETHER = 80_000
"""Pixels (all frames) that are transformed at a time: more does not fit in a core's own cache."""
_LARGE = 96
"""Pixels a side from which frames are searched around differences alone; below, the whole costs less."""
_BLOCK = 8
"""Side of the blocks whose squared difference is summed; the player must not reach further than this."""
_WINDOW = 6
"""Blocks a side of the window that is searched; what differs must fit in it with a margin of one block all around."""


def match_players(
    difference: np.ndarray, scenes: Sequence[Appearance], which: np.ndarray, rules: StrictRules
) -> tuple[np.ndarray, np.ndarray]:
    """Match the player at each pixel of each frame.

    Args:
        difference: float32 [n, F, 3, H, W], frames less the background of their scene.
        scenes: the scenes, all of one size.
        which: int [n], scene of each video.
        rules: thresholds.

    Returns:
        Its opacity [n, F, H, W], 0 where what is there does not look like one; and by how much it reduces the squared
        difference, ``match^2 / energy``: the best place is where that is largest, not where the opacity is. Both are 0
        where no player can be that counts.
    """
    n, frames, _, height, width = difference.shape
    # Less what a blur of the whole frame explains, lest a blurred obstacle look like a faint player.
    leak = np.stack([s.leak for s in scenes])
    blur = difference.reshape(n, frames, -1) @ leak[which].reshape(n, -1, 1)
    blur = (blur[..., 0] / np.maximum((leak**2).sum((1, 2, 3)), 1)[which, None]).clip(0, MOST_BLUR)
    blur = -blur[..., None, None, None]
    opacity, gain = np.zeros((2, n, frames, height, width), np.float32)
    if min(height, width) < _LARGE or height % _BLOCK or width % _BLOCK:
        parts = [np.stack([getattr(s, name) for s in scenes])[:, None] for name in _PARTS]
        size = max(1, _TOGETHER // (frames * height * width))
        for begin in range(0, n, size):
            part = slice(begin, begin + size)
            own = which[part]
            planes = np.empty((len(own), frames, _PLANES, height, width), np.float32)
            # The sharp difference is made where it is transformed, while that is in the cache.
            np.multiply(leak[own][:, None], blur[part], out=planes[:, :, :3])
            planes[:, :, :3] += difference[part]
            _correlate(planes, [values[own] for values in parts], rules, opacity[part], gain[part])
        return opacity, gain
    sharp = leak[which][:, None] * blur
    sharp += difference
    for i, scene in enumerate(which):
        _match_large(sharp[i], scenes[scene], rules, opacity[i], gain[i])
    return opacity, gain


def _planes(sharp: np.ndarray) -> np.ndarray:
    """Planes for `_correlate` [1, F, 5, H, W] of differences [F, 3, H, W], the last two not filled."""
    frames, channels, *size = sharp.shape
    planes = np.empty((1, frames, _PLANES, *size), np.float32)
    planes[0, :, :channels] = sharp
    return planes


def _correlate(
    planes: np.ndarray, parts: Sequence[np.ndarray], rules: StrictRules, opacity: np.ndarray, gain: np.ndarray
) -> None:
    """Fill opacity and gain [n, F, H, W] of differences, the first three of the planes [n, F, 5, H, W].

    The other two planes are overwritten. The parts are those of `_PARTS`, one a video or a frame.
    """
    background, look, shape, energy = parts
    n, frames, _, height, width = planes.shape
    sharp = planes[:, :, :3]
    np.einsum("nfchw,nfchw->nfhw", sharp, np.broadcast_to(background, sharp.shape), out=planes[:, :, 3])
    np.einsum("nfchw,nfchw->nfhw", sharp, sharp, out=planes[:, :, 4])
    spectra = scipy.fft.rfft2(planes)
    both = np.empty((2, n, frames, height, width // 2 + 1), np.complex64)
    one = np.empty_like(both[0])
    np.multiply(spectra[:, :, 0], look[:, :, 0], out=both[0])
    for channel in (1, 2, 3):
        both[0] += np.multiply(spectra[:, :, channel], look[:, :, channel], out=one)
    np.multiply(spectra[:, :, 4], shape, out=both[1])
    match, power = scipy.fft.irfft2(both, s=(height, width))
    np.multiply(match, 1 / energy, out=opacity)
    np.multiply(match, opacity.clip(0, 1), out=gain)
    # cosine = match / sqrt(energy * power), compared without the root; the 1 keeps rounding errors from counting
    np.maximum(power, 1, out=power)
    power *= rules.likeness**2
    opacity *= gain >= power


def _match_large(
    sharp: np.ndarray, scene: Appearance, rules: StrictRules, opacity: np.ndarray, gain: np.ndarray
) -> None:
    """Fill opacity and gain [F, H, W] of one video: windows around differences, whole frames where those are wide."""
    side = _BLOCK * _WINDOW
    first, last = _boxes(sharp, scene, rules)
    wide = ((last - first) >= _WINDOW - 2).any(1) | bool(scene.radius + 1 > _BLOCK)
    some = last[:, 0] >= 0
    whole = np.flatnonzero(some & wide)
    if len(whole):
        found, gained = np.empty((2, 1, len(whole), *sharp.shape[-2:]), np.float32)
        parts = [getattr(scene, name)[None, None] for name in _PARTS]
        _correlate(_planes(sharp[whole]), parts, rules, found, gained)
        opacity[whole], gain[whole] = found[0], gained[0]
    narrow = np.flatnonzero(some & ~wide)
    if not len(narrow):
        return
    most = np.array(sharp.shape[-2:]) // _BLOCK - _WINDOW
    corners = np.clip(first[narrow] - 1, 0, most) * _BLOCK
    windows = [(slice(y, y + side), slice(x, x + side)) for y, x in corners.tolist()]
    cut = np.stack([sharp[(f, slice(None), *window)] for f, window in zip(narrow, windows, strict=True)])
    background = np.stack([scene.background[(slice(None), *window)] for window in windows])
    energy = np.stack([scene.energy[window] for window in windows])
    own = np.fft.fftfreq(side, 1 / side).astype(int)
    own_look = np.concatenate([scene.colour, -scene.opacity[None]])[:, own[:, None], own]
    look = scipy.fft.rfft2(own_look).conj()
    shape = scipy.fft.rfft2((own_look[3] < -0.1).astype(np.float32)).conj()
    found, gained = np.empty((2, 1, len(narrow), side, side), np.float32)
    parts = [background[None], look[None, None], shape[None, None], energy[None]]
    _correlate(_planes(cut), parts, rules, found, gained)
    for k, (f, window) in enumerate(zip(narrow, windows, strict=True)):
        gain[f][window] = gained[0, k]
        # Only inside the box: at a window's edge the transforms wrap around.
        box = tuple(slice(a * _BLOCK, (b + 1) * _BLOCK) for a, b in zip(first[f], last[f], strict=True))
        inner = tuple(slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, window, strict=True))
        opacity[f][box] = found[0, k][inner]


def _boxes(sharp: np.ndarray, scene: Appearance, rules: StrictRules) -> tuple[np.ndarray, np.ndarray]:
    """First and last block (row, column), int [F, 2], where a player may be that counts; last is -1 if nowhere."""
    frames, _, height, width = sharp.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    squared = np.einsum("fchw,fchw->fhw", sharp, sharp).reshape(frames, rows, _BLOCK, columns, _BLOCK).sum((2, 4))
    for axis in (1, 2):
        squared = squared + np.roll(squared, 1, axis) + np.roll(squared, -1, axis)
    least = scene.energy.reshape(rows, _BLOCK, columns, _BLOCK).min((1, 3))
    # A little less than what counts, for what rounding does.
    active = squared >= (0.95 * min(rules.present, rules.duplicate, rules.faintest)) ** 2 * least
    bounds = []
    for axis in (2, 1):
        any_there = active.any(axis)
        size = any_there.shape[1]
        first, last = any_there.argmax(1), size - 1 - any_there[:, ::-1].argmax(1)
        bounds.append((first, np.where(any_there.any(1), last, -1)))
    return np.stack([b[0] for b in bounds], axis=1), np.stack([b[1] for b in bounds], axis=1)
