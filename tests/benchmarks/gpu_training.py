"""SFT steps and GRPO iterations of the Wan2.2-TI2V-5B architecture with random weights: seconds, utilisation, memory.

    python tests/benchmarks/gpu_training.py --output runs/gpu            # 512 x 512, 81 frames, on a GPU
    python tests/benchmarks/gpu_training.py --output runs/gpu --compile
    python tests/benchmarks/gpu_training.py --output runs/gpu --size tiny   # anywhere: that the script still runs

The project's own trainers run, from levels through the codec to the update. The time of a step is what they log
themselves, after warm-up steps that are not counted; random weights cost what trained ones cost. Model FLOPs
utilisation (MFU) is `wan_r1.video_model.flops` over time and the device's dense bfloat16 peak: what checkpointing
computes again does not count. Writes ``gpu_training.json`` and ``gpu_training.md``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from wan_r1.progress import Progress
from wan_r1.rewards import RewardInputs, RewardOutput
from wan_r1.runtime import git_commit, machine
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.video_model import tiny
from wan_r1.video_model.flops import VideoShape, forward_flops, peak_flops, training_flops
from wan_r1.video_model.loading import compile_blocks, default_device, from_pipeline
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.schedule import sigma_grid
from wan_r1.video_model.wan import VideoModel

FIVE_BILLION: dict[str, Any] = {
    "transformer": {
        "patch_size": [1, 2, 2],
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 14336,
        "num_layers": 30,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
    },
    "codec": {
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "scale_factor_temporal": 4,
        "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
    # One layer: prompts are encoded before the clock runs.
    "text_encoder": {"d_model": 4096, "d_kv": 64, "d_ff": 64, "num_layers": 1, "num_heads": 64, "dropout_rate": 0.0},
}
"""Configs of Wan-AI/Wan2.2-TI2V-5B-Diffusers (``transformer/config.json``, ``vae/config.json``)."""

LORA_ALPHA = 64.0

TINY: dict[str, Any] = {
    "transformer": tiny.TRANSFORMER,
    "codec": {**tiny.CODEC, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    "text_encoder": tiny.TEXT_ENCODER,
}


def half_are_good(inputs: RewardInputs) -> RewardOutput:
    """A reward that an untrained policy gets: 1 for every other video, so that there is something to update."""
    return RewardOutput(reward=(np.arange(len(inputs.tasks)) % 2).astype(np.float32), components={})


def random_model(configs: dict[str, Any], given: argparse.Namespace, device: torch.device) -> VideoModel:
    """A whole model of these configs with random weights, as `load_pipeline_folder` would load it."""
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[given.weights]
    torch.manual_seed(0)
    with torch.device(device):
        transformer = WanTransformer3DModel(**configs["transformer"])
        codec = AutoencoderKLWan(**configs["codec"])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny.assets() / "tokenizer")
    text = UMT5Config(vocab_size=len(tokenizer), pad_token_id=0, **configs["text_encoder"])
    for name, parameter in transformer.named_parameters():
        # As from_pretrained does it.
        if not any(part in name for part in transformer._keep_in_fp32_modules):
            parameter.data = parameter.data.to(dtype)
    pipeline = WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).to(dtype),
        vae=codec,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=tiny.SHIFT),
        expand_timesteps=True,
    )
    model = from_pipeline(
        pipeline,
        max_prompt_tokens=given.prompt_tokens,
        device=device,
        gradient_checkpointing=given.checkpointing,
        codec_batch=1,
        sample_batch=given.micro_batch,
    )
    # Before anything is compiled: the blocks must not change any more.
    ensure_lora(model.transformer, rank=given.lora_rank, alpha=LORA_ALPHA, seed=0)
    if given.compile:
        compile_blocks(model)
    return model


def levels(given: argparse.Namespace, split: str, count: int) -> list[Task]:
    """Solved levels at the size of the benchmark."""
    return [
        make_task(
            ("regular", "trapfield")[index % 2],
            "easy",
            "plain",
            seed=0,
            split=split,
            index=index,
            frames=given.frames,
            size=given.pixels,
            canvas=given.canvas,
            steps_per_frame=1.0 if given.frames < 40 else 0.5,
        )
        for index in range(count)
    ]


def measure(device: torch.device, work: Callable[[], object]) -> tuple[float, int]:
    """Seconds of ``work`` with all that it started, and the most memory in use (bytes; the process's on a CPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter() - begin, torch.cuda.max_memory_allocated(device)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def common(given: argparse.Namespace) -> dict[str, Any]:
    """What both trainings are told; nothing but the steps themselves runs between two of them."""
    return {
        "lora_rank": given.lora_rank,
        "lora_alpha": LORA_ALPHA,
        "validate_every": 10**6,
        "checkpoint_every": 10**6,
        "precision": "bf16" if given.weights == "bf16" else "no",
        "threads": 1,
    }


def per_step(log: list[dict], warmup: int) -> float:
    """Mean seconds of the steps after the warm-up, by the trainer's own clock (on a CPU: seconds of a core)."""
    clock = [0.0, *(entry["core_seconds"] for entry in log)]
    return (clock[-1] - clock[warmup]) / (len(log) - warmup)


def sft(model: VideoModel, given: argparse.Namespace, shape: VideoShape, scratch: str) -> dict[str, Any]:
    """Steps of supervised fine-tuning."""
    with Progress("encode") as progress:
        data = Demonstrations.encode(model, levels(given, "train", given.batch), progress)
    config = TrainSftConfig(steps=given.warmup + given.steps, batch_size=given.batch, **common(given))
    validation = levels(given, "validation", 1)
    trainer = SftTrainer(
        config=config, model=model, demonstrations=data, validation=validation, prefix=f"{scratch}/sft"
    )
    _, memory = measure(model.device, trainer.run)
    flops = given.batch * training_flops(model.transformer.config, shape, given.lora_rank)
    return row("SFT step", per_step(trainer.state.log, given.warmup), flops, memory, given, videos=given.batch)


def grpo(model: VideoModel, given: argparse.Namespace, shape: VideoShape, scratch: str) -> dict[str, Any]:
    """Iterations of Flow-GRPO: rollout, decoding, verification, update.

    Its phases are read without waiting for the GPU, so that a part of one may be counted in the next; their sum is not.
    """
    prompts = Prompts.encode(model, levels(given, "train", given.prompts), [])
    config = TrainGrpoConfig(
        reward=f"{__name__}:half_are_good",
        objective="flow_grpo",
        iterations=given.grpo_warmup + given.iterations,
        group_size=given.group,
        prompts_per_iteration=given.prompts,
        harder_share=0.0,
        rollout_steps=given.rollout_steps,
        sde_window=(1, 2),
        micro_batch=given.micro_batch,
        **common(given),
    )
    validation = levels(given, "validation", 1)
    trainer = GrpoTrainer(config=config, model=model, prompts=prompts, validation=validation, prefix=f"{scratch}/grpo")
    _, memory = measure(model.device, trainer.run)
    log, counted = trainer.state.log, trainer.state.log[given.grpo_warmup :]
    if not all(entry["grad_norm"] > 0 for entry in log):
        raise RuntimeError("an iteration made no update; its time would say nothing")
    videos = given.prompts * given.group
    forward = forward_flops(model.transformer.config, shape)
    # The update: a forward pass of the starting policy for the KL, and a training step, for each stochastic step.
    update = 2 * (forward + training_flops(model.transformer.config, shape, given.lora_rank))
    seconds = per_step(log, given.grpo_warmup)
    phases = {
        f"{name}_seconds": round(float(np.mean([entry[f"seconds_{name}"] for entry in counted])), 3)
        for name in ("rollout", "decode", "reward", "update")
    }
    flops = videos * (given.rollout_steps * forward + update)
    return row("GRPO iteration", seconds, flops, memory, given, videos=videos) | phases


def parts(model: VideoModel, given: argparse.Namespace, shape: VideoShape) -> list[dict[str, Any]]:
    """A forward pass, encoding and decoding by themselves."""
    task = levels(given, "test", 1)[0]
    count = given.micro_batch
    condition = model.condition(np.stack([task.first_frame] * count), [task.prompt] * count)
    noise = model.initial_noise(range(count), given.frames, given.pixels, given.pixels)
    sigma = float(sigma_grid(4, model.shift)[1])
    assert task.video is not None

    @torch.no_grad()
    def forward() -> None:
        model.velocity(noise, sigma, condition)

    works = {
        f"forward pass of {count}": (forward, count * forward_flops(model.transformer.config, shape), count),
        "encoding of 1": (lambda: model.encode_videos(task.video[None]), None, 1),
        "decoding of 1": (lambda: model.decode(noise[:1]), None, 1),
    }
    rows = []
    for name, (work, flops, videos) in works.items():
        work()
        seconds, memory = min(measure(model.device, work) for _ in range(3))
        rows.append(row(name, seconds, flops, memory, given, videos=videos))
    return rows


def row(
    name: str, seconds: float, flops: float | None, memory: int, given: argparse.Namespace, *, videos: int
) -> dict[str, Any]:
    """A line of the table."""
    utilisation = flops / seconds / given.peak if flops and given.peak else None
    return {
        "work": name,
        "videos": videos,
        "seconds": round(seconds, 4),
        "model_tflop": round(flops / 1e12, 3) if flops else None,
        "mfu": round(utilisation, 4) if utilisation else None,
        "peak_memory_gib": round(memory / 2**30, 2),
    }


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown, with what they rest on."""
    lines = [
        f"{result['device']}, {result['arguments']['size']}, commit {result['git_commit']}: `{result['command']}`",
        "",
    ]
    lines += ["| work | videos | seconds | model TFLOP | MFU | peak memory |", "| --- | --- | --- | --- | --- | --- |"]
    for entry in result["rows"]:
        mfu = "-" if entry["mfu"] is None else f"{100 * entry['mfu']:.1f} %"
        work = "-" if entry["model_tflop"] is None else f"{entry['model_tflop']:.1f}"
        lines.append(
            f"| {entry['work']} | {entry['videos']} | {entry['seconds']:.3f} | {work} | {mfu} | "
            f"{entry['peak_memory_gib']:.1f} GiB |"
        )
    return "\n".join(lines) + "\n"


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for gpu_training.json and .md")
    parser.add_argument("--size", choices=("5b", "tiny"), default="5b", help="tiny: 32 px and 9 frames, for a test")
    parser.add_argument("--only", choices=("sft", "grpo", "parts"), help="measure one thing")
    parser.add_argument("--compile", action="store_true", help="compile the transformer's blocks")
    parser.add_argument("--no-checkpointing", dest="checkpointing", action="store_false", help="keep all activations")
    parser.add_argument("--weights", choices=("bf16", "fp32"), default="bf16", help="frozen weights")
    parser.add_argument("--lora-rank", type=int, default=32, help="0 trains all weights (fp32)")
    parser.add_argument("--batch", type=int, default=8, help="videos of an SFT step")
    parser.add_argument("--steps", type=int, default=5, help="SFT steps that are timed")
    parser.add_argument("--warmup", type=int, default=2, help="SFT steps before, compilation included")
    parser.add_argument("--group", type=int, default=8, help="videos a prompt")
    parser.add_argument("--prompts", type=int, default=1, help="prompts an iteration")
    parser.add_argument("--rollout-steps", type=int, default=30, help="denoising steps of a rollout")
    parser.add_argument("--micro-batch", type=int, default=8, help="videos that roll out and are trained at a time")
    parser.add_argument("--iterations", type=int, default=1, help="GRPO iterations that are timed")
    parser.add_argument("--grpo-warmup", type=int, default=1, help="GRPO iterations before")
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 peak; by default the device's, by its name")
    given = parser.parse_args(words)
    small = given.size == "tiny"
    given.frames, given.pixels, given.canvas = (9, 32, 4) if small else (81, 512, 16)
    given.prompt_tokens = tiny.PROMPT_TOKENS if small else 512
    return given


def main(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure, write, print; returns what was written."""
    given = arguments(words)
    device = default_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    given.peak = given.peak_tflops * 1e12 if given.peak_tflops else peak_flops(name)
    model = random_model(FIVE_BILLION if given.size == "5b" else TINY, given, device)
    config = model.transformer.config
    shape = VideoShape.of(
        config,
        model.vae.config,
        frames=given.frames,
        height=given.pixels,
        width=given.pixels,
        prompt_tokens=given.prompt_tokens,
        expanded=True,
    )
    parameters = sum(parameter.numel() for parameter in model.transformer.parameters())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="wan-r1-gpu-") as scratch:
        if given.only in (None, "parts"):
            rows += parts(model, given, shape)
        if given.only in (None, "sft"):
            rows.append(sft(model, given, shape, scratch))
        if given.only in (None, "grpo"):
            rows.append(grpo(model, given, shape, scratch))
    asked = {key: value for key, value in vars(given).items() if key not in ("output", "peak")}
    result = {
        "device": name,
        "machine": machine(),
        "torch": torch.__version__,
        "git_commit": git_commit(),
        "command": "python tests/benchmarks/gpu_training.py " + _words(given),
        "arguments": asked,
        "parameters": parameters,
        "tokens": shape.tokens,
        "peak_flops": given.peak,
        "rows": rows,
    }
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "gpu_training.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.output / "gpu_training.md").write_text(table(result))
    print(table(result), end="")
    return result


def _words(given: argparse.Namespace) -> str:
    words = [f"--size {given.size}", f"--batch {given.batch}", f"--group {given.group}", f"--prompts {given.prompts}"]
    words += [f"--micro-batch {given.micro_batch}", f"--rollout-steps {given.rollout_steps}"]
    words += ["--compile"] if given.compile else []
    words += [] if given.checkpointing else ["--no-checkpointing"]
    return " ".join([*words, f"--weights {given.weights}", f"--lora-rank {given.lora_rank}"])


if __name__ == "__main__":
    main()
