"""The outputs of a run's stages with known contents: evaluations of replayed videos, and made-up training logs."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from replay_model import ReplayModel, make_tasks, write_dataset

from wan_r1.compare_rewards import CompareRewardsConfig
from wan_r1.compare_rewards import run as compare
from wan_r1.evaluate import EvaluateConfig
from wan_r1.evaluate import run as evaluate
from wan_r1.video_model.reference import ModelReference

LEVELS = 16
SOLVED = {"base": 0, "sft": 7, "sft_continued": 9, "grpo": 13, "grpo:exact_match": 12, "grpo:judge": 1}
"""Levels of each split and family, of 16, that a model solves: the first ones by id."""

_KEPT: list[tempfile.TemporaryDirectory] = []


@functools.cache
def example_run() -> ExampleRun:
    """A run that is made once for all tests and read only; its folder goes when Python ends."""
    _KEPT.append(tempfile.TemporaryDirectory(prefix="wan-r1-example-run-"))
    return make_run(Path(_KEPT[-1].name))


@dataclass(frozen=True, kw_only=True)
class ExampleRun:
    """Paths as a pipeline would give them to the last stages."""

    folder: Path
    stages: list[Path]
    evaluations: list[Path]
    arm_evaluations: list[Path]
    logs: list[Path]
    arms: list[Path]
    comparison: Path


def make_run(folder: Path) -> ExampleRun:
    """A run of six models on 16 levels of two splits and two families each."""
    tasks = make_tasks("test", LEVELS) + make_tasks("harder", LEVELS)
    dataset = write_dataset(folder / "dataset", tasks)
    folders, stages = {}, [_stage(folder, "generate_tasks", 8.0, "2026-01-01T10:00:00+00:00")]
    for name, solved in SOLVED.items():
        order = {place: sorted(t.level_id for t in tasks if (t.split, t.family) == place) for place in _places(tasks)}
        model = ReplayModel(tasks, failing={level for ids in order.values() for level in ids[solved:]})
        reference = folder / f"{name.replace(':', '-')}.json"
        ModelReference(
            name=name,
            base_uri="s3://bucket/tiny",
            checkpoint_uri=None if name == "base" else f"s3://bucket/checkpoints/{name}/step-00000100",
            step=100,
            core_seconds=60.0,
            stage={"reward_name": name.partition(":")[2] or "trajectory"} if name.startswith("grpo") else None,
        ).write(reference)
        folders[name] = folder / "evaluations" / name.replace(":", "-")
        summary = evaluate(
            EvaluateConfig(samples=LEVELS, steps=4, threads=1, report_videos=1),
            dataset=dataset,
            model=reference,
            output=folders[name],
            metrics=folders[name].with_suffix(".json"),
            report=folders[name].with_suffix(".html"),
            load=lambda reference, model=model: model,
        )
        path = folder / "stages" / f"evaluate-{name.replace(':', '-')}.json"
        path.write_text(json.dumps({**summary, "label": f"evaluate {name}"}))
        stages.append(path)
    logs = [_sft_log(folder / "sft.parquet", "sft", 1.0), _sft_log(folder / "continued.parquet", "sft_continued", 0.4)]
    arms = [
        _grpo_log(folder / "grpo.parquet", "grpo", 0.35),
        _grpo_log(folder / "exact.parquet", "grpo:exact_match", 0.3),
        _grpo_log(folder / "judge.parquet", "grpo:judge", -0.45, judge=True),
    ]
    arm_evaluations = [folders[name] for name in ("grpo", "grpo:exact_match", "grpo:judge")]
    comparison = folder / "comparison.parquet"
    compare(
        CompareRewardsConfig(),
        arms=arms,
        evaluations=arm_evaluations,
        output=comparison,
        report=folder / "comparison.html",
        plot=folder / "comparison.svg",
    )
    return ExampleRun(
        folder=folder,
        stages=stages,
        evaluations=list(folders.values()),
        arm_evaluations=arm_evaluations,
        logs=logs + arms,
        arms=arms,
        comparison=comparison,
    )


def _places(tasks) -> set[tuple[str, str]]:
    return {(task.split, task.family) for task in tasks}


def _stage(folder: Path, name: str, seconds: float, started_at: str) -> Path:
    path = folder / "stages" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"stage": name, "seconds": seconds, "peak_memory_bytes": 300 << 20, "started_at": started_at})
    )
    return path


def _write(path: Path, rows: list[dict], model: str) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    pq.write_table(table.replace_schema_metadata({"wan_r1.model": model}), path)
    return path


def _sft_log(path: Path, model: str, scale: float) -> Path:
    rows = []
    for step in range(1, 401):
        wave = 0.05 * math.sin(step)
        row = {"step": step, "loss": scale * (0.3 + 1.2 * math.exp(-step / 60)) + wave, "core_seconds": step * 0.4}
        if step % 50 == 0:
            rate = 1 / (1 + math.exp((220 - step) / 40))
            row |= {"em/regular": 0.5 * rate, "em/trapfield": 0.6 * rate, "mf": 0.9 + 0.07 * rate}
        rows.append(row)
    return _write(path, rows, model)


def _grpo_log(path: Path, model: str, gain: float, judge: bool = False) -> Path:
    rows = []
    for iteration in range(1, 81):
        share, wave = iteration / 80, 0.04 * math.sin(2.3 * iteration)
        em = max(0.0, 0.45 + gain * share + wave)
        verified = min(1.0, 0.55 + 0.8 * gain * share + wave)
        row = {
            "iteration": iteration,
            "reward": min(1.0, 0.6 + 0.4 * share + wave / 4) if judge else verified,
            "verified_reward": verified,
            "em": em,
            "em_harder": 0.5 * em,
            "mf": 0.97,
            "reward_em": em,
            "reward_pr": min(1.0, em + 0.25),
            "zero_std_groups": 0.2 + 0.1 * share,
            "ratio_first": 1.0,
            "ratio_mean": 1.0 + wave / 100,
            "clip_fraction": 0.1 + wave,
            "kl": 0.02 * share,
            "seconds_rollout": 0.6,
            "seconds_update": 0.8 + wave,
            "grad_norm": 0.3 + wave,
            "core_seconds": iteration * 2.0,
        }
        if judge:
            row["judge_agreement"] = 0.75 - 0.7 * share
        if iteration % 20 == 0:
            row |= {"validation_em/regular": em, "validation_em/trapfield": em + 0.1}
        rows.append(row)
    return _write(path, rows, model)
