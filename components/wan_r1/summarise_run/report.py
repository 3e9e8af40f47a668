"""The page of a run: results first, then how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from wan_r1.reports import (
    Clip,
    Html,
    Interval,
    IntervalPlot,
    Section,
    bullet_list,
    duration,
    fold,
    join,
    note,
    page,
    plot_grid,
    show,
    size,
    table,
    video_grid,
)
from wan_r1.reports.comparison import comparison_findings, comparison_plots, comparison_table
from wan_r1.reports.logs import TrainingLog
from wan_r1.reports.results import MODELS, clip, details_table, model_label, model_styles, results_matrix, results_table
from wan_r1.summarise_run.curves import WINDOW, reinforcement_plots, supervised_plots
from wan_r1.summarise_run.findings import differences_table, explanation, findings
from wan_r1.tasks.schema import SPLITS

OUTCOMES = (
    ("only {second} solves it", False, True),
    ("both solve it", True, True),
    ("neither solves it", False, False),
    ("only {first} solves it", True, False),
)
"""Kinds of levels that clips show: (name, solved by the first model, solved by the second)."""


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What the page of a run is made of.

    Attributes:
        results: content of ``results.json``.
        scores: tables of scores by model.
        logs: training logs.
        arms: rows of the reward comparison.
        videos: clips per split, family and kind of outcome.
    """

    results: Mapping[str, Any]
    scores: Mapping[str, Path]
    logs: Sequence[TrainingLog]
    arms: Sequence[Mapping[str, Any]]
    videos: int


def write_report(report: RunReport, path: Path) -> None:
    """Write the page of a run."""
    run, stages = report.results["run"], report.results["stages"]
    sections = [_results(report.results)]
    sections += _videos(report)
    sections += _curves(report.logs)
    if report.arms:
        sections.append(
            Section(
                "Rewards compared",
                [
                    "Each arm starts from the same checkpoint with the same budget and differs in its reward alone. "
                    "Where what was trained on rises and exact match does not, the reward was cheated.",
                    comparison_findings(report.arms),
                    plot_grid(comparison_plots(report.arms)),
                    comparison_table(report.arms),
                ],
            )
        )
    sections += [Section("Stages", [_stages(stages)]), Section("Configuration", [_configuration(run)])]
    fresh = [stage for stage in stages if not stage["cached"]]
    cached = f", {len(stages) - len(fresh)} more from the cache" if len(fresh) < len(stages) else ""
    spent = (
        f"{duration(sum(stage['seconds'] for stage in fresh))} of work in {len(fresh)} stages{cached}. "
        if stages
        else ""
    )
    lead = f"Run {run['id']}. {spent}{_machine(run['machine'])}"
    footer = f"Made by wan-r1 at commit {run['git_commit']}. All numbers are in results.json and the tables beside it."
    path.write_text(page("Wan-R1: results of a run", sections, lead=lead, footer=footer))


def _results(results: Mapping[str, Any]) -> Section:
    rows = results["rows"]
    main = [row for row in rows if row["model"] in MODELS]
    arms = [row for row in rows if row["model"] not in MODELS]
    blocks: list[str] = [
        results_matrix(main, caption=f"Exact match with 95 % intervals, {_sizes(main)} levels in each cell"),
        bullet_list(findings(results["differences"])),
        plot_grid(_interval_plots(main)),
        fold("Every measure", results_table(main, caption="The same levels and the same noise for every model")),
    ]
    if results["differences"]:
        blocks.append(fold("Differences between models, level by level", differences_table(results["differences"])))
    blocks += [text for text in explanation(rows) if text]
    if arms:
        blocks.append(
            fold("The arms of the reward comparison", results_table(arms, caption="Models by training reward"))
        )
    if results["details"]:
        blocks.append(fold("By difficulty and by texture", details_table(results["details"])))
    return Section("Results", blocks)


def _sizes(rows: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted({row["n"] for row in rows}) or [0]
    return f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _interval_plots(rows: Sequence[Mapping[str, Any]]) -> list[IntervalPlot]:
    styles = model_styles([row["model"] for row in rows])
    plots = []
    for split, family in dict.fromkeys((row["split"], row["family"]) for row in rows):
        members = [row for row in rows if (row["split"], row["family"]) == (split, family)]
        plots.append(
            IntervalPlot(
                title=f"Exact match on {split}, {family}",
                caption=f"{members[0]['n']} levels, 95 % intervals",
                intervals=[
                    Interval(
                        label=model_label(row["model"]),
                        value=row["em"],
                        low=row["em_low"],
                        high=row["em_high"],
                        style=styles[row["model"]],
                    )
                    for row in members
                ],
            )
        )
    return plots


def _videos(report: RunReport) -> list[Section]:
    """Clips of SFT and GRPO on the same levels, or of the only model there is."""
    present = [model for model in ("sft", "grpo") if model in report.scores] or list(report.scores)[:1]
    if not present:
        return []
    first, second = present[0], present[-1]
    facts = {model: _outcomes(report.scores[model]) for model in (first, second)}
    blocks: list[str] = []
    chosen: list[tuple[str, tuple[str, str, str]]] = []
    rows = []
    for split, family in dict.fromkeys(key[:2] for key in facts[first]):
        shared = sorted(key for key in facts[first] if key[:2] == (split, family) and key in facts[second])
        for name, before, after in OUTCOMES:
            levels = [key for key in shared if (facts[first][key], facts[second][key]) == (before, after)]
            shown = name.format(first=model_label(first), second=model_label(second))
            if first != second:
                rows.append({"split": split, "family": family, "outcome": shown, "levels": len(levels)})
            chosen += [("" if first == second else shown, key) for key in levels[: report.videos]]
    blocks.append(
        "The reference and the models' videos run side by side, frame by frame. Levels are the first of their kind by "
        "id, which is random; the table says how common each kind is."
    )
    blocks.append(video_grid(_clips(report.scores, [first] if first == second else [first, second], chosen)))
    if rows:
        columns = {"split": "Split", "family": "Family", "outcome": "Outcome", "levels": "Levels"}
        blocks.append(
            fold(
                "How common each kind is", table(rows, caption="Levels by outcome", columns=columns, group_by="family")
            )
        )
    return [Section("Videos", blocks)]


def _outcomes(path: Path) -> dict[tuple[str, str, str], bool]:
    rows = pq.read_table(path, columns=["split", "family", "level_id", "em"]).to_pylist()
    ordered = sorted(rows, key=lambda row: (SPLITS.index(row["split"]), row["family"], row["level_id"]))
    return {(row["split"], row["family"], row["level_id"]): row["em"] for row in ordered}


def _clips(
    scores: Mapping[str, Path], models: Sequence[str], chosen: Sequence[tuple[str, tuple[str, str, str]]]
) -> list[Clip]:
    ids = [key[2] for _, key in chosen]
    if not ids:
        return []
    by_model = {}
    for model in models:
        rows = pq.read_table(scores[model], filters=[("level_id", "in", ids)]).to_pylist()
        by_model[model] = {(row["split"], row["family"], row["level_id"]): row for row in rows}
    return [
        clip(by_model[models[0]][key], {model_label(model): by_model[model][key] for model in models}, remark=outcome)
        for outcome, key in chosen
    ]


def _curves(logs: Sequence[TrainingLog]) -> list[Section]:
    supervised = [log for log in logs if not log.reinforcement]
    reinforcement = [log for log in logs if log.reinforcement]
    sections = []
    if supervised:
        sections.append(Section("Supervised fine-tuning", [plot_grid(supervised_plots(supervised))]))
    if reinforcement:
        sections.append(
            Section(
                "Reinforcement learning",
                [
                    plot_grid(reinforcement_plots(reinforcement)),
                    note(
                        f"Curves are means of up to {WINDOW} iterations. The ratio is 1 before a rollout's first "
                        "update; groups without variance teach nothing and are skipped."
                    ),
                ],
            )
        )
    return sections


def _stages(stages: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        {
            "name": stage["name"],
            "seconds": duration(stage["seconds"]),
            "core": None if stage.get("core_seconds") is None else duration(stage["core_seconds"]),
            "memory": None if stage["peak_memory_bytes"] is None else size(stage["peak_memory_bytes"]),
            "cached": "from the cache" if stage["cached"] else "new",
        }
        for stage in stages
    ]
    return table(
        rows,
        caption="Time and memory; of a cached stage, those of the run that made it",
        columns={
            "name": "Stage",
            "seconds": "Time",
            "core": "CPU time",
            "memory": "Peak memory",
            "cached": "Made",
        },
        formats={key: str for key in ("seconds", "core", "memory")},
    )


def _configuration(run: Mapping[str, Any]) -> Html:
    parts = []
    plain = {name: value for name, value in run["config"].items() if not isinstance(value, Mapping)}
    tables = {name: value for name, value in run["config"].items() if isinstance(value, Mapping)}
    for name, values in ({"run": {"seed": run["seed"], **plain}} | tables).items():
        rows = [{"name": key, "value": _shown(value)} for key, value in sorted(values.items())]
        parts.append(
            fold(name, table(rows, caption=f"Parameters of {name}", columns={"name": "Name", "value": "Value"}))
        )
    return join(parts)


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else show(value)


def _machine(machine: Mapping[str, Any] | str) -> str:
    if not isinstance(machine, Mapping):
        return f"{machine}."
    parts = [f"{machine.get('cores')} cores", str(machine.get("cpu") or "")]
    if machine.get("memory_bytes"):
        parts.append(f"{size(machine['memory_bytes'])} of memory")
    parts.append(str(machine.get("gpu") or "no GPU"))
    return ", ".join(part for part in parts if part) + "."
