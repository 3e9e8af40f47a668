"""Compressed videos of small cells: what a codec does to an honest video breaks no rule.

H.264 at low quality damages cells of a few pixels so much that honest videos break rules by the letter: a player that
has moved on stays behind in another colour, a goal loses its own, walls run into the floor. Where such damage falls is
hard to foresee but easy to repeat: the level is drawn with the player where it was read (or, where that fails, along
the level's solution), and this honest video is compressed in several ways. So much as these differ from the drawing is
forgiven pixel by pixel, and what is left of the video is read by the usual rules.

A video cannot widen what is forgiven: that follows from the level and from the way that is judged, up to the quality
`StrictRules.compression`. Nor can it be anything: its colours must have half the resolution, as compressed ones have
and those of a model's own frames have not, and no place may be much farther from the drawing than compression takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.families import get_family
from wan_r1.tasks.level import GridLevel, Place
from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification.colour_drift import SORTS, colour_drift
from wan_r1.verification.encoding import AHEAD, ALONE, compress
from wan_r1.verification.verdict import StrictRules, Verdict, Violation

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task

_LARGEST_CELL = 16
"""Pixels a cell from which compressed videos of grids are read like any, and above which those of roads are, on which a
player covers less of a cell (tests/benchmarks/calibration.md)."""
_KINDS = frozenset(
    {
        *("lost", "duplicate", "jump", "too_fast", "off_path", "shows_through", "box_lost", "box_duplicate"),
        *("goal_changed", "wall_changed", "obstacle_changed", "floor_changed", "outside_changed", "ladder_changed"),
    }
)
"""The violations that compression can feign; a video with another is not looked at again."""
_DETAIL = 0.1
"""Largest share of the given image's colour detail within two by two pixels in a video whose colours have half the
resolution; after H.264 at most .03 are left, of a tiny model's own videos .68 or more, after a blur of 1 px .12."""
_SAME_DRAWING = 1.0
"""Largest mean difference, in levels, of the given image from our own drawing of the level, for that to be used."""
_BEYOND = 100.0
"""Levels (Euclidean, over the channels) by which the mean difference from the drawing, over a window of half a cell,
may be outside of what compression makes of it there: honest videos come to 93 at most, a player of another colour to
112 and more (tests/benchmarks/calibration.md)."""
_HOPELESS = 200.0
"""The same from which no further way of encoding is tried: these take at most some tens off."""
_PRESENT = 0.6
"""Least opacity at which a player or a box counts as present once the damage is taken off: more than
`StrictRules.present`, for what is left is sharp. At .8 honest videos fail, at .5 boxes that vanish pass."""
_FIDELITY = 0.99
"""Fidelity from which a video that breaks no rule is taken as it is."""
_STEPS = 0.6
"""The same share of colour steps within two pixels in the first frame of a video for it to be looked at more closely:
after H.264 at most .21 are left, of a tiny model's own videos .81 or more."""
_ON_IT, _MOSTLY = 0.5, 0.8
"""Distance in cells within which the player must be read where the level's solution has it, and in what share of the
frames that show it, for that to be drawn: what a player leaves behind can be taken for it in some."""
_KEEP_IN = 0.02
"""Distance from the frame's edge, as a share of it, within which no player is drawn."""


def may_be_compressed(videos: Sequence[NDArray[np.uint8]], tasks: Sequence[Task]) -> NDArray[np.bool_]:
    """Which videos `read_again` may look at, bool ``[n]``: few that it would not, and quickly told for all together.

    Args:
        videos: ``[F, H, W, 3]`` each, all of one size.
        tasks: the level of each.
    """
    if not _small(videos[0], tasks[0]):
        return np.zeros(len(videos), bool)
    own = _steps(np.stack([video[0] for video in videos]))
    return own < _STEPS * _steps(np.stack([task.first_frame for task in tasks]))


def _small(video: NDArray[np.uint8], task: Task) -> bool:
    """Whether its cells are small enough to be damaged beyond what the usual rules forgive."""
    _, height, width, _ = video.shape
    cell = height / task.level.canvas
    grid = isinstance(task.level, GridLevel | SokobanLevel)
    return (cell < _LARGEST_CELL if grid else cell <= _LARGEST_CELL) and height % 2 == 0 and width % 2 == 0


def _steps(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Sum of the differences of red less green between the pixels 2 k and 2 k + 1 of each row, for each image."""
    opposed = images[..., 0].astype(np.int16) - images[..., 1]
    return np.abs(opposed[..., ::2] - opposed[..., 1::2]).sum((1, 2))


def read_again(
    video: NDArray[np.uint8], task: Task, verdict: Verdict, rules: StrictRules, read: Callable[..., Verdict]
) -> Verdict:
    """The verdict on a compressed video of small cells; other videos keep theirs.

    If it breaks rules or keeps little background, what compression did is taken off, and the second verdict counts if
    that keeps every rule. If it keeps them, it still breaks one where all of a sort has another colour than
    compression gives it.

    Args:
        video: ``[F, H, W, 3]``.
        task: its level.
        verdict: the verdict on the video as it is.
        rules: tolerances, for `StrictRules.compression`.
        read: reads a video of this level by given rules: ``read(video, rules)``.
    """
    if not _worth_it(video, task, verdict) or not _half_resolution(video, task.first_frame):
        return verdict
    family, texture, side = get_family(task.family), TEXTURES[task.texture], task.height
    given = family.render(task.level, texture, task.trajectory[:1], side)[0]
    if np.abs(given.astype(np.int16) - task.first_frame).mean() > _SAME_DRAWING:
        return verdict

    boxes = isinstance(task.level, SokobanLevel)

    def draw(positions: NDArray[np.float64]) -> NDArray[np.uint8]:
        return family.render(task.level, texture, positions.clip(_KEEP_IN, 1 - _KEEP_IN), side)

    if verdict.kept_rules:
        positions = _as_read(verdict.track, task, lambda: verdict.track)
        if positions is None:
            return verdict
        honest = draw(positions)
        drifted = np.zeros((len(video), len(SORTS)), bool)
        for compressed in _compressed(honest, rules.compression):
            drifted = colour_drift(video, honest, compressed, task.texture, boxes)
            if not drifted.any():
                break
        if drifted.any():
            return _drifted_verdict(verdict, drifted, task.level.start)
        if verdict.mf >= _FIDELITY:
            return verdict
    faint = replace(rules, present=rules.present / 2, likeness=rules.likeness * 2 / 3)
    firm = replace(rules, present=max(rules.present, _PRESENT))
    # Where the player is lost there is nothing to read: it may as well have gone on as stopped.
    lost = any(found.kind == "lost" for found in verdict.violations)
    for guess in (_as_solved, _as_read) if lost else (_as_read, _as_solved):
        positions = guess(verdict.track, task, lambda: read(video, faint).track)
        if positions is None:
            continue
        honest = draw(positions)
        for compressed in _compressed(honest, rules.compression):
            cleaned, beyond = _without_damage(video, honest, compressed, side // task.level.canvas)
            if beyond > _HOPELESS:
                break
            if beyond > _BEYOND or colour_drift(video, honest, compressed, task.texture, boxes).any():
                continue
            again = read(cleaned, firm)
            if again.kept_rules:
                return again
    return verdict


def _compressed(honest: NDArray[np.uint8], quality: int) -> Iterator[NDArray[np.uint8]]:
    """The honest video in the usual ways ``[ways, F, H, W, 3]``; then, if these are not enough, in all."""
    usual = [compress(honest, way, quality) for way in AHEAD]
    yield np.stack(usual)
    yield np.stack([*usual, *(compress(honest, way, quality) for way in ALONE)])


def _drifted_verdict(verdict: Verdict, drifted: NDArray[np.bool_], start: Place) -> Verdict:
    """A verdict that kept the rules, with sorts ``[F, len(SORTS)]`` that do not.

    The place of such a violation is the player's. Of the moves those count that were made before the first one; if the
    walk has others too, rather fewer.
    """
    names, places, frames = list(SORTS), verdict.walk or (start,), np.asarray(verdict.walk_frames)
    found = tuple(
        Violation(kind=names[sort], frame=frame, place=places[max(int((frames <= frame).sum()) - 1, 0)])
        for frame, sort in np.argwhere(drifted).tolist()
    )
    kept = int((frames < found[0].frame).sum())
    return replace(
        verdict,
        em=False,
        sr=False,
        sd=None,
        pr=verdict.pr * max(kept - 1, 0) / max(len(frames) - 1, 1),
        violations=found,
        walk=verdict.walk[:kept],
        walk_frames=verdict.walk_frames[:kept],
    )


def _worth_it(video: NDArray[np.uint8], task: Task, verdict: Verdict) -> bool:
    """Whether a video's cells are small, its violations such as compression can feign, and its look one of ours."""
    return (
        _small(video, task) and task.texture in TEXTURES and all(found.kind in _KINDS for found in verdict.violations)
    )


def _half_resolution(video: NDArray[np.uint8], image: NDArray[np.uint8]) -> bool:
    """Whether a video's colours have half the resolution of those of the image that it was given."""
    own, given = _colour_detail(video), _colour_detail(image[None])
    return own.mean() < _DETAIL * given[0]


def _colour_detail(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Squared differences of both colour channels (Cb, Cr) within blocks of two by two pixels, for each frame."""
    count, height, width, _ = frames.shape
    found = np.empty(count)
    for k, frame in enumerate(frames):
        colour = cv2.cvtColor(frame, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(np.float32)
        blocks = colour.reshape(height // 2, 2, width // 2, 2, 2)
        found[k] = ((blocks - blocks.mean((1, 3), keepdims=True)) ** 2).sum()
    return found


def _as_read(
    track: NDArray[np.float32], task: Task, faint: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float64] | None:
    """The player's positions ``[F, 2]``: where it is lost those of a reading of faint players, else in between.

    None if it is never seen.
    """
    lost = np.isnan(track)
    positions = (np.where(lost, faint(), track) if lost.any() else track).astype(np.float64)
    known, frames = ~np.isnan(positions[:, 0]), np.arange(len(positions))
    if not known.any():
        return None
    return np.stack([np.interp(frames, frames[known], positions[known, axis]) for axis in (0, 1)], axis=1)


def _as_solved(
    track: NDArray[np.float32], task: Task, faint: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float64] | None:
    """The level's own solution ``[F, 2]``, if the player is mostly on it where it is seen, else None."""
    own = task.trajectory.astype(np.float64)
    if own.shape != track.shape:
        return None
    seen = ~np.isnan(track[:, 0])
    there = np.abs(track - own)[seen].max(1) * task.level.canvas <= _ON_IT
    return own if len(there) and there.mean() >= _MOSTLY else None


def _without_damage(
    video: NDArray[np.uint8], honest: NDArray[np.uint8], compressed: NDArray[np.uint8], cell: int
) -> tuple[NDArray[np.uint8], float]:
    """A video less what compression of the honest one explains, and how far it is from that at most (see `_BEYOND`)."""
    damage = compressed.astype(np.int16) - honest
    difference = video.astype(np.int16) - honest
    window = (max(2, cell // 2),) * 2
    farthest = 0.0
    for frame, ways in zip(difference, np.moveaxis(damage, 1, 0), strict=True):
        own, *theirs = (cv2.blur(one.astype(np.float32), window) for one in (frame, *ways))
        beyond = own - own.clip(np.minimum(np.min(theirs, axis=0), 0), np.maximum(np.max(theirs, axis=0), 0))
        farthest = max(farthest, float((beyond**2).sum(-1).max()))
    least, largest = np.minimum(damage.min(0), 0), np.maximum(damage.max(0), 0)
    return (honest + difference - difference.clip(least, largest)).clip(0, 255).astype(np.uint8), farthest**0.5
