"""Reading videos of levels made of roads: where the player is, what it breaks, and the strict metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from wan_r1.verification.appearance import MOST_BLUR
from wan_r1.verification.beside_player import REACH, lost_shares, with_player
from wan_r1.verification.fidelity import unchanged_shares
from wan_r1.verification.road_scene import COVERED, HIDDEN, MAY_HIDE, RoadScene, template_pixels
from wan_r1.verification.road_walk import RoadWalk, follow_roads
from wan_r1.verification.scene import reduce_frames
from wan_r1.verification.tracking import Tracks, track
from wan_r1.verification.verdict import DUPLICATED, LOST, OCCLUDED, TRACKED, StrictRules, Verdict, Violation

_SPREAD = 1.5
"""Pixels by which the player's pixels reach beyond its radius, as in `wan_r1.verification.fidelity`."""
_CONTRAST = 24.0
"""Colour distance, in levels, from which a region shows something that can be lost."""
_FADED_BESIDE_BLUR = 0.25
"""Share of a region's contrast that must be lost in another way than by blur, for it to count as faded."""
_LEAST_SEEN = 0.5
"""Least share of a region's pixels away from the player for it to be compared."""
_FEWEST_SEEN = 8
"""The same in pixels."""
_GOAL_LOST = 0.4
"""Share of what shows of the goal beside the player that must be lost for it to count as changed: honest videos of
64 px come to .17 after H.264, those whose goal is gone to .62 at least."""
_LEAST_COVERED = 0.3
"""Least share of the player that is covered, for it to be noticed when it is drawn over what covers it."""
_SHINES = 1.2
"""All of the player must explain a frame so many times better than what should be seen of it, for it to count."""


def read_roads(
    videos: Sequence[np.ndarray], scenes: Sequence[RoadScene], speeds: Sequence[float], canvas: int, rules: StrictRules
) -> list[Verdict]:
    """Verdicts of readable videos of one shape.

    Args:
        videos: ``[F, H, W, 3]`` uint8 each.
        scenes: the scene of each.
        speeds: the level's speed for each, in cells a frame.
        canvas: cells per side of the frame, the same for all.
        rules: tolerances.
    """
    found = []
    for video, scene, speed in zip(videos, scenes, speeds, strict=True):
        side = scene.background.shape[-1]
        cell = side / canvas
        frames = reduce_frames(video, side)
        difference = frames.transpose(0, 3, 1, 2) - scene.background
        which = np.zeros(1, int)
        tracks = track(difference[None], [scene], which, rules, cell)
        tracks, shown_through = _look_behind(tracks, difference, scene, speed, rules, cell)
        position = tracks.position[0]
        radius = np.array([scene.radius + _SPREAD], np.float32)
        shares = unchanged_shares(frames[None], tracks.position, radius, [scene], which, rules.fidelity_tau)[0]
        changed = _changed_regions(difference, position, float(radius[0]) + 2, scene, rules)
        changed |= _goal_lost_beside_player(frames, position, float(radius[0]) + 2, scene)
        position = position / np.float32(cell)
        walk = follow_roads(position, scene, speed, rules)
        found.append(_judge(position, tracks, walk, changed, shown_through, shares, scene, speed, canvas, rules))
    return found


def _look_behind(
    tracks: Tracks, difference: np.ndarray, scene: RoadScene, speed: float, rules: StrictRules, cell: float
) -> tuple[Tracks, np.ndarray]:
    """The tracks with the player also where it is partly covered, and the frames in which it is drawn over a cover.

    Where the player may be covered, what can be seen of it at each sample of the roads is compared with the frame, and
    the sample that explains most is taken; if all of it explains more than what can be seen, it shows through.
    """
    position, seen = tracks.position[0].copy(), tracks.seen[0].copy()
    through = np.zeros(len(seen), bool)
    if not len(scene.veils):
        return tracks, through
    side, half = scene.background.shape[-1], scene.veils.shape[1] // 2
    around = np.arange(-half, half + 1)
    points = scene.samples[scene.veiled] * np.float32(cell)
    visible = scene.visible[scene.veiled]
    pixel = template_pixels(points, scene)
    rows, columns = (pixel[:, axis, None] + around for axis in (1, 0))
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    place = rows.clip(0, side - 1)[:, :, None], columns.clip(0, side - 1)[:, None, :]
    own = np.ix_(around % side, around % side)
    colour, opacity = scene.colour[:, *own], scene.opacity[own]
    whole = (colour[None] - opacity * np.moveaxis(scene.background[:, *place], 0, 1)) * inside[:, None]
    part = whole * scene.veils[:, None]
    energy, energy_whole = ((each**2).sum((1, 2, 3)).clip(1) for each in (part, whole))
    shown = scene.veils * (opacity > 0.1)
    coverable = visible < COVERED
    for f in range(len(seen)):
        # All samples where it is lost; else only those that count, which are few.
        near = np.arange(len(points))
        if seen[f]:
            away = np.hypot(*(points - position[f]).T)
            if away[coverable].min() > cell:
                continue
            near = np.flatnonzero(away <= cell)
            away = away[near]
        here = np.moveaxis(difference[f][:, place[0][near], place[1][near]], 0, 1) * inside[near, None]
        match = (here * part[near]).sum((1, 2, 3))
        power = (here**2 * shown[near, None]).sum((1, 2, 3))
        alike = (match >= rules.present * energy[near]) & (match**2 >= rules.likeness**2 * energy[near] * power)
        gain = np.where(alike & (visible[near] >= HIDDEN), match * (match / energy[near]).clip(0, 1), 0)
        if seen[f]:
            match_whole = (here * whole[near]).sum((1, 2, 3))
            on_top = match_whole * (match_whole / energy_whole[near]).clip(0, 1) * (visible[near] <= 1 - _LEAST_COVERED)
            on_top *= (match_whole >= rules.present * energy_whole[near]) & (away <= cell / 2)
            if on_top.max() > _SHINES * gain.max():
                through[f] = True
                continue
        best = int(gain.argmax())
        if gain[best] > 0 and (visible[near[best]] < COVERED or not seen[f]):
            position[f], seen[f] = points[near[best]], True
    hidden = _hidden(position / np.float32(cell), seen, scene, speed, rules)
    return replace(tracks, position=position[None], seen=seen[None], hidden=hidden[None]), through


def _hidden(position: np.ndarray, seen: np.ndarray, scene: RoadScene, speed: float, rules: StrictRules) -> np.ndarray:
    """Whether an unseen player can have got to a hideout from where it was seen last, and from there to the next."""
    hidden = np.zeros_like(seen)
    hideouts, known = scene.samples[scene.visible < MAY_HIDE], np.flatnonzero(seen)
    for f in np.flatnonzero(~seen) if len(hideouts) and len(known) else ():
        possible = np.ones(len(hideouts), bool)
        for other in (known[known < f][-1:], known[known > f][:1]):
            for g in other:
                reach = speed * abs(f - g) + rules.speed_slack
                possible &= np.hypot(*(hideouts - position[g]).T) <= reach
        hidden[f] = bool(possible.any()) and f > known[0]
    return hidden


def _changed_regions(
    difference: np.ndarray, position: np.ndarray, radius: float, scene: RoadScene, rules: StrictRules
) -> np.ndarray:
    """Regions [F, K] that lost their contrast, or whose colour changed in another way, away from the player."""
    frames, _, height, width = difference.shape
    flat = np.empty((frames, 4, height, width), np.float32)
    flat[:, :3], flat[:, 3] = difference, 1
    # nan compares as False: without a player everything counts
    reach = int(np.ceil(radius)) + 1
    for f in np.flatnonzero(~np.isnan(position[:, 0])):
        x, y = position[f]
        left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
        window = flat[f, :, top : int(y) + reach + 1, left : int(x) + reach + 1]
        rows, columns = (np.arange(n, dtype=np.float32) + np.float32(0.5) for n in window.shape[1:])
        near = (rows + top - y)[:, None] ** 2 + (columns + left - x)[None] ** 2 < radius**2
        window *= ~near
    # OpenCV's transpose goes block by block; numpy's copy of the transposed takes several times as long.
    sums = np.asarray(scene.members @ cv2.transpose(flat.reshape(frames * 4, -1))).T.reshape(frames, 4, -1)
    total = np.asarray(scene.members.sum(1)).ravel()
    use = sums[:, 3] >= np.maximum(_LEAST_SEEN * total, _FEWEST_SEEN)
    means = np.moveaxis(sums[:, :3] / np.maximum(sums[:, 3:], 1), 1, -1)

    def split(values: np.ndarray, along: np.ndarray, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
        unit = along / np.maximum((along**2).sum(-1), 1)[:, None]
        share = np.clip((values * unit).sum(-1), least, most)
        return share, values - share[..., None] * along

    solid = np.where((scene.contrast**2).sum(-1, keepdims=True) >= _CONTRAST**2, scene.contrast, 0)
    _, sharp = split(means, scene.region_leak, 0.0, MOST_BLUR)
    lost, _ = split(means, solid, -np.inf, np.inf)
    lost_beside_blur, rest = split(sharp, solid, -np.inf, np.inf)
    changed = (lost < rules.wall_opacity - 1) & (lost_beside_blur < -_FADED_BESIDE_BLUR)
    changed |= (sharp**2).sum(-1) > rules.patch_tolerance**2
    for f, k in np.argwhere(changed & use & (sums[:, 3] < total)):
        # Blur does not do the same to every part of a region: what is beside the player is compared with that part.
        member = scene.members.indices[scene.members.indptr[k] : scene.members.indptr[k + 1]]
        seen = member[flat[f, 3].ravel()[member] > 0]
        _, unblurred = split(means[f, k][None], scene.leak.reshape(3, -1)[:, seen].mean(1)[None], 0.0, MOST_BLUR)
        beside_blur, _ = split(unblurred, solid[k][None], -np.inf, np.inf)
        faded = lost[f, k] < rules.wall_opacity - 1 and beside_blur[0] < -_FADED_BESIDE_BLUR
        changed[f, k] = faded or (unblurred**2).sum() > rules.patch_tolerance**2
    for kind in set(scene.kinds):
        own = np.array([name == kind for name in scene.kinds])
        counted = (use & own)[..., None]
        mean = (rest * counted).sum(1) / np.maximum(counted.sum(1), 1)
        drifted = ((mean**2).sum(-1) > rules.drift_tolerance**2) & (counted.sum((1, 2)) > 1)
        changed |= drifted[:, None] & own
    return changed & use


def _goal_lost_beside_player(frames: np.ndarray, position: np.ndarray, radius: float, scene: RoadScene) -> np.ndarray:
    """Regions [F, K] of the goal that the player is within ``radius`` pixels of, and that are gone beside it."""
    changed = np.zeros((len(frames), len(scene.kinds)), bool)
    height, width = frames.shape[1:3]
    for k in [index for index, kind in enumerate(scene.kinds) if kind == "goal_changed"]:
        member = np.zeros((height, width), np.float32)
        member.flat[scene.members.indices[scene.members.indptr[k] : scene.members.indptr[k + 1]]] = 1
        rows, columns = (np.flatnonzero(member.any(axis)) for axis in (1, 0))
        gaps = [
            np.maximum(np.maximum(lines[0] - place, place - lines[-1] - 1), 0)
            for lines, place in ((rows, position[:, 1]), (columns, position[:, 0]))
        ]
        # nan compares as False: no player, nothing beside it
        near = np.flatnonzero(np.hypot(*gaps) < radius)
        if not len(near):
            continue
        rows, columns = (np.arange(lines[0] - REACH, lines[-1] + REACH + 1) for lines in (rows, columns))
        weights = np.pad(member, REACH)[np.ix_(rows + REACH, columns + REACH)]
        many = len(near)
        behind, drawn, opacity = with_player(
            [scene], np.zeros(many, int), position[near], np.tile(rows, (many, 1)), np.tile(columns, (many, 1))
        )
        floor = (behind[0] * weights[..., None]).sum((0, 1)) / weights.sum() - scene.contrast[k]
        window = np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))
        shown = frames[near][:, window[0], window[1]].astype(np.float32)
        lost, _ = lost_shares(shown, drawn, opacity, behind - floor, np.broadcast_to(weights, shown.shape[:3]))
        changed[near, k] = lost > _GOAL_LOST
    return changed


def _judge(
    position: np.ndarray,
    tracks: Tracks,
    walk: RoadWalk,
    changed: np.ndarray,
    shown_through: np.ndarray,
    shares: np.ndarray,
    scene: RoadScene,
    speed: float,
    canvas: int,
    rules: StrictRules,
) -> Verdict:
    """The verdict of one video."""
    frames = len(position)
    seen, hidden, doubled = tracks.seen[0], tracks.hidden[0], tracks.doubled[0]
    moved = np.zeros(frames, np.float32)
    moved[1:] = np.hypot(*(position[1:] - position[:-1]).T)
    jump = moved > speed + rules.speed_slack
    wrong_start = np.zeros(frames, bool)
    wrong_start[0] = seen[0] and np.hypot(*(position[0] - scene.points[scene.start])) > rules.path_tolerance
    broken = {
        "wrong_start": wrong_start,
        "lost": ~seen & ~hidden,
        "duplicate": doubled,
        "jump": jump,
        "too_fast": _too_fast(position, speed, rules) & ~jump,
        "off_path": walk.off_path,
        "shows_through": shown_through,
    }
    entries = [
        Violation(kind=kind, frame=int(f), place=scene.places[walk.nearest[f]])
        for kind, flags in broken.items()
        for f in np.flatnonzero(flags)
    ]
    sorts = np.array(scene.kinds)
    for kind in dict.fromkeys(scene.kinds):
        own = changed[:, sorts == kind]
        for f in np.flatnonzero(own.any(1)):
            region = np.flatnonzero(sorts == kind)[own[f].argmax()]
            entries.append(Violation(kind=kind, frame=int(f), place=scene.places[scene.region_places[region]]))
    entries.sort(key=lambda entry: entry.frame)
    end_of_rules = entries[0].frame if entries else frames

    counted = min(end_of_rules, walk.mistake)
    places = [(place, frame) for place, frame in walk.places if frame < end_of_rules]
    nearest_goal = float(walk.left[:counted].min(initial=scene.length))
    success = not entries and _rests_on_goal(position, seen, scene, rules)
    return Verdict(
        em=success and walk.extra == 0,
        sr=success,
        pr=float(np.clip(1 - nearest_goal / scene.length, 0, 1)) if scene.length else float(success),
        sd=walk.extra / scene.length if success and scene.length else None,
        mf=float(shares.mean()),
        first_frame=float(shares[0]),
        violations=tuple(entries),
        walk=tuple(scene.places[place] for place, _ in places),
        walk_frames=tuple(frame for _, frame in places),
        track=position / np.float32(canvas),
        states=tuple(np.select([doubled, seen, hidden], [DUPLICATED, TRACKED, OCCLUDED], LOST).tolist()),
        moved=bool((seen & (np.hypot(*(position - scene.points[scene.start]).T) > 0.5)).any()),
        end=scene.places[walk.nearest[-1]] if seen[-1] else None,
    )


def _too_fast(position: np.ndarray, speed: float, rules: StrictRules) -> np.ndarray:
    """Frames [F] before which more than a cell (plus slack) was covered in the time of one."""
    fast = np.zeros(len(position), bool)
    window = max(1, int(np.floor(1 / max(speed, 1e-6) + 1e-3)))
    if 1 < window < len(position):
        fast[window:] = np.hypot(*(position[window:] - position[:-window]).T) > 1 + rules.speed_slack
    return fast


def _rests_on_goal(position: np.ndarray, seen: np.ndarray, scene: RoadScene, rules: StrictRules) -> bool:
    """Whether the last frames rest on the goal: `rest_frames` of them, or all since it was first reached."""
    there = seen & (np.hypot(*(position - scene.points[scene.goal]).T) <= rules.path_tolerance)
    needed = min(rules.rest_frames, len(there) - int(there.argmax()))
    return bool(there[-1] and there[len(there) - needed :].all())
