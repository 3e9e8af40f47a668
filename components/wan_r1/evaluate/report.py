"""The page of one evaluation: rates with intervals, what went wrong, and videos beside their references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from wan_r1.reports import (
    Clip,
    Html,
    Interval,
    IntervalPlot,
    Section,
    duration,
    fold,
    note,
    page,
    percent,
    plot_grid,
    show,
    size,
    table,
    video_grid,
)
from wan_r1.reports.results import clip, details_table, model_label, results_table
from wan_r1.verification import VIOLATIONS


def write_report(path: Path, summary: Mapping[str, Any], scores: Path, *, videos: int) -> None:
    """Write the page of an evaluation.

    Args:
        path: HTML file.
        summary: what `wan_r1.evaluate.run` returns.
        scores: the table of scores.
        videos: solved and, as many again, failed videos per split and family.
    """
    facts = pq.read_table(
        scores, columns=["split", "family", "difficulty", "texture", "level_id", "em", "violations", "error"]
    ).to_pylist()
    sections = [
        Section(
            "Results",
            [
                plot_grid(
                    [IntervalPlot(title="Exact match", intervals=_intervals(summary["rows"]), caption="95 % intervals")]
                ),
                results_table(summary["rows"], caption="All difficulties and textures together"),
                *([fold("By difficulty and texture", details_table(summary["details"]))] if summary["details"] else []),
            ],
        ),
        Section("What went wrong", [violations_table(facts)]),
        Section(
            "Videos",
            [
                note("Levels come in the order of their ids, which is random; solved and failed ones are both shown."),
                video_grid(_clips(scores, choose_examples(facts, videos), str(summary["model"]))),
            ],
        ),
        Section("Configuration", [_configuration(summary)]),
    ]
    lead = (
        f"{sum(row['n'] for row in summary['rows'])} videos of the model {summary['model']}, one a level, sampled with "
        f"fixed seeds in {summary['config']['steps']} denoising steps and checked frame by frame."
    )
    footer = f"Commit {summary['git_commit']}, config {summary['config_hash']}, {duration(summary['seconds'])}."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(f"Evaluation of {summary['model']}", sections, lead=lead, footer=footer))


def violations_table(scores: Sequence[Mapping[str, Any]]) -> Html:
    """How many videos break each rule, by split and family."""
    rows = []
    for split, family in dict.fromkeys((score["split"], score["family"]) for score in scores):
        members = [score for score in scores if (score["split"], score["family"]) == (split, family)]
        videos: Counter[str] = Counter()
        for score in members:
            videos.update({entry["kind"] for entry in score["violations"]})
        rows += [
            {
                "split": split,
                "family": family,
                "rule": kind,
                "videos": count,
                "share": count / len(members),
                "meaning": VIOLATIONS.get(kind, ""),
            }
            for kind, count in videos.most_common()
        ]
    if not rows:
        return note("No video breaks a rule.")
    return table(
        rows,
        caption="Videos that break a rule at least once; a video may break several",
        columns={
            "split": "Split",
            "family": "Family",
            "rule": "Broken rule",
            "videos": "Videos",
            "share": "Share",
            "meaning": "Meaning",
        },
        formats={"share": percent},
        row_headers=3,
        group_by="family",
    )


def choose_examples(scores: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """Ids of ``count`` solved and ``count`` failed levels per split and family, first by id; alternating."""
    chosen = []
    for split, family in dict.fromkeys((score["split"], score["family"]) for score in scores):
        members = [score for score in scores if (score["split"], score["family"]) == (split, family)]
        by_outcome = [
            sorted(score["level_id"] for score in members if score["em"] is outcome)[:count]
            for outcome in (True, False)
        ]
        for place in range(count):
            chosen += [ids[place] for ids in by_outcome if place < len(ids)]
    return chosen


def _intervals(rows: Sequence[Mapping[str, Any]]) -> list[Interval]:
    return [
        Interval(
            label=f"{row['split']}, {row['family']}",
            value=row["em"],
            low=row["em_low"],
            high=row["em_high"],
            style=sorted({other["split"] for other in rows}).index(row["split"]),
        )
        for row in rows
    ]


def _clips(scores: Path, level_ids: Sequence[str], model: str) -> list[Clip]:
    rows = pq.read_table(scores, filters=[("level_id", "in", list(level_ids))]).to_pylist() if level_ids else []
    by_id = {row["level_id"]: row for row in rows}
    return [clip(by_id[level_id], {model_label(model): by_id[level_id]}) for level_id in level_ids]


def _configuration(summary: Mapping[str, Any]) -> Html:
    rows = [
        {"name": name, "value": ", ".join(value) if isinstance(value, list) else show(value)}
        for name, value in sorted(summary["config"].items())
    ]
    rows += [
        {"name": "checkpoint", "value": summary["checkpoint_uri"] or "none, the base model"},
        {"name": "training steps", "value": show(summary["training_step"])},
        {"name": "training core seconds", "value": show(float(summary["training_core_seconds"]))},
        {"name": "peak memory", "value": size(summary["peak_memory_bytes"])},
    ]
    return table(rows, caption="Parameters and circumstances", columns={"name": "Name", "value": "Value"})
