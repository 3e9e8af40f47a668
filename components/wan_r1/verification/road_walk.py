"""From positions to a walk over roads, and the rules that such a walk can break."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wan_r1.verification.road_scene import RoadScene
from wan_r1.verification.verdict import StrictRules

_CORE = 0.35
"""A place is reached when the way to it along the road is at most so long, in cells."""
_BEHIND = 3.0
"""Longest way, in cells, that the player may go without being seen: what hides it is no larger."""
_RETREAT = 0.5
"""Going back, or into a wrong road, by less than this many cells is no mistake."""


@dataclass(frozen=True, kw_only=True)
class RoadWalk:
    """The way of one player over the roads of its level.

    Attributes:
        places: (place, frame it is reached in) in their order, from the start until the first point off the roads.
        off_path: bool [F], off every road that it could be on.
        nearest: int [F], the place nearest to it; the last known where it is not seen.
        left: float [F], length of the shortest way from there to the goal; the last known where it is not on a road.
        extra: how much longer it went than it would have had to: what it went away from the goal, and back again.
        mistake: the frame in which it has first gone away from the goal by more than a little; F if it never does.
    """

    places: tuple[tuple[int, int], ...]
    off_path: np.ndarray
    nearest: np.ndarray
    left: np.ndarray
    extra: float
    mistake: int


def follow_roads(position: np.ndarray, scene: RoadScene, speed: float, rules: StrictRules) -> RoadWalk:
    """Match a track with the roads.

    Args:
        position: float32 [F, 2], (x, y) in cells, nan where not seen; on the way between it may have been hidden.
        scene: the level's roads.
        speed: the level's speed in cells a frame.
        rules: tolerances.
    """
    frames = len(position)
    away = _distances(position, scene.samples)
    to_places = _distances(position, scene.points)
    off = np.zeros(frames, bool)
    left = np.full(frames, scene.length)
    nearest = np.full(frames, scene.start)
    here = int(_distances(scene.points[scene.start][None], scene.samples)[0].argmin())
    places, before, on_road = [(scene.start, 0)], 0, True
    # As long as it keeps to the level's recorded way, what is left of that counts, else the shortest way from there.
    on_way = True
    for f in np.flatnonzero(~np.isnan(position[:, 0])).tolist():
        nearest[f:] = to_places[f].argmin()
        close = away[f] <= rules.path_tolerance
        if not on_road:
            # Where it has come from is not known any more: any road will do.
            off[f] = not close.any()
            continue
        ways = _ways(scene, here)
        reach = min(speed * max(1, f - before), max(speed, _BEHIND)) + rules.speed_slack
        options = np.flatnonzero(close & (ways.min(1) <= reach))
        if not len(options):
            off[f], on_road = True, False
            continue
        there = int(options[away[f, options].argmin()])
        places += [(place, f) for place in _passed(scene, here, there, ways[there]) if place != places[-1][0]]
        here, before = there, f
        for end, rest in zip(scene.ends[scene.road_of[here]], scene.along[here], strict=True):
            # On a road that is shorter than that, only the nearer end.
            if rest <= _CORE and 2 * rest < scene.along[here].sum() and end != places[-1][0]:
                places.append((int(end), f))
        on_way = on_way and bool(np.isfinite(scene.to_goal_on_way[here]))
        to_goal = scene.to_goal_on_way if on_way else scene.to_goal
        left[f:] = 0.0 if places[-1][0] == scene.goal else to_goal[here]
    extra, mistake = _retreats(left)
    return RoadWalk(places=tuple(places), off_path=off, nearest=nearest, left=left, extra=extra, mistake=mistake)


def _ways(scene: RoadScene, here: int) -> np.ndarray:
    """Lengths [M, 5] of the ways from a sample to every other: by each of four pairs of ends, or along its own road."""
    own = scene.road_of[here]
    first, second = scene.ends[own]
    ends = scene.ends[scene.road_of]
    by_first, by_second = (
        rest + scene.between[end][ends] + scene.along
        for rest, end in zip(scene.along[here], (first, second), strict=True)
    )
    straight = np.where(scene.road_of == own, np.abs(scene.along[:, 0] - scene.along[here, 0]), np.inf)
    return np.concatenate([by_first, by_second, straight[:, None]], axis=1)


def _passed(scene: RoadScene, here: int, there: int, ways: np.ndarray) -> list[int]:
    """The places at which the shortest way from one sample to another leaves its road and enters the other."""
    best = int(ways.argmin())
    if best == 4:
        return []
    leaves, enters = scene.ends[scene.road_of[here]][best // 2], scene.ends[scene.road_of[there]][best % 2]
    return [int(leaves)] if leaves == enters else [int(leaves), int(enters)]


def _distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distances [N, M] of points [N, 2] from others [M, 2]; nan for points that are."""
    return np.hypot(points[:, None, 0] - others[None, :, 0], points[:, None, 1] - others[None, :, 1])


def _retreats(left: np.ndarray) -> tuple[float, int]:
    """Twice the sum of all rises of more than `_RETREAT`, and the frame in which the first one is that large."""
    extra, mistake = 0.0, len(left)
    low = high = left[0]
    for frame, value in enumerate(left):
        if value > high:
            high = value
            if high - low > _RETREAT:
                mistake = min(mistake, frame)
        elif high - value > _RETREAT or value < low:
            # It goes on: a rise that was large enough is over.
            extra += 2 * (high - low) * (high - low > _RETREAT)
            low = high = value
    return float(extra + (high - low) * (high - low > _RETREAT)), mistake
