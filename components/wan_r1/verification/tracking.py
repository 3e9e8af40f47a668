"""Where the player is in each frame: of the places that explain it best, those that continue its way, and a second one.

`wan_r1.verification.matching` says how well a player at each pixel explains a frame. Pixels are x right, y down, with
their centres at half numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from wan_r1.verification.appearance import MOST_BLUR, Appearance
from wan_r1.verification.matching import match_players
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
    opacity, gain = match_players(difference, scenes, which, rules)
    flat = opacity.reshape(n * frames, height * width)
    explained = gain.reshape(flat.shape)
    every = np.arange(n * frames)

    # Few pixels come into question, so the rest is never looked at again.
    frame, pixel = np.divmod(np.flatnonzero(flat >= min(rules.present, rules.faintest)), flat.shape[1])
    order = np.argsort(explained[frame, pixel], kind="stable")
    frame, pixel = frame[order], pixel[order]
    first = _last_of(frame, pixel, flat[frame, pixel] >= rules.present, n * frames)
    # A second player is looked for outside of the reach of the first one's own response, which goes around the edges.
    reach = np.array([min(max(2 * s.radius - 1, 0.6 * cell), 0.9 * cell) for s in scenes], np.float32)
    reach = reach[which].repeat(frames)[frame]
    away_y = np.abs(pixel // width - first[frame] // width)
    away_x = np.abs(pixel % width - first[frame] % width)
    away_y, away_x = np.minimum(away_y, height - away_y), np.minimum(away_x, width - away_x)
    other = (flat[frame, pixel] >= rules.faintest) & (away_y**2 + away_x**2 >= reach**2)
    second = _last_of(frame, pixel, other, n * frames)
    two = np.zeros(n * frames, bool)
    two[frame[other]] = True

    anchors = np.array([s.anchor for s in scenes], np.float32)[which]
    peaks = [pixel.reshape(n, frames) for pixel in (first, second)]
    places = np.stack([refine_peaks(gain, pixel) for pixel in peaks], axis=2) + anchors[:, None, None]
    opacities = np.stack([flat[every, first], np.where(two, flat[every, second], 0)], axis=-1)
    opacities = opacities.reshape(n, frames, 2)
    seen = opacities[..., 0] >= rules.present
    position = _follow(places, opacities, anchors, scenes, which, rules)
    doubled = seen & (opacities[..., 1] >= rules.faintest)
    i, f = np.nonzero(doubled)
    pixels = second.reshape(n, frames)[i, f]
    sure, due = _sharp_opacity(difference[i, f], pixels // width, pixels % width, scenes, which[i], cell, rules)
    doubled[i, f] = sure >= np.maximum(due, rules.faintest)
    doubled |= seen & (_area(difference, position, scenes, which, cell) > rules.largest)
    position[~seen] = np.nan
    hidden = _hidden(position, seen, scenes, which, cell)
    return Tracks(position=position, seen=seen, doubled=doubled, hidden=hidden)


def _last_of(frame: np.ndarray, pixel: np.ndarray, wanted: np.ndarray, frames: int) -> np.ndarray:
    """The last wanted pixel of each frame, int [frames]; 0 where there is none."""
    found = np.zeros(frames, int)
    found[frame[wanted]] = pixel[wanted]
    return found


def _sharp_opacity(
    difference, y, x, scenes: Sequence[Appearance], which: np.ndarray, cell: float, rules: StrictRules
) -> tuple[np.ndarray, np.ndarray]:
    """Opacity [K] of a player at pixels (y, x) of K frames [K, 3, H, W], from what no blur at all could explain.

    Blur is forgiven here pixel by pixel, however uneven it is: a second player is only counted if it is none. Beside it
    what is left, forgiven alike, of a player of the opacity `StrictRules.duplicate`: on a goal that is much less.
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
    low, high = MOST_BLUR * np.minimum(leak, 0), MOST_BLUR * np.maximum(leak, 0)
    own = np.ix_(around % height, around % width)
    colour = np.stack([s.colour[:, *own] for s in scenes])[which]
    opacity = np.stack([s.opacity[own] for s in scenes])[which]
    energy = np.stack([s.energy for s in scenes])[which, y, x]
    player = colour - opacity[:, None] * background
    faint = rules.duplicate * player
    left, due = (((each - each.clip(low, high)) * player).sum((1, 2, 3)) / energy for each in (seen, faint))
    return left, due


def refine_peaks(score: np.ndarray, pixel: np.ndarray) -> np.ndarray:
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


def _area(difference: np.ndarray, position: np.ndarray, scenes, which: np.ndarray, cell: float) -> np.ndarray:
    """Pixels of the player's colour around its position, as a share of what it should have, [n, F].

    Blur and a shift by parts of a pixel leave it as it is; a second player that overlaps the first one does not.
    """
    height, width = difference.shape[-2:]
    radius = np.array([s.radius + 0.5 * cell for s in scenes], np.float32)[which]
    half = int(np.ceil(radius.max())) + 1
    size = min(2 * half + 1, height, width)
    corner = np.clip(np.floor(position).astype(int) - half, 0, np.array((width, height)) - size)
    x, y = corner[..., 0], corner[..., 1]
    away_x, away_y = (corner[..., axis, None] + np.arange(size) + 0.5 - position[..., axis, None] for axis in (0, 1))
    near = away_y[..., :, None] ** 2 + away_x[..., None, :] ** 2 < (radius**2)[:, None, None, None]
    paint = np.stack([s.paint for s in scenes])
    # What a blurred wall or obstacle adds is no player.
    leak = MOST_BLUR * (np.stack([s.leak for s in scenes]) * paint).sum(1)

    def windows(images: np.ndarray) -> np.ndarray:
        """Views of all windows of images [..., H, W]; to pick these is to copy rows, not pixels."""
        return sliding_window_view(images, (size, size), axis=(-2, -1))

    n, frames = np.ogrid[: len(position), : position.shape[1]]
    scene = which[:, None]
    share = (windows(difference)[n, frames, :, y, x] * windows(paint)[scene, :, y, x]).sum(2)
    leak = windows(leak)[scene, y, x]
    share -= share.clip(np.minimum(leak, 0), np.maximum(leak, 0))
    share = share.clip(-1, 1)
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


def bridge(tracks: Tracks) -> np.ndarray:
    """Positions with a straight line over frames in which the player was hidden between two where it was seen."""
    position = tracks.position.copy()
    for i in np.flatnonzero(tracks.hidden.any(1)):
        known, unknown = np.flatnonzero(tracks.seen[i]), np.flatnonzero(tracks.hidden[i])
        unknown = unknown[(unknown > known[0]) & (unknown < known[-1])] if len(known) else unknown[:0]
        for axis in (0, 1):
            position[i, unknown, axis] = np.interp(unknown, known, position[i, known, axis])
    return position
