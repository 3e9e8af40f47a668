"""What a codec of the tiny model keeps of solutions, by family and texture.

    PYTHONPATH=components OMP_NUM_THREADS=1 python tests/benchmarks/codec_round_trip.py --levels 48

Levels of the split `test`, seed 0, difficulties in turn, on the family's smallest canvas at 8 pixels a cell. Their
videos go through encoder and decoder, as a training's and a sample's do, and are verified. `--wandering` also sends
clips whose player waits, turns back and crosses walls through the shipped codec, and asks whether they read the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from wan_r1.prepare_model.train_tiny_codec import CANVAS, CODEC_FAMILIES, CODEC_TEXTURES, FRAMES, SIZE, _wander
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.wan import VideoModel

CELL = 8
"""Pixels a cell."""
DIFFICULTIES = ("easy", "medium", "hard")
WANDERING_LEVELS = 32
"""Levels by family, difficulty and texture."""


def load(codec: Path | None) -> VideoModel:
    """A model with the codec in this folder, or with the shipped one; only the codec is used."""
    pipeline = tiny_pipeline(seed=0, codec=codec)
    return VideoModel(
        transformer=pipeline.transformer,
        vae=pipeline.vae.eval(),
        text_encoder=None,
        tokenizer=None,
        scheduler=pipeline.scheduler,
        max_prompt_tokens=PROMPT_TOKENS,
    )


def levels(family: str, texture: str, count: int) -> list[Task]:
    """Fresh levels with their videos: of 9 frames, or as many more as the shortest solution needs."""
    canvas, tasks = FAMILIES[family].smallest_canvas, []
    for index in range(count):
        difficulty, frames = DIFFICULTIES[index % len(DIFFICULTIES)], FRAMES
        while FAMILIES[family].shortest_allowed(difficulty, canvas) > frames - 1:
            frames += 4
        tasks.append(
            make_task(
                family,
                difficulty,
                texture,
                seed=0,
                split="test",
                index=index,
                frames=frames,
                size=CELL * canvas,
                canvas=canvas,
                steps_per_frame=1.0,
            )
        )
    return tasks


def round_trip(model: VideoModel, tasks: list[Task]) -> dict[str, float]:
    """Shares and means over the solutions of these levels: exact before the codec and after it, fidelity, PSNR."""
    before, after, errors = [], [], []
    for task in tasks:
        video = task.video[None]
        decoded = model.decode(model.encode_videos(video))
        before += verify(video, [task])
        after += verify(decoded, [task])
        errors.append(((decoded.astype(np.float32) - video) ** 2).mean())
    return {
        "before": float(np.mean([verdict.em for verdict in before])),
        "exact": float(np.mean([verdict.em for verdict in after])),
        "fidelity": float(np.mean([verdict.mf for verdict in after])),
        "psnr": float(10 * np.log10(255**2 / np.mean(errors))),
    }


def wandering(model: VideoModel) -> str:
    """How clips that solve nothing read before and after the codec."""
    tasks = [
        make_task(
            family,
            difficulty,
            texture,
            seed=0,
            split="test",
            index=index,
            frames=FRAMES,
            size=SIZE,
            canvas=CANVAS,
            steps_per_frame=1.0,
        )
        for family in CODEC_FAMILIES
        for difficulty in DIFFICULTIES
        for texture in CODEC_TEXTURES
        for index in range(WANDERING_LEVELS)
    ]
    solutions = np.stack([task.video for task in tasks if task.video is not None])
    solved = verify(model.decode(model.encode_videos(solutions)), tasks)
    rng = np.random.default_rng(3)
    clips = np.stack(
        [
            FAMILIES[task.family].render(task.level, TEXTURES[task.texture], _wander(task.level, rng), SIZE)
            for task in tasks
        ]
    )
    before = verify(clips, tasks)
    after = verify(model.decode(model.encode_videos(clips)), tasks)
    same = np.mean([a.walk == b.walk and a.walk_frames == b.walk_frames for a, b in zip(before, after, strict=True)])
    unclear = np.mean(["lost" in v.states or "duplicated" in v.states for v in after])
    fidelity = np.mean([v.mf for v in solved])
    return (
        f"solutions  {sum(v.em for v in solved)} of {len(tasks)} exact, fidelity {fidelity:.4f}\n"
        f"wandering  {len(tasks)} clips: same walk {same:.3f}, lost or doubled {unclear:.3f}"
    )


def main() -> None:
    """Print a table, one row a family and texture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", type=Path, help="folder of a codec; without it the shipped one")
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES))
    parser.add_argument("--textures", nargs="+", choices=sorted(TEXTURES), default=list(TEXTURES))
    parser.add_argument("--levels", type=int, default=48, help="by family and texture")
    parser.add_argument("--wandering", action="store_true", help="also clips that solve nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = load(given.codec)
    print("| family | texture | videos | exact before, % | exact after, % | fidelity | PSNR, dB |")
    print("|---|---|---|---|---|---|---|")
    for family in given.families:
        for texture in given.textures:
            found = round_trip(model, levels(family, texture, given.levels))
            print(
                f"| {family} | {texture} | {given.levels} | {100 * found['before']:.1f} | {100 * found['exact']:.1f} | "
                f"{found['fidelity']:.3f} | {found['psnr']:.1f} |",
                flush=True,
            )
    if given.wandering:
        print(wandering(model))


if __name__ == "__main__":
    main()
