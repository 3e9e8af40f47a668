"""Sokoban: facts and strict metrics of videos with boxes; see `wan_r1.verification.boxes`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wan_r1.verification.boxes import BoxScene, BoxTracks, pushed, take_out, track_boxes
from wan_r1.verification.facts import (
    Measurements,
    broken_rules,
    cells_at,
    list_violations,
    on_board,
    rests,
    states_of,
    walks_before,
)
from wan_r1.verification.fidelity import compare
from wan_r1.verification.scene import patch_weights, reduce_videos
from wan_r1.verification.tracking import bridge, track
from wan_r1.verification.verdict import StrictRules, Verdict
from wan_r1.verification.walk import follow_path

_STRAY = 0.35
"""How far a box may be from where its pushes put it, in cells: the player's tolerance and a blurred video's error."""
_INTO = 0.2
"""Distance from a box's centre, in cells, that must still be in a cell it may be in."""
_TOUCHING = 0.75
"""Distance in cells, along both axes, below which two boxes are in each other."""


def read_boxes(
    videos: Sequence[np.ndarray], of: Sequence[BoxScene], speeds: Sequence[float], rules: StrictRules
) -> list[Verdict]:
    """Verdicts of readable videos of one shape.

    Args:
        videos: ``[F, H, W, 3]`` uint8 each.
        of: the scene of each video, all of one canvas.
        speeds: the level's speed in cells a frame, of each video.
        rules: tolerances.
    """
    found: dict[int, Verdict] = {}
    for _, group in itertools.groupby(sorted(range(len(of)), key=lambda i: _boxes(of[i])), lambda i: _boxes(of[i])):
        chosen = list(group)
        verdicts = _read([videos[i] for i in chosen], [of[i] for i in chosen], [speeds[i] for i in chosen], rules)
        found |= zip(chosen, verdicts, strict=True)
    return [found[i] for i in range(len(of))]


def _boxes(scene: BoxScene) -> int:
    return len(scene.level.boxes)


def _read(videos: list[np.ndarray], of: list[BoxScene], speeds: list[float], rules: StrictRules) -> list[Verdict]:
    scenes = list({id(scene): scene for scene in of}.values())
    places = {id(scene): k for k, scene in enumerate(scenes)}
    which = np.array([places[id(scene)] for scene in of])
    stores = [scene.store for scene in scenes]
    side, canvas = stores[0].background.shape[-1], of[0].level.canvas
    cell = side / canvas

    background = np.stack([store.background for store in stores])[which]
    frames = reduce_videos(videos, side)
    for i, scene in enumerate(of):
        if scene.store.unknown.any():
            frames[i, :, scene.store.unknown] = np.rint(scene.store.background[:, scene.store.unknown]).T[:, None]
    difference = frames.transpose(0, 1, 4, 2, 3) - background[:, None]
    boxes = track_boxes(difference, scenes, which, rules, cell)
    take_out(frames, difference, boxes.position, background, cell)
    tracks = track(difference, stores, which, rules, cell)
    compared = compare(frames, difference, tracks.position, stores, which, patch_weights(side, canvas), rules)
    position = bridge(tracks) / np.float32(cell)
    walks = follow_path(position, stores, which, np.array(speeds), rules)
    measured = Measurements(
        tracks=tracks,
        position=position,
        backgrounds=compared,
        walks=walks,
        scenes=[scene.store for scene in of],
    )
    return _judge(measured, replace(boxes, position=boxes.position / np.float32(cell)), of, cell, rules)


def _judge(
    measured: Measurements, boxes: BoxTracks, of: list[BoxScene], cell: float, rules: StrictRules
) -> list[Verdict]:
    """The verdict of each video; the boxes' positions are on the canvas in cells."""
    starts = np.array([scene.store.start for scene in of])
    here = cells_at(measured.position, starts)
    kinds, flags, places = broken_rules(measured, here, starts, rules)
    box_kinds, box_flags, box_places = _broken_by_boxes(measured, boxes, of, cell)
    kinds, flags = [*kinds, *box_kinds], np.concatenate([flags, box_flags])
    places = np.concatenate([places, box_places])
    frames = flags.shape[2]
    broken = np.any(flags, axis=0)
    end_of_rules = np.where(np.any(broken, axis=1), broken.argmax(1), frames)
    violations = list_violations(kinds, flags, places, measured.scenes)
    walks = walks_before(measured, end_of_rules)
    home = np.stack([_home(boxes.position[i], scene.targets, rules) for i, scene in enumerate(of)])
    resting = rests(home & measured.tracks.seen, rules)
    states = states_of(measured.tracks)
    seen = measured.tracks.seen
    found = []
    for i, scene in enumerate(of):
        walk = walks[i] if walks[i] and walks[i][0][0] == scene.path[0] else []
        cells = [place for place, _ in walk] or [scene.path[0]]
        steps = len(scene.path) - 1
        matched = next((k for k, (a, b) in enumerate(zip(cells, scene.path, strict=False)) if a != b), len(cells))
        matched = min(matched, len(scene.path)) - 1
        success = bool(resting[i]) and not violations[i]
        length = len(cells) - 1
        found.append(
            Verdict(
                em=success and length == steps,
                sr=success,
                pr=matched / steps,
                sd=length / steps - 1 if success else None,
                mf=float(measured.backgrounds.fidelity[i].mean()),
                first_frame=float(measured.backgrounds.fidelity[i, 0]),
                track=measured.position[i] / np.float32(scene.level.canvas),
                boxes=boxes.position[i] / np.float32(scene.level.canvas),
                states=tuple(states[i].tolist()),
                violations=violations[i],
                walk=tuple(on_board(place, scene.store) for place, _ in walk),
                walk_frames=tuple(frame for _, frame in walk),
                moved=bool(np.any(seen[i] & np.any(np.not_equal(here[i], starts[i]), axis=1))),
                end=on_board(here[i, -1].tolist(), scene.store) if seen[i, -1] else None,
            )
        )
    return found


def _home(position: np.ndarray, targets: np.ndarray, rules: StrictRules) -> np.ndarray:
    """Whether every target has a box of its own, bool [F]; ``position`` [F, K, 2] and ``targets`` [K, 2] in cells."""
    away = np.sqrt(((position[:, :, None] - targets) ** 2).sum(-1))
    # nan compares as False: a box that is not seen is nowhere
    return np.all(np.any(away <= rules.path_tolerance, axis=1), axis=1)


def _broken_by_boxes(
    measured: Measurements, boxes: BoxTracks, of: list[BoxScene], cell: float
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """What the boxes break, as `wan_r1.verification.facts.broken_rules` says it."""
    where = boxes.position
    canvas = of[0].level.canvas
    due = np.stack([pushed(scene.level, measured.position[i]) for i, scene in enumerate(of)])
    lost = np.isnan(where[..., 0])
    away = np.abs(where - due).max(-1)
    stray = ~lost & (away > _STRAY)

    known = np.where(lost[..., None], due, where)
    barred = np.stack([scene.barred for scene in of])
    videos = np.arange(len(of))[:, None, None]
    blocked = np.zeros(lost.shape, bool)
    for x, y in ((0, 0), (_INTO, 0), (-_INTO, 0), (0, _INTO), (0, -_INTO)):
        spot = np.clip(np.floor(known + np.array([x, y])).astype(int) + 1, 0, canvas + 1)
        blocked |= barred[videos, spot[..., 1], spot[..., 0]]
    for a, b in itertools.combinations(range(where.shape[2]), 2):
        blocked[..., a] |= np.abs(where[:, :, a] - where[:, :, b]).max(-1) < _TOUCHING
    flags = [lost, stray, blocked & ~lost]
    names = ["box_lost", "box_moved", "box_blocked"]
    places = []
    for one in flags:
        first = one.argmax(2)
        spot = np.take_along_axis(known, first[..., None, None], axis=2)[:, :, 0]
        places.append(np.clip(np.floor(spot).astype(int)[..., ::-1], 0, canvas - 1))
    extra = np.clip(np.floor(boxes.extra / cell).astype(int)[..., ::-1], 0, canvas - 1)
    return (
        [*names, "box_duplicate"],
        np.stack([*(one.any(2) for one in flags), boxes.doubled]),
        np.stack([*places, extra]),
    )
