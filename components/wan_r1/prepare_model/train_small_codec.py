"""Train the codec of the preset `small`: 128 px, 33 frames, every family.

    python -m wan_r1.prepare_model.train_small_codec --device cuda --output runs/small-codec

The tiny codec does not serve at this size: of six mazes and six Trapfields of 128 px and 33 frames it kept none (PSNR
13 to 15 dB). Half of the clips are solutions; the others run through a solution's moments in another order (waiting,
going back, jumping), or show the player twice or half faded, as a half-trained policy may. Pixels that change anywhere
in a clip weigh more in all of its frames, as in `train_tiny_codec`, whose loop this is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wan_r1.config import read_preset
from wan_r1.prepare_model.train_tiny_codec import train
from wan_r1.tasks.dataset import make_task
from wan_r1.video_model.tiny import SMALL_CODEC

CHANGED = 24
"""Difference of a colour value, of 255, from which a pixel has changed."""


def training_clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips uint8 `[count, frames, size, size, 3]` like the preset's, and weights `[count, frames, size, size]`."""
    tasks = read_preset("small")["generate_tasks"]
    rng = np.random.default_rng(seed)
    clips, weights = [], []
    for index in range(count):
        task = make_task(
            tasks["families"][index % len(tasks["families"])],
            ("easy", "medium", "hard")[int(rng.integers(3))],
            tasks["textures"][int(rng.integers(len(tasks["textures"])))],
            seed=seed,
            split="train",
            index=index,
            frames=tasks["frames"],
            size=tasks["height"],
            canvas=tasks["canvas"],
            steps_per_frame=tasks["steps_per_frame"],
        )
        assert task.video is not None  # every split but `prompts` has videos
        clip = task.video if index // len(tasks["families"]) % 2 else unruly(task.video, rng)
        changed = (np.abs(clip.astype(int) - clip[:1]).max(-1) > CHANGED).any(0)
        clips.append(clip)
        weights.append(np.broadcast_to(np.float32(1) + 6 * changed.astype(np.float32), clip.shape[:3]))
    return np.stack(clips), np.stack(weights)


def unruly(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip that is no solution, made from one whose first frame it keeps.

    Args:
        video: uint8 `[frames, height, width, 3]`.
        rng: draws how it breaks.
    """
    frames = len(video)
    pace = rng.choice([-1, 0, 1, 2], size=frames - 1, p=[0.25, 0.3, 0.35, 0.1])
    jumps = rng.random(frames - 1) < 0.05
    moments = [0]
    for step, jump in zip(pace, jumps, strict=True):
        moments.append(int(rng.integers(frames)) if jump else int(np.clip(moments[-1] + step, 0, frames - 1)))
    clip = video[moments]
    kind = rng.choice(["order", "fade", "copy"], p=[0.6, 0.2, 0.2])
    if kind == "fade":
        share = np.linspace(1, rng.random(), frames)[:, None, None, None]
        return np.clip(video[:1] + (clip.astype(float) - video[:1]) * share, 0, 255).astype(np.uint8)
    if kind == "copy":
        differs = np.abs(video.astype(int) - video[:1]).max(-1, keepdims=True) > CHANGED
        return np.where(differs, video, clip)
    return clip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=12, help="clips a step")
    parser.add_argument("--clips", type=int, default=2048, help="different clips; 5 MB of memory each")
    parser.add_argument("--output", type=Path, required=True, help="folder for the diffusers autoencoder")
    parser.add_argument("--start", type=Path, help="codec to go on from")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="AdamW's highest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args()
    train(
        given.steps,
        given.output,
        given.seed,
        start=given.start,
        learning_rate=given.learning_rate,
        batch=given.batch,
        clips=given.clips,
        config=SMALL_CODEC,
        make_clips=training_clips,
        name="wan-r1/small",
        device=given.device,
    )


if __name__ == "__main__":
    main()
