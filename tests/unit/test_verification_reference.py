"""Calibration: a video that shows the solution scores as one, in any texture, size and quality a young model makes."""

from __future__ import annotations

import functools
import io
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify

DIFFICULTIES = ("easy", "medium", "hard")


def make_tasks(each: int, **form) -> list[Task]:
    return [
        make_task(family, difficulty, texture, seed=5, split="test", index=index, **form)
        for family in ("regular", "trapfield")
        for difficulty in DIFFICULTIES
        for texture in sorted(TEXTURES)
        for index in range(each)
    ]


TINY = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
OTHERS = {
    "64 px": {"size": 64, "canvas": 4, "frames": 33, "steps_per_frame": 0.25},
    "6 cells of 12 px": {"size": 72, "canvas": 6, "frames": 21, "steps_per_frame": 1.0},
    "16 cells": {"size": 128, "canvas": 16, "frames": 61, "steps_per_frame": 1.0},
    "512 px": {"size": 512, "canvas": 8, "frames": 25, "steps_per_frame": 1.0},
}


@functools.cache
def other_tasks(form: str) -> list[Task]:
    """All combinations where that is cheap, else every fifth."""
    return make_tasks(1, **OTHERS[form])[:: 1 if OTHERS[form]["size"] < 100 else 5]


def as_they_are(video: np.ndarray) -> np.ndarray:
    return video


def noisy(video: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(video.size).standard_normal(video.shape, np.float32)
    return np.clip(video + 8 * noise, 0, 255).round().astype(np.uint8)


def blurred(video: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video])


def blurred_and_noisy(video: np.ndarray) -> np.ndarray:
    return noisy(blurred(video))


def compressed(video: np.ndarray) -> np.ndarray:
    """Through H.264 with half the colour resolution, at quality 28."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "28", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def assert_solved(tasks: list[Task], videos: list[np.ndarray], fidelity: float = 0.99) -> None:
    verdicts = verify(videos, tasks)
    assert [verdict.error for verdict in verdicts if verdict.error] == []
    assert [verdict.violations for verdict in verdicts if verdict.violations] == []
    assert all(verdict.em and verdict.sr and verdict.pr == 1 and verdict.sd == 0 for verdict in verdicts)
    assert min(verdict.mf for verdict in verdicts) >= fidelity
    for task, verdict in zip(tasks, verdicts, strict=True):
        assert verdict.walk == task.solution
        assert verdict.end == task.level.goal
        assert set(verdict.states) == {"tracked"}
        assert np.abs(verdict.track - task.trajectory).max() * task.level.canvas < 0.1


@pytest.mark.parametrize("change", [as_they_are, noisy, blurred, blurred_and_noisy])
def test_tiny_references_are_solutions(change):
    tasks = make_tasks(6, **TINY)
    assert len(tasks) == 36 * len(TEXTURES)
    assert_solved(tasks, [change(task.video) for task in tasks])


@pytest.mark.parametrize("form", OTHERS)
@pytest.mark.parametrize("change", [as_they_are, noisy, blurred, compressed])
def test_references_of_other_sizes_are_solutions(change, form):
    tasks = other_tasks(form)
    assert_solved(tasks, [change(task.video) for task in tasks])


def test_a_sprite_never_seen_before_is_learned_from_the_given_image():
    """Another tool's data: a player with a pattern that fills its cell nearly, on a patterned floor."""
    rng = np.random.default_rng(0)
    sprite = rng.integers(0, 256, (28, 28, 3))
    bases = make_tasks(1, size=128, canvas=4, frames=17, steps_per_frame=0.5)
    for base in (base for base in bases if base.texture in ("night", "plain")):
        behind = FAMILIES[base.family].render(base.level, TEXTURES[base.texture], None, 128)[0].astype(int)
        behind = np.clip(behind + np.tile(rng.integers(-12, 13, (32, 32, 1)), (4, 4, 1)), 0, 255).astype(np.uint8)
        video = np.repeat(behind[None], base.frames, axis=0)
        for frame, (x, y) in zip(video, base.trajectory * 128, strict=True):
            top, left = round(float(y)) - 14, round(float(x)) - 14
            frame[top : top + 28, left : left + 28] = sprite
        task = replace(base, video=video, first_frame=video[0])
        (verdict,) = verify(video[None], [task])
        assert verdict.violations == ()
        assert verdict.em and verdict.mf >= 0.99
