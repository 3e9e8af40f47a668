"""How fast the tiny model's work goes over cores: one thread, torch's own threads, and `wan_r1.video_model.cores`.

    python tests/benchmarks/cores.py --threads 2 --output runs/cores.json

Wall milliseconds a video, the least of several rounds in which the three ways take turns; ratios are to one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator

from wan_r1.runtime import git_commit, machine
from wan_r1.training.backward import backward
from wan_r1.video_model.codec import speed_up_codec
from wan_r1.video_model.cores import Cores
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import trainable


def _model(cores: Cores) -> VideoModel:
    pipeline = tiny_pipeline(seed=0)
    return VideoModel(
        transformer=pipeline.transformer,
        vae=speed_up_codec(pipeline.vae).eval().requires_grad_(False),
        text_encoder=None,
        tokenizer=None,
        scheduler=pipeline.scheduler,
        max_prompt_tokens=PROMPT_TOKENS,
        cores=cores,
    )


def _work(model: VideoModel) -> dict[str, tuple[int, Callable[[], object]]]:
    """What is timed: name, videos, function."""
    x, sigma = torch.randn(96, 4, 3, 8, 8), torch.rand(96)
    condition = Condition(first_latent=x[:, :, :1], prompt_embeds=torch.randn(96, PROMPT_TOKENS, 32))
    accelerator, parameters = Accelerator(cpu=True), list(trainable(model.transformer).values())

    def step(size: int) -> None:
        def loss(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            part = slice(part.start, part.stop)
            return model.velocity(x[part], sigma[part], condition.take(part)).square().mean(), {}

        backward(accelerator, model.cores, loss, size, parameters)

    @torch.no_grad()
    def velocity() -> torch.Tensor:
        return model.velocity(x, sigma, condition)

    return {
        "gradient, 32 videos": (32, lambda: step(32)),
        "gradient, 96 videos": (96, lambda: step(96)),
        "velocity, 96 videos": (96, velocity),
        "decode, 96 videos": (96, lambda: model.decode(x)),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ways = {"one thread": (1, 1), "torch's threads": (arguments.threads, 1), "cores": (1, arguments.threads)}
    works = {way: _work(_model(Cores(cores))) for way, (_, cores) in ways.items()}
    least: dict[tuple[str, str], float] = {}
    for _ in range(arguments.rounds):
        for way, (threads, _) in ways.items():
            torch.set_num_threads(threads)
            for name, (videos, work) in works[way].items():
                begin = time.perf_counter()
                work()
                seconds = time.perf_counter() - begin
                least[way, name] = min(least.get((way, name), float("inf")), seconds / videos)
    rows = [
        {
            "work": name,
            "way": way,
            "milliseconds": round(1000 * seconds, 3),
            "speed_up": round(least["one thread", name] / seconds, 2),
        }
        for (way, name), seconds in least.items()
    ]
    result = {"machine": machine(), "git_commit": git_commit(), "threads": arguments.threads, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    for row in rows:
        print(f"{row['work']:22} {row['way']:16} {row['milliseconds']:8.2f} ms a video  x{row['speed_up']}")


if __name__ == "__main__":
    main()
