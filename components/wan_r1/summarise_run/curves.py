"""The learning curves of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from wan_r1.reports import LinePlot, Series, moving_average
from wan_r1.reports.logs import TrainingLog
from wan_r1.reports.results import model_label, model_styles

WINDOW = 10
"""Iterations that a point of a noisy curve is the mean of."""


def supervised_plots(logs: Sequence[TrainingLog]) -> list[LinePlot]:
    """Loss, and exact match on validation levels by family, over core seconds."""
    names = _names(logs, "Supervised")
    families = sorted({name for log in logs for name in log.names if name.startswith("em/") and log.has(name)})
    plots = [
        _plot("Loss", "velocity error", [(names[n], log, "loss", WINDOW) for n, log in enumerate(logs)]),
        _plot(
            "Exact match on validation levels",
            "share of levels",
            [
                (f"{names[n]}, {family.removeprefix('em/')}", log, family, 1)
                for n, log in enumerate(logs)
                for family in families
            ],
            rate=True,
        ),
        _plot(
            "Fidelity on validation levels",
            "share of background",
            [(names[n], log, "mf", 1) for n, log in enumerate(logs)],
            limits=(0.0, 1.0),
        ),
    ]
    return [plot for plot in plots if plot.series]


def reinforcement_plots(logs: Sequence[TrainingLog]) -> list[LinePlot]:
    """Reward, exact match, components, ratio, clipping, distance, fidelity and times over core seconds."""
    main = logs[0]
    components = sorted(name for name in main.names if name.startswith("reward_"))
    validation = sorted(name for name in main.names if name.startswith("validation_em/"))
    seconds = [name for name in main.names if name.startswith("seconds_")]
    names = _names(logs, "GRPO")

    def each(column: str) -> list[tuple[str, TrainingLog, str, int]]:
        return [(names[n], log, column, WINDOW) for n, log in enumerate(logs)]

    def of_main(columns: Sequence[str], label: Callable[[str], str], window: int = WINDOW):
        return [(label(column), main, column, window) for column in columns]

    first = names[0]
    plots = [
        _plot("Reward that is trained on", "mean of rollouts", each("reward"), rate=True),
        _plot("Verified reward", "mean of rollouts", each("verified_reward"), rate=True),
        _plot("Exact match of rollouts", "share of rollouts", each("em"), rate=True),
        _plot("Exact match of rollouts, levels without demonstration", "share", each("em_harder"), rate=True),
        _plot("Fidelity of rollouts", "share of background", each("mf"), limits=(0.0, 1.0)),
        _plot(
            f"Components of the reward, {first}",
            "mean of rollouts",
            of_main(components, lambda c: c.removeprefix("reward_").replace("_", " ")),
            rate=True,
        ),
        _plot(
            f"Exact match on validation levels, {first}",
            "share of levels",
            of_main(validation, lambda c: c.removeprefix("validation_em/"), 1),
            rate=True,
        ),
        _plot(
            f"Probability ratio, {first}",
            "mean",
            of_main(
                ["ratio_first", "ratio_mean"], {"ratio_first": "before the update", "ratio_mean": "mean"}.__getitem__
            ),
        ),
        _plot("Clipped ratios", "share", each("clip_fraction")),
        _plot("KL to the starting policy", "KL", each("kl")),
        _plot("Distance to the starting policy", "squared velocity error", each("anchor")),
        _plot("Groups without variance", "share of groups", each("zero_std_groups"), rate=True),
        _plot("Agreement of the judge with verified facts", "share of rollouts", each("judge_agreement"), rate=True),
        _plot(f"Seconds per iteration, {first}", "seconds", of_main(seconds, lambda c: c.removeprefix("seconds_"))),
    ]
    return [plot for plot in plots if plot.series]


def _names(logs: Sequence[TrainingLog], otherwise: str) -> list[str]:
    """What each log's curve is called: its model, or its number where the file names none."""
    names = []
    for number, log in enumerate(logs, start=1):
        name = model_label(log.model) if log.model else otherwise if len(logs) == 1 else f"{otherwise} {number}"
        names.append(f"{name} {number}" if name in names else name)
    return names


def _plot(
    title: str,
    y_label: str,
    lines: Sequence[tuple[str, TrainingLog, str, int]],
    *,
    rate: bool = False,
    limits: tuple[float, float] | None = None,
) -> LinePlot:
    """A plot of ``(name, log, column, window)`` lines; a column without values has no line."""
    series = []
    one_each = len({id(log) for _, log, _, _ in lines}) == len(lines)
    styles = model_styles([log.model for _, log, _, _ in lines]) if one_each else {}
    for name, log, column, window in lines:
        if not log.has(column):
            continue
        values = log.column(column)
        if window > 1:
            values = moving_average(values, window)
        by_time = log.has("core_seconds")
        x = log.column("core_seconds" if by_time else "iteration" if log.reinforcement else "step")
        # Values that are logged now and then (validation) make a line from point to point, not a broken one.
        known = [place for place, value in enumerate(values) if math.isfinite(value) and math.isfinite(x[place])]
        series.append(
            Series(
                name=name,
                x=[x[place] for place in known],
                y=[values[place] for place in known],
                style=styles[log.model] if log.model and one_each else None,
            )
        )
    if len(series) == 1 and len(lines) > 1:
        title = f"{title}, {series[0].name}"
    timed = all(log.has("core_seconds") for _, log, _, _ in lines)
    x_label = "core seconds of training" if timed else "steps"
    return LinePlot(
        title=title,
        x_label=x_label,
        y_label=y_label,
        series=series,
        y_range=(0.0, 1.0) if rate else None,
        y_limits=limits,
    )
