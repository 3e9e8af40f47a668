"""Train the tiny DINOv2 encoder that ships with the package, for the reward ``embedding:tiny``.

    python -m wan_r1.rewards.train_tiny_encoder --output components/wan_r1/rewards/assets/tiny_dinov2

A `Dinov2Model` learns from rendered frames alone, without labels: of all frames in a batch it must tell which two are
views of the same one (InfoNCE: van den Oord et al. 2018, arXiv 1807.03748). Views differ in what a young video model
gets wrong without meaning anything: brightness, colour, noise, blur. A batch has several frames of each clip, whose
scene is the same, so that what tells them apart is where the player is (or the camera); and half the clips wander, so
that frames which no solution shows are told apart as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional
from transformers import BitImageProcessor

from wan_r1.rewards.encoders import TINY_SIDE, tiny_dinov2
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.textures import HELD_OUT, TEXTURES, get_texture

_GRID = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
_ROADS = {"size": 64, "canvas": 8, "frames": 33, "steps_per_frame": 1.0}
_ROOM = {"size": 32, "canvas": 6, "frames": 17, "steps_per_frame": 1.0}
SHOWN = 8
"""Frames of a clip in a batch."""
CLIPS = 24
"""Clips in a batch."""
TEMPERATURE = 0.1
SAME = 24
"""Frames whose pixels differ by no more than so many levels are the same, and no negatives of each other."""
_WEIGHTS, _FACTS = "model.safetensors", "training.json"


def form_of(family: str) -> dict[str, Any]:
    """Size, canvas, frames and speed of a family's clips; frames are reduced to `TINY_SIDE` pixels."""
    if family == "navigation":
        return _ROOM
    return _GRID if FAMILIES[family].smallest_canvas <= _GRID["canvas"] else _ROADS


def wander(task: Task, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A random walk from the start that is hardly a solution, ``[frames, 2]``; a robot's poses ``[frames, 3]``."""
    start = task.trajectory[:1]
    if start.shape[1] == 3:
        steps = rng.normal(0, (0.12, 0.12, 0.15), (frames, 3)).cumsum(0)
        return (start + steps - steps[:1]).astype(np.float32)
    steps = rng.normal(0, 1 / task.level.canvas, (frames, 2)).cumsum(0)
    return np.clip(start + steps - steps[:1], 0.08, 0.92).astype(np.float32)


def training_clips(each: int, seed: int) -> np.ndarray:
    """Frames uint8 ``[clips, SHOWN, 3, side, side]``: ``each`` clips of every family, training texture, difficulty."""
    rng = np.random.default_rng(seed)
    found = []
    for family in sorted(FAMILIES):
        for texture in sorted(set(TEXTURES) - set(HELD_OUT)):
            for number in range(each * len(DIFFICULTIES)):
                difficulty = DIFFICULTIES[number % len(DIFFICULTIES)]
                place: dict[str, Any] = {"seed": seed, "split": "train", "index": number}
                task = make_task(family, difficulty, texture, **place, **form_of(family))
                video = task.video
                assert video is not None  # every split but `prompts` has videos
                if number % 2:
                    track = wander(task, SHOWN, rng)
                    video = FAMILIES[family].render(task.level, get_texture(texture), track, task.height)
                at = np.linspace(0, len(video) - 1, SHOWN).round().astype(int)
                side = (TINY_SIDE, TINY_SIDE)
                found.append(np.stack([cv2.resize(video[f], side, interpolation=cv2.INTER_AREA) for f in at]))
    return np.stack(found).transpose(0, 1, 4, 2, 3)


def view(frames: torch.Tensor) -> torch.Tensor:
    """Frames ``[N, 3, H, W]`` in [0, 1] as a young model might show them, normalised as the processor does it."""
    n = len(frames)
    gain = 1 + 0.15 * torch.randn(n, 1, 1, 1) + 0.05 * torch.randn(n, 3, 1, 1)
    shown = frames * gain + 0.06 * torch.randn(n, 1, 1, 1) + 0.03 * torch.randn(n, 3, 1, 1)
    blurred = functional.avg_pool2d(functional.pad(shown, (1, 1, 1, 1), mode="replicate"), 3, 1)
    shown = torch.lerp(shown, blurred, torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.5))
    shown = shown + 0.06 * torch.rand(n, 1, 1, 1) * torch.randn_like(shown)
    return shown.clamp(0, 1) * 2 - 1


def info_nce(first: torch.Tensor, second: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    """How badly each view's twin is told from the other frames' views, a scalar.

    Args:
        first: embeddings ``[N, dimensions]``, row i of frame i.
        second: likewise of the twins.
        same: bool ``[N, N]``, frames that show the same, which are no negatives.
    """
    alike = functional.normalize(first, dim=1) @ functional.normalize(second, dim=1).T / TEMPERATURE
    twin = torch.eye(len(alike), dtype=torch.bool)
    alike = alike.masked_fill(same & ~twin, -torch.inf)
    wanted = torch.arange(len(alike))
    return (functional.cross_entropy(alike, wanted) + functional.cross_entropy(alike.T, wanted)) / 2


def train(steps: int, output: Path, seed: int, *, each: int = 6, learning_rate: float = 2e-3) -> dict[str, object]:
    """Train for ``steps`` and save the model, its processor and how it was made.

    Args:
        steps: optimizer steps.
        output: folder for the model.
        seed: of weights, clips, batches and views.
        each: clips of every family, texture and difficulty.
        learning_rate: AdamW's highest.

    Returns:
        What is written to ``training.json``.
    """
    begin = time.process_time()
    clips = torch.from_numpy(training_clips(each, seed))
    print(f"encoder  {len(clips)} clips  {time.process_time() - begin:.0f} core-seconds", flush=True)
    model = tiny_dinov2(seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    torch.manual_seed(seed)
    losses: list[float] = []
    for step in range(1, steps + 1):
        frames = clips[torch.randint(len(clips), (CLIPS,))].flatten(0, 1)
        flat = frames.flatten(1).to(torch.int16)
        # Only frames of the same clip can show the same; clips are compared whole.
        same = torch.block_diag(
            *[(part[:, None] - part[None]).abs().amax(2) <= SAME for part in flat.split(SHOWN)]
        ).bool()
        pixels = frames.float() / 255
        views = torch.cat([view(pixels), view(pixels)])
        first, second = model(pixel_values=views).last_hidden_state[:, 0].chunk(2)
        loss = info_nce(first, second, same)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 0:
            spent = time.process_time() - begin
            print(
                f"encoder  step {step}/{steps}  loss {np.mean(losses[-50:]):.3f}  {spent:.0f} core-seconds", flush=True
            )
    model.eval().save_pretrained(output)
    BitImageProcessor(
        size={"height": TINY_SIDE, "width": TINY_SIDE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(output)
    facts: dict[str, object] = {
        "command": f"python -m wan_r1.rewards.train_tiny_encoder --steps {steps} --each {each} --seed {seed}",
        "families": sorted(FAMILIES),
        "clips": len(clips),
        "loss": round(float(np.mean(losses[-50:])), 4),
        "core_seconds": round(time.process_time() - begin),
        "sha256": hashlib.sha256((output / _WEIGHTS).read_bytes()).hexdigest(),
    }
    (output / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--each", type=int, default=6, help="clips of every family, texture and difficulty")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(train(arguments.steps, arguments.output, arguments.seed, each=arguments.each), indent=2))


if __name__ == "__main__":
    main()
