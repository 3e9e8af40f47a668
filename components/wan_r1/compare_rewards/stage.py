"""The comparison of rewards or settings: training logs and evaluations of GRPO runs, in one table and one plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wan_r1.compare_rewards.config import CompareRewardsConfig
from wan_r1.reports import Section, note, page, plot_grid, svg_file, wilson
from wan_r1.reports.comparison import (
    COMPARISON_SCHEMA,
    comparison_findings,
    comparison_plots,
    comparison_table,
    differ_by_settings,
)
from wan_r1.reports.logs import TrainingLog, read_log
from wan_r1.reports.results import model_order, read_summary
from wan_r1.runtime import StageClock
from wan_r1.storage.tables import write_table

POOLED = "all"
"""In place of a family: all of them."""

_TITLES = {"reward": "Rewards compared", "settings": "Settings compared"}
_OTHER = {"reward": "another reward", "settings": "other settings"}


class ComparisonError(ValueError):
    """Logs and evaluations do not belong together. The message names the files and the remedy."""


def run(
    config: CompareRewardsConfig,
    *,
    arms: Sequence[Path],
    evaluations: Sequence[Path],
    output: Path,
    report: Path,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Compare GRPO runs that differ in their reward, or, in a sweep, in the settings that name their models.

    Args:
        config: parameters.
        arms: training logs (Parquet) of train_grpo, one an arm.
        evaluations: evaluations (folders, or their summaries) of the arms; further models become rows without a curve.
        output: Parquet file that receives the table, `COMPARISON_SCHEMA`.
        report: HTML file with the table and the curves.
        plot: SVG file that receives the curves, if wanted on their own.

    Returns:
        What `StageClock` measured, with ``arms``: the table's rows without their curves.

    Raises:
        ComparisonError: if there is no arm, or an arm has no evaluation.
        StorageError: if a file is missing or damaged.
    """
    if not arms:
        raise ComparisonError("arms is empty; give at least one training log of train_grpo")
    with StageClock(config.STAGE) as clock:
        rows = build_rows(
            [read_log(path) for path in arms], [read_summary(path) for path in evaluations], config.window
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        write_table(rows, output, COMPARISON_SCHEMA)
        plots = comparison_plots(rows)
        if plot is not None:
            plot.write_text(svg_file(plots, columns=min(3, len(plots))))
        sections = [
            Section("What the numbers say", [comparison_findings(rows)]),
            Section(
                "Curves",
                [
                    "What an arm was trained on should rise together with what is verified; where the two part, "
                    "the reward was cheated.",
                    plot_grid(plots),
                ],
            ),
            Section(
                "Table",
                [
                    comparison_table(rows),
                    note(
                        "Verified reward is the trajectory reward from verified facts, whatever an arm was trained on; "
                        "the judge agrees where its score is at least one half exactly on solved levels."
                    ),
                ],
            ),
        ]
        measured = clock.summary()
        report.parent.mkdir(parents=True, exist_ok=True)
        differ = "settings" if differ_by_settings(rows) else "reward"
        runs = f"{len(arms)} GRPO runs" if len(arms) > 1 else "One GRPO run"
        lead = f"{runs} from the same checkpoint{f', each with {_OTHER[differ]}' if len(arms) > 1 else ''}."
        footer = f"Commit {measured['git_commit']}, {config.to_json()}"
        report.write_text(page(_TITLES[differ], sections, lead=lead, footer=footer))
    shown = [{key: value for key, value in row.items() if key != "curve"} for row in rows]
    return {**clock.summary(), "config": json.loads(config.to_json()), "config_hash": config.hash, "arms": shown}


def build_rows(
    logs: Sequence[TrainingLog], evaluations: Sequence[Mapping[str, Any]], window: int
) -> list[dict[str, Any]]:
    """Rows of `COMPARISON_SCHEMA`: the arms in the order of their logs, then models that were only evaluated.

    Logs and evaluations meet by the model's name; where logs carry none, by their place.
    """
    by_model = {str(evaluation["model"]): evaluation for evaluation in evaluations}
    if all(not log.model for log in logs):
        if len(logs) != len(evaluations):
            raise ComparisonError(
                f"{len(logs)} training logs without a model's name and {len(evaluations)} evaluations: give as many of "
                "each, in the same order"
            )
        names = [str(evaluation["model"]) for evaluation in evaluations]
    else:
        names = [log.model for log in logs]
    rows = []
    for name, log in zip(names, logs, strict=True):
        if name not in by_model:
            raise ComparisonError(
                f"{log.path} trained {name!r}, which was not evaluated; evaluated: {', '.join(by_model) or 'none'}"
            )
        reward = by_model[name].get("training_reward") or name.partition(":")[2] or name
        rows.append({"model": name, "reward": reward, **_training(log, window), "results": _results(by_model[name])})
    for name in sorted(set(by_model) - set(names), key=model_order):
        nothing = {field.name: None for field in COMPARISON_SCHEMA if field.nullable}
        rows.append({"model": name, **nothing, "curve": [], "results": _results(by_model[name])})
    return rows


def _training(log: TrainingLog, window: int) -> dict[str, Any]:
    """The columns of an arm that come from its log."""
    window = max(1, min(window, log.rows // 2))
    row: dict[str, Any] = {
        "iterations": log.rows,
        # A run without a single update has no column of gradients.
        "updates": sum(map(math.isfinite, log.column("grad_norm"))) if log.has("seconds_update") else None,
        "core_seconds": log.last("core_seconds"),
        "window": window,
    }
    columns = {
        "training_reward": log.column("reward"),
        "verified_reward": log.column("verified_reward"),
        "em": log.column("em"),
        "judge_agreement": log.column("judge_agreement"),
    }
    for key, values in columns.items():
        row[f"{key}_first"] = _mean(values[:window])
        row[f"{key}_last"] = _mean(values[-window:])
    core_seconds, iterations = log.column("core_seconds"), log.column("iteration")
    row["curve"] = [
        {
            "iteration": int(iterations[place]),
            "core_seconds": _known(core_seconds[place]),
            **{key: _known(values[place]) for key, values in columns.items()},
        }
        for place in range(log.rows)
    ]
    return row


def _results(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An evaluation's rows by split and family, and pooled over the families of each split."""
    keys = ("split", "family", "n", "em", "em_low", "em_high", "pr", "mf", "reward")
    results = []
    for split in dict.fromkeys(row["split"] for row in evaluation["rows"]):
        members = [row for row in evaluation["rows"] if row["split"] == split]
        count = sum(row["n"] for row in members)
        solved = sum(round(row["em"] * row["n"]) for row in members)
        low, high = wilson(solved, count) or (None, None)
        pooled = {"split": split, "family": POOLED, "n": count, "em": solved / count, "em_low": low, "em_high": high}
        for key in ("pr", "mf", "reward"):
            pooled[key] = sum(row[key] * row["n"] for row in members) / count
        results += [pooled, *({key: row[key] for key in keys} for row in members)]
    return results


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
