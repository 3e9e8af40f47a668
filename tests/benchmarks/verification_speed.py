"""Speed of verification beside OpenCV's CSRT tracker on the same videos, in one run on one core.

    PYTHONPATH=components OMP_NUM_THREADS=1 python tests/benchmarks/verification_speed.py

Prints CPU milliseconds a video (process time, best of several runs): everything that verification does, and CSRT's
tracking alone. CSRT is in OpenCV's contrib modules; without them (`pip install opencv-contrib-python-headless`) its
column is empty.
"""

from __future__ import annotations

import platform
import time

import cv2
import numpy as np

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.verification import verify

FORMS = {
    "9 x 32 px, batch of 96": ({"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}, 96, 0.5),
    "81 x 512 px, 8 cells": ({"size": 512, "canvas": 8, "frames": 81, "steps_per_frame": 0.5}, 1, 60.0),
    "81 x 512 px, 16 cells": ({"size": 512, "canvas": 16, "frames": 81, "steps_per_frame": 1.0}, 1, 60.0),
    "81 x 512 px, 16 cells, noise": ({"size": 512, "canvas": 16, "frames": 81, "steps_per_frame": 1.0}, 1, None),
    "81 x 512 px, 16 cells, irregular": ({"size": 512, "canvas": 16, "frames": 81, "steps_per_frame": 0.5}, 1, 60.0),
    "81 x 512 px, 16 cells, maze3d": ({"size": 512, "canvas": 16, "frames": 81, "steps_per_frame": 0.5}, 1, 60.0),
    "81 x 512 px, 8 cells, sokoban": ({"size": 512, "canvas": 8, "frames": 81, "steps_per_frame": 0.5}, 1, 60.0),
}
"""Form of the level, videos in a batch, and the most milliseconds a video that are allowed."""
RUNS = 3


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(
        f"{platform.processor() or platform.machine()}, OpenCV {cv2.__version__}, numpy {np.__version__}, one thread\n"
    )
    print("| videos | verification, ms | allowed, ms | videos/s | CSRT, ms | CSRT / verification |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (form, batch, allowed) in FORMS.items():
        tasks = [_task(name, index, form) for index in range(min(batch, 8))]
        tasks = [tasks[i % len(tasks)] for i in range(batch)]
        videos = np.stack([task.video for task in tasks])
        if "noise" in name:
            rng = np.random.default_rng(0)
            videos = np.clip(videos + rng.normal(0, 8, videos.shape), 0, 255).astype(np.uint8)
        verify(videos, tasks)
        ours = min(_milliseconds(lambda v=videos, t=tasks: verify(v, t)) for _ in range(RUNS)) / batch
        csrt = _csrt(videos[0], tasks[0])
        theirs = "" if csrt is None else f"{csrt:.0f}"
        ratio = "" if csrt is None else f"{csrt / ours:.0f}"
        limit = "" if allowed is None else f"{allowed:g}"
        print(f"| {name} | {ours:.2f} | {limit} | {1000 / ours:.0f} | {theirs} | {ratio} |", flush=True)


def _task(name: str, index: int, form: dict) -> Task:
    """A hard level of the family that the name ends with, else of the grids in turn."""
    last = name.rsplit(" ", 1)[-1]
    family = last if last in FAMILIES else ("regular", "trapfield")[index % 2]
    return make_task(family, "hard", "plain", seed=1, split="test", index=index, **form)


def _milliseconds(call) -> float:
    begin = time.process_time()
    call()
    return 1000 * (time.process_time() - begin)


def _csrt(video: np.ndarray, task: Task) -> float | None:
    """CPU milliseconds of CSRT over one video, its box the start cell, as VR-Bench uses it."""
    if not hasattr(cv2, "TrackerCSRT_create"):
        return None
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in video]
    side = task.level.cell_size * task.width
    x, y = (value * task.width - side / 2 for value in task.trajectory[0])

    def follow() -> None:
        tracker = cv2.TrackerCSRT_create()
        tracker.init(frames[0], (int(x), int(y), int(side), int(side)))
        for frame in frames[1:]:
            tracker.update(frame)

    return _milliseconds(follow)


if __name__ == "__main__":
    main()
