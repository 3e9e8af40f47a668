"""How well a robot's camera is recovered from reference videos, also after noise, blur and compression.

    PYTHONPATH=components OMP_NUM_THREADS=1 python tests/benchmarks/camera_pose.py [--videos 16]

Each line is over the same levels (seed 0, split `train`, difficulties and textures in turn): error of the place and of
the heading against the true poses, how many frames are off by more than 25 cm or 10 degrees, how many videos are a
strict success, and seconds of the process's own time for a whole verdict. The table is Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.task import make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.tasks.video import decode_video, encode_video
from wan_r1.verification import verify

FORMS = {
    "32 px, 9 frames": {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0},
    "128 px, 41 frames": {"size": 128, "canvas": 8, "frames": 41, "steps_per_frame": 0.5},
    "512 px, 81 frames": {"size": 512, "canvas": 8, "frames": 81, "steps_per_frame": 0.25},
}
TREATMENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda video: video,
    "noise of 8 levels": lambda video: np.clip(
        video + np.random.default_rng(0).normal(0, 8, video.shape), 0, 255
    ).astype(np.uint8),
    "blur of 1 px": lambda video: np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video]),
    "H.264": lambda video: decode_video(encode_video(video, 24.0, False)),
    "JPEG, quality 12": lambda video: np.stack(
        [
            cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 12])[1], cv2.IMREAD_COLOR)
            for frame in video
        ]
    ),
}


def measure(form: dict, treat: Callable[[np.ndarray], np.ndarray], videos: int) -> list[str]:
    """The columns of one line."""
    away, turned, solved, seconds = [], [], 0, 0.0
    for index in range(videos):
        texture = list(TEXTURES)[index % len(TEXTURES)]
        task = make_task("navigation", DIFFICULTIES[index % 3], texture, seed=0, split="train", index=index, **form)
        video = treat(task.video)
        begin = time.process_time()
        (verdict,) = verify([video], [task])
        seconds += time.process_time() - begin
        off = verdict.poses - task.trajectory
        away.append(np.hypot(off[:, 0], off[:, 1]))
        turned.append(np.degrees(np.abs((off[:, 2] + np.pi) % (2 * np.pi) - np.pi)))
        solved += verdict.sr
    place, angle = np.concatenate(away), np.concatenate(turned)
    lost = ((place > 0.25) | (angle > 10)).mean()
    return [
        f"{100 * np.median(place):.1f}",
        f"{100 * np.quantile(place, 0.95):.1f}",
        f"{np.median(angle):.2f}",
        f"{np.quantile(angle, 0.95):.2f}",
        f"{100 * lost:.2f}",
        f"{solved} of {videos}",
        f"{seconds / videos:.2f}",
    ]


def main() -> None:
    """Print a line a size and treatment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--forms", type=int, default=len(FORMS), help="only the first so many sizes")
    given = parser.parse_args()
    print(
        "| video | treatment | place, median cm | 95 % | heading, median degrees | 95 % | frames off, % | solved | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, form in list(FORMS.items())[: given.forms]:
        for treatment, treat in TREATMENTS.items():
            print("| " + " | ".join([name, treatment, *measure(form, treat, given.videos)]) + " |", flush=True)


if __name__ == "__main__":
    main()
