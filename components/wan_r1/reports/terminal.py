"""The results of a run on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from wan_r1.reports.html import UNDEFINED
from wan_r1.reports.results import model_label, model_order
from wan_r1.tasks.schema import SPLITS

_LOG_WIDTH = 160
"""Characters a line where the output is no terminal."""


def print_results(
    results: Mapping[str, Any], *, report: Path | str | None = None, console: Console | None = None
) -> None:
    """Print the table of a run's results, and where its report is.

    Args:
        results: content of ``results.json``.
        report: path of the HTML report.
        console: where to print; standard output by default.
    """
    console = console or Console()
    if not console.is_terminal:
        # A pod's log or a file has no width to fit into, and a wrapped table cannot be read there.
        console.width = max(console.width, _LOG_WIDTH)
    rows = results.get("rows") or []
    by_place = {(row["model"], row["split"], row["family"]): row for row in rows}
    places = sorted(
        {(row["split"], row["family"]) for row in rows}, key=lambda place: (SPLITS.index(place[0]), place[1])
    )
    title = "Exact match in % (95 % interval); below it fidelity in %"
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for split, family in places:
        table.add_column(f"{split}\n{family}", justify="right", no_wrap=True)
    for model in sorted({row["model"] for row in rows}, key=model_order):
        table.add_row(model_label(model), *(_cell(by_place.get((model, *place))) for place in places))
    console.print(table)
    sizes = sorted({row["n"] for row in rows})
    if sizes:
        count = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        console.print(f"{count} levels per cell.", highlight=False)
    if report is not None:
        console.print(f"Report: {report}", highlight=False, soft_wrap=True)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["em"] is None:
        return UNDEFINED
    low, high = row.get("em_low"), row.get("em_high")
    interval = "" if low is None or high is None else f" ({100 * low:.0f}-{100 * high:.0f})"
    fidelity = UNDEFINED if row.get("mf") is None else f"{100 * row['mf']:.1f}"
    return f"{100 * row['em']:.1f}{interval}\n{fidelity}"
