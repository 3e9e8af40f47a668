"""Reading a batch of videos: checks of form, grouping by size, tracking, facts and strict metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from wan_r1.verification.fidelity import Backgrounds, compare
from wan_r1.verification.scene import PATCH_KINDS, Scene, SceneError, get_scene, patch_weights, reduce_frames
from wan_r1.verification.tracking import Tracks, track
from wan_r1.verification.verdict import DUPLICATED, LOST, OCCLUDED, TRACKED, StrictRules, Verdict, Violation
from wan_r1.verification.vr_bench import BenchmarkRules, benchmark_metrics
from wan_r1.verification.walk import Walks, follow_path

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task

_CHUNK_PIXELS = 200_000
"""Pixels (all frames) read at a time: more does not fit in a core's cache, fewer costs calls."""


def verify(
    videos: np.ndarray | Sequence[np.ndarray],
    tasks: Sequence[Task],
    *,
    vr_bench: bool = False,
    any_length: bool = False,
    rules: StrictRules | None = None,
    benchmark: BenchmarkRules | None = None,
) -> list[Verdict]:
    """Read videos and judge them against their levels.

    A video that cannot be read (wrong type, size or length) gets a `Verdict` with `error` set; it neither stops the
    batch nor counts as a zero.

    Args:
        videos: ``[N, F, H, W, 3]`` uint8, or a sequence of ``[F, H, W, 3]`` of any sizes.
        tasks: the level of each video.
        vr_bench: also compute the benchmark's metrics (about 1 ms a video of 9 x 32 x 32).
        any_length: accept videos with another number of frames than the level's reference; the level's speed is
            scaled if they are shorter.
        rules: tolerances of the strict reading.
        benchmark: parameters of the benchmark's metrics.

    Returns:
        One verdict a video, in order.

    Raises:
        ValueError: if there are not as many tasks as videos.
    """
    if len(videos) != len(tasks):
        raise ValueError(f"{len(videos)} videos but {len(tasks)} tasks; give one task a video")
    rules = rules or StrictRules()
    verdicts: list[Verdict | None] = [None] * len(tasks)
    groups: dict[tuple, list[int]] = {}
    scenes: dict[int, Scene] = {}
    for i, (video, task) in enumerate(zip(videos, tasks, strict=True)):
        problem = _problem(video, task, any_length)
        if problem is None and id(task) not in scenes:
            try:
                scenes[id(task)] = get_scene(task.level, task.first_frame)
            except SceneError as error:
                problem = str(error)
        if problem is not None:
            verdicts[i] = Verdict(error=problem)
        else:
            groups.setdefault((video.shape, task.level.canvas), []).append(i)

    for indices in groups.values():
        for part in _parts(indices, videos[indices[0]].shape):
            found = _read(
                [videos[i] for i in part], [tasks[i] for i in part], [scenes[id(tasks[i])] for i in part], rules
            )
            for i, verdict in zip(part, found, strict=True):
                if vr_bench:
                    values = benchmark_metrics(videos[i], verdict.track, tasks[i], benchmark or BenchmarkRules())
                    verdict = replace(verdict, **values)
                verdicts[i] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _problem(video: object, task: Task, any_length: bool) -> str | None:
    """Why a video cannot be read, or None."""
    if not isinstance(video, np.ndarray):
        return f"video is no array but {type(video).__name__}; expected uint8 [frames, height, width, 3]"
    if video.dtype != np.uint8:
        return f"frames have type {video.dtype}; expected uint8 with levels of 0..255"
    if video.ndim != 4 or video.shape[-1] != 3:
        return f"video has shape {list(video.shape)}; expected [frames, height, width, 3]"
    given = task.first_frame.shape[:2]
    if video.shape[1:3] != given:
        return f"frames are {video.shape[1]} x {video.shape[2]} px, the level's first frame {given[0]} x {given[1]}"
    if given[0] != given[1]:
        return f"frames are {given[0]} x {given[1]} px; levels on a grid are square"
    if len(video) < 2:
        return f"video has {len(video)} frames; at least 2 are needed to see a move"
    if len(video) != task.frames and not any_length:
        return f"video has {len(video)} frames, the level's reference {task.frames}"
    return None


def _parts(indices: list[int], shape: tuple[int, ...]) -> Iterator[list[int]]:
    size = max(1, _CHUNK_PIXELS // (shape[0] * shape[1] * shape[2]))
    for begin in range(0, len(indices), size):
        yield indices[begin : begin + size]


def _read(videos: list[np.ndarray], tasks: list[Task], of: list[Scene], rules: StrictRules) -> list[Verdict]:
    """Verdicts of readable videos of one shape, each with its scene."""
    scenes = list({id(scene): scene for scene in of}.values())
    places = {id(scene): k for k, scene in enumerate(scenes)}
    which = np.array([places[id(scene)] for scene in of])
    side, canvas = scenes[0].background.shape[-1], scenes[0].board.shape[0]
    cell = side / canvas

    backgrounds = np.stack([scene.background for scene in scenes])
    frames = np.stack([reduce_frames(video, side) for video in videos])
    difference = frames.transpose(0, 1, 4, 2, 3) - backgrounds[which][:, None]
    for i, scene in enumerate(of):
        difference[i, :, :, scene.unknown] = 0
    tracks = track(difference, scenes, which, rules, cell)
    compared = compare(difference, tracks.position, scenes, which, patch_weights(side, canvas), rules)
    position = _bridge(tracks) / np.float32(cell)
    speed = np.array([_speed(task, len(video)) for task, video in zip(tasks, videos, strict=True)])
    walks = follow_path(position, scenes, which, speed, rules)
    return [
        _verdict(_One(i, position[i], tracks, compared, walks), of[i], position[i] / canvas, rules)
        for i in range(len(videos))
    ]


def _bridge(tracks: Tracks) -> np.ndarray:
    """Positions with a straight line over frames in which the player was hidden between two where it was seen."""
    position = tracks.position.copy()
    for i in np.flatnonzero(tracks.hidden.any(1)):
        known, unknown = np.flatnonzero(tracks.seen[i]), np.flatnonzero(tracks.hidden[i])
        unknown = unknown[(unknown > known[0]) & (unknown < known[-1])] if len(known) else unknown[:0]
        for axis in (0, 1):
            position[i, unknown, axis] = np.interp(unknown, known, position[i, known, axis])
    return position


def _speed(task: Task, frames: int) -> float:
    """The level's speed in cells a frame: the reference's largest step, faster if the video has fewer frames."""
    steps = np.sqrt((np.diff(task.trajectory, axis=0) ** 2).sum(1)) * task.level.canvas
    return float(steps.max(initial=0.0)) * max(1.0, (task.frames - 1) / (frames - 1))


@dataclass(frozen=True)
class _One:
    """One video's place in the arrays of its batch."""

    index: int
    position: np.ndarray
    tracks: Tracks
    compared: Backgrounds
    walks: Walks


def _verdict(one: _One, scene: Scene, track_of: np.ndarray, rules: StrictRules) -> Verdict:
    i, tracks = one.index, one.tracks
    seen, doubled, hidden = tracks.seen[i], tracks.doubled[i], tracks.hidden[i]
    states = tuple(
        DUPLICATED if d else TRACKED if s else OCCLUDED if h else LOST
        for s, d, h in zip(seen.tolist(), doubled.tolist(), hidden.tolist(), strict=True)
    )
    violations = _violations(one, scene, rules)
    end_of_rules = violations[0].frame if violations else len(seen)
    walk, entered, complete = _walk(one, scene, end_of_rules)
    matched = 0
    for k, place in enumerate(complete[1:], 1):
        if scene.to_goal[place] != scene.steps - k:
            break
        matched = k
    success = not violations and _rests_on_goal(one.position, seen, scene, rules)
    length = len(complete) - 1
    return Verdict(
        em=success and length == scene.steps,
        sr=success,
        pr=min(1.0, matched / scene.steps) if scene.steps else float(success),
        sd=length / scene.steps - 1 if success and scene.steps else None,
        mf=float(one.compared.fidelity[i]),
        track=track_of,
        states=states,
        violations=violations,
        walk=walk,
        walk_frames=entered,
        moved=len(complete) > 1,
        end=_on_board(_cell_at(one.position[-1]), scene) if seen[-1] else None,
    )


def _violations(one: _One, scene: Scene, rules: StrictRules) -> tuple[Violation, ...]:
    """Every broken rule, one a kind and frame, in the order of time."""
    i, walks, position = one.index, one.walks, one.position
    frames = len(position)
    found: list[Violation] = []
    last = scene.start
    here = []
    for f in range(frames):
        if not np.isnan(position[f, 0]):
            last = _cell_at(position[f])
        here.append(_on_board(last, scene))

    def at_frames(kind: str, flags: np.ndarray) -> None:
        found.extend(Violation(kind=kind, frame=int(f), place=here[f]) for f in np.flatnonzero(flags))

    def at_points(kind: str, flags: np.ndarray) -> None:
        known: set[int] = set()
        for k in np.flatnonzero(flags):
            # A point between two frames belongs to the later one: the rule is broken by getting there.
            frame = int(-(-k // walks.stride))
            if frame not in known:
                known.add(frame)
                row, column = walks.cell[i, k].tolist()
                found.append(Violation(kind=kind, frame=frame, place=_on_board((row, column), scene)))

    tracks = one.tracks
    at_frames("lost", ~tracks.seen[i] & ~tracks.hidden[i])
    at_frames("duplicate", tracks.doubled[i])
    at_frames("jump", walks.jump[i])
    at_frames("too_fast", walks.fast[i])
    at_points("obstacle", walks.blocked[i])
    at_points("off_board", walks.off_board[i])
    at_points("wall", walks.walled[i])
    at_points("off_path", walks.off_path[i] & ~walks.walled[i])
    if tracks.seen[i, 0] and _away(position[0], scene.start) > rules.path_tolerance:
        found.append(Violation(kind="wrong_start", frame=0, place=here[0]))
    changed = one.compared.changed[i]
    if changed.any():
        found.extend(_changes(changed, scene))
    return tuple(sorted(found, key=lambda violation: violation.frame))


def _changes(changed: np.ndarray, scene: Scene) -> list[Violation]:
    found: dict[tuple[int, int], Violation] = {}
    for f, p, q in np.argwhere(changed).tolist():
        kind = int(scene.kinds[p, q])
        if (f, kind) not in found:
            place = max(p - 1, 0) // 2, max(q - 1, 0) // 2
            found[f, kind] = Violation(kind=PATCH_KINDS[kind], frame=f, place=_on_board(place, scene))
    return list(found.values())


def _walk(one: _One, scene: Scene, end_of_rules: int) -> tuple[tuple, tuple, list]:
    """Cells visited before frame ``end_of_rules``: on the board; the frames they are entered in; on the canvas."""
    walks = one.walks
    moments = np.flatnonzero(walks.core[one.index])
    moments = moments[moments <= (end_of_rules - 1) * walks.stride]
    cells = walks.cell[one.index, moments]
    new = np.ones(len(cells), bool)
    new[1:] = (cells[1:] != cells[:-1]).any(1)
    complete = [(row, column) for row, column in cells[new].tolist()]
    entered = tuple(int(-(-k // walks.stride)) for k in moments[new].tolist())
    if not complete or complete[0] != scene.start:
        # Nothing counts that does not set out from the start.
        return (), (), [scene.start]
    return tuple(_on_board(cell, scene) for cell in complete), entered, complete


def _rests_on_goal(position: np.ndarray, seen: np.ndarray, scene: Scene, rules: StrictRules) -> bool:
    """Whether the last frames rest on the goal: `rest_frames` of them, or all since it was first reached."""
    with np.errstate(invalid="ignore"):
        there = seen & (np.hypot(*(position - _centre(scene.goal)).T) <= rules.path_tolerance)
    if not there[-1]:
        return False
    first = int(there.argmax())
    needed = min(rules.rest_frames, len(there) - first)
    return bool(there[len(there) - needed :].all())


def _centre(cell) -> np.ndarray:
    return np.array([cell[1] + 0.5, cell[0] + 0.5], np.float32)


def _away(position: np.ndarray, cell) -> float:
    return float(np.hypot(*(position - _centre(cell))))


def _cell_at(position: np.ndarray) -> tuple[int, int]:
    return int(np.floor(position[1])), int(np.floor(position[0]))


def _on_board(cell, scene: Scene) -> tuple[int, int]:
    return cell[0] - scene.offset[0], cell[1] - scene.offset[1]
