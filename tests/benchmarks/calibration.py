"""Calibration: what verification says of reference videos, as they are and after compression, noise and blur.

    PYTHONPATH=components python tests/benchmarks/calibration.py [--keep FOLDER] > tests/benchmarks/calibration.md

Every family x texture x difficulty at 32 to 512 px, a few at 1024. A video fails if it is no strict exact match or
its fidelity is below .99; every failure is listed.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import StrictRules, Verdict, verify

GRIDS, BOXES, ROADS, ROOMS = ("regular", "trapfield"), ("sokoban",), ("irregular", "maze3d"), ("navigation",)
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


IN_TURN = tuple((texture, DIFFICULTIES[k % 3]) for k, texture in enumerate(sorted(TEXTURES)))
"""Every texture once, the difficulties in turn."""
EASY = tuple((texture, "easy") for texture in sorted(TEXTURES))

FORMS = {
    "grids, 32 px": _form(GRIDS, 25, 32, 4, 9, 1.0),
    "grids, 64 px": _form(GRIDS, 10, 64, 4, 17, 0.5),
    "grids, 128 px": _form(GRIDS, 4, 128, 8, 29, 1.0),
    "grids, 256 px": _form(GRIDS, 2, 256, 8, 29, 1.0),
    "grids, 512 px": _form(GRIDS, 1, 512, 8, 29, 1.0),
    "grids, 1024 px": _form(GRIDS, 1, 1024, 8, 29, 1.0, spots=IN_TURN),
    "grids, 1024 px, 16 cells": _form(GRIDS, 1, 1024, 16, 61, 1.0, spots=(("plain", "hard"), ("night", "medium"))),
    "Sokoban, 32 px": _form(BOXES, 2, 32, 4, 9, 1.0),
    "Sokoban, 64 px": _form(BOXES, 2, 64, 4, 37, 0.25),
    "Sokoban, 128 px": _form(BOXES, 2, 128, 4, 17, 0.5),
    "Sokoban, 256 px": _form(BOXES, 1, 256, 4, 17, 0.5),
    "Sokoban, 512 px": _form(BOXES, 1, 512, 4, 17, 0.5, spots=IN_TURN),
    "Sokoban, 1024 px": _form(BOXES, 1, 1024, 4, 17, 0.5, spots=IN_TURN),
    "roads, 64 px": _form(ROADS, 1, 64, 8, 49, 0.5),
    "roads, 96 px": _form(ROADS, 1, 96, 8, 33, 1.0),
    "roads, 128 px": _form(ROADS, 2, 128, 8, 49, 0.5),
    "roads, 256 px": _form(ROADS, 1, 256, 8, 49, 0.5),
    "roads, 512 px": _form(ROADS, 1, 512, 8, 49, 0.5, spots=IN_TURN),
    "roads, 512 px, 16 cells": _form(ROADS, 1, 512, 16, 25, 1.0, spots=EASY[::2]),
    "roads, 1024 px, 16 cells": _form(ROADS, 1, 1024, 16, 25, 1.0, spots=EASY[1::2]),
    "rooms, 32 px": _form(ROOMS, 1, 32, 4, 9, 1.0),
    "rooms, 64 px": _form(ROOMS, 1, 64, 8, 17, 0.7),
    "rooms, 128 px": _form(ROOMS, 1, 128, 8, 41, 0.5, spots=IN_TURN),
    "rooms, 256 px": _form(ROOMS, 1, 256, 8, 41, 0.5, spots=IN_TURN),
    "rooms, 512 px": _form(ROOMS, 1, 512, 8, 41, 0.5, spots=IN_TURN),
    "rooms, 1024 px": _form(ROOMS, 1, 1024, 8, 41, 0.5, spots=IN_TURN),
}
"""Canvas, frames and speed that every difficulty fits in, but for the spots. A road family needs 64 px at least."""


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


HEADER = """# Calibration of verification

Reference videos of {grids} (grids), {boxes}, {roads} (roads) and {rooms} (rooms) in
{textures} textures and 3 difficulties, each read as it is and after three changes. Made by
`python tests/benchmarks/calibration.py{options}`, seed 11. A video fails if it is no strict exact match or its fidelity
is below .99.

EM, SR, PR, the least MF and the failures are of the verdict as everybody gets it. `first` counts the failures if there
were no second reading (`StrictRules.compression = 0`): H.264 at quality 28 does to cells below 16 px what a cheat does.
It leaves a player that has moved on behind, in another colour; it takes the goal's colour; it runs walls into floor.
Such videos are compared with the level drawn by us and compressed in several ways (`wan_r1.verification.compression`).

| videos of | change | videos | EM | SR | PR | least MF | first | failures |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def read_form(name: str, share: float) -> dict[str, Any]:
    """What one form adds to the table: number of videos, rows, failures as (group, violations, fidelity), seconds."""
    begin = time.process_time()
    tasks = tasks_of(name, share)
    rows, failures = [], []
    for change, make in CHANGES.items():
        seen: list[Verdict] = []
        first = 0
        for start in range(0, len(tasks), 48):
            part = tasks[start : start + 48]
            videos = [make(task.video) for task in part]
            found = verify(videos, part)
            # A room is read once in any case, and that takes a long time.
            once = found if FORMS[name].families == ROOMS else verify(videos, part, rules=StrictRules(compression=0))
            first += sum(not _holds(verdict) for verdict in once)
            seen += found
        failed = [(task, verdict) for task, verdict in zip(tasks, seen, strict=True) if not _holds(verdict)]
        for task, verdict in failed:
            kinds = sorted({found.kind for found in verdict.violations})
            failures.append((f"{name}, {change}, {task.family}, {task.texture}", kinds, verdict.mf))
        em, sr, pr = (f"{np.mean([getattr(verdict, key) for verdict in seen]):.4f}" for key in ("em", "sr", "pr"))
        least = f"{min(verdict.mf for verdict in seen):.4f}"
        rows.append(f"| {name} | {change} | {len(tasks)} | {em} | {sr} | {pr} | {least} | {first} | {len(failed)} |")
    return {"videos": len(tasks), "rows": rows, "failures": failures, "seconds": time.process_time() - begin}


def _holds(verdict: Verdict) -> bool:
    return verdict.em and verdict.mf >= 0.99


def main() -> None:
    """Print the table and every failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    parser.add_argument("--keep", type=Path, help="folder of what each form gave; what is there is not read again")
    given = parser.parse_args()
    names = {
        "grids": ", ".join(GRIDS),
        "boxes": ", ".join(BOXES),
        "roads": ", ".join(ROADS),
        "rooms": ", ".join(ROOMS),
        "textures": len(TEXTURES),
    }
    print(HEADER.format(**names, options="" if given.share == 1 else f" --share {given.share:g}"), flush=True)
    found = []
    for form in given.forms:
        kept = given.keep and given.keep / f"{form}, {given.share:g}.json"
        one = json.loads(kept.read_text()) if kept and kept.is_file() else read_form(form, given.share)
        if kept:
            kept.write_text(json.dumps(one))
        # Long runs are looked at while they go on.
        print(*one["rows"], sep="\n", flush=True)
        found.append(one)
    failures = [failure for one in found for failure in one["failures"]]
    videos, seconds = (sum(one[key] for one in found) for key in ("videos", "seconds"))
    counted = f"{videos} videos, {videos * len(CHANGES)} readings, {len(failures)} failures"
    print(f"\n{counted}; {seconds / 60:.1f} minutes of one core.\n")
    for group, count in sorted(Counter(group for group, _, _ in failures).items()):
        own = [failure for failure in failures if failure[0] == group]
        kinds = Counter(kind for _, broken, _ in own for kind in broken).most_common()
        what = ", ".join(f"{kind} in {n}" for kind, n in kinds) or "no rule broken"
        print(f"- {group}: {count} ({what}; least MF {min(fidelity for _, _, fidelity in own):.3f})")


if __name__ == "__main__":
    main()
