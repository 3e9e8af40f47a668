"""The results of a run: ``results.json``, ``report.html``, and the tables behind them, in one folder."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from wan_r1.reports import svg_file
from wan_r1.reports.comparison import COMPARISON_SCHEMA, comparison_plots
from wan_r1.reports.logs import TrainingLog, read_log
from wan_r1.reports.results import model_order, read_summary
from wan_r1.reports.scores import SCORES_FILE
from wan_r1.runtime import git_commit, machine
from wan_r1.storage.tables import read_table
from wan_r1.summarise_run.findings import differences
from wan_r1.summarise_run.report import RunReport, write_report

PAIRS = (("sft", "grpo"), ("sft_continued", "grpo"), ("base", "sft"))
"""(first, second) models whose difference a run is about."""

_FACTS = ("model", "split", "family", "level_id", "em", "mf")


class RunError(ValueError):
    """The outputs of a run's stages do not belong together. The message names the files and the remedy."""


def run(
    *,
    info: Mapping[str, Any],
    stages: Sequence[Path],
    evaluations: Sequence[Path],
    logs: Sequence[Path],
    comparison: Path | None,
    output: Path,
    videos: int = 1,
) -> dict[str, Any]:
    """Sum up a run.

    Args:
        info: ``id``, ``config`` (parameters by stage) and ``seed``; ``git_commit`` and ``machine`` are this process'
            own where they are not given. With ``started_at`` (ISO 8601), stages that started before the run are marked
            as cached.
        stages: summaries (JSON) of the stages in their order; ``cached`` in one of them overrides the rule above.
        evaluations: folders of evaluate, with scores and summary.
        logs: training logs (Parquet) of train_sft and train_grpo.
        comparison: table of compare_rewards, if there is one.
        output: folder that receives ``results.json``, ``report.html``, ``scores/<model>.parquet``,
            ``comparison.parquet`` and ``comparison.svg``.
        videos: clips per split, family and kind of outcome in the report.

    Returns:
        What ``results.json`` holds: ``run``, ``rows``, ``stages``; and ``details`` (by difficulty and texture) and
        ``differences`` (paired, between models).

    Raises:
        ResultsError, StorageError: naming the file that is missing or damaged.
        RunError: if two different evaluations are of one model.
    """
    output.mkdir(parents=True, exist_ok=True)
    trainings = [read_log(path) for path in logs]
    found = _evaluations(evaluations)
    tables = _copy_scores(found, output / "scores")
    scores = {model: pq.read_table(path, columns=list(_FACTS)).to_pylist() for model, path in tables.items()}
    arms: list[dict[str, Any]] = []
    if comparison is not None:
        arms = read_table(comparison, COMPARISON_SCHEMA).to_pylist()
        shutil.copyfile(comparison, output / "comparison.parquet")
        if plots := comparison_plots(arms):
            (output / "comparison.svg").write_text(svg_file(plots, columns=min(3, len(plots))))
    results = {
        "run": {
            "id": str(info["id"]),
            "git_commit": info.get("git_commit") or git_commit(),
            "config": info.get("config") or {},
            "seed": info.get("seed"),
            "machine": info.get("machine") or machine(),
        },
        "rows": [row for model in found for row in _named(found[model][1]["rows"], model)],
        "stages": _distinct([_stage(path, info.get("started_at")) for path in stages]),
        "details": [row for model in found for row in _named(found[model][1].get("details", []), model)],
        "differences": differences(scores, PAIRS),
    }
    (output / "results.json").write_text(json.dumps(results, indent=2, default=str) + "\n")
    write_report(
        RunReport(
            results=results, scores=tables, logs=[_named_log(log, found) for log in trainings], arms=arms, videos=videos
        ),
        output / "report.html",
    )
    return results


def _evaluations(paths: Sequence[Path]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Folder and summary by model, in the order of tables.

    The arm of the reward comparison with the main run's own reward and settings is the main run itself, evaluated once
    more or taken from the cache: the same checkpoint is listed once.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in paths:
        summary = read_summary(path)
        model = str(summary["model"])
        if model in found and _checkpoint(found[model][1]) == _checkpoint(summary):
            continue
        if model in found and summary.get("training_reward"):
            model = f"{model}:{summary['training_reward']}"
        if model in found:
            raise RunError(
                f"{found[model][0]} and {path} are evaluations of different checkpoints, both named {model!r}; "
                "give each model once"
            )
        found[model] = (path, summary)
    return {model: found[model] for model in sorted(found, key=model_order)}


def _checkpoint(summary: Mapping[str, Any]) -> str:
    return str(summary.get("checkpoint_uri"))


def _named(rows: Sequence[Mapping[str, Any]], model: str) -> list[dict[str, Any]]:
    return [{**row, "model": model} for row in rows]


def _copy_scores(found: Mapping[str, tuple[Path, Any]], folder: Path) -> dict[str, Path]:
    """The tables of scores, copied to the run's folder, by model."""
    tables = {}
    for model, (path, _) in found.items():
        source = (path if path.is_dir() else path.parent) / SCORES_FILE
        if not source.is_file():
            raise RunError(f"{source} is missing; give the folder that evaluate wrote for {model!r}")
        folder.mkdir(parents=True, exist_ok=True)
        tables[model] = folder / f"{model.replace(':', '-')}.parquet"
        shutil.copyfile(source, tables[model])
    return tables


def _stage(path: Path, run_started_at: str | None) -> dict[str, Any]:
    """A stage's entry in ``results.json``."""
    try:
        summary = json.loads(Path(path).read_text())
        name = str(summary.get("label") or summary["stage"])
        seconds, peak = float(summary["seconds"]), summary.get("peak_memory_bytes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is no summary of a stage ({error!r}); expected JSON with stage and seconds") from None
    if not summary.get("label") and "model" in summary:
        name = f"{name} {summary['model']}"
    cached = summary.get("cached")
    if cached is None and run_started_at and summary.get("started_at"):
        cached = _time(summary["started_at"]) < _time(run_started_at)
    return {
        "name": name,
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "cached": bool(cached),
        "core_seconds": summary.get("core_seconds"),
    }


def _distinct(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stages whose names differ: further ones of a name are numbered."""
    counts: dict[str, int] = {}
    for stage in stages:
        name = stage["name"]
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > 1:
            stage["name"] = f"{name} ({counts[name]})"
    return stages


def _named_log(log: TrainingLog, found: Mapping[str, tuple[Path, dict[str, Any]]]) -> TrainingLog:
    """A log that names its model; one that does not is of the evaluated model which was trained for just as long."""
    if log.model or not log.rows:
        return log
    spent = (log.rows, log.last("core_seconds"))
    for model, (_, summary) in found.items():
        if (summary.get("training_step"), summary.get("training_core_seconds")) == spent:
            return dataclasses.replace(log, model=model)
    return log


def _time(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
