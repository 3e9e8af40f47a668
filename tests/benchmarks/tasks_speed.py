"""Speed of making data on one core, split into level, drawing and encoding.

    PYTHONPATH=components OMP_NUM_THREADS=1 python tests/benchmarks/tasks_speed.py [--videos 12] [--families A,B]

Seconds are the process's own CPU time, so that other processes on the machine do not count. Levels are drawn for the
split `train` (about two are drawn for each that belongs to it), in equal parts of the three difficulties; each part's
figure is per video. The table is Markdown.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.task import make_level, room_for_steps
from wan_r1.tasks.textures import HELD_OUT, TEXTURES
from wan_r1.tasks.video import encode_video

FORMS: dict[str, dict[str, Any]] = {
    "512 x 512 x 81": {"size": 512, "canvas": 16, "frames": 81, "speed": 0.5},
    "tiny, 32 x 32 x 9": {"size": 32, "canvas": 4, "frames": 9, "speed": 1.0},
}
LOOKS = sorted(set(TEXTURES) - set(HELD_OUT))


def measure(family: str, size: int, canvas: int, frames: int, speed: float, videos: int) -> list[float]:
    """Seconds a video for level, drawing, H.264 and lossless encoding."""
    maker, spent = FAMILIES[family], np.zeros(4)
    for index in range(videos):
        difficulty, look = DIFFICULTIES[index % 3], TEXTURES[LOOKS[index % len(LOOKS)]]
        room = room_for_steps(frames, speed)
        ticks = [time.process_time()]
        level = make_level(family, difficulty, seed=0, split="train", index=index, canvas=canvas, max_steps=room)
        level.solve()
        ticks.append(time.process_time())
        video = maker.render(level, look, maker.trajectory(level, frames, speed), size)
        ticks.append(time.process_time())
        for lossless in (False, True):
            encode_video(video, 24.0, lossless)
            ticks.append(time.process_time())
        spent += np.diff(ticks)
    return (spent / videos).tolist()


def warm_up(family: str, size: int, canvas: int) -> None:
    """Draw once in each texture: its tiles are made once a process, which a data set has forgotten soon."""
    maker = FAMILIES[family]
    level = maker.generate(np.random.default_rng(0), "easy", canvas)
    for look in LOOKS:
        maker.render(level, TEXTURES[look], None, size)


def main() -> None:
    """Print a row a family and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--families", default=",".join(name for name in sorted(FAMILIES)))
    given = parser.parse_args()
    print(
        "| family | size | level, ms | drawing, ms | H.264, ms | lossless, ms | videos/s before encoding | with H.264 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, form in FORMS.items():
        for family in given.families.split(","):
            if form["canvas"] < FAMILIES[family].smallest_canvas:
                continue
            measure(family, **form, videos=1)
            warm_up(family, form["size"], form["canvas"])
            level, drawing, common, lossless = measure(
                family, **form, videos=given.videos * (1 if form["size"] > 100 else 20)
            )
            before, after = 1 / (level + drawing), 1 / (level + drawing + common)
            parts = " | ".join(f"{1000 * part:.2f}" for part in (level, drawing, common, lossless))
            print(f"| {family} | {name} | {parts} | {before:,.0f} | {after:,.1f} |", flush=True)
    levels = 600
    begin = time.process_time()
    for index in range(levels):
        FAMILIES["regular"].generate(np.random.default_rng(index), DIFFICULTIES[index % 3], 16, 40)
    print(f"\nRegular levels alone on a canvas of 16: {levels / (time.process_time() - begin):,.0f} a second")
    begin = time.process_time()
    for index in range(levels):
        FAMILIES["regular"].generate(np.random.default_rng(index), DIFFICULTIES[index % 3], 4, 8)
    print(f"Regular levels alone on a canvas of 4: {levels / (time.process_time() - begin):,.0f} a second")


if __name__ == "__main__":
    main()
