"""Reading a batch of videos: checks of form, grouping by size, and the order of the measurements."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from wan_r1.memory import keep_freed_memory
from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.road_family import RoadLevel
from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.verification.appearance import SceneError
from wan_r1.verification.box_facts import read_boxes
from wan_r1.verification.boxes import BoxScene, get_box_scene
from wan_r1.verification.compression import may_be_compressed, read_again
from wan_r1.verification.facts import Measurements, judge
from wan_r1.verification.fidelity import compare
from wan_r1.verification.navigation_facts import read_navigation
from wan_r1.verification.road_facts import read_roads
from wan_r1.verification.road_scene import RoadScene, get_road_scene
from wan_r1.verification.scene import Scene, get_scene, patch_weights, reduce_videos
from wan_r1.verification.tracking import bridge, track
from wan_r1.verification.verdict import StrictRules, Verdict
from wan_r1.verification.vr_bench import BenchmarkRules, benchmark_metrics
from wan_r1.verification.walk import follow_path

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task

AnyScene = Scene | RoadScene | BoxScene

_CHUNK_PIXELS = 900_000
"""Pixels (all frames) read at a time: more does not fit in a core's cache, fewer costs calls."""


def verify(
    videos: np.ndarray | Sequence[np.ndarray],
    tasks: Sequence[Task],
    *,
    vr_bench: bool = False,
    any_length: bool = False,
    rules: StrictRules | None = None,
    benchmark: BenchmarkRules | None = None,
    references: Sequence[Sequence[np.ndarray] | None] | None = None,
) -> list[Verdict]:
    """Read videos and judge them against their levels.

    A video that cannot be read (wrong type, size or length) gets a `Verdict` with `error` set; it neither stops the
    batch nor counts as a zero.

    Args:
        videos: ``[N, F, H, W, 3]`` uint8, or a sequence of ``[F, H, W, 3]`` of any sizes.
        tasks: the level of each video.
        vr_bench: also compute the benchmark's metrics: .1 ms a video of 9 x 32 x 32, 2 to 3 ms one of 81 x 512 x 512.
        any_length: accept videos with another number of frames than the level's reference; the level's speed is
            scaled if they are shorter.
        rules: tolerances of the strict reading.
        benchmark: parameters of the benchmark's metrics.
        references: for each video the paths that the benchmark's metrics compare it with (see `benchmark_metrics`).

    Returns:
        One verdict a video, in order.

    Raises:
        ValueError: if there are not as many tasks (or references) as videos, or a video has an empty list of them.
    """
    if len(videos) != len(tasks):
        raise ValueError(f"{len(videos)} videos but {len(tasks)} tasks; give one task a video")
    if references is not None and len(references) != len(tasks):
        raise ValueError(f"{len(videos)} videos but {len(references)} references; give one list of paths a video")
    for i, paths in enumerate(references or ()):
        if paths is not None and not len(paths):
            raise ValueError(f"references[{i}] has no path; give at least one, or None for the task's own")
    rules = rules or StrictRules()
    keep_freed_memory()
    verdicts: list[Verdict | None] = [None] * len(tasks)
    groups: dict[tuple, list[int]] = {}
    scenes: dict[int, AnyScene] = {}
    for i, (video, task) in enumerate(zip(videos, tasks, strict=True)):
        problem = _problem(video, task, any_length)
        if isinstance(task.level, RecordedLevel):
            problem = (
                f"the world of the recorded segment {task.level.segment!r} is not known; give a world decoder "
                "(wan_r1.verification.world_decoder)"
            )
        if problem is None and isinstance(task.level, NavigationLevel):
            verdicts[i] = read_navigation(video, task)
            continue
        if problem is None and id(task) not in scenes:
            try:
                scenes[id(task)] = _scene(task)
            except SceneError as error:
                problem = str(error)
        if problem is not None:
            verdicts[i] = Verdict(error=problem)
        else:
            groups.setdefault((video.shape, task.level.canvas, type(scenes[id(task)])), []).append(i)

    for indices in groups.values():
        for part in _parts(indices, videos[indices[0]].shape):
            found = _read(
                [videos[i] for i in part], [tasks[i] for i in part], [scenes[id(tasks[i])] for i in part], rules
            )
            again = [False] * len(part)
            if rules.compression:
                again = may_be_compressed([videos[i] for i in part], [tasks[i] for i in part]).tolist()
            for i, verdict, worth in zip(part, found, again, strict=True):
                if worth:
                    alone = functools.partial(_read_one, task=tasks[i], scene=scenes[id(tasks[i])])
                    verdict = read_again(videos[i], tasks[i], verdict, rules, alone)
                if vr_bench:
                    values = benchmark_metrics(
                        videos[i],
                        verdict.track,
                        tasks[i],
                        benchmark or BenchmarkRules(),
                        references[i] if references is not None else None,
                        boxes=verdict.boxes,
                    )
                    verdict = replace(verdict, **values)
                verdicts[i] = verdict
    return [verdict for verdict in verdicts if verdict is not None]


def _scene(task: Task) -> AnyScene:
    if isinstance(task.level, SokobanLevel):
        return get_box_scene(task.level, task.first_frame)
    if isinstance(task.level, GridLevel):
        return get_scene(task.level, task.first_frame)
    return get_road_scene(cast(RoadLevel, task.level), task.first_frame, task.texture)


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
        return f"frames are {given[0]} x {given[1]} px; levels are square"
    if len(video) < 2:
        return f"video has {len(video)} frames; at least 2 are needed to see a move"
    if len(video) != task.frames and not any_length:
        return f"video has {len(video)} frames, the level's reference {task.frames}"
    return None


def _parts(indices: list[int], shape: tuple[int, ...]) -> Iterator[list[int]]:
    size = max(1, _CHUNK_PIXELS // (shape[0] * shape[1] * shape[2]))
    for begin in range(0, len(indices), size):
        yield indices[begin : begin + size]


def _read(videos: list[np.ndarray], tasks: list[Task], scenes: Sequence[AnyScene], rules: StrictRules) -> list[Verdict]:
    """Verdicts of readable videos of one shape, each with its scene; all scenes are of one type."""
    different = {id(task): task for task in tasks}
    speeds = {key: _speed(task, len(videos[0])) for key, task in different.items()}
    each = [speeds[id(task)] for task in tasks]
    roads = [scene for scene in scenes if isinstance(scene, RoadScene)]
    if roads:
        return read_roads(videos, roads, each, tasks[0].level.canvas, rules)
    boxes = [scene for scene in scenes if isinstance(scene, BoxScene)]
    if boxes:
        return read_boxes(videos, boxes, each, rules)
    return _read_grids(videos, each, [scene for scene in scenes if isinstance(scene, Scene)], rules)


def _read_one(video: np.ndarray, rules: StrictRules, *, task: Task, scene: AnyScene) -> Verdict:
    """The verdict on one readable video as it is."""
    return _read([video], [task], [scene], rules)[0]


def _read_grids(videos: list[np.ndarray], speeds: list[float], of: list[Scene], rules: StrictRules) -> list[Verdict]:
    """The same of levels on a grid."""
    scenes = list({id(scene): scene for scene in of}.values())
    places = {id(scene): k for k, scene in enumerate(scenes)}
    which = np.array([places[id(scene)] for scene in of])
    side, canvas = scenes[0].background.shape[-1], scenes[0].board.shape[0]
    cell = side / canvas

    backgrounds = np.stack([scene.background for scene in scenes])
    frames = reduce_videos(videos, side)
    for i, scene in enumerate(of):
        if scene.unknown.any():
            frames[i, :, scene.unknown] = np.rint(scene.background[:, scene.unknown]).T[:, None]
    # Brought in order first: numpy's subtraction of strided bytes takes several times as long.
    difference = frames.transpose(0, 1, 4, 2, 3).astype(np.float32, order="C")
    difference -= backgrounds[which][:, None]
    tracks = track(difference, scenes, which, rules, cell)
    compared = compare(frames, difference, tracks.position, scenes, which, patch_weights(side, canvas), rules)
    position = bridge(tracks) / np.float32(cell)
    walks = follow_path(position, scenes, which, np.array(speeds), rules)
    measured = Measurements(tracks=tracks, position=position, backgrounds=compared, walks=walks, scenes=of)
    return judge(measured, rules)


def _speed(task: Task, frames: int) -> float:
    """The level's speed in cells a frame: the reference's largest step, faster if the video has fewer frames."""
    steps = np.sqrt((np.diff(task.trajectory, axis=0) ** 2).sum(1)) * task.level.canvas
    return float(steps.max(initial=0.0)) * max(1.0, (task.frames - 1) / (frames - 1))
