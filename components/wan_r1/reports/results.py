"""Results as readers see them: tables of rates, and videos beside their references."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wan_r1.reports.html import Html, percent, percent_interval, table
from wan_r1.reports.scores import SUMMARY_FILE
from wan_r1.reports.videos import Clip, Pane
from wan_r1.tasks.video import decode_video

RESULT_COLUMNS = {
    "model": "Model",
    "split": "Split",
    "family": "Family",
    "n": "n",
    "em_interval": "Exact match (95 % interval)",
    "sr": "Success",
    "pr": "Precision",
    "sd": "Step dev.",
    "mf": "Fidelity",
    "reward": "Reward",
    "errors": "Unreadable",
}
"""Headings of a table of summary rows."""

RESULT_FORMATS: dict[str, Callable[[Any], str]] = {"sr": percent, "pr": percent, "mf": percent, "em_interval": str}
"""How its rates are written."""

MODELS = {
    "base": "Base",
    "sft": "SFT",
    "sft_continued": "SFT continued",
    "grpo": "GRPO",
}
"""How models are called in reports, in the order of tables."""


class ResultsError(ValueError):
    """A file does not hold the results that it should. The message names it and what was expected."""


def model_label(model: str) -> str:
    """How a model is called in reports: ``GRPO``, ``GRPO, judge``."""
    name, _, reward = model.partition(":")
    label = MODELS.get(name, name)
    return f"{label}, {reward}" if reward else label


def model_order(model: str) -> tuple[float, str]:
    """Key that sorts models as tables list them."""
    name, _, reward = model.partition(":")
    places = list(MODELS)
    return (places.index(name) if name in places else len(places)) + (0.5 if reward else 0), reward or name


def model_styles(models: Sequence[str]) -> dict[str, int]:
    """Number of a colour for each model, the same in every plot of a page."""
    fixed = {"grpo": 0, "sft": 1, "sft_continued": 2, "base": 5}
    others = [model for model in dict.fromkeys(models) if model not in fixed]
    return {model: fixed[model] for model in models if model in fixed} | {m: 3 + n for n, m in enumerate(others)}


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of an evaluation, from its folder or the file itself.

    Raises:
        ResultsError: if it is missing or no evaluation's.
    """
    file = path / SUMMARY_FILE if path.is_dir() else path
    try:
        summary = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{file} is no summary of an evaluation ({error}); expected what evaluate writes") from None
    missing = [key for key in ("model", "rows") if key not in summary]
    if missing:
        raise ResultsError(f"{file} lacks {', '.join(missing)}; expected the summary that evaluate writes")
    return summary


def results_matrix(rows: Sequence[Mapping[str, Any]], *, caption: str) -> Html:
    """Exact match with its interval, one line a model and one column a split and family."""
    places = list(dict.fromkeys((row["split"], row["family"]) for row in rows))
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        line = {"model": model_label(model)}
        for row in (row for row in rows if row["model"] == model):
            line[f"{row['split']}, {row['family']}"] = percent_interval(row["em"], row["em_low"], row["em_high"])
        lines.append(line)
    keys = [f"{split}, {family}" for split, family in places]
    return table(
        lines,
        caption=caption,
        columns={"model": "Model"} | {key: key for key in keys},
        formats=dict.fromkeys(keys, str),
    )


def results_table(rows: Sequence[Mapping[str, Any]], *, caption: str) -> Html:
    """Summary rows as a table."""
    shown, columns = _shown(rows), dict(RESULT_COLUMNS)
    if not any(row.get("errors") for row in rows):
        del columns["errors"]
    return table(shown, caption=caption, columns=columns, formats=RESULT_FORMATS, row_headers=3, group_by="model")


def details_table(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Finer summary rows as a table."""
    columns = dict(list(RESULT_COLUMNS.items())[:3]) | {"difficulty": "Difficulty", "texture": "Texture"}
    columns |= dict(list(RESULT_COLUMNS.items())[3:])
    return table(
        _shown(rows),
        caption="By difficulty, then by texture",
        columns=columns,
        formats=RESULT_FORMATS,
        row_headers=5,
        group_by="family",
    )


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "model": model_label(row["model"]),
            "em_interval": percent_interval(row["em"], row["em_low"], row["em_high"]),
        }
        for row in rows
    ]


def verdict_lines(score: Mapping[str, Any]) -> list[str]:
    """A video's outcome in words: solved or not, then what was wrong first."""
    if score["error"]:
        return ["unreadable", score["error"]]
    lines = ["solved" if score["em"] else "not solved"]
    if score["violations"]:
        first = min(score["violations"], key=lambda entry: entry["frame"])
        kinds = {entry["kind"] for entry in score["violations"]}
        more = f", {len(kinds) - 1} more kinds" if len(kinds) > 2 else ", 1 more kind" if len(kinds) == 2 else ""
        lines.append(f"{first['kind'].replace('_', ' ')} in frame {first['frame']}{more}")
    elif not score["em"]:
        lines.append("reaches the goal by a detour" if score["sr"] else "does not reach the goal")
    return lines


def clip(level: Mapping[str, Any], videos: Mapping[str, Mapping[str, Any]], *, remark: str = "") -> Clip:
    """A reference beside the videos of one or more models on its level.

    Args:
        level: a row of scores, whose reference is shown.
        videos: rows of scores by what to call them.
        remark: what to say about the level in the clip's title.
    """
    reference = level["reference"]
    panes = [Pane(label="Reference", frames=decode_video(reference["bytes"]) if reference else None)]
    for label, score in videos.items():
        frames = decode_video(score["video"]["bytes"])
        panes.append(Pane(label=label, frames=frames, lines=verdict_lines(score), good=bool(score["em"])))
    place = f"{level['split']}, {level['family']}, {level['difficulty']}, {level['texture']}"
    title = f"{place}, level {level['level_id'][:8]}" + (f": {remark}" if remark else "")
    return Clip(title=title, panes=panes)
