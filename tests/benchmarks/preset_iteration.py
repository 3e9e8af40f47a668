"""Where the time of an iteration of the demo's recipe goes, with a policy that has learned half of what it will.

    python tests/benchmarks/preset_iteration.py --runs DIR --family regular --seed 1

`grpo_speed.py` compares objectives on an untrained policy, which has no success to replay and nothing to stitch. Here a
policy that `learning.py --output DIR` left trains on by the preset `tiny`, demonstrations, replays and stitching
included. Processor time of one thread by phase, the median of the iterations, and the share of it outside of the
transformer's forward and backward passes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from learning import _fresh_model

from wan_r1.train_grpo import training
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.training.inputs import levels
from wan_r1.video_model.wan import VideoModel

DEMONSTRATED, PROMPTS = 128, 4096
"""Levels with and without a demonstration."""
WARMING = 2
"""Iterations that are not counted: they fill the replay."""


class Phases:
    """Processor seconds by phase; a phase inside of another one counts in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work``, with its time counted under ``name``."""

        def run(*arguments: Any, **options: Any) -> Any:
            begin = time.process_time()
            try:
                return work(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - begin

        return run


def _trainer(folder: Path, iterations: int, phases: Phases) -> GrpoTrainer:
    model = _fresh_model(folder / "model", 0, 1)
    marks = sorted(folder.glob("forward_grpo-*.pt"), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    weights = marks[len(marks) // 2]
    print(f"weights of {weights.name}")
    model.transformer.load_state_dict(torch.load(weights, weights_only=True))
    changes = {"iterations": iterations, "warmup_share": 0.0, "validate_every": 10**6, "checkpoint_every": 10**6}
    config = TrainGrpoConfig.from_preset("tiny", {**changes, "replay_levels": 0, "threads": 1})
    prompts = Prompts.encode(
        model,
        levels(folder / "dataset", "train")[:DEMONSTRATED],
        levels(folder / "dataset", "prompts", videos=False)[:PROMPTS],
        videos=True,
        views=config.views,
    )
    prefix = tempfile.mkdtemp(prefix="wan-r1-iteration-")
    trainer = GrpoTrainer(config=config, model=model, prompts=prompts, validation=[], prefix=prefix)
    trainer.prepare()
    _watch(trainer, model, phases)
    return trainer


def _watch(trainer: GrpoTrainer, model: VideoModel, phases: Phases) -> None:
    """Count the phases of a trainer that is prepared. Only here, so that training itself carries no clock of this."""
    trainer.roll_out = phases.timed("rollout", trainer.roll_out)  # type: ignore[method-assign]
    trainer.stitch = phases.timed("stitching", trainer.stitch)  # type: ignore[method-assign]
    trainer._update = phases.timed("update", trainer._update)  # type: ignore[method-assign]
    model.decode = phases.timed("decode", model.decode)  # type: ignore[method-assign]
    model.encode_videos = phases.timed("encode", model.encode_videos)  # type: ignore[method-assign]
    training.with_views = phases.timed("views", training.with_views)
    model.transformer.forward = phases.timed("transformer", model.transformer.forward)
    trainer.accelerator.backward = phases.timed("transformer", trainer.accelerator.backward)


def measure(folder: Path, iterations: int) -> dict[str, float]:
    """Median processor seconds of an iteration by phase, and its share outside of the transformer."""
    phases, found = Phases(), []
    trainer = _trainer(folder, iterations, phases)
    for number in range(iterations):
        phases.seconds.clear()
        begin = time.process_time()
        chosen, generator = trainer.draw_prompts()
        rollout = trainer.roll_out(chosen, generator)
        stitched = trainer.stitch(rollout, generator)
        trainer.learn(rollout, generator, stitched)
        trainer.state.step += 1
        total = time.process_time() - begin
        if number >= WARMING:
            outside = 1 - phases.seconds["transformer"] / total
            found.append({"iteration": total, **phases.seconds, "outside_transformer": outside})
    names = dict.fromkeys(name for one in found for name in one)
    return {name: float(np.median([one.get(name, 0.0) for one in found])) for name in names}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder that learning.py wrote")
    parser.add_argument("--family", default="regular")
    parser.add_argument("--seed", type=int, default=0, help="of the benchmark's run")
    parser.add_argument("--iterations", type=int, default=10)
    given = parser.parse_args()
    found = measure(given.runs / "work" / given.family / str(given.seed), given.iterations)
    print("  ".join(f"{name} {value:.3f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
