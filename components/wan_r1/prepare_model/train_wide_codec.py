"""Train a codec of every family and texture for the tiny model, given to it as ``model_codec``.

    python -m wan_r1.prepare_model.train_wide_codec --steps 6000 --output runs/wide-codec

The shipped codec knows two families in two textures, which makes it small and its code easy to learn; of anything else
it keeps nothing (of 16 to 24 videos a family and texture, none). This one has twice the channels. It is trained on
windows of 32 x 32 pixels, solutions and unruly clips in turn: a convolution does not mind how large the picture is, and
irregular and 3D mazes need 64 pixels. A step takes .7 core-seconds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from wan_r1.prepare_model.train_small_codec import CHANGED, unruly
from wan_r1.prepare_model.train_tiny_codec import SIZE, train
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.video_model.tiny import WIDE_CODEC

CELL = 8
"""Pixels a cell."""


def training_task(index: int, seed: int, rng: np.random.Generator, split: str = "train") -> Task:
    """A level with its video, families in turn: of 32 pixels where its family has a board of 4 cells, else of 64."""
    name = sorted(FAMILIES)[index % len(FAMILIES)]
    family = FAMILIES[name]
    canvas = 4 if family.smallest_canvas <= 4 and rng.random() < 0.75 else 8
    frames = 9
    difficulty = ("easy", "medium", "hard")[int(rng.integers(3))]
    while family.shortest_allowed(difficulty, canvas) > frames - 1:
        frames += 4
    return make_task(
        name,
        difficulty,
        sorted(TEXTURES)[int(rng.integers(len(TEXTURES)))],
        seed=seed,
        split=split,
        index=index,
        frames=frames,
        size=CELL * canvas,
        canvas=canvas,
        steps_per_frame=1.0,
    )


def training_clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows uint8 `[count, 9, 32, 32, 3]` of clips, and the weights of their pixels `[count, 9, 32, 32]`."""
    rng = np.random.default_rng(seed)
    clips, weights = [], []
    for index in range(count):
        task = training_task(index, seed, rng)
        assert task.video is not None  # every split but `prompts` has videos
        clip = (task.video if index // len(FAMILIES) % 2 else unruly(task.video, rng))[:9]
        weight = 1 + 6 * _telling(task, clip)
        rows, columns = (_window(weight.max(1 - axis), rng) for axis in (0, 1))
        clips.append(clip[:, rows, columns])
        weights.append(np.broadcast_to(weight[rows, columns], clips[-1].shape[:3]))
    return np.stack(clips), np.stack(weights).astype(np.float32)


def _telling(task: Task, clip: np.ndarray) -> np.ndarray:
    """Pixels that a verifier looks at, bool `[height, width]`: whatever changes, and the goal's cell. Where the camera
    moves all changes, and no pixel counts more than another."""
    if task.family == "navigation":
        return np.zeros(clip.shape[1:3], bool)
    telling = (np.abs(clip.astype(int) - clip[:1]).max(-1) > CHANGED).any(0)
    size = len(telling)
    x, y = np.asarray(task.trajectory)[-1].reshape(-1)[:2] * size
    rows, columns = np.mgrid[:size, :size] + 0.5
    return telling | (np.maximum(abs(rows - y), abs(columns - x)) < CELL / 2 + 1)


def _window(marked: np.ndarray, rng: np.random.Generator) -> slice:
    """A window of 32 pixels on the codec's grid of 4, around one of the marked places if there is one."""
    places = np.flatnonzero(marked > 1)
    middle = int(rng.choice(places)) if len(places) else int(rng.integers(len(marked)))
    begin = int(np.clip((middle - int(rng.integers(4, SIZE - 4))) // 4 * 4, 0, len(marked) - SIZE))
    return slice(begin, begin + SIZE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="optimizer steps")
    parser.add_argument("--output", type=Path, required=True, help="folder for the diffusers autoencoder")
    parser.add_argument("--start", type=Path, help="codec to go on from")
    parser.add_argument("--clips", type=int, default=6144, help="different clips")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="AdamW's highest")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(
        given.steps,
        given.output,
        given.seed,
        start=given.start,
        learning_rate=given.learning_rate,
        clips=given.clips,
        config=WIDE_CODEC,
        make_clips=training_clips,
        name="wan-r1/tiny-wide",
    )


if __name__ == "__main__":
    main()
