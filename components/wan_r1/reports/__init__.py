"""Self-contained HTML reports: pages, tables, charts and videos that play without any request to the outside."""

from wan_r1.reports.html import (
    Html,
    Section,
    bullet_list,
    duration,
    escape,
    fold,
    join,
    note,
    page,
    percent,
    percent_interval,
    show,
    size,
    table,
)
from wan_r1.reports.intervals import paired_difference, wilson
from wan_r1.reports.plots import Interval, IntervalPlot, LinePlot, Series, moving_average, plot_grid, svg_file
from wan_r1.reports.videos import Clip, Pane, encode_playable, figure, figure_grid, video_grid

__all__ = [
    "Clip",
    "Html",
    "Interval",
    "IntervalPlot",
    "LinePlot",
    "Pane",
    "Section",
    "Series",
    "bullet_list",
    "duration",
    "encode_playable",
    "escape",
    "figure",
    "figure_grid",
    "fold",
    "join",
    "moving_average",
    "note",
    "page",
    "paired_difference",
    "percent",
    "percent_interval",
    "plot_grid",
    "show",
    "size",
    "svg_file",
    "table",
    "video_grid",
    "wilson",
]
