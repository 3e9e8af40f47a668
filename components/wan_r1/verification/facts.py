"""From what was measured in a batch of videos to each one's facts, violations and strict metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wan_r1.tasks.level import Cell
from wan_r1.verification.fidelity import Backgrounds
from wan_r1.verification.scene import PATCH_KINDS, Scene
from wan_r1.verification.tracking import Tracks
from wan_r1.verification.verdict import DUPLICATED, LOST, OCCLUDED, TRACKED, StrictRules, Verdict, Violation
from wan_r1.verification.walk import Walks


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """All that was measured in ``n`` videos of ``F`` frames, one level each.

    Attributes:
        tracks: where the player was seen.
        position: float32 [n, F, 2], (x, y) on the canvas in cells, bridged where it was hidden, else nan.
        backgrounds: what became of the background.
        walks: the way between the positions.
        scenes: the scene of each video.
    """

    tracks: Tracks
    position: np.ndarray
    backgrounds: Backgrounds
    walks: Walks
    scenes: Sequence[Scene]


def judge(measured: Measurements, rules: StrictRules) -> list[Verdict]:
    """The verdict of each video."""
    scenes, tracks, position = measured.scenes, measured.tracks, measured.position
    n, frames, _ = position.shape
    starts, goals = (np.array([getattr(s, name) for s in scenes]) for name in ("start", "goal"))
    here = cells_at(position, starts)
    kinds, flags, places = broken_rules(measured, here, starts, rules)
    broken = np.any(flags, axis=0)
    end_of_rules = np.where(np.any(broken, axis=1), broken.argmax(1), frames)
    violations = list_violations(kinds, flags, places, scenes)
    walks = walks_before(measured, end_of_rules)
    away = np.hypot(*np.moveaxis(position - goals[:, None, ::-1] - np.float32(0.5), -1, 0))
    at_rest = rests(tracks.seen & (away <= rules.path_tolerance), rules)
    moved = np.any(tracks.seen & np.any(here != starts[:, None], axis=2), axis=1)
    states = states_of(tracks)
    fidelity = measured.backgrounds.fidelity
    mean, first = fidelity.mean(1).tolist(), fidelity[:, 0].tolist()
    track = position / np.float32(scenes[0].board.shape[0])
    seen, last = tracks.seen[:, -1].tolist(), here[:, -1].tolist()
    return [
        _verdict(
            scene=scenes[i],
            violations=violations[i],
            walk=walks[i],
            rests=bool(at_rest[i]),
            facts={
                "mf": mean[i],
                "first_frame": first[i],
                "track": track[i],
                "states": tuple(states[i].tolist()),
                "moved": bool(moved[i]),
                "end": on_board(last[i], scenes[i]) if seen[i] else None,
            },
        )
        for i in range(n)
    ]


def _verdict(*, scene: Scene, violations: tuple[Violation, ...], walk, rests: bool, facts: dict) -> Verdict:
    """Strict metrics from a walk ``[(cell on the canvas, frame it is entered in), ...]`` and the rules it broke."""
    cells = [cell for cell, _ in walk]
    if not cells or cells[0] != scene.start:
        # Nothing counts that does not set out from the start.
        walk, cells = [], [scene.start]
    matched = 0
    while matched + 1 < len(cells) and scene.to_goal[cells[matched + 1]] == scene.steps - matched - 1:
        matched += 1
    length = len(cells) - 1
    success = rests and not violations
    return Verdict(
        em=success and length == scene.steps,
        sr=success,
        pr=matched / scene.steps if scene.steps else float(success),
        sd=length / scene.steps - 1 if success and scene.steps else None,
        violations=violations,
        walk=tuple(on_board(cell, scene) for cell, _ in walk),
        walk_frames=tuple(frame for _, frame in walk),
        **facts,
    )


def cells_at(position: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Cell (row, column) on the canvas in each frame, int [n, F, 2]; the last one known where it is not."""
    known = ~np.isnan(position[..., 0])
    last = np.maximum.accumulate(np.where(known, np.arange(position.shape[1]), -1), axis=1)
    cells = np.floor(np.where(known[..., None], position, 0)).astype(int)[..., ::-1]
    cells = np.take_along_axis(cells, np.maximum(last, 0)[..., None], axis=1)
    return np.where((last >= 0)[..., None], cells, starts[:, None])


def broken_rules(
    measured: Measurements, here: np.ndarray, starts: np.ndarray, rules: StrictRules
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The K kinds of violations, whether each is seen in each frame, bool [K, n, F], and where, int [K, n, F, 2]."""
    tracks, walks, position = measured.tracks, measured.walks, measured.position
    wrong_start = np.zeros(tracks.seen.shape, bool)
    away = np.hypot(*np.moveaxis(position[:, 0] - starts[:, ::-1] - np.float32(0.5), -1, 0))
    wrong_start[:, 0] = tracks.seen[:, 0] & (away > rules.path_tolerance)
    found = {
        "wrong_start": (wrong_start, here),
        "lost": (~tracks.seen & ~tracks.hidden, here),
        "duplicate": (tracks.doubled, here),
        "jump": (walks.jump, here),
        "too_fast": (walks.fast, here),
        "obstacle": _first_points(walks, walks.blocked),
        "off_board": _first_points(walks, walks.off_board),
        "wall": _first_points(walks, walks.walled),
        "off_path": _first_points(walks, walks.off_path & ~walks.walled),
    }
    changed = measured.backgrounds.changed
    n, frames, side, _ = changed.shape
    sorts = np.stack([scene.kinds for scene in measured.scenes])[:, None]
    for kind, name in enumerate(PATCH_KINDS):
        patches = (changed & (sorts == kind)).reshape(n, frames, -1)
        first = patches.argmax(2)
        place = np.stack([first // side, first % side], axis=-1)
        found[name] = patches.any(2), np.maximum(place - 1, 0) // 2
    flags, places = zip(*found.values(), strict=True)
    return list(found), np.stack(flags), np.stack(places)


def _first_points(walks: Walks, flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flags of points [n, L] by frame [n, F], and the cell of each frame's first one, [n, F, 2].

    A point between two frames belongs to the later one: a rule is broken by getting there.
    """
    n = len(flags)
    between = flags[:, 1:].reshape(n, -1, walks.stride)
    frames = np.concatenate([flags[:, :1], between.any(2)], axis=1)
    point = 1 + np.arange(between.shape[1]) * walks.stride + between.argmax(2)
    point = np.concatenate([np.zeros((n, 1), int), point], axis=1)
    return frames, np.take_along_axis(walks.cell, point[..., None], axis=1)


def list_violations(kinds: list[str], flags, places, scenes: Sequence[Scene]) -> list[tuple[Violation, ...]]:
    """Every broken rule of each video, one a kind and frame, in the order of time."""
    found: list[list[Violation]] = [[] for _ in scenes]
    for i, frame, kind in np.argwhere(flags.transpose(1, 2, 0)).tolist():
        place = on_board(places[kind, i, frame].tolist(), scenes[i])
        found[i].append(Violation(kind=kinds[kind], frame=frame, place=place))
    return [tuple(entries) for entries in found]


def walks_before(measured: Measurements, end_of_rules: np.ndarray) -> list[list[tuple[Cell, int]]]:
    """Cells on the canvas that each video visits before its first violation, with the frames they are entered in."""
    walks = measured.walks
    n, points = walks.core.shape
    every = np.arange(points)
    counted = walks.core & (every <= (end_of_rules[:, None] - 1) * walks.stride)
    last = np.maximum.accumulate(np.where(counted, every, -1), axis=1)
    before = np.concatenate([np.full((n, 1), -1), last[:, :-1]], axis=1)
    earlier = np.take_along_axis(walks.cell, np.maximum(before, 0)[..., None], axis=1)
    new = counted & ((before < 0) | (walks.cell != earlier).any(2))
    found: list[list[tuple[Cell, int]]] = [[] for _ in range(n)]
    video, point = np.nonzero(new)
    frame = -(-point // walks.stride)
    for i, (row, column), entered in zip(video.tolist(), walks.cell[new].tolist(), frame.tolist(), strict=True):
        found[i].append(((row, column), entered))
    return found


def states_of(tracks: Tracks) -> np.ndarray:
    """State of the player in each frame, one of `wan_r1.verification.verdict.STATES`, [n, F]."""
    return np.select([tracks.doubled, tracks.seen, tracks.hidden], [DUPLICATED, TRACKED, OCCLUDED], LOST)


def rests(there: np.ndarray, rules: StrictRules) -> np.ndarray:
    """Whether the last frames rest on the goal, bool [n]: `rest_frames` of them, or all since it was first reached.

    Args:
        there: bool [n, F], on the goal.
        rules: tolerances.
    """
    frames = there.shape[1]
    needed = np.minimum(rules.rest_frames, frames - there.argmax(1))
    waiting = np.arange(frames) >= frames - needed[:, None]
    return there[:, -1] & (there | ~waiting).all(1)


def on_board(cell: Sequence[int], scene: Scene) -> Cell:
    """A cell of the canvas as a cell of the board."""
    return cell[0] - scene.offset[0], cell[1] - scene.offset[1]
