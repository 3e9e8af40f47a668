"""Where a camera was in a known room: its pose in each frame, found by drawing the room and comparing.

From the last frame's pose the search goes on by Gauss-Newton steps on the difference of picture and drawing (its slopes
by poses are themselves drawn), with weights that give outliers a say in proportion to their number and not their size.
Where that leaves a bad fit, poses around the last one are tried at a coarse size, and then poses all over the floor: a
camera that is somewhere else is found there, and one that is nowhere leaves a difference that says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.draw_room import draw_room
from wan_r1.tasks.families.navigation import start_pose
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.robot import ROBOT_RADIUS
from wan_r1.tasks.room_surfaces import RoomScene, room_scene
from wan_r1.tasks.textures import TEXTURES

SIDE, _RAYS = 32, 2
"""Pixels a side at which pictures are compared, and rays along each side of a pixel of the drawing."""
_SCALE = 26
"""Pixels of the atlas in a metre."""
_COARSE = 16
"""The same for poses that are only tried."""
_BLUR = 0.8
"""Standard deviation in pixels of the blur before comparing: it widens what a step can see."""
_STEPS = (0.04, 0.04, 0.02)
"""Metres ahead, metres aside and radians over which slopes are measured."""
_OUTLIER = 6.0
"""Differences beyond so many levels count by their number."""
_ITERATIONS = 10
_FURTHEST = (0.35, 0.35, 0.35)
"""Metres ahead, metres aside and radians of one step at most."""
_STILL = (0.002, 0.002, 0.001)
"""A step below these ends the search."""
_GOOD_FIT = 2.5
"""Mean difference in levels up to which a fit is taken as it is; above, poses around are tried too."""
_BAD_FIT = 7.0
"""The same from which poses all over the floor are tried, and a frame counts as one that nothing fits."""
_WORSE = 1.5
"""Both may be so many times the first frame's fit: there the pose is known, and compression alone can come to seven."""
_SUSPECT = 30.0
"""Mean difference of a window of five pixels from which a pose is looked for once more."""
_DOUBTFUL = 2.0
"""The same for a fit so many times the video's median."""
_PATIENCE, _AGAIN = 3, 8
"""After so many frames that nothing fits, only every so many frames are looked for in the whole room."""
_BEST, _MANY = 3, 12
"""Poses that are refined of those that were tried, at first and where that found nothing that fits."""
_INSIDE, _DOUBT = 0.05, 0.1
"""Metres into an obstacle from which a pose outside is looked for, and how much worse that may fit, as a share of the
video's median fit."""
_MENDED = 6
"""Frames of a video at most that many are refined for."""


@dataclass(frozen=True, kw_only=True)
class CameraTrack:
    """What was found of a video's camera.

    Attributes:
        poses: float64 ``[F, 3]``, x and y in metres, heading in radians without jumps of a whole turn.
        fit: float32 ``[F]``, mean difference of picture and drawing in levels of 0..255, outliers capped.
        difference: float32 ``[F, SIDE, SIDE]``, their difference in each place, the mean over channels.
    """

    poses: NDArray[np.float64]
    fit: NDArray[np.float32]
    difference: NDArray[np.float32]


def track_camera(video: NDArray[np.uint8], level: NavigationLevel, texture: str) -> CameraTrack:
    """The camera's pose in each frame of a video of a known room, which should begin at the level's start.

    Args:
        video: ``[F, H, W, 3]``.
        level: the room.
        texture: name of the texture it is drawn in.

    Raises:
        KeyError: if there is no such texture.
    """
    search = _Search(level, room_scene(level, TEXTURES[texture], _SCALE))
    pictures = reduced(video, SIDE)
    poses = np.zeros((len(video), 3))
    fits, last = np.zeros(len(video), np.float32), start_pose(level)
    before, lost = last, 0
    for frame, picture in enumerate(pictures):
        guesses = [last] if frame == 0 else [last + (last - before), last]
        wide = lost < _PATIENCE or frame % _AGAIN == 0 or frame == len(video) - 1
        pose, fit = search.find(picture, guesses, wide)
        if frame == 0:
            # The start is known: elsewhere must fit clearly better, as before a wall much does.
            near, there = search.find(picture, guesses, False)
            if there <= (1 + _DOUBT) * fit:
                pose, fit = near, there
            before = last = pose
            search.bad_fit = max(_BAD_FIT, _WORSE * fit)
        lost = lost + 1 if fit > search.bad_fit else 0
        before, last = last, pose
        poses[frame], fits[frame] = pose, fit
    for frame in sorted(np.argsort(-fits, kind="stable")[: min(_MENDED, np.sum(fits > search.bad_fit))].tolist()):
        beside = poses[[near for near in (frame - 1, frame + 1) if 0 <= near < len(poses)]]
        pose, fit = search.thoroughly(pictures[frame], beside)
        if fit < fits[frame]:
            poses[frame], fits[frame] = pose, fit
    # A camera that comes to rest is overshot; where it rests then fits the frame before better.
    for frame in range(len(video) - 2, 0, -1):
        if search.fit(pictures[frame], poses[frame + 1]) < fits[frame]:
            pose, fit = search.find(pictures[frame], [poses[frame + 1]], False)
            if fit < fits[frame]:
                poses[frame], fits[frame] = pose, fit
    poses[:, 2] = np.unwrap(poses[:, 2])
    # Before a plain wall many poses fit about alike. What says that it drove into something must fit better than what
    # says that it did not.
    doubt = _DOUBT * float(np.median(fits))
    inside = level.clearance(poses[:, :2]) < ROBOT_RADIUS - _INSIDE
    for frame in np.flatnonzero(inside[1:-1] & (fits[1:-1] <= search.bad_fit))[:_MENDED].tolist():
        frame += 1
        found = search.outside(pictures[frame], poses[[frame - 1, frame + 1]])
        if found is not None and found[1] <= fits[frame] + doubt:
            pose, fits[frame] = found
            pose[2] = poses[frame, 2] + (pose[2] - poses[frame, 2] + np.pi) % (2 * np.pi) - np.pi
            poses[frame] = pose
    difference = np.abs(pictures - search.draw(poses, SIDE, _RAYS)).mean(-1).astype(np.float32)
    # Where something seems to differ, it may be the pose that is off by a little.
    worst = np.array([cv2.blur(one, (5, 5)).max() for one in difference])
    doubtful = (worst > _SUSPECT) | (fits > _DOUBTFUL * np.median(fits))
    for frame in np.flatnonzero(doubtful & (fits <= search.bad_fit)).tolist():
        pose, fit = search.again(pictures[frame], poses[frame])
        if fit < fits[frame]:
            poses[frame], fits[frame] = pose, fit
            difference[frame] = np.abs(pictures[frame] - search.draw(pose[None], SIDE, _RAYS)[0]).mean(-1)
    return CameraTrack(poses=poses, fit=fits, difference=difference)


def reduced(video: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Frames at the size at which they are compared, blurred, float32 ``[F, side, side, 3]``."""
    small = np.empty((len(video), side, side, 3), np.float32)
    for frame, picture in enumerate(video):
        one = picture if picture.shape[0] == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        small[frame] = cv2.GaussianBlur(one.astype(np.float32), (0, 0), _BLUR, borderType=cv2.BORDER_REPLICATE)
    return small


class _Search:
    """Poses of one room's camera."""

    def __init__(self, level: NavigationLevel, scene: RoomScene) -> None:
        self._level, self._scene = level, scene
        self._everywhere: tuple[NDArray[np.float64], NDArray[np.float32]] | None = None
        self.bad_fit = _BAD_FIT
        """`_BAD_FIT`, or more in a video whose first frame fits badly."""

    def draw(self, poses: NDArray[np.float64], side: int, fine: int) -> NDArray[np.float32]:
        """Drawings as pictures are reduced, ``[P, side, side, 3]``."""
        return reduced(draw_room(self._scene, poses, side, fine), side)

    def find(
        self, picture: NDArray[np.float32], guesses: list[NDArray[np.float64]], wide: bool
    ) -> tuple[NDArray[np.float64], float]:
        """The pose that fits a picture best, and its fit; ``wide`` looks farther than the guesses if they fit badly."""
        pose, fit = self._refine(picture, self._best(picture, np.array(guesses), SIDE, _RAYS, 1)[0])
        if fit <= _GOOD_FIT or not wide:
            return pose, fit
        coarse = cv2.resize(picture, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)
        around = self._around(guesses[-1])
        for tried, limit in ((around, self.bad_fit), (None, 0.0)):
            if tried is None:
                # All over the floor, drawn once a video.
                if self._everywhere is None:
                    places = self._places()
                    self._everywhere = places, self.draw(places, _COARSE, 1)
                places, drawn = self._everywhere
                costs = _cost(drawn - coarse)
                starts = places[np.argsort(costs, kind="stable")[:_BEST]]
            else:
                starts = self._best(coarse, tried, _COARSE, 1, _BEST)
            for start in starts:
                other, better = self._refine(picture, start)
                # A place far away must fit clearly better than the one at hand.
                if better < (fit if limit else 0.8 * fit):
                    pose, fit = other, better
            if fit <= limit:
                break
        return pose, fit

    def thoroughly(
        self, picture: NDArray[np.float32], beside: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        """The best pose that is found from those beside in time, and from many around them; and its fit."""
        around = np.concatenate([self._around(pose) for pose in beside])
        starts = [*beside, *self._best(picture, around, SIDE, 1, _MANY)]
        return min((self._refine(picture, start) for start in starts), key=lambda one: one[1])

    def outside(
        self, picture: NDArray[np.float32], beside: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float] | None:
        """The best pose clear of all obstacles that is found around those beside in time, and its fit."""
        around = np.concatenate([self._around(pose) for pose in (*beside, beside.mean(axis=0))])
        free = around[self._level.clearance(around[:, :2]) >= ROBOT_RADIUS]
        if not len(free):
            return None
        found = [self._refine(picture, start) for start in self._best(picture, free, SIDE, 1, _MANY)]
        clear = [one for one in found if self._level.clearance(one[0][None, :2])[0] >= ROBOT_RADIUS - _INSIDE]
        return min(clear, key=lambda one: one[1], default=None)

    def fit(self, picture: NDArray[np.float32], pose: NDArray[np.float64]) -> float:
        """How well a pose fits a picture as it is."""
        return float(_cost(self.draw(pose[None], SIDE, _RAYS) - picture)[0])

    def again(self, picture: NDArray[np.float32], pose: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """The best pose that is found from places just beside one, and its fit."""
        starts = self._best(picture, _moved(pose, _BESIDE), SIDE, _RAYS, _BEST)
        found = [self._refine(picture, start) for start in starts]
        return min(found, key=lambda one: one[1])

    def _best(self, picture, poses: NDArray[np.float64], side: int, fine: int, count: int) -> NDArray[np.float64]:
        if len(poses) <= count:
            return poses
        costs = _cost(self.draw(poses, side, fine) - picture)
        return poses[np.argsort(costs, kind="stable")[:count]]

    def _refine(self, picture: NDArray[np.float32], pose: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Gauss-Newton steps from a pose; the best pose on the way, and its fit."""
        best, least = pose, np.inf
        for _ in range(_ITERATIONS):
            drawn = self.draw(_moved(pose, _PROBES), SIDE, _RAYS)
            rest = drawn[0] - picture
            fit = float(_cost(rest[None])[0])
            if fit >= least - 0.005:
                if fit >= least + 0.2:
                    # Too far: half-way back.
                    pose = (pose + best) / 2
                    continue
                break
            best, least = pose, fit
            slopes = (drawn[1::2] - drawn[2::2]).reshape(3, -1) / (2 * np.array(_STEPS, np.float32))[:, None]
            weights = 1 / np.maximum(np.abs(rest).ravel(), _OUTLIER)
            normal = (slopes * weights) @ slopes.T
            normal[np.diag_indices(3)] *= 1.02
            normal[np.diag_indices(3)] += 1e-6
            step = np.linalg.solve(normal, -(slopes * weights) @ rest.ravel())
            step = np.clip(step, np.negative(_FURTHEST), _FURTHEST)
            pose = _moved(pose, step[None])[0]
            if np.all(np.abs(step) < _STILL):
                break
        return best, least

    def _around(self, pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """Poses that a camera may have come to from a pose in one frame."""
        return _moved(pose, _NEIGHBOURHOOD)

    def _places(self) -> NDArray[np.float64]:
        """Poses all over the free floor."""
        width, depth = self._level.size
        pace = max(0.4, 0.4 * np.sqrt(width * depth / 30))
        x, y = np.meshgrid(np.arange(0.3, width - 0.2, pace), np.arange(0.3, depth - 0.2, pace))
        spots = np.stack([x.ravel(), y.ravel()], axis=1)
        spots = spots[self._level.clearance(spots) >= ROBOT_RADIUS / 2]
        turns = np.arange(16) * (np.pi / 8)
        return np.concatenate([np.repeat(spots, 16, axis=0), np.tile(turns, len(spots))[:, None]], axis=1)


_PROBES = np.array(
    [[0.0, 0.0, 0.0]]
    + [[sign * step * (axis == k) for axis in range(3)] for k, step in enumerate(_STEPS) for sign in (1, -1)]
)
_BESIDE = np.array(
    [[ahead, aside, turn] for ahead in (-0.1, 0.0, 0.1) for aside in (-0.1, 0.0, 0.1) for turn in (-0.06, 0.0, 0.06)]
)
"""Metres ahead, metres aside and radians, just beside a pose."""
_NEIGHBOURHOOD = np.array(
    [
        [ahead, aside, turn]
        for ahead in (-0.4, 0.0, 0.25, 0.5, 0.8, 1.2)
        for aside in (-0.4, 0.0, 0.4)
        for turn in (-1.2, -0.8, -0.5, -0.25, 0.0, 0.25, 0.5, 0.8, 1.2)
    ]
)
"""Metres ahead, metres aside and radians from the last pose."""


def _moved(pose: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """A pose after steps ``[P, 3]`` (metres ahead, metres to the right, radians) from it, ``[P, 3]``."""
    x, y, heading = pose
    ahead, right, turn = steps.T
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack([x + ahead * cos + right * sin, y + ahead * sin - right * cos, heading + turn], axis=1)


def _cost(rest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean size of differences ``[P, ...]``, those above forty levels counted as forty."""
    return np.minimum(np.abs(rest), 40).reshape(len(rest), -1).mean(1)
