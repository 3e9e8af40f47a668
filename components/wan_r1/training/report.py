"""The log of a training as Parquet, and its report as a self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from wan_r1.config import StageConfig
from wan_r1.reports.html import Section, page, table
from wan_r1.reports.plots import LinePlot, Series, plot_grid
from wan_r1.runtime import git_commit
from wan_r1.storage import tables

LOG_METADATA = {"wan_r1.schema": "training_log", "wan_r1.schema_version": "1"}

Plot = tuple[str, str, Sequence[str]]
"""Title, label of the vertical axis, and names of logged values."""


def write_log(log: Sequence[dict], path: Path) -> None:
    """Write a training's log: one row a step, one nullable double a value (the step itself is an integer)."""
    names = list(dict.fromkeys(name for entry in log for name in entry))
    fields = [pa.field(name, pa.int64() if name in ("step", "iteration") else pa.float64()) for name in names]
    schema = pa.schema(fields, metadata=LOG_METADATA)
    rows = [{name: entry.get(name) for name in names} for entry in log]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tables.write_table(rows, str(path), schema)


def training_report(
    path: Path,
    *,
    title: str,
    log: Sequence[dict],
    step: str,
    plots: Sequence[Plot],
    summary: dict,
    config: StageConfig,
) -> None:
    """Write a page with a training's curves, its outcome and its parameters.

    Args:
        path: the HTML file.
        title: heading.
        log: the training's log.
        step: name of the horizontal axis in the log.
        plots: what is drawn.
        summary: the stage's outcome.
        config: its parameters.
    """
    drawn = []
    for heading, label, names in plots:
        series = []
        for name in names:
            points = [(entry[step], entry[name]) for entry in log if entry.get(name) is not None]
            if points:
                series.append(Series(name=name, x=[x for x, _ in points], y=[y for _, y in points]))
        if series:
            drawn.append(LinePlot(title=heading, x_label=step, y_label=label, series=series))
    sections = [Section("Curves", (plot_grid(drawn),))]
    shown = {**summary, "git_commit": git_commit()}
    sections.append(
        Section("Outcome", (table([{"name": k, "value": _text(v)} for k, v in shown.items()], caption="Outcome"),))
    )
    parameters = json.loads(config.to_json())
    sections.append(
        Section(
            "Parameters",
            (table([{"name": k, "value": _text(v)} for k, v in parameters.items()], caption="Parameters"),),
        )
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(page(title, sections))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
