"""The table of the reward comparison, one row an arm, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from wan_r1.reports.html import Html, bullet_list, percent, percent_interval, show, table
from wan_r1.reports.plots import LinePlot, Series, moving_average

SCHEMA_VERSION = "2"


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


_RATE = pa.float64()
_RESULT = pa.struct(
    [
        ("split", pa.string()),
        ("family", pa.string()),
        ("n", pa.int64()),
        ("em", _RATE),
        ("em_low", _RATE),
        ("em_high", _RATE),
        ("pr", _RATE),
        ("mf", _RATE),
        ("reward", _RATE),
    ]
)
_POINT = pa.struct(
    [
        ("iteration", pa.int64()),
        ("core_seconds", pa.float64()),
        ("training_reward", _RATE),
        ("verified_reward", _RATE),
        ("em", _RATE),
        ("judge_agreement", _RATE),
    ]
)

COMPARISON_SCHEMA = pa.schema(
    [
        _field("model", pa.string(), "grpo:<reward>, grpo:<field>=<value>,..., or a model that was only evaluated"),
        _field("reward", pa.string(), "reward that was trained on; null for a model without an arm", nullable=True),
        _field("iterations", pa.int64(), "iterations of the arm", nullable=True),
        _field("updates", pa.int64(), "iterations that changed the model; 0 leaves the starting policy", nullable=True),
        _field("core_seconds", pa.float64(), "CPU seconds of training", nullable=True),
        _field("window", pa.int64(), "iterations that first and last values are means of", nullable=True),
        _field("training_reward_first", _RATE, "what was trained on, at the start", nullable=True),
        _field("training_reward_last", _RATE, "what was trained on, at the end", nullable=True),
        _field("verified_reward_first", _RATE, "trajectory reward from verified facts, at the start", nullable=True),
        _field("verified_reward_last", _RATE, "trajectory reward from verified facts, at the end", nullable=True),
        _field("em_first", _RATE, "exact match of the rollouts, at the start", nullable=True),
        _field("em_last", _RATE, "exact match of the rollouts, at the end", nullable=True),
        _field("judge_agreement_first", _RATE, "share of rollouts it is right about, at the start", nullable=True),
        _field("judge_agreement_last", _RATE, "share of rollouts it is right about, at the end", nullable=True),
        _field("results", pa.list_(_RESULT), "evaluation by split and family; family all pools them"),
        _field("curve", pa.list_(_POINT), "training by iteration"),
    ],
    metadata={"wan_r1.schema": "reward_comparison", "wan_r1.schema_version": SCHEMA_VERSION},
)
"""One row an arm; written with this metadata, checked on reading."""


_SETTINGS = re.compile(r"grpo:(\w+=.*)")


def arm_settings(arm: Mapping[str, Any]) -> str | None:
    """The settings in which an arm of a sweep differs from the others; None for an arm that its reward tells apart."""
    found = _SETTINGS.fullmatch(arm["model"])
    return found[1].replace(",", ", ") if found else None


def differ_by_settings(arms: Sequence[Mapping[str, Any]]) -> bool:
    """Whether arms are those of a sweep."""
    return any(arm_settings(arm) for arm in arms)


def comparison_table(arms: Sequence[Mapping[str, Any]]) -> Html:
    """Arms beside each other: what they were trained on, what is verified, what evaluation found."""
    splits = list(dict.fromkeys(result["split"] for arm in arms for result in arm["results"]))
    rows = []
    for arm in arms:
        row = {
            "model": arm_settings(arm) or arm["reward"] or f"only evaluated: {arm['model']}",
            "training": _first_to_last(arm, "training_reward"),
            "verified": _first_to_last(arm, "verified_reward"),
            "em": _first_to_last(arm, "em"),
            "agreement": _first_to_last(arm, "judge_agreement"),
            "core_seconds": arm["core_seconds"],
        }
        for split in splits:
            pooled = pooled_result(arm, split)
            row[split] = pooled and percent_interval(pooled["em"], pooled["em_low"], pooled["em_high"])
        rows.append(row)
    columns = {
        "model": "Trained with" if differ_by_settings(arms) else "Trained on",
        "training": "Training reward",
        "verified": "Verified reward",
        "em": "EM of rollouts",
        "agreement": "Judge agrees",
    }
    columns |= {split: f"EM, {split} (95 % interval)" for split in splits}
    columns["core_seconds"] = "Training, core s"
    window = next((arm["window"] for arm in arms if arm["window"]), 0)
    return table(
        rows,
        caption=f"Exact match (EM) over all families, {_sizes(arms)} levels a split; arrows lead from the first to "
        f"the last {window} iterations",
        columns=columns,
        formats={split: str for split in splits} | {key: str for key in ("training", "verified", "em", "agreement")},
    )


def comparison_plots(arms: Sequence[Mapping[str, Any]]) -> list[LinePlot]:
    """One plot an arm with one common scale: what it was trained on against what is verified and exact match."""
    plots = []
    for arm in arms:
        curve = arm["curve"]
        if not curve:
            continue
        by_time = all(point["core_seconds"] is not None for point in curve) and curve[-1]["core_seconds"] > 0
        x = [point["core_seconds"] if by_time else point["iteration"] for point in curve]
        lines = [
            ("training reward", "training_reward"),
            ("verified reward", "verified_reward"),
            ("exact match", "em"),
            ("judge agrees", "judge_agreement"),
        ]
        series = []
        for style, (name, key) in enumerate(lines):
            values = [float("nan") if point[key] is None else point[key] for point in curve]
            if any(value == value for value in values):
                smooth = moving_average(values, arm["window"] or 1)
                series.append(Series(name=name, x=x, y=smooth, style=style))
        plots.append(
            LinePlot(
                title=_trained(arm, ": "),
                x_label="core seconds of training" if by_time else "iteration",
                y_label=f"mean of {arm['window']} iterations",
                series=series,
                y_range=(0.0, 1.0),
            )
        )
    return plots


def comparison_findings(arms: Sequence[Mapping[str, Any]]) -> Html:
    """What the numbers of each arm say, in a sentence each."""
    sentences = []
    for arm in arms:
        if arm["updates"] == 0:
            sentences.append(
                f"{_trained(arm)}: no iteration changed the model, so that its row is the starting policy's."
            )
            continue
        if arm["training_reward_first"] is None or arm["em_first"] is None:
            continue
        reward, em = (arm[f"{key}_last"] - arm[f"{key}_first"] for key in ("training_reward", "em"))
        link = "while" if reward * em < 0 else "and"
        sentence = (
            f"{_trained(arm)}: its own reward {_went(arm, 'training_reward', 2)} {link} exact match of its "
            f"rollouts {_went(arm, 'em', 2)}"
        )
        if arm["judge_agreement_last"] is not None:
            sentence += f"; at the end the judge is right about {percent(arm['judge_agreement_last'])} of them"
        sentences.append(sentence + ".")
    return bullet_list(sentences)


def _trained(arm: Mapping[str, Any], link: str = " ") -> str:
    """What tells an arm from the others, in words."""
    settings = arm_settings(arm)
    return f"Trained with{link}{settings}" if settings else f"Trained on{link}{arm['reward']}"


def pooled_result(arm: Mapping[str, Any], split: str) -> Mapping[str, Any] | None:
    """An arm's evaluation on a split over all families."""
    found = (result for result in arm["results"] if (result["split"], result["family"]) == (split, "all"))
    return next(found, None)


def _sizes(arms: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted({result["n"] for arm in arms for result in arm["results"] if result["family"] == "all"}) or [0]
    return f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"


def _first_to_last(arm: Mapping[str, Any], key: str) -> str | None:
    first, last = arm[f"{key}_first"], arm[f"{key}_last"]
    return None if first is None or last is None else f"{first:.2f} → {last:.2f}"


def _went(arm: Mapping[str, Any], key: str, digits: int) -> str:
    first, last = round(arm[f"{key}_first"], digits), round(arm[f"{key}_last"], digits)
    if first == last:
        return f"stayed at {show(last)}"
    return f"{'rose' if last > first else 'fell'} from {first:.{digits}f} to {last:.{digits}f}"
