"""Calibration: what verification says of reference videos, as they are and after compression, noise and blur.

    PYTHONPATH=components python tests/benchmarks/calibration.py [--share 1.0] > tests/benchmarks/calibration.md

Every grid family x texture x difficulty at 32 to 512 px, a few at 1024. A video fails if it is no strict exact match or
its fidelity is below .99; every failure is listed.
"""

from __future__ import annotations

import argparse
import io
from collections import Counter, defaultdict

import av
import cv2
import numpy as np

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify

FAMILIES = ("regular", "trapfield")
DIFFICULTIES = ("easy", "medium", "hard")
FORMS = {
    "32 px": (25, {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}),
    "64 px": (10, {"size": 64, "canvas": 4, "frames": 17, "steps_per_frame": 0.5}),
    "128 px": (4, {"size": 128, "canvas": 8, "frames": 29, "steps_per_frame": 1.0}),
    "256 px": (2, {"size": 256, "canvas": 8, "frames": 29, "steps_per_frame": 1.0}),
    "512 px": (1, {"size": 512, "canvas": 8, "frames": 29, "steps_per_frame": 1.0}),
    "1024 px": (1, {"size": 1024, "canvas": 16, "frames": 61, "steps_per_frame": 1.0}),
}
"""Levels per family, texture and difficulty, and their form."""
SPOTS = {"1024 px": (("plain", "hard"), ("night", "medium"))}
"""Sizes at which only some textures and difficulties are read."""


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


def tasks_of(form: str, share: float = 1.0) -> list[Task]:
    """The levels of one size; ``share`` of them, at least one per combination."""
    each, values = FORMS[form]
    found = []
    for family in FAMILIES:
        for texture in sorted(TEXTURES):
            for difficulty in DIFFICULTIES:
                if form in SPOTS and (texture, difficulty) not in SPOTS[form]:
                    continue
                for index in range(max(1, round(each * share))):
                    found.append(make_task(family, difficulty, texture, seed=11, split="test", index=index, **values))
    return found


def main() -> None:
    """Print the table and every failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=list(FORMS))
    given = parser.parse_args()
    failures: list[tuple] = []
    print("# Calibration of verification on the grid families\n")
    print(f"Reference videos ({', '.join(FAMILIES)}; {len(TEXTURES)} textures; 3 difficulties), each read as it is and")
    print("after three changes. Made by `python tests/benchmarks/calibration.py`, seed 11.\n")
    print("| size | change | videos | EM | SR | PR | least MF | failures |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for form in given.forms:
        tasks = tasks_of(form, given.share)
        for change, make in CHANGES.items():
            seen: dict[str, list] = defaultdict(list)
            for start in range(0, len(tasks), 48):
                part = tasks[start : start + 48]
                for task, verdict in zip(part, verify([make(task.video) for task in part], part), strict=True):
                    for name in ("em", "sr", "pr", "mf"):
                        seen[name].append(float(getattr(verdict, name)))
                    if not (verdict.em and verdict.mf >= 0.99):
                        kinds = Counter(found.kind for found in verdict.violations)
                        failures.append(
                            (form, change, task.family, task.texture, task.difficulty, dict(kinds), verdict.mf)
                        )
            em, sr, pr = (f"{np.mean(seen[name]):.4f}" for name in ("em", "sr", "pr"))
            failed = sum(1 for one in failures if one[:2] == (form, change))
            row = f"| {form} | {change} | {len(tasks)} | {em} | {sr} | {pr} | {min(seen['mf']):.4f} | {failed} |"
            # Long runs are looked at while they go on.
            print(row, flush=True)
    print(f"\n{len(failures)} failures.\n")
    for (form, change, texture), count in sorted(Counter((one[0], one[1], one[3]) for one in failures).items()):
        kinds: Counter[str] = Counter()
        least = 1.0
        for one in failures:
            if (one[0], one[1], one[3]) == (form, change, texture):
                kinds.update(one[5].keys())
                least = min(least, one[6])
        what = ", ".join(f"{kind} in {n}" for kind, n in kinds.most_common()) or "fidelity alone"
        print(f"- {form}, {change}, {texture}: {count} ({what}; least MF {least:.3f})")


if __name__ == "__main__":
    main()
