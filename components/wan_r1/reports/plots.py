"""Charts as inline SVG: lines over an axis, and rates with their intervals.

Written by hand because a page must stay small and follow the reader's light or dark preference, which raster images
and the usual plotting libraries do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from wan_r1.reports.html import UNDEFINED, Html, escape, show
from wan_r1.reports.style import SERIES_COLOURS, plot_style

_WIDTH = 400
_PLOT_HEIGHT = 180
_CHARACTER = 7.2
"""Pixels that a character of 12 px type takes on average; browsers measure text, files cannot."""
_DASHES = ("", "7 4", "2 4", "9 3 2 3")
_MOST_POINTS = 300


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: its points, and a band around it where ``low`` and ``high`` are given; not-a-number breaks the line."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    style: int | None = None
    """Number of the colour; default: the place among the plot's series."""


@dataclass(frozen=True, kw_only=True)
class LinePlot:
    """Lines over a common axis.

    Attributes:
        title: what is shown, above the plot.
        x_label: quantity and unit of the horizontal axis.
        y_label: quantity and unit of the vertical axis.
        series: the lines.
        y_range: ends of the vertical axis; default: those of the data.
        y_limits: values that an axis fitted to the data never passes.
        caption: what to look for, below the title.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    y_range: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its interval in a chart of rates: ``label`` names the row, ``style`` its colour."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    style: int = 0


@dataclass(frozen=True, kw_only=True)
class IntervalPlot:
    """Rates in [0, 1] with intervals, one row each."""

    title: str
    intervals: Sequence[Interval]
    x_label: str = "%"
    caption: str = ""


Plot = LinePlot | IntervalPlot


def plot_grid(plots: Iterable[Plot]) -> Html:
    """Plots side by side as the screen allows, each with its caption and a description for screen readers."""
    figures = []
    for plot in plots:
        small = f"<small>{escape(plot.caption)}</small>" if plot.caption else ""
        body, height = _draw(plot)
        figures.append(
            f'<figure class="plot"><figcaption>{escape(plot.title)}{small}</figcaption>'
            f'<svg class="chart" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
            f'aria-label="{escape(describe(plot))}">{body}</svg></figure>'
        )
    return Html(f'<div class="plots">{"".join(figures)}</div>')


def svg_file(plots: Sequence[Plot], *, columns: int = 2) -> str:
    """Plots in one SVG document that stands on its own, ``columns`` abreast."""
    columns = max(1, min(columns, len(plots)))
    drawn = [_draw(plot) for plot in plots]
    parts, top = [], 0.0
    for first in range(0, len(plots), columns):
        row = range(first, min(first + columns, len(plots)))
        for place in row:
            left = (place - first) * (_WIDTH + 16)
            parts.append(
                f'<g transform="translate({left} {top + 30:.0f})"><text class="title" x="4" y="-10">'
                f"{escape(plots[place].title)}</text>{drawn[place][0]}</g>"
            )
        top += 30 + max(drawn[place][1] for place in row) + 16
    width = columns * (_WIDTH + 16)
    text = "; ".join(describe(plot) for plot in plots)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {width} {top:.0f}" width="{width}" '
        f'height="{top:.0f}" role="img" aria-label="{escape(text)}"><style>{plot_style()}</style>'
        f'<rect class="back" width="{width}" height="{top:.0f}"/>{"".join(parts)}</svg>\n'
    )


def describe(plot: Plot) -> str:
    """A plot in words: where each line starts and ends, or each rate."""
    if isinstance(plot, IntervalPlot):
        rows = (f"{entry.label} {show(entry.value)}" for entry in plot.intervals)
        return f"{plot.title}: {', '.join(rows)}"
    lines = []
    for series in plot.series:
        points = _finite(series.x, series.y)
        ends = f"from {show(points[0][1])} to {show(points[-1][1])}" if points else "no data"
        lines.append(f"{series.name} {ends}")
    return f"{plot.title}, {plot.y_label} over {plot.x_label}: {'; '.join(lines)}"


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Mean of up to ``window`` values up to and including each; not-a-number is left out of the means."""
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if math.isfinite(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most ``most`` round values (1, 2 or 5 times a power of ten apart) within [low, high]."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    step = _tick_step(low, high, most)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick_step(low: float, high: float, most: int) -> float:
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    fitting = (factor * power for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * power) <= most - 1)
    return next(fitting, 20 * power)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float
    labels: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _scale(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    most: int,
    fixed: tuple[float, float] | None = None,
    limits: tuple[float, float] | None = None,
    whole_steps: bool = False,
) -> _Scale:
    if fixed is not None:
        low, high = fixed
    else:
        known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if high - low < 1e-12 * max(1.0, abs(high)):
            pad = abs(high) * 0.1 or 0.5
            low, high = low - pad, high + pad
        if whole_steps:
            step = _tick_step(low, high, most)
            low, high = step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9)
        if limits is not None:
            low, high = max(low, limits[0]), min(high, limits[1])
    marks = ticks(low, high, most)
    step = marks[1] - marks[0] if len(marks) > 1 else high - low
    return _Scale(low, high, start, end, [(mark, _tick_text(mark, step)) for mark in marks])


def _tick_text(value: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if max(abs(value), step) >= 1e5 or decimals > 6:
        return "0" if abs(value) < step / 1e3 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _draw(plot: Plot) -> tuple[str, float]:
    return _draw_intervals(plot) if isinstance(plot, IntervalPlot) else _draw_lines(plot)


def _draw_lines(plot: LinePlot) -> tuple[str, float]:
    """The inside of a line plot's SVG, and its height."""
    top, bottom = 26.0, 26.0 + _PLOT_HEIGHT
    thinned = [_thin(series) for series in plot.series]
    heights = [v for s in thinned for column in (s.y, s.low or (), s.high or ()) for v in column if v is not None]
    y = _scale(heights, bottom, top, most=6, fixed=plot.y_range, limits=plot.y_limits, whole_steps=True)
    left = 12 + _CHARACTER * max(len(text) for _, text in y.labels)
    x = _scale((value for s in thinned for value in s.x), left, _WIDTH - 14, most=7)
    parts = [f'<text class="soft" x="0" y="12">{escape(plot.y_label)}</text>']
    for mark, text in y.labels:
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{_WIDTH - 14}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 6:.1f}" y="{y(mark) + 4:.1f}" text-anchor="end">{text}</text>')
    parts.append(f'<line class="axis" x1="{left:.1f}" x2="{_WIDTH - 14}" y1="{bottom}" y2="{bottom}"/>')
    for mark, text in x.labels:
        parts.append(f'<line class="axis" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text class="soft" x="{x(mark):.1f}" y="{bottom + 17}" text-anchor="middle">{escape(text)}</text>'
        )
    parts.append(
        f'<text class="soft" x="{(left + _WIDTH - 14) / 2:.0f}" y="{bottom + 34}" text-anchor="middle">'
        f"{escape(plot.x_label)}</text>"
    )
    styles = [number if series.style is None else series.style for number, series in enumerate(plot.series)]
    for series, style in zip(thinned, styles, strict=True):
        parts.append(_band(series, style, x, y))
        parts.append(_curve(series, style, x, y))
    legend, height = _legend([series.name for series in plot.series], styles, bottom + 44)
    return "".join(parts) + legend, height


def _curve(series: Series, style: int, x: _Scale, y: _Scale) -> str:
    runs: list[list[str]] = [[]]
    for here, value in zip(series.x, series.y, strict=True):
        if value is None or not (math.isfinite(value) and math.isfinite(here)):
            runs.append([])
        else:
            runs[-1].append(f"{x(here):.1f} {y(_inside(value, y)):.1f}")
    path = " ".join("M" + "L".join(run) for run in runs if run)
    parts = [f'<path class="curve s{_colour(style)}" {_dash(style)} d="{path}"/>'] if path else []
    points = _finite(series.x, series.y)
    # A single point draws no line; a few points are told apart by markers, and each says its value on hover.
    if len(points) <= 40:
        for here, value in points:
            parts.append(
                f'<circle class="dot s{_colour(style)}" cx="{x(here):.1f}" cy="{y(_inside(value, y)):.1f}" r="2.6">'
                f"<title>{escape(series.name)}: {show(value)} at {show(here)}</title></circle>"
            )
    return "".join(parts)


def _band(series: Series, style: int, x: _Scale, y: _Scale) -> str:
    if series.low is None or series.high is None:
        return ""
    known = [
        (here, _inside(low, y), _inside(high, y))
        for here, low, high in zip(series.x, series.low, series.high, strict=True)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    ]
    if not known:
        return ""
    upper = [f"{x(here):.1f} {y(high):.1f}" for here, _, high in known]
    lower = [f"{x(here):.1f} {y(low):.1f}" for here, low, _ in reversed(known)]
    return f'<path class="band s{_colour(style)}" d="M{"L".join(upper + lower)}Z"/>'


def _draw_intervals(plot: IntervalPlot) -> tuple[str, float]:
    """The inside of an interval plot's SVG, and its height."""
    row, top = 22, 8.0
    bottom = top + row * max(1, len(plot.intervals))
    left = 18 + 1.1 * _CHARACTER * max([len(entry.label) for entry in plot.intervals], default=1)
    right = _WIDTH - 46
    parts = []
    x = _Scale(0.0, 1.0, left, right)
    for mark in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="soft" x="{x(mark):.1f}" y="{bottom + 16}" text-anchor="middle">{100 * mark:.0f}</text>'
        )
    for number, entry in enumerate(plot.intervals):
        middle = top + row * (number + 0.5)
        parts.append(f'<text x="{left - 10:.1f}" y="{middle + 4}" text-anchor="end">{escape(entry.label)}</text>')
        shown = UNDEFINED if entry.value is None else f"{100 * entry.value:.1f}"
        parts.append(f'<text class="soft" x="{right + 10:.1f}" y="{middle + 4}">{shown}</text>')
        if entry.value is None:
            continue
        colour = _colour(entry.style)
        if entry.low is not None and entry.high is not None:
            parts.append(
                f'<line class="rule s{colour}" stroke-width="2.5" stroke-linecap="round" x1="{x(entry.low):.1f}" '
                f'x2="{x(entry.high):.1f}" y1="{middle}" y2="{middle}"/>'
            )
        parts.append(f'<circle class="dot s{colour}" cx="{x(entry.value):.1f}" cy="{middle}" r="4.5"/>')
    parts.append(
        f'<text class="soft" x="{(left + right) / 2:.0f}" y="{bottom + 33}" text-anchor="middle">'
        f"{escape(plot.x_label)}</text>"
    )
    return "".join(parts), bottom + 40


def _legend(names: Sequence[str], styles: Sequence[int], top: float) -> tuple[str, float]:
    """Entries that wrap at the plot's width, and the height below them; a single line needs none."""
    if len(names) < 2:
        return "", top
    parts, left, line = [], 4.0, top + 12
    for name, style in zip(names, styles, strict=True):
        width = 34 + _CHARACTER * len(name)
        if left > 4 and left + width > _WIDTH:
            left, line = 4.0, line + 18
        parts.append(
            f'<line class="rule s{_colour(style)}" stroke-width="2.5" {_dash(style)} x1="{left:.1f}" '
            f'x2="{left + 20:.1f}" y1="{line - 4}" y2="{line - 4}"/>'
            f'<text x="{left + 26:.1f}" y="{line}">{escape(name)}</text>'
        )
        left += width + 8
    return "".join(parts), line + 8


def _colour(style: int) -> int:
    return style % len(SERIES_COLOURS)


def _dash(style: int) -> str:
    dash = _DASHES[style % len(_DASHES)]
    return f'stroke-dasharray="{dash}"' if dash else ""


def _inside(value: float, scale: _Scale) -> float:
    return min(max(value, scale.low), scale.high)


def _finite(x: Sequence[float], y: Sequence[float | None]) -> list[tuple[float, float]]:
    pairs = zip(x, y, strict=True)
    return [(a, b) for a, b in pairs if b is not None and math.isfinite(a) and math.isfinite(b)]


def _thin(series: Series) -> Series:
    """Every k-th point and the last, so that a long run stays a small page."""
    count = len(series.x)
    stride = math.ceil(count / _MOST_POINTS) if count else 1
    keep = sorted({*range(0, count, stride), count - 1}) if count else []

    def pick(values):
        return None if values is None else [values[place] for place in keep]

    return Series(
        name=series.name,
        x=pick(series.x),
        y=pick(series.y),
        low=pick(series.low),
        high=pick(series.high),
        style=series.style,
    )
