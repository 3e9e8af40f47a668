"""VR-Bench's five metrics, computed on our track.

Definitions are those of the benchmark's code (ImYangC7/VR-Bench, `evaluation/videomodel_eval`), not of its README:
precision is a prefix by arc length, success any point in the goal's box, fidelity compares grey values of every fifth
frame with the video's own frame 0. They are for comparison with published numbers; what they cannot see is what the
strict metrics are for.

In Sokoban the benchmark asks of the first box whether it comes into the goal's box, and takes the length and the
precision of the player's path: nothing relates the two.

One thing differs: the benchmark follows player and box by template matching (NCC or CSRT), we by
`wan_r1.verification.tracking`. Where one is not seen its last point is repeated, as the benchmark does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import cv2
import numpy as np

from wan_r1.tasks.level import Place
from wan_r1.tasks.roads import GraphLevel
from wan_r1.tasks.sokoban import SokobanLevel

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task


@dataclass(frozen=True, kw_only=True)
class BenchmarkRules:
    """The benchmark's parameters; defaults are those of its published scripts."""

    epsilon: float = 0.05
    """Largest distance from the reference, as a fraction of the frame's side."""
    samples: int = 1000
    """Points by arc length at which the two paths are compared."""
    pixel_threshold: int = 5
    """Largest grey difference of an unchanged pixel, in levels."""
    frame_step: int = 5
    """Fidelity looks at every frame whose index is a multiple of this."""
    exact_precision: float = 0.98
    """Least precision of an exact match."""
    exact_deviation: float = 0.1
    """Largest absolute step deviation of an exact match."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        for name, least in (("epsilon", 0), ("samples", 2), ("pixel_threshold", 0), ("frame_step", 1)):
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"BenchmarkRules({name}={value!r}) is not allowed; expected at least {least}")


class BenchmarkMetrics(TypedDict):
    """Fields of `Verdict` that hold the benchmark's metrics."""

    vr_bench_em: bool
    vr_bench_sr: bool
    vr_bench_pr: float
    vr_bench_sd: float | None
    vr_bench_mf: float


def benchmark_metrics(
    video: np.ndarray,
    track: np.ndarray,
    task: Task,
    rules: BenchmarkRules,
    references: Sequence[np.ndarray] | None = None,
    boxes: np.ndarray | None = None,
) -> BenchmarkMetrics:
    """The benchmark's metrics of one video.

    Of several references the one with the highest precision less absolute step deviation gives all values; the first
    of equals. Against a track or a reference of fewer than two points everything is 0, the step deviation too.

    Args:
        video: ``[F, H, W, 3]`` uint8.
        track: ``[F, 2]`` player centre as fractions of the frame; nan where not seen.
        task: its level.
        rules: parameters.
        references: paths of the player ``[points, 2]`` as fractions of the frame, at least one; default: the task's
            `trajectory`.
        boxes: of Sokoban, where it must be given, ``[F, boxes, 2]``: the boxes' centres like ``track``, in the level's
            order. The first is the one that the benchmark follows.

    Raises:
        ValueError: if the level is Sokoban and no boxes are given.
    """
    points = repeat_last(track, task.level.center(task.level.start))
    brought = points
    if isinstance(task.level, SokobanLevel):
        if boxes is None:
            raise ValueError(f"level {task.level.level_id} is Sokoban: give the boxes' tracks (Verdict.boxes)")
        brought = repeat_last(boxes[:, 0], task.level.center(task.level.boxes[0]))
    paths = [np.asarray(path, np.float64) for path in ([task.trajectory] if references is None else references)]
    reached = _reaches_goal(brought, task)
    scores = [_against(points, path, reached, rules) for path in paths]
    best = max(range(len(paths)), key=lambda i: scores[i]["vr_bench_pr"] - abs(scores[i]["vr_bench_sd"] or 0.0))
    if min(len(points), len(paths[best])) >= 2:
        scores[best]["vr_bench_mf"] = grey_fidelity(video, points, task, rules)
    return scores[best]


def _reaches_goal(points: np.ndarray, task: Task) -> bool:
    """Whether any point [F, 2] is in the goal's box, its borders included."""
    left, top, right, bottom = _box(task, _goal(task))
    x, y = points[:, 0], points[:, 1]
    return bool(((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).any())


def _against(points: np.ndarray, reference: np.ndarray, success: bool, rules: BenchmarkRules) -> BenchmarkMetrics:
    """The metrics of the player's path against one reference, without fidelity; ``success`` if the goal is reached."""
    if min(len(points), len(reference)) < 2:
        return {
            "vr_bench_em": False,
            "vr_bench_sr": False,
            "vr_bench_pr": 0.0,
            "vr_bench_sd": 0.0,
            "vr_bench_mf": 0.0,
        }
    precision = prefix_precision(points, reference, rules)
    wanted, walked = _length(reference), _length(points)
    extra = walked / wanted - 1 if wanted > 1e-9 else 0.0
    deviation = extra if success and extra >= 0 else None
    exact = success and precision >= rules.exact_precision and abs(deviation or 0.0) <= rules.exact_deviation
    return {
        "vr_bench_em": exact,
        "vr_bench_sr": success,
        "vr_bench_pr": precision,
        "vr_bench_sd": deviation,
        "vr_bench_mf": 0.0,
    }


def repeat_last(track: np.ndarray, start: tuple[float, float]) -> np.ndarray:
    """The track with the last seen point where none is seen, from ``start`` on, ``[F, 2]``."""
    points = np.array(track, np.float64)
    last = np.array(start)
    for point in points:
        if np.isnan(point[0]):
            point[:] = last
        last = point
    return points


def prefix_precision(points: np.ndarray, reference: np.ndarray, rules: BenchmarkRules) -> float:
    """Share of the reference, by arc length, that is followed before the first point further off than epsilon."""
    along = np.linspace(0.0, _length(reference), rules.samples)
    off = np.hypot(*(_at(reference, along) - _at(points, along)).T) > rules.epsilon
    return float(off.argmax() / rules.samples) if off.any() else 1.0


def grey_fidelity(video: np.ndarray, points: np.ndarray, task: Task, rules: BenchmarkRules) -> float:
    """Mean share of grey pixels like those of the video's own frame 0, beside start, goal and the tracked player.

    What Sokoban's boxes cover counts as changed: the benchmark does not mask them.
    """
    height, width = video.shape[1:3]
    sampled = range(rules.frame_step, len(video), rules.frame_step)
    if not sampled:
        return 0.0
    start, goal = _pixel_box(task, task.level.start, height, width), _pixel_box(task, _goal(task), height, width)
    box_width, box_height = start[2] - start[0], start[3] - start[1]
    first = cv2.cvtColor(video[0], cv2.COLOR_RGB2GRAY)
    around = np.ones((height, width), bool)
    for x0, y0, x1, y1 in (start, goal):
        around[y0:y1, x0:x1] = False
    scores = []
    for frame in sampled:
        mask = around.copy()
        x, y = points[int(frame / len(video) * (len(points) - 1))] * (width, height)
        # A box that starts outside is pushed in whole, not cropped, as the benchmark does.
        x0, y0 = max(0, int(x - box_width / 2)), max(0, int(y - box_height / 2))
        mask[y0 : y0 + box_height, x0 : x0 + box_width] = False
        compared = np.count_nonzero(mask)
        if not compared:
            scores.append(1.0)
            continue
        mask &= cv2.absdiff(cv2.cvtColor(video[frame], cv2.COLOR_RGB2GRAY), first) > rules.pixel_threshold
        scores.append(1.0 - np.count_nonzero(mask) / compared)
    return float(np.mean(scores))


def _side(task: Task) -> float:
    """Side of the boxes around start and goal as a fraction of the frame's: a cell's, or what a level of roads says."""
    level = task.level
    return level.cell_size * (level.box_side if isinstance(level, GraphLevel) else 1.0)


def _goal(task: Task) -> Place:
    """The goal of the benchmark's state: in Sokoban the cell where the first box belongs, as our export writes it."""
    level = task.level
    return level.goal[2:4] if isinstance(level, SokobanLevel) else level.goal


def _box(task: Task, place: Place) -> tuple[float, float, float, float]:
    """The box as (left, top, right, bottom), fractions of the frame."""
    x, y = task.level.center(place)
    half = _side(task) / 2
    return x - half, y - half, x + half, y + half


def _pixel_box(task: Task, place: Place, height: int, width: int) -> tuple[int, int, int, int]:
    left, top, _, _ = _box(task, place)
    size = _side(task)
    x0, y0 = int(left * width + 1e-6), int(top * height + 1e-6)
    return x0, y0, min(width, x0 + max(1, int(size * width))), min(height, y0 + max(1, int(size * height)))


def _length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _at(points: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Points [S, 2] at arc lengths ``along`` [S] of a polyline; its end beyond its length."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    return np.stack([np.interp(along, lengths, points[:, axis]) for axis in (0, 1)], axis=1)
