"""Train a codec of more families and textures for the tiny model, given to it as ``model_codec``.

    python -m wan_r1.prepare_model.train_wide_codec --steps 6000 --output runs/wide-codec

The shipped codec knows two families in two textures, which makes it small and its code easy to learn; of anything else
it keeps nothing. This one has twice the latent channels and otherwise the shipped one's layers and weights to start
from. It is trained on windows of 32 x 32 pixels, drawn anew for each step, of solutions and unruly clips in turn: a
convolution does not mind how large the picture is, and irregular and 3D mazes need 64 pixels.

Convolutions are updated by Muon (the momentum made orthogonal; Jordan et al. 2024), the rest by AdamW. On irregular and
3D mazes in two textures, seed 0, PSNR of the last 50 training steps after about as many core-seconds of one core: AdamW
from random weights 19.6 dB (98), Muon from random weights 20.2 dB (112), this 21.2 dB (64). Twice the layers' channels,
or 2 x 2 pixels folded into channels, gained nothing in that time.

`--flat` keeps the learning rate, so that a run can be stopped at any of its checkpoints; a second one from there with
`--start` lets it fall to zero.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from wan_r1.prepare_model.train_small_codec import CHANGED, unruly
from wan_r1.prepare_model.train_tiny_codec import FRAMES, SIZE, decode_unclamped
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.video_model.codec import speed_up_codec
from wan_r1.video_model.tiny import WIDE_CODEC, tiny_codec

CELL = 8
"""Pixels a cell."""
GRID = 4
"""Pixels that a window's corner is a multiple of, as a latent is."""
NOISE = 0.03
"""Standard deviation of the noise on latents in training."""
WEIGHT = 6.0
"""Weight of pixels that a verifier looks at, beside 1 of all."""
AVERAGED = 0.7
"""Share of the steps after which the weights' average begins."""
AVERAGE = 0.005
"""Share of a step's weights in it."""
WARMUP = 20
"""Steps with a rising learning rate."""
LEAST = 0.003
"""Share of the learning rate that is left at the end."""
REPORT = 50
"""Steps from line to line."""
CHECKPOINT = 200
"""Steps from checkpoint to checkpoint of a flat run."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum made nearly orthogonal by five Newton-Schulz steps, for convolutions as matrices.

    `torch.optim.Muon` takes matrices alone. An update's mean square does not depend on the matrix's shape.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters that have a gradient; ``closure`` is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(gradient, 1 - group["momentum"])
                matrix = gradient.lerp(mean, group["momentum"]).reshape(len(parameter), -1)
                scale = 0.2 * max(matrix.shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["decay"])
                parameter.add_(orthogonal(matrix).reshape(parameter.shape), alpha=-group["lr"] * scale)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix with its singular values moved to about 1 (.7 to 1.2), but for those next to nothing."""
    tall = matrix.shape[0] > matrix.shape[1]
    result = matrix.T if tall else matrix
    result = result / (result.norm() + 1e-12)
    for _ in range(5):
        square = result @ result.T
        result = 3.4445 * result + (-4.775 * square + 2.0315 * square @ square) @ result
    return result.T if tall else result


def starting_codec() -> AutoencoderKLWan:
    """The shipped codec with more latent channels: random ones in the encoder, which the decoder does not use yet."""
    known = tiny_codec()
    old, new = known.config.z_dim, WIDE_CODEC["z_dim"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = AutoencoderKLWan(**WIDE_CODEC, latents_mean=[0.0] * new, latents_std=[1.0] * new)
    state = codec.state_dict()
    for name, value in known.state_dict().items():
        target = state[name]
        if target.shape == value.shape:
            target.copy_(value)
        elif name == "decoder.conv_in.weight":
            target.zero_()
            target[:, :old] = value
        elif name.startswith("post_quant_conv"):
            target[:old] = 0
            if target.ndim == 1:
                target.zero_()
                target[:old] = value
            else:
                target[:, :old] = 0
                target[:old, :old] = value
        elif name == "quant_conv.weight":
            target[:old] = 0
            for first, place in ((0, 0), (old, new)):
                target[:old, place : place + old] = value[:old, first : first + old]
        elif name == "quant_conv.bias":
            target[:old] = value[:old]
        else:
            # The encoder's output: means come first, then variances.
            target[:old], target[new : new + old] = value[:old], value[old:]
    codec.load_state_dict(state)
    return codec


def training_clips(
    count: int, seed: int, families: Sequence[str], textures: Sequence[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Clips uint8 `[9, height, width, 3]`, families in turn, and the pixels of each that count more `[height, width]`.

    Of 32 pixels where the family has a board of 4 cells (one in four nevertheless of 64), else of 64.
    """
    rng = np.random.default_rng(seed)
    clips, telling = [], []
    for index in range(count):
        task = _task(index, seed, families, textures, rng)
        assert task.video is not None  # every split but `prompts` has videos
        clip = task.video if index // len(families) % 2 else unruly(task.video, rng)
        begin = int(rng.integers((len(clip) - FRAMES) // 4 + 1)) * 4
        clip = clip[begin : begin + FRAMES] if index % 3 else clip[:FRAMES]
        clips.append(clip)
        telling.append(_telling(task, clip))
    return clips, telling


def _task(index: int, seed: int, families: Sequence[str], textures: Sequence[str], rng: np.random.Generator) -> Task:
    name = families[index % len(families)]
    family = FAMILIES[name]
    canvas = 4 if family.smallest_canvas <= 4 and rng.random() < 0.75 else 8
    difficulty, frames = ("easy", "medium", "hard")[int(rng.integers(3))], FRAMES
    while family.shortest_allowed(difficulty, canvas) > frames - 1:
        frames += 4
    return make_task(
        name,
        difficulty,
        textures[int(rng.integers(len(textures)))],
        seed=seed,
        split="train",
        index=index,
        frames=frames,
        size=CELL * canvas,
        canvas=canvas,
        steps_per_frame=1.0,
    )


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


def windows(
    clips: Sequence[np.ndarray], telling: Sequence[np.ndarray], count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of clips in [-1, 1] `[count, 3, 9, 32, 32]` and their pixels' weights `[count, 1, 1, 32, 32]`.

    Four of five are around a pixel that counts more, if the clip has one; all begin on the grid of the latents.
    """
    shown, weights = [], []
    for index in rng.integers(len(clips), size=count):
        clip, mask = clips[index], telling[index]
        room = len(mask) - SIZE
        if not room:
            corner = [0, 0]
        elif mask.any() and rng.random() < 0.8:
            middle = divmod(int(rng.choice(np.flatnonzero(mask))), len(mask))
            corner = [int(np.clip((m - int(rng.integers(2, SIZE - 2))) // GRID * GRID, 0, room)) for m in middle]
        else:
            corner = [int(rng.integers(room // GRID + 1)) * GRID for _ in range(2)]
        rows, columns = (slice(c, c + SIZE) for c in corner)
        shown.append(clip[:, rows, columns])
        weights.append(mask[rows, columns])
    frames = torch.from_numpy(np.stack(shown)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return frames, 1 + WEIGHT * torch.from_numpy(np.stack(weights)).float()[:, None, None]


def train(
    steps: int,
    output: Path,
    seed: int,
    *,
    families: Sequence[str],
    textures: Sequence[str],
    start: Path | None = None,
    flat: bool = False,
    convolution_rate: float = 1e-2,
    learning_rate: float = 2e-3,
    batch: int = 6,
    clips: int = 1500,
    name: str = "wan-r1/tiny-wide",
) -> AutoencoderKLWan:
    """Train and save the codec with the measured statistics of its latents.

    Args:
        steps: optimizer steps.
        output: folder for the codec; a flat run also writes one every 200 steps into folders in it.
        seed: of clips, windows and noise.
        families: of the clips.
        textures: of the clips.
        start: codec to go on from; without one the shipped codec, widened.
        flat: keep the learning rate instead of lowering it to nothing.
        convolution_rate: Muon's highest.
        learning_rate: AdamW's highest.
        batch: windows a step.
        clips: different clips.
        name: of the codec in its own config.
    """
    frames, telling = training_clips(clips, seed, families, textures)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 1)
    codec = speed_up_codec(AutoencoderKLWan.from_pretrained(start) if start else starting_codec())
    optimizers = _optimizers(codec, convolution_rate, learning_rate)
    averages: dict[str, torch.Tensor] = {}
    errors: list[float] = []
    begin = time.process_time()

    def keep(folder: Path) -> None:
        current = {key: value.clone() for key, value in codec.state_dict().items()}
        codec.load_state_dict(averages or current)
        statistics = _latent_statistics(codec, frames, telling)
        codec.register_to_config(_name_or_path=name, **statistics)
        codec.save_pretrained(folder)
        codec.load_state_dict(current)

    for step in range(1, steps + 1):
        spent = step / steps
        share = min(1.0, step / WARMUP) * (1 if flat else 1 - spent) + LEAST
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = share * group.setdefault("highest", group["lr"])
        truth, weights = windows(frames, telling, batch, rng)
        mode = codec.encode(truth).latent_dist.mode()
        latents = mode + NOISE * torch.randn_like(mode)
        difference = decode_unclamped(codec, latents) - truth
        loss = ((difference.abs() + 2 * difference**2) * weights).mean() + 1e-5 * (latents**2).mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if spent > AVERAGED and not flat:
            for key, value in codec.state_dict().items():
                averages[key] = value.clone() if key not in averages else averages[key].lerp(value, AVERAGE)
        errors.append((difference.detach().clamp(-2, 2) ** 2).mean().item())
        if step % REPORT == 0:
            psnr = -10 * np.log10(np.mean(errors[-REPORT:]) / 4)
            seconds = time.process_time() - begin
            print(f"codec  step {step}/{steps}  psnr {psnr:.2f}  {seconds:.0f} core-seconds", flush=True)
        if flat and step % CHECKPOINT == 0:
            keep(output / str(step))
    keep(output)
    codec.load_state_dict(averages or codec.state_dict())
    return codec


def _optimizers(codec: AutoencoderKLWan, convolution_rate: float, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions between hidden layers, AdamW for the rest."""
    outer = ("conv_in", "conv_out", "to_", "proj", "quant")
    hidden: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in codec.named_parameters():
        inside = parameter.ndim >= 4 and not any(part in name for part in outer)
        (hidden if inside else rest).append(parameter)
    return [
        Muon(hidden, convolution_rate),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.99), weight_decay=1e-4),
    ]


@torch.no_grad()
def _latent_statistics(
    codec: AutoencoderKLWan, clips: Sequence[np.ndarray], telling: Sequence[np.ndarray]
) -> dict[str, Any]:
    rng = np.random.default_rng(99)
    parts = [codec.encode(windows(clips, telling, 6, rng)[0]).latent_dist.mode() for _ in range(8)]
    latents = torch.cat(parts)
    return {
        "latents_mean": [round(value, 5) for value in latents.mean((0, 2, 3, 4)).tolist()],
        "latents_std": [round(value, 5) for value in latents.std((0, 2, 3, 4)).tolist()],
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="optimizer steps")
    parser.add_argument("--output", type=Path, required=True, help="folder for the diffusers autoencoder")
    parser.add_argument("--start", type=Path, help="codec to go on from; without it the shipped one, widened")
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES))
    parser.add_argument("--textures", nargs="+", choices=sorted(TEXTURES), default=sorted(TEXTURES))
    parser.add_argument("--flat", action="store_true", help="keep the learning rate, write checkpoints")
    parser.add_argument("--convolution-rate", type=float, default=1e-2, help="Muon's highest learning rate")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="AdamW's highest")
    parser.add_argument("--batch", type=int, default=6, help="windows a step")
    parser.add_argument("--clips", type=int, default=1500, help="different clips")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    train(
        given.steps,
        given.output,
        given.seed,
        families=given.families,
        textures=given.textures,
        start=given.start,
        flat=given.flat,
        convolution_rate=given.convolution_rate,
        learning_rate=given.learning_rate,
        batch=given.batch,
        clips=given.clips,
    )


if __name__ == "__main__":
    main()
