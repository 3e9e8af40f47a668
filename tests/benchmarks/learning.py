"""What reinforcement learning adds to SFT, by compute: several seeds, several algorithms, one SFT checkpoint each.

    python tests/benchmarks/learning.py --family regular,trapfield --seeds 0,1,2 --core-minutes 20 --output DIR

For each family and seed: levels are made, SFT trains from scratch until the preset's exact match on `validation` is
reached, and every algorithm goes on from that checkpoint for the same core seconds (processor time, all threads), as
SFT continued does. On the way and at the end 384 levels a split are sampled and verified, `test` (the kind of level
that SFT saw) and `harder` (of which no demonstration exists). Runs that are there already are not repeated, so that
several processes can share the work by family and seed. Writes ``learning.json``, whose rows tell the commit they were
made at, and ``learning.svg``; the weights of each mark stay in ``work``.

The algorithms differ in what is listed in `ALGORITHMS` and in nothing else; the rest is the preset `tiny`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wan_r1.config import read_preset
from wan_r1.evaluate.stage import video_seed
from wan_r1.evaluate.summary import summary_rows
from wan_r1.generate_tasks import GenerateTasksConfig
from wan_r1.generate_tasks import run as generate_tasks
from wan_r1.progress import Progress
from wan_r1.reports.intervals import wilson
from wan_r1.reports.plots import LinePlot, Series, svg_file
from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.runtime import git_commit, machine
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.training.inputs import levels
from wan_r1.verification import verify
from wan_r1.video_model.cores import use_cores
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.tiny import PROMPT_TOKENS, shipped_codecs, tiny_pipeline
from wan_r1.video_model.wan import VideoModel
from wan_r1.video_model.weights import Weights, copy_weights, using

SDE: dict[str, Any] = {
    "objective": "flow_grpo",
    "group_size": 12,
    "prompts_per_iteration": 8,
    "minibatches": 1,
    "rollout_steps": 4,
    "sde_window": (0, 1),
    "learning_rate": 2e-4,
    "ema_decay": 0.9,
    "harder_share": 0.5,
    "replay_batch": 0,
    "replay_levels": 0,
    "stitches": 0,
    "demonstration_batch": 0,
    "warmup_share": 0.0,
    "length_balance": 0.0,
    "curriculum_floor": 1.0,
}
"""The paper's objective at this size: group, window, noise and rate of earlier measurements on a tiny Wan."""

ALGORITHMS: dict[str, dict[str, Any] | None] = {
    "sft_continued": None,
    "forward_grpo": {},
    "forward_grpo_alone": {"warmup_share": 0.0, "demonstration_batch": 0, "harder_share": 0.5},
    "without_stitching": {"stitches": 0},
    "without_warmup": {"warmup_share": 0.0},
    "without_views": {"views": 1},
    "without_balance": {"length_balance": 0.0, "curriculum_floor": 1.0},
    "without_all": {
        "stitches": 0,
        "warmup_share": 0.0,
        "views": 1,
        "length_balance": 0.0,
        "curriculum_floor": 1.0,
    },
    "flow_grpo": SDE,
    "dance_grpo": {**SDE, "sde_kind": "dance_grpo"},
    "cps": {**SDE, "sde_kind": "cps"},
    "mix_grpo": {**SDE, "sde_window_moves": "sliding"},
    "flash_grpo": {**SDE, "sde_window_moves": "random", "step_weighting": "gradient_scale"},
    "grpo_guard": {**SDE, "guarded_ratio": True, "clip_range": 2e-6},
}
"""Fields of `TrainGrpoConfig` by algorithm, over the preset; `None` is more SFT. `forward_grpo` is the preset's
recipe, `forward_grpo_alone` the same without demonstrations and with half of its prompts from the levels that SFT saw;
those named `without_` lack a part of it."""

FORMS: dict[str, dict[str, Any]] = {"maze3d": {"height": 64, "width": 64, "canvas": 8}}
"""Fields of `GenerateTasksConfig` by family, over the preset: an isometric picture needs more room than a grid. Such a
family also has a codec of its own name."""

LONG, WARMUP = 10_000, 32
"""Iterations that no run comes to the end of, and those of them that a run with demonstrations warms up for."""

EVALUATION_STEPS = 2
"""As in the rollouts. It is not neutral: with 4 an SFT checkpoint solves fewer trapfields of `test` (.42 instead of
.48), and SFT continued more harder mazes (.29 instead of .25); see the README."""

CONTINUED = read_preset("tiny")["continue_sft"]
"""Fields of `TrainSftConfig` in which SFT continued differs from SFT: it shows demonstrations in GRPO's views."""


class Spent(Exception):
    """The compute is used up."""


class Run:
    """One training of one seed, evaluated at marks.

    Args:
        name: the algorithm.
        seed: of everything.
        marks: core seconds at which to evaluate, the last one ends the training.
        tasks: levels to evaluate on.
    """

    def __init__(self, name: str, seed: int, marks: list[float], tasks: list[Task]) -> None:
        self.name, self.seed, self.marks, self.tasks = name, seed, marks, tasks
        self.rows: list[dict[str, Any]] = []

    def evaluate(self, model: VideoModel, weights: Weights, core_seconds: float, samples: int) -> None:
        """Score the policy and keep the rows, each with exact match by the length of the solution and by texture."""
        with using(model.transformer, weights):
            scores = list(_scores(self.name, model, self.tasks))
        more = {
            "seed": self.seed,
            "algorithm": self.name,
            "core_seconds": core_seconds,
            "samples": samples,
            "git_commit": git_commit(),
        }
        for row in summary_rows(scores):
            here = [score for score in scores if (score["split"], score["family"]) == (row["split"], row["family"])]
            parts = {f"by_{name}": _by(here, name) for name in ("length", "texture")}
            self.rows.append({**row, **more, **parts})
        for row in self.rows[-4:]:
            print(f"learning  {self.name} seed {self.seed}  {core_seconds:.0f} core s  {row['split']} {row['family']}  "
                  f"em {row['em']:.3f}  mf {row['mf']:.4f}", flush=True)  # fmt: skip

    def watch(self, trainer: GrpoTrainer | SftTrainer, videos: float) -> None:
        """Evaluate if the next mark is reached, after so many videos; raises `Spent` after the last."""
        spent = trainer.state.core_seconds
        if spent >= self.marks[0]:
            self.marks = [mark for mark in self.marks if mark > spent]
            self.evaluate(trainer.model, trainer.state.ema, spent, round(videos))
            torch.save(trainer.state.ema, f"{trainer.prefix}-{round(spent)}.pt")
        if not self.marks:
            raise Spent


def _by(scores: list[dict[str, Any]], name: str) -> dict[Any, dict[str, float]]:
    """Levels and exact match by the length of the solution in moves, or by texture."""
    found: dict[Any, dict[str, float]] = {}
    for value in sorted({score[name] for score in scores}):
        em = [score["em"] for score in scores if score[name] == value]
        found[value] = {"n": len(em), "em": float(np.mean(em))}
    return found


def _scores(name: str, model: VideoModel, tasks: list[Task]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(tasks), 192):
        part = tasks[start : start + 192]
        videos = model.sample(
            np.stack([task.first_frame for task in part]),
            [task.prompt for task in part],
            frames=part[0].frames,
            steps=EVALUATION_STEPS,
            seeds=[video_seed(0, task.level_id) for task in part],
        )
        verdicts = verify(videos, part)
        rewards = get_reward("trajectory")(RewardInputs(videos=videos, tasks=part, verdicts=verdicts)).reward
        for task, verdict, reward in zip(part, verdicts, rewards, strict=True):
            facts = {field: getattr(verdict, field) for field in ("em", "sr", "pr", "sd", "mf", "error")}
            place = {"model": name, "split": task.split, "family": task.family, "texture": task.texture}
            place["length"] = len(task.solution) - 1
            yield {**place, **facts, "reward": float(reward)}


def _fresh_model(folder: Path, seed: int, threads: int, codec: Path | None = None) -> VideoModel:
    if not folder.exists():
        tiny_pipeline(seed, codec).save_pretrained(folder)
    model = load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS)
    model.cores = use_cores(threads, model.device)
    return model


def _one_seed(family: str, seed: int, given: argparse.Namespace) -> None:
    work = given.output / "work" / family / str(seed)
    work.mkdir(parents=True, exist_ok=True)
    dataset = work / "dataset"
    counts = {
        "prompts_levels": given.prompts,
        "test_levels": given.levels,
        "harder_levels": given.levels,
        "seed": seed,
        "families": [family],
        **FORMS.get(family, {}),
    }
    for name in ("textures", "test_textures"):
        if values := getattr(given, name):
            counts[name] = values.split(",")
    generate_tasks(GenerateTasksConfig.from_preset("tiny", counts), output=dataset)
    tasks = [task for split in ("test", "harder") for task in levels(dataset, split, videos=False)]
    train, validation = levels(dataset, "train"), levels(dataset, "validation")
    codec = given.codec or shipped_codecs().get(family)
    runs = given.output / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    start = work / "sft.pt"
    if not start.exists():
        model = _fresh_model(work / "model", seed, given.threads, codec)
        # More often than in the pipeline: within 100 steps it can rise from below the target to .7.
        trainer = _sft(model, train, validation, work / "sft", seed=seed, threads=given.threads, validate_every=25)
        trainer.run()
        spent, samples = trainer.state.core_seconds, trainer.state.step * trainer.config.batch_size
        cost = {"sft_core_seconds": spent, "sft_samples": samples}
        (work / "sft.json").write_text(json.dumps(cost))
        torch.save(copy_weights(model.transformer), start)
    path = runs / f"{family}-{seed}-sft.json"
    if not path.exists():
        model = _fresh_model(work / "model", seed, given.threads, codec)
        run = Run("sft", seed, [], tasks)
        run.evaluate(model, torch.load(start, weights_only=True), 0.0, 0)
        cost = json.loads((work / "sft.json").read_text())
        path.write_text(json.dumps([{**row, **cost} for row in run.rows], indent=1))
    for name in given.algorithms.split(","):
        path = runs / f"{family}-{seed}-{name}.json"
        if path.exists():
            continue
        model = _fresh_model(work / "model", seed, given.threads, codec)
        model.transformer.load_state_dict(torch.load(start, weights_only=True))
        budget = 60 * given.core_minutes
        run = Run(name, seed, [budget * (k + 1) / given.marks for k in range(given.marks)], tasks)
        try:
            _train(name, model, run, train, validation, dataset, work, seed, given.threads)
        except Spent:
            path.write_text(json.dumps(run.rows, indent=1))


def _train(
    name: str,
    model: VideoModel,
    run: Run,
    train: list[Task],
    validation: list[Task],
    dataset: Path,
    work: Path,
    seed: int,
    threads: int,
) -> None:
    """Train until the run has had its compute."""
    settings = ALGORITHMS[name]
    if settings is None:
        # As the pipeline's SFT continued: no target, families alike. Validation only calls us.
        often = {**CONTINUED, "target_em": 1.0, "steps": 10**6, "validate_every": 20, "checkpoint_every": 10**6}
        trainer = _sft(model, train, validation[:8], work / name, seed=seed + 1000, threads=threads, **often)
        trainer.run(lambda step, _: run.watch(trainer, step * trainer.config.batch_size))
        return
    often = {
        "iterations": LONG,
        "warmup_share": WARMUP / LONG,
        "validate_every": 3,
        "checkpoint_every": 10**6,
        "seed": seed,
        "threads": threads,
    }
    config = TrainGrpoConfig.from_preset("tiny", {**often, **settings})
    known = train if config.harder_share < 1 or config.demonstration_batch else []
    prompts = Prompts.encode(
        model,
        known,
        levels(dataset, "prompts", videos=False),
        videos=config.demonstration_batch > 0,
        views=config.views,
        seed=seed,
    )
    grpo = GrpoTrainer(config=config, model=model, prompts=prompts, validation=validation[:8], prefix=str(work / name))
    grpo.run(lambda step, _: run.watch(grpo, _sampled(grpo)))


def _sampled(trainer: GrpoTrainer) -> float:
    """Videos that a policy has sampled so far: a warm-up samples none, stitching some more than the groups."""
    groups, size = trainer.config.prompts_per_iteration, trainer.config.group_size
    rollouts = [entry for entry in trainer.state.log if "reward" in entry]
    return sum(groups * (size + entry.get("stitching_videos", 0.0)) for entry in rollouts)


def _sft(model: VideoModel, train: list[Task], validation: list[Task], prefix: Path, **changes: Any) -> SftTrainer:
    config = TrainSftConfig.from_preset("tiny", changes)
    with Progress("learning") as progress:
        demonstrations = Demonstrations.encode(model, train, progress, views=config.views, seed=config.seed)
    return SftTrainer(
        config=config,
        model=model,
        demonstrations=demonstrations,
        validation=validation,
        prefix=str(prefix),
    )


def summarise(output: Path, given: dict[str, Any]) -> None:
    """Join all runs that are there into ``learning.json`` and ``learning.svg``."""
    rows = [row for path in sorted((output / "runs").glob("*.json")) for row in json.loads(path.read_text())]
    result = {"machine": machine(), "arguments": given, "rows": rows}
    (output / "learning.json").write_text(json.dumps(result, indent=1) + "\n")
    starts = {(row["seed"], row["split"], row["family"]): row for row in rows if row["algorithm"] == "sft"}
    plots = []
    for split in ("test", "harder"):
        for family in sorted({row["family"] for row in rows}):
            series = []
            for name in ALGORITHMS:
                points = _curve([r for r in rows if r["algorithm"] == name], starts, split, family)
                if points:
                    x, y, low, high = zip(*points, strict=True)
                    series.append(Series(name=name, x=x, y=y, low=low, high=high))
            label = f"Exact match, {split} levels, {family}"
            plots.append(
                LinePlot(title=label, x_label="core minutes after SFT", y_label="share of levels", series=series)
            )
    (output / "learning.svg").write_text(svg_file(plots))


def _curve(rows: list[dict], starts: dict, split: str, family: str) -> list[tuple[float, float, float, float]]:
    """Points (core minutes, exact match, its 95 % interval), seeds pooled mark by mark, from the SFT checkpoint on."""
    here = [row for row in rows if (row["split"], row["family"]) == (split, family)]
    seeds = sorted({row["seed"] for row in here})
    if not seeds:
        return []
    by_seed = [
        [starts[seed, split, family], *sorted((r for r in here if r["seed"] == seed), key=lambda r: r["core_seconds"])]
        for seed in seeds
    ]
    points = []
    for marks in zip(*by_seed, strict=True):
        count = sum(row["n"] for row in marks)
        solved = sum(round(row["em"] * row["n"]) for row in marks)
        low, high = wilson(solved, count) or (0.0, 1.0)
        points.append((float(np.mean([row["core_seconds"] for row in marks])) / 60, solved / count, low, high))
    return points


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", default="regular,trapfield", help="families, learned one after another")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--core-minutes", type=float, default=20.0, help="of each algorithm, after SFT")
    parser.add_argument("--algorithms", default="sft_continued,forward_grpo,flow_grpo", help=", ".join(ALGORITHMS))
    parser.add_argument("--marks", type=int, default=5, help="evaluations of a run")
    parser.add_argument("--levels", type=int, default=384, help="levels a split and family")
    parser.add_argument("--prompts", type=int, default=12288, help="levels to learn on without demonstrations")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 uses every core")
    parser.add_argument("--textures", help="to learn on; without it the preset's, whose codec knows no others")
    parser.add_argument("--test-textures", help="to evaluate on; without it the same")
    parser.add_argument("--codec", type=Path, help="folder of another codec than the one that ships for the family")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    given = parser.parse_args()
    if unknown := set(given.algorithms.split(",")) - set(ALGORITHMS):
        parser.error(f"--algorithms: {', '.join(sorted(unknown))} is unknown; allowed: {', '.join(ALGORITHMS)}")
    for seed in [int(seed) for seed in given.seeds.split(",")]:
        for family in given.family.split(","):
            _one_seed(family, seed, given)
    shown = {name: str(value) for name, value in vars(given).items() if name not in ("output", "threads")}
    summarise(given.output, shown)


if __name__ == "__main__":
    main()
