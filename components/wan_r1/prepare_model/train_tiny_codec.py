"""Train the tiny codec that ships with the package.

    python -m wan_r1.prepare_model.train_tiny_codec --steps 3000 --still 0.05 \\
        --output components/wan_r1/video_model/assets/tiny/vae

A Wan autoencoder is trained on rendered solution videos of every family, texture and difficulty, and on videos that no
solution shows (players that jump, fade, wait, cross walls, or are there twice), so that a policy's mistakes survive
decoding instead of being repaired by the codec. The loss is taken before the decoder's clamp, which has no gradient on
saturated pixels, and weighs the pixels of player and goal more in every frame: they are few, and all that a verifier
looks for. A pixel that the player passes counts in all frames, or ghosts of it before and after would cost nothing.

`--still` also pulls the later latents of unchanged places to zero. The decoder has their look from the first
frame; what remains is where something moves. Whether the transformer learns faster on such a code is not settled: the
one comparison with equal settings ended after 800 steps, before either had learned much.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from wan_r1.tasks.dataset import make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.level import MOVES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.video_model.codec import speed_up_codec
from wan_r1.video_model.tiny import CODEC

SIZE, FRAMES, CANVAS = 32, 9, 4
CODEC_FAMILIES, CODEC_TEXTURES = ("regular", "trapfield"), ("plain", "night")


def training_clips(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips uint8 `[count, frames, size, size, 3]`, and the weight of their pixels `[count, frames, size, size]`."""
    rng = np.random.default_rng(seed)
    clips, weights = [], []
    for index in range(count):
        family, texture = CODEC_FAMILIES[index % 2], CODEC_TEXTURES[(index // 2) % 2]
        difficulty = ("easy", "medium", "hard")[int(rng.integers(3))]
        task = make_task(
            family,
            difficulty,
            texture,
            seed=seed,
            split="train",
            index=index,
            frames=FRAMES,
            size=SIZE,
            canvas=CANVAS,
            steps_per_frame=1.0,
        )
        drawn = FAMILIES[family]
        background = drawn.render(task.level, TEXTURES[texture], None, SIZE)[0]
        assert task.video is not None  # every split but `prompts` has videos
        clip = task.video.copy() if (index // 4) % 2 else _unruly(drawn, task, TEXTURES[texture], rng)
        moved = np.abs(clip.astype(int) - background).max(-1) > 24
        goal = _goal_mask(task.level)
        clips.append(clip)
        # A pixel that shows the player in any frame counts in every frame: there the timing is told.
        weights.append(np.broadcast_to(1.0 + 6.0 * (moved.any(0) | goal), moved.shape))
    return np.stack(clips), np.stack(weights).astype(np.float32)


def _unruly(family, task, texture, rng) -> np.ndarray:
    """A clip of what a half-trained policy may show: wrong ways, waits, jumps, a copy of the player, a fading one."""
    kind = rng.choice(["wander", "drift", "fade", "copy"], p=[0.55, 0.15, 0.15, 0.15])
    track = _drift(task, rng) if kind == "drift" or rng.random() < 0.3 else _wander(task.level, rng)
    clip = family.render(task.level, texture, track, SIZE)
    if kind in ("wander", "drift"):
        return clip
    background = family.render(task.level, texture, None, SIZE)
    if kind == "fade":
        fade = np.linspace(1, rng.random(), FRAMES)[:, None, None, None]
        return np.clip(background + (clip.astype(float) - background) * fade, 0, 255).astype(np.uint8)
    shown = np.abs(task.video.astype(int) - background).max(-1, keepdims=True) > 24
    return np.where(shown, task.video, clip)


def _wander(level, rng) -> np.ndarray:
    """Player centres `[frames, 2]` of a walk from cell to cell of the board that waits, turns back, crosses walls and
    does not stop at the goal; half of them follow the solution to a random cell first."""
    cell, walk = level.start, [level.start]
    if rng.random() < 0.5:
        path = level.solve().path
        walk = list(path[: rng.integers(1, len(path) + 1)])
        cell = walk[-1]
    waits = rng.choice([0.1, 0.5])
    while len(walk) < FRAMES:
        if rng.random() > waits:
            down, right = list(MOVES.values())[rng.integers(len(MOVES))]
            ahead = (cell[0] + down, cell[1] + right)
            cell = ahead if level.contains(ahead) else cell
        walk.append(cell)
    return np.array([level.center(place) for place in walk[:FRAMES]], np.float32)


def _drift(task, rng) -> np.ndarray:
    """Player centres `[frames, 2]` that leave the grid: a smooth random walk, jumps, or no motion at all."""
    steps = rng.normal(0, 0.16, (FRAMES, 2)) if rng.random() < 0.5 else rng.uniform(-0.5, 0.5, (FRAMES, 2))
    track = np.clip(task.trajectory[0] + np.cumsum(steps, 0) * (rng.random() < 0.7), 0.1, 0.9).astype(np.float32)
    track[0] = task.trajectory[0]
    return track


def _goal_mask(level) -> np.ndarray:
    row, column = level.offset[0] + level.goal[0], level.offset[1] + level.goal[1]
    cell = SIZE // CANVAS
    mask = np.zeros((SIZE, SIZE), bool)
    mask[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = True
    return mask


def decode_unclamped(codec: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The decoder's output without diffusers' clamp to [-1, 1], which would stop gradients at saturated pixels."""
    codec.clear_cache()
    hidden = codec.post_quant_conv(latents)
    parts = []
    for frame in range(latents.shape[2]):
        codec._conv_idx = [0]
        parts.append(
            codec.decoder(
                hidden[:, :, frame : frame + 1],
                feat_cache=codec._feat_map,
                feat_idx=codec._conv_idx,
                first_chunk=frame == 0,
            )
        )
    codec.clear_cache()
    decoded = torch.cat(parts, 2)
    return unpatchify(decoded, codec.config.patch_size) if codec.config.patch_size else decoded


def train(
    steps: int,
    output: Path,
    seed: int,
    *,
    start: Path | None = None,
    still: float = 0.0,
    learning_rate: float = 3e-3,
    batch: int = 12,
    clips: int = 4096,
    config: dict[str, Any] = CODEC,
    make_clips: Callable[[int, int], tuple[np.ndarray, np.ndarray]] = training_clips,
    name: str = "wan-r1/tiny",
    device: str = "cpu",
) -> AutoencoderKLWan:
    """Train for ``steps`` and save the codec with measured latent statistics.

    Args:
        steps: optimizer steps.
        output: folder for the codec.
        seed: of weights, clips and batches.
        start: codec to go on from.
        still: weight of the squared later latents at places where no pixel differs from the first frame.
        learning_rate: AdamW's highest.
        batch: clips a step.
        clips: different clips.
        config: of the codec.
        make_clips: makes clips and the weights of their pixels from their number and a seed.
        name: of the codec in its own config.
        device: where to train.
    """
    torch.manual_seed(seed)
    if start:
        codec = AutoencoderKLWan.from_pretrained(start)
    else:
        channels = config["z_dim"]
        codec = AutoencoderKLWan(**config, latents_mean=[0.0] * channels, latents_std=[1.0] * channels)
    speed_up_codec(codec.to(device))
    data, weights = (torch.from_numpy(array) for array in make_clips(clips, seed))
    optimizer = torch.optim.AdamW(codec.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    averages: dict[str, torch.Tensor] = {}
    begin = time.process_time()
    for step in range(1, steps + 1):
        spent = step / steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / 50) * (1 - spent) + 2e-5
        chosen = torch.randint(len(data), (batch,))
        frames = data[chosen].to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        posterior = codec.encode(frames).latent_dist
        mode = posterior.mode()
        latents = mode + 0.03 * torch.randn_like(mode)
        difference = decode_unclamped(codec, latents) - frames
        weight = weights[chosen][:, None].to(device)
        loss = ((difference.abs() + 2 * difference**2) * weight).mean() + 1e-5 * (latents**2).mean()
        rest = (mode[:, :, 1:] ** 2 * _unchanged(frames, mode.shape)).mean()
        loss = loss + still * rest
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        if spent > 0.7:
            for name, value in codec.state_dict().items():
                averages[name] = value.clone() if name not in averages else averages[name].lerp(value, 0.005)
        if step % 50 == 0:
            psnr = -10 * torch.log10((difference.clamp(-2, 2) ** 2).mean() / 4)
            print(
                f"codec  step {step}/{steps}  loss {loss.item():.4f}  psnr {psnr.item():.1f}  still {rest.item():.4f}  "
                f"{time.process_time() - begin:.0f} core-seconds",
                flush=True,
            )
    codec.load_state_dict(averages)
    # A name instead of the folder that the training started from.
    codec.register_to_config(_name_or_path=name, **_latent_statistics(codec, data[:512]))
    codec.save_pretrained(output)
    return codec


@torch.no_grad()
def _unchanged(frames: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """1 where no pixel of a latent's block of frames differs from frame 0: `[batch, 1, latent frames - 1, h, w]`."""
    changed = (frames[:, :, 1:] - frames[:, :, :1]).abs().amax(1, keepdim=True)
    return (torch.nn.functional.adaptive_max_pool3d(changed, (shape[2] - 1, *shape[3:])) < 0.05).float()


@torch.no_grad()
def _latent_statistics(codec: AutoencoderKLWan, clips: torch.Tensor) -> dict[str, list[float]]:
    latents = torch.cat(
        [
            codec.encode(part.to(codec.device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1).latent_dist.mode().cpu()
            for part in clips.split(32)
        ]
    )
    return {
        "latents_mean": [round(value, 5) for value in latents.mean((0, 2, 3, 4)).tolist()],
        "latents_std": [round(value, 5) for value in latents.std((0, 2, 3, 4)).tolist()],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1600, help="optimizer steps, half a core-second each")
    parser.add_argument("--output", type=Path, required=True, help="folder for the diffusers autoencoder")
    parser.add_argument("--start", type=Path, help="codec to go on from")
    parser.add_argument("--still", type=float, default=0.0, help="weight of later latents at unchanged places")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="AdamW's highest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        arguments.steps,
        arguments.output,
        arguments.seed,
        start=arguments.start,
        still=arguments.still,
        learning_rate=arguments.learning_rate,
    )


if __name__ == "__main__":
    main()
