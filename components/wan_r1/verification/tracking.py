"""Where the player is in each frame, found by a matched filter over the whole frame.

With background B, opacity A and colour times opacity S of the player, a frame F that shows the player at u, faded to
opacity o, is ``B + o T_u`` with ``T_u = S_u - A_u B``. Least squares give ``o(u) = <F - B, T_u> / |T_u|^2`` for every
pixel u at once through Fourier transforms; the cosine between ``F - B`` and ``T_u`` over the player's shape tells the
player from other changes. Pixels are x right, y down, with their centres at half numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft

from wan_r1.verification.appearance import MOST_BLUR, Appearance
from wan_r1.verification.verdict import StrictRules


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Positions and states of the player in ``n`` videos of ``F`` frames.

    Attributes:
        position: float32 [n, F, 2], (x, y) in pixels of the reading resolution; nan where the player is not seen.
        seen: bool [n, F], it is there.
        doubled: bool [n, F], a second one is there too.
        hidden: bool [n, F], not seen, but it may be where it cannot be seen.
    """

    position: np.ndarray
    seen: np.ndarray
    doubled: np.ndarray
    hidden: np.ndarray


def track(
    difference: np.ndarray, scenes: Sequence[Appearance], which: np.ndarray, rules: StrictRules, cell: float
) -> Tracks:
    """Follow the player.

    Args:
        difference: float32 [n, F, 3, H, W], frames less the background of their scene.
        scenes: the scenes, all of one size.
        which: int [n], scene of each video.
        rules: thresholds.
        cell: pixels a cell.
    """
    n, frames, _, height, width = difference.shape
    opacity, gain = _match(difference, scenes, which, rules)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    flat = opacity.reshape(n * frames, height * width)
    explained = gain.reshape(flat.shape)
    every = np.arange(n * frames)

    first = (explained * (flat >= rules.present)).argmax(1)
    # A second player is looked for outside of the reach of the first one's own response, which goes around the edges.
    reach = np.array([min(max(2 * s.radius - 1, 0.6 * cell), 0.9 * cell) for s in scenes], np.float32)
    reach = reach[which].repeat(frames)
    away_y, away_x = np.abs(rows - (first // width)[:, None]), np.abs(columns - (first % width)[:, None])
    away_y, away_x = np.minimum(away_y, height - away_y), np.minimum(away_x, width - away_x)
    near = (away_y**2)[:, :, None] + (away_x**2)[:, None, :] < (reach**2)[:, None, None]
    other = (flat >= rules.duplicate) & ~near.reshape(flat.shape)
    second = (explained * other).argmax(1)

    anchors = np.array([s.anchor for s in scenes], np.float32)[which]
    peaks = [pixel.reshape(n, frames) for pixel in (first, second)]
    places = np.stack([_refine(gain, pixel) for pixel in peaks], axis=2) + anchors[:, None, None]
    opacities = np.stack([flat[every, first], np.where(other[every, second], flat[every, second], 0)], axis=-1)
    opacities = opacities.reshape(n, frames, 2)
    seen = opacities[..., 0] >= rules.present
    position = _follow(places, opacities, anchors, scenes, which, rules)
    doubled = seen & (opacities[..., 1] >= rules.duplicate)
    i, f = np.nonzero(doubled)
    pixels = second.reshape(n, frames)[i, f]
    sure = _sharp_opacity(difference[i, f], pixels // width, pixels % width, scenes, which[i], cell)
    doubled[i, f] = sure >= rules.duplicate
    doubled |= seen & (_area(difference, position, scenes, which, cell) > rules.largest)
    position[~seen] = np.nan
    hidden = _hidden(position, seen, scenes, which, cell)
    return Tracks(position=position, seen=seen, doubled=doubled, hidden=hidden)


def _match(
    difference: np.ndarray, scenes: Sequence[Appearance], which: np.ndarray, rules: StrictRules
) -> tuple[np.ndarray, np.ndarray]:
    """How well a player centred at each pixel explains a frame.

    Returns:
        Its opacity [n, F, H, W], 0 where what is there does not look like one; and by how much it reduces the squared
        difference, ``match^2 / energy``: the best place is where that is largest, not where the opacity is.
    """
    n, frames, _, height, width = difference.shape
    planes = np.empty((n, frames, 5, height, width), np.float32)
    sharp = planes[:, :, :3]
    # Less what a blur of the whole frame explains, lest a blurred obstacle look like a faint player.
    leak = np.stack([s.leak for s in scenes])
    blur = difference.reshape(n, frames, -1) @ leak[which].reshape(n, -1, 1)
    blur = blur[..., 0] / np.maximum((leak**2).sum((1, 2, 3)), 1)[which, None]
    np.multiply(leak[which][:, None], -blur.clip(0, MOST_BLUR)[..., None, None, None], out=sharp)
    sharp += difference
    background = np.stack([s.background for s in scenes])[which]
    np.einsum("nfchw,nchw->nfhw", sharp, background, out=planes[:, :, 3])
    np.einsum("nfchw,nfchw->nfhw", sharp, sharp, out=planes[:, :, 4])
    spectra = scipy.fft.rfft2(planes)
    look, shape, energy = (np.stack([getattr(s, name) for s in scenes]) for name in ("look", "shape", "energy"))
    both = np.empty((2, n, frames, height, width // 2 + 1), np.complex64)
    np.multiply(spectra[:, :, 0], look[which, 0][:, None], out=both[0])
    for channel in (1, 2, 3):
        both[0] += spectra[:, :, channel] * look[which, channel][:, None]
    np.multiply(spectra[:, :, 4], shape[which][:, None], out=both[1])
    match, power = scipy.fft.irfft2(both, s=(height, width))
    opacity = match * (1 / energy)[which][:, None]
    gain = match * np.minimum(np.maximum(opacity, 0), 1)
    # cosine = match / sqrt(energy * power), compared without the root; the 1 keeps rounding errors from counting
    opacity *= gain >= rules.likeness**2 * np.maximum(power, 1, out=power)
    return opacity, gain


def _sharp_opacity(difference, y, x, scenes: Sequence[Appearance], which: np.ndarray, cell: float) -> np.ndarray:
    """Opacity [K] of a player at pixels (y, x) of K frames [K, 3, H, W], from what no blur at all could explain.

    Blur is forgiven here pixel by pixel, however uneven it is: a second player is only counted if it is none.
    """
    height, width = difference.shape[-2:]
    half = int(np.ceil(cell / 2)) + 1
    around = np.arange(-half, half + 1)
    rows, columns = (y[:, None] + around) % height, (x[:, None] + around) % width
    near = slice(None), rows[:, :, None], columns[:, None, :]
    seen = np.moveaxis(difference[np.arange(len(y))[:, None, None], *near], -1, 1)
    leak, background = (
        np.moveaxis(np.stack([getattr(s, name) for s in scenes])[which[:, None, None], *near], -1, 1)
        for name in ("leak", "background")
    )
    seen = seen - seen.clip(MOST_BLUR * np.minimum(leak, 0), MOST_BLUR * np.maximum(leak, 0))
    own = np.ix_(around % height, around % width)
    colour = np.stack([s.colour[:, *own] for s in scenes])[which]
    opacity = np.stack([s.opacity[own] for s in scenes])[which]
    energy = np.stack([s.energy for s in scenes])[which, y, x]
    return (seen * (colour - opacity[:, None] * background)).sum((1, 2, 3)) / energy


def _refine(score: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Peak (x, y) to a fraction of a pixel, [n, F, 2], by a parabola through the peak and its neighbours."""
    n, frames, height, width = score.shape
    y, x = pixel // width, pixel % width
    i, f = np.ogrid[:n, :frames]
    middle = score[i, f, y, x]

    def vertex(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        bend = before - 2 * middle + after
        shift = 0.5 * (before - after) / np.where(bend < 0, bend, -1)
        return np.where((bend < 0) & (before > 0) & (after > 0), np.clip(shift, -0.5, 0.5), 0)

    along_x = vertex(score[i, f, y, (x - 1) % width], score[i, f, y, (x + 1) % width])
    along_y = vertex(score[i, f, (y - 1) % height, x], score[i, f, (y + 1) % height, x])
    return np.stack([x + along_x, y + along_y], axis=-1).astype(np.float32)


def _follow(places, opacities, anchors, scenes, which, rules: StrictRules) -> np.ndarray:
    """Of two players the one that continues the track: positions [n, F, 2] from candidates [n, F, 2, 2]."""
    n, frames = opacities.shape[:2]
    last = np.array([s.home for s in scenes], np.float32)[which]
    position = np.empty((n, frames, 2), np.float32)
    for f in range(frames):
        away = ((places[:, f] - last[:, None]) ** 2).sum(-1)
        pick = ((opacities[:, f, 1] >= rules.present) & (away[:, 1] < away[:, 0])).astype(int)
        here = places[np.arange(n), f, pick]
        position[:, f] = here
        present = opacities[:, f, 0] >= rules.present
        last = np.where(present[:, None], here, last)
    return position


def _area(difference: np.ndarray, position: np.ndarray, scenes, which, cell: float) -> np.ndarray:
    """Pixels of the player's colour around its position, as a share of what it should have, [n, F].

    Blur and a shift by parts of a pixel leave it as it is; a second player that overlaps the first one does not.
    """
    height, width = difference.shape[-2:]
    paint = np.stack([s.paint for s in scenes])
    share = np.einsum("nfchw,nchw->nfhw", difference, paint[which])
    # What a blurred wall or obstacle adds is no player.
    leak = MOST_BLUR * (np.stack([s.leak for s in scenes]) * paint).sum(1)
    share -= share.clip(np.minimum(leak, 0)[which][:, None], np.maximum(leak, 0)[which][:, None])
    share = share.clip(-1, 1)
    radius = np.array([s.radius + 0.5 * cell for s in scenes], np.float32)[which]
    away_y = (np.arange(height, dtype=np.float32) + 0.5 - position[..., 1:2]) ** 2
    away_x = (np.arange(width, dtype=np.float32) + 0.5 - position[..., 0:1]) ** 2
    near = away_y[..., :, None] + away_x[..., None, :] < (radius**2)[:, None, None, None]
    return (share * near).sum((2, 3)) / np.array([s.area for s in scenes], np.float32)[which][:, None]


def _hidden(position, seen, scenes, which, cell: float) -> np.ndarray:
    """Whether an unseen player may be in a hide-out next to where it was seen last, [n, F]."""
    hidden = np.zeros_like(seen)
    for i in np.flatnonzero(~seen.all(1)):
        hideouts = scenes[which[i]].hideouts
        if not hideouts.any():
            continue
        rows, columns = np.nonzero(hideouts)
        last = None
        for f in range(seen.shape[1]):
            if seen[i, f]:
                last = position[i, f]
            elif last is not None:
                near = (columns + 0.5 - last[0]) ** 2 + (rows + 0.5 - last[1]) ** 2 <= (1.5 * cell) ** 2
                hidden[i, f] = near.any()
    return hidden
