"""What is done at once for a whole batch says what reading frame by frame and pixel by pixel says: every fact of it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from cheats import CHEATS, level_tasks
from kept_rollouts import kept

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.verification import fidelity, scene, tracking, verify
from wan_r1.verification.appearance import MOST_BLUR
from wan_r1.verification.scene import PATCH_KINDS

Batch = list[tuple[Task, np.ndarray]]


def plain_area(difference, position, scenes, which, cell: float) -> np.ndarray:
    area = np.zeros(position.shape[:2], np.float32)
    middle = np.arange(difference.shape[-1]) + 0.5
    for i, f in np.ndindex(area.shape):
        look = scenes[which[i]]
        x, y = position[i, f]
        near = (middle[:, None] - y) ** 2 + (middle - x) ** 2 < np.float32(look.radius + 0.5 * cell) ** 2
        leak = MOST_BLUR * (look.leak * look.paint).sum(0)
        share = (difference[i, f] * look.paint).sum(0)
        share -= np.clip(share, np.minimum(leak, 0), np.maximum(leak, 0))
        area[i, f] = np.clip(share, -1, 1)[near].sum() / look.area
    return area


def plain_sums(frames: np.ndarray) -> np.ndarray:
    sums = np.zeros(frames.shape, np.uint16)
    for i, f in np.ndindex(frames.shape[:2]):
        around = np.pad(frames[i, f].astype(np.uint16), ((1, 1), (1, 1), (0, 0)))
        height, width = frames.shape[2:4]
        sums[i, f] = sum(around[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return sums


def plain_means(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ (images @ weights.T)


def plain_drifted(rest, free, sorts, which, tolerance: float) -> np.ndarray:
    drifted = np.zeros(free.shape, bool)
    for i, f in np.ndindex(free.shape[:2]):
        for sort in range(2 * len(PATCH_KINDS)):
            own = sorts[which[i]] == sort
            used = own & free[i, f]
            if used.sum() > 1:
                drifted[i, f][own] = (rest[i, f][:, used].mean(1) ** 2).sum() > tolerance**2
    return drifted


def tiny() -> Batch:
    tasks = level_tasks("tiny")
    cheats = [(task, CHEATS[name].make(task)) for name in sorted(CHEATS) for task in tasks[::18]]
    return [(task, task.video) for task in tasks] + cheats + kept()


def slow() -> Batch:
    tasks = level_tasks("slow")[::11]
    return [(task, CHEATS[name].make(task)) for name in sorted(CHEATS)[::4] for task in tasks]


def large() -> Batch:
    form = {"size": 512, "canvas": 16, "frames": 25, "steps_per_frame": 1.0}
    tasks = [
        make_task(family, "easy", "wood", seed=4, split="test", index=0, **form) for family in ("regular", "trapfield")
    ]
    return [(task, task.video) for task in tasks] + [(task, task.video[::-1]) for task in tasks]


@pytest.mark.parametrize("batch", [tiny, slow, large])
def test_shortcuts_change_no_fact(batch, monkeypatch):
    made = [(task, video) for task, video in batch() if video is not None]
    rng = np.random.default_rng(0)
    rough = [(task, np.clip(v + rng.normal(0, 20, v.shape), 0, 255).round().astype(np.uint8)) for task, v in made[::3]]
    tasks, videos = zip(*made, *rough, strict=True)
    found = verify(videos, tasks)
    monkeypatch.setattr(scene, "_kept", OrderedDict())
    monkeypatch.setattr(scene, "patch_means", plain_means)
    monkeypatch.setattr(fidelity, "patch_means", plain_means)
    monkeypatch.setattr(fidelity, "neighbour_sums", plain_sums)
    monkeypatch.setattr(fidelity, "_drifted", plain_drifted)
    monkeypatch.setattr(tracking, "_area", plain_area)
    plain = verify(videos, tasks)
    assert sum(bool(verdict.violations) for verdict in plain) > len(plain) / 4
    for task, one, other in zip(tasks, found, plain, strict=True):
        assert one == other, task.level_id
        assert np.array_equal(one.track, other.track, equal_nan=True)


def test_sums_of_neighbours_stop_at_each_frames_edge():
    frames = np.random.default_rng(1).integers(0, 256, (3, 4, 9, 9, 3), np.uint8)
    frames[1] = 255
    assert np.array_equal(fidelity.neighbour_sums(frames), plain_sums(frames))
