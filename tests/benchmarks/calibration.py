"""Calibration: what verification says of reference videos, as they are and after compression, noise and blur.

    PYTHONPATH=components python tests/benchmarks/calibration.py [--share 1.0] > tests/benchmarks/calibration.md

Every family x texture x difficulty at 32 to 512 px, a few at 1024. A video fails if it is no strict exact match or
its fidelity is below .99; every failure is listed.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify

GRIDS, BOXES, ROADS = ("regular", "trapfield"), ("sokoban",), ("irregular", "maze3d")
DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True)
class Form:
    """Levels of one size: ``each`` of every family, texture and difficulty, or of the ``spots`` among these alone."""

    families: tuple[str, ...]
    each: int
    values: dict[str, Any]
    spots: tuple[tuple[str, str], ...] = tuple(
        (texture, level) for texture in sorted(TEXTURES) for level in DIFFICULTIES
    )


def _form(families: tuple[str, ...], each: int, size: int, canvas: int, frames: int, speed: float, **more) -> Form:
    values = {"size": size, "canvas": canvas, "frames": frames, "steps_per_frame": speed}
    return Form(families=families, each=each, values=values, **more)


FORMS = {
    "grids, 32 px": _form(GRIDS, 25, 32, 4, 9, 1.0),
    "grids, 64 px": _form(GRIDS, 10, 64, 4, 17, 0.5),
    "grids, 128 px": _form(GRIDS, 4, 128, 8, 29, 1.0),
    "grids, 256 px": _form(GRIDS, 2, 256, 8, 29, 1.0),
    "grids, 512 px": _form(GRIDS, 1, 512, 8, 29, 1.0),
    "grids, 1024 px": _form(GRIDS, 1, 1024, 16, 61, 1.0, spots=(("plain", "hard"), ("night", "medium"))),
    "Sokoban, 32 px": _form(BOXES, 2, 32, 4, 9, 1.0),
    "Sokoban, 64 px": _form(BOXES, 2, 64, 4, 37, 0.25),
    "Sokoban, 256 px": _form(BOXES, 1, 256, 4, 17, 0.5),
    "roads, 64 px": _form(ROADS, 1, 64, 8, 49, 0.5),
    "roads, 96 px": _form(ROADS, 1, 96, 8, 33, 1.0),
    "roads, 256 px": _form(ROADS, 1, 256, 8, 49, 0.5),
    "roads, 512 px": _form(
        ROADS, 1, 512, 16, 25, 1.0, spots=tuple((texture, "easy") for texture in sorted(TEXTURES)[::2])
    ),
}
"""Canvas, frames and speed that every difficulty fits in, but for the spots."""


def h264(video: np.ndarray) -> np.ndarray:
    """Through H.264 at quality 28 with half the colour resolution."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "28", "preset": "veryfast", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def noise(video: np.ndarray) -> np.ndarray:
    """Gaussian noise of 8 levels."""
    added = np.random.default_rng(video.size).standard_normal(video.shape, np.float32)
    return np.clip(video + 8 * added, 0, 255).round().astype(np.uint8)


def blur(video: np.ndarray) -> np.ndarray:
    """Gaussian blur of one pixel's radius."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video])


CHANGES = {"as they are": lambda video: video, "H.264 crf 28": h264, "noise 8/255": noise, "blur 1 px": blur}


def tasks_of(name: str, share: float = 1.0) -> list[Task]:
    """The levels of one form; ``share`` of them, at least one per combination."""
    form = FORMS[name]
    each = max(1, round(form.each * share))
    return [
        make_task(family, difficulty, texture, seed=11, split="test", index=index, **form.values)
        for family in form.families
        for texture, difficulty in form.spots
        for index in range(each)
    ]


def main() -> None:
    """Print the table and every failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    given = parser.parse_args()
    failures: list[tuple] = []
    videos = readings = 0
    print("# Calibration of verification\n")
    print(f"Reference videos of {', '.join(GRIDS)} (grids), {', '.join(BOXES)} and {', '.join(ROADS)} (roads) in")
    print(f"{len(TEXTURES)} textures and 3 difficulties, each read as it is and after three changes. Made by")
    print("`python tests/benchmarks/calibration.py`, seed 11.\n")
    print("| videos of | change | videos | EM | SR | PR | least MF | failures |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for form in given.forms:
        tasks = tasks_of(form, given.share)
        videos += len(tasks)
        for change, make in CHANGES.items():
            seen: dict[str, list] = defaultdict(list)
            for start in range(0, len(tasks), 48):
                part = tasks[start : start + 48]
                for task, verdict in zip(part, verify([make(task.video) for task in part], part), strict=True):
                    for name in ("em", "sr", "pr", "mf"):
                        seen[name].append(float(getattr(verdict, name)))
                    if not (verdict.em and verdict.mf >= 0.99):
                        kinds = Counter(found.kind for found in verdict.violations)
                        failures.append((form, change, task.family, task.texture, dict(kinds), verdict.mf))
            readings += len(tasks)
            em, sr, pr = (f"{np.mean(seen[name]):.4f}" for name in ("em", "sr", "pr"))
            failed = sum(1 for one in failures if one[:2] == (form, change))
            row = f"| {form} | {change} | {len(tasks)} | {em} | {sr} | {pr} | {min(seen['mf']):.4f} | {failed} |"
            # Long runs are looked at while they go on.
            print(row, flush=True)
    print(f"\n{videos} videos, {readings} readings, {len(failures)} failures.\n")
    for group, count in sorted(Counter(one[:4] for one in failures).items()):
        kinds: Counter[str] = Counter()
        least = 1.0
        for one in failures:
            if one[:4] == group:
                kinds.update(one[4].keys())
                least = min(least, one[5])
        what = ", ".join(f"{kind} in {n}" for kind, n in kinds.most_common()) or "no rule broken"
        print(f"- {', '.join(group)}: {count} ({what}; least MF {least:.3f})")


if __name__ == "__main__":
    main()
