"""How long one iteration of reinforcement learning takes, beside a plain implementation of Flow-GRPO's recipe.

    python tests/benchmarks/grpo_speed.py --rounds 5 --output tests/benchmarks/grpo_speed.json

Same model, prompts, group size and denoising steps in one process, in turns; the least seconds of several rounds count.
The plain way is what the recipe says without any of its later shortcuts: every step but the last takes noise, the whole
trajectory is kept, every one of its steps is replayed with and without the adapter's change, and videos are decoded and
rewarded one after another. Ours (`flow_grpo`) takes noise and gradients on a window of two early steps and decodes and
verifies in batches; `forward_grpo` needs no trajectory at all. One thread each, so that phases can be told apart.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.runtime import git_commit, machine
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.verification import verify
from wan_r1.video_model.cores import use_cores
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.sampling import with_first_frame
from wan_r1.video_model.schedule import sigma_grid
from wan_r1.video_model.sde import sde_step, transition_kl
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.wan import VideoModel
from wan_r1.video_model.weights import copy_weights, trainable, using

NOISE, CLIP, KL = 0.7, 1e-3, 0.04


class Stopwatch:
    """Wall seconds by phase, and those inside the transformer: its forward passes and every backward pass."""

    def __init__(self, model: VideoModel) -> None:
        self.seconds: dict[str, float] = {}
        self._begin = 0.0
        model.transformer.register_forward_pre_hook(lambda *_: setattr(self, "_begin", time.perf_counter()))
        model.transformer.register_forward_hook(lambda *_: self._add("transformer", self._begin))

    def _add(self, name: str, begin: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, begin)


class Plain:
    """Flow-GRPO as its paper and first code say, in the fewest lines."""

    def __init__(self, model: VideoModel, prompts: Prompts, config: TrainGrpoConfig, watch: Stopwatch) -> None:
        self.model, self.prompts, self.config, self.watch = model, prompts, config, watch
        self.grid = sigma_grid(config.rollout_steps, model.shift)
        self.reference = copy_weights(model.transformer)
        self.optimizer = torch.optim.AdamW(trainable(model.transformer).values(), lr=config.learning_rate)
        self.generator = torch.Generator().manual_seed(0)

    def iterate(self) -> None:
        """One rollout and one update."""
        model, config, grid = self.model, self.config, self.grid.tolist()
        chosen = np.arange(config.prompts_per_iteration)
        condition = self.prompts.condition(chosen).repeat_interleave(config.group_size)
        tasks = [self.prompts.tasks[index] for index in chosen for _ in range(config.group_size)]
        latent = self.prompts.first_latents.shape
        x = torch.randn(
            len(tasks), latent[1], model.latent_frames(tasks[0].frames), *latent[3:], generator=self.generator
        )
        mask, trajectory = model.mask(x), []
        with torch.no_grad(), self.watch.phase("rollout"):
            for index in range(config.rollout_steps):
                velocity = model.velocity(x, grid[index], condition)
                last = index == config.rollout_steps - 1
                step = sde_step(
                    x,
                    velocity,
                    **self._between(index),
                    noise=0.0 if last else NOISE,
                    z=torch.randn(x.shape, generator=self.generator),
                    mask=mask,
                )
                if not last:
                    trajectory.append((index, x, step))
                x = step.sample
            x = with_first_frame(model, x, condition)
        rewards = np.empty(len(tasks), np.float32)
        for row, task in enumerate(tasks):
            with self.watch.phase("decode"):
                video = model.decode(x[row : row + 1])
            with self.watch.phase("reward"):
                inputs = RewardInputs(videos=video, tasks=[task], verdicts=verify(video, [task]))
                rewards[row] = get_reward("trajectory")(inputs).reward[0]
        values = group_advantages(rewards.reshape(-1, config.group_size), 5.0, 0.0).values
        advantages = torch.from_numpy(values.reshape(-1))
        with self.watch.phase("update"):
            self.optimizer.zero_grad()
            for index, before, step in trajectory:
                given = {**self._between(index), "noise": NOISE, "sample": step.sample, "mask": mask}
                with torch.no_grad(), using(model.transformer, self.reference):
                    reference = sde_step(before, model.velocity(before, grid[index], condition), **given)
                now = sde_step(before, model.velocity(before, grid[index], condition), **given)
                ratio = torch.exp(now.log_prob - step.log_prob)
                surrogate = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                loss = surrogate + KL * transition_kl(now, reference.mean, mask).mean()
                with self.watch.phase("transformer"):
                    (loss / len(trajectory)).backward()
            torch.nn.utils.clip_grad_norm_(trainable(model.transformer).values(), 1.0)
            self.optimizer.step()

    def _between(self, index: int) -> dict[str, Any]:
        first, after = self.grid[index : index + 2].tolist()
        return {"sigma": first, "sigma_next": after, "sigma_first": float(self.grid[1]), "kind": "flow_grpo"}


def _ours(model: VideoModel, prompts: Prompts, config: TrainGrpoConfig, watch: Stopwatch) -> Callable[[], None]:
    trainer = GrpoTrainer(
        config=config, model=model, prompts=prompts, validation=[], prefix=tempfile.mkdtemp(prefix="wan-r1-speed-")
    )
    trainer.prepare()
    plain = trainer.accelerator.backward

    def timed(*arguments: Any, **options: Any) -> None:
        with watch.phase("transformer"):
            plain(*arguments, **options)

    trainer.accelerator.backward = timed

    def iterate() -> None:
        rollout = trainer.roll_out(*trainer.draw_prompts())
        for name, seconds in rollout.seconds.items():
            watch.seconds[name] = watch.seconds.get(name, 0.0) + seconds
        with watch.phase("update"):
            trainer.learn(rollout, torch.Generator().manual_seed(0))
        trainer.state.step += 1

    return iterate


def _levels(count: int) -> list[Task]:
    return [
        make_task(
            ("regular", "trapfield")[index % 2],
            "easy",
            "plain",
            seed=0,
            split="train",
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index in range(count)
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="denoising steps")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    use_cores(1, torch.device("cpu"))
    common = {
        "group_size": given.group_size,
        "prompts_per_iteration": given.prompts,
        "rollout_steps": given.steps,
        "harder_share": 0.0,
        "lora_rank": 0,
        "least_std": 0.0,
        "threads": 1,
    }
    settings = {
        "plain": {},
        "flow_grpo": {"sde_window": (0, 1), "sde_noise": NOISE, "kl_beta": KL, "clip_range": CLIP},
        "forward_grpo": {"objective": "forward_grpo", "forward_sigmas": 2, "anchor": 0.1},
    }
    ways: dict[str, tuple[Callable[[], None], Stopwatch]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny_pipeline(seed=0).save_pretrained(folder)
        for name, changes in settings.items():
            model = load_pipeline_folder(Path(folder), max_prompt_tokens=PROMPT_TOKENS)
            watch = Stopwatch(model)
            config = TrainGrpoConfig(**common, **changes)
            prompts = Prompts.encode(model, _levels(given.prompts), [])
            ours = name != "plain"
            ways[name] = (_ours if ours else _plain)(model, prompts, config, watch), watch
    best: dict[str, dict[str, float]] = {}
    for _ in range(given.rounds):
        for name, (iterate, watch) in ways.items():
            watch.seconds.clear()
            begin = time.perf_counter()
            iterate()
            watch.seconds["iteration"] = time.perf_counter() - begin
            if name not in best or watch.seconds["iteration"] < best[name]["iteration"]:
                best[name] = dict(watch.seconds)
    videos = given.group_size * given.prompts
    rows = [
        {
            "way": name,
            **{f"{phase}_seconds": round(value, 4) for phase, value in seconds.items()},
            "videos_per_second": round(videos / seconds["iteration"], 2),
            "outside_transformer": round(1 - seconds["transformer"] / seconds["iteration"], 3),
            "of_plain": round(seconds["iteration"] / best["plain"]["iteration"], 3),
        }
        for name, seconds in best.items()
    ]
    arguments = {"steps": given.steps, "group_size": given.group_size, "prompts": given.prompts, "rounds": given.rounds}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"machine": machine(), "git_commit": git_commit(), **arguments, "peak_memory_bytes": peak, "rows": rows}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(row)


def _plain(model: VideoModel, prompts: Prompts, config: TrainGrpoConfig, watch: Stopwatch) -> Callable[[], None]:
    return Plain(model, prompts, config, watch).iterate


if __name__ == "__main__":
    main()
