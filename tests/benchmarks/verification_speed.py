"""Speed of verification beside OpenCV's CSRT tracker on the same videos, in one run on one core.

    PYTHONPATH=components OMP_NUM_THREADS=1 python tests/benchmarks/verification_speed.py

Prints CPU milliseconds a video (process time, best of several runs and their median): everything that verification
does, and CSRT's tracking alone. CSRT is in OpenCV's contrib modules; without them (`pip install
opencv-contrib-python-headless`) its column is empty.
"""

from __future__ import annotations

import os
import platform
import statistics
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
RUNS = 5
BATCHES = 40
"""Runs of one video, and of a batch of small ones."""
HEADER = """# Speed of verification beside CSRT

Made by `OMP_NUM_THREADS=1 python tests/benchmarks/verification_speed.py`. CPU time of everything that verification
does: the best of {runs} runs ({batches} batches of small videos) and their median; CSRT's tracking alone, once.
The last three rows are hard levels of the families that are no plain grid: curved roads, cubes, boxes.
"""


def main() -> None:
    """Print the table."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("give OMP_NUM_THREADS=1: other threads of BLAS wait busily, which counts as processor time")
    cv2.setNumThreads(1)
    print(HEADER.format(runs=RUNS, batches=BATCHES))
    print(
        f"{platform.processor() or platform.machine()}, OpenCV {cv2.__version__}, numpy {np.__version__}, one thread;"
    )
    print(f"load average at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.\n")
    print("| videos | best, ms | median, ms | allowed, ms | videos/s, best | median | CSRT, ms | CSRT / best |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (form, batch, allowed) in FORMS.items():
        tasks = [_task(name, index, form) for index in range(min(batch, 8))]
        tasks = [tasks[i % len(tasks)] for i in range(batch)]
        videos = np.stack([task.video for task in tasks])
        if "noise" in name:
            rng = np.random.default_rng(0)
            videos = np.clip(videos + rng.normal(0, 8, videos.shape), 0, 255).astype(np.uint8)
        verify(videos, tasks)
        runs = BATCHES if batch > 1 else RUNS
        times = [_milliseconds(lambda v=videos, t=tasks: verify(v, t)) / batch for _ in range(runs)]
        ours, middle = min(times), statistics.median(times)
        csrt = _csrt(videos[0], tasks[0])
        theirs = "" if csrt is None else f"{csrt:.0f}"
        ratio = "" if csrt is None else f"{csrt / ours:.0f}"
        limit = "" if allowed is None else f"{allowed:g}"
        speeds = f"{1000 / ours:.0f} | {1000 / middle:.0f}"
        print(f"| {name} | {ours:.2f} | {middle:.2f} | {limit} | {speeds} | {theirs} | {ratio} |", flush=True)


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
