"""The page of scored videos: each with its track, its violations marked in time, and its metrics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from wan_r1.reports import Clip, Html, Pane, Section, escape, figure, figure_grid, note, page, percent, show, table
from wan_r1.score.floor_plan import plan_frames
from wan_r1.tasks.dataset import Task
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.verification import VIOLATIONS, Verdict

_MOST_BYTES = 24_000_000
"""Markup of videos in one page."""
_MOST_FRAMES = 96
"""Frames of a video that the page plays; longer ones are shown in this many steps."""
_SIDE = 224
"""Pixels a side at which tracks are drawn."""
_BAR = 8
"""Height of the bar below the track, in pixels."""
_TRACK, _HERE, _BROKEN, _RIM = (255, 0, 200), (255, 255, 255), (255, 90, 0), (0, 0, 0)


class ScorePage:
    """Collects videos as they are scored; frames are drawn and encoded at once, so that none is kept."""

    def __init__(self) -> None:
        self._figures: list[tuple[tuple, Html]] = []
        self._bytes = 0
        self._left_out = 0

    def add(self, row: Mapping[str, Any], video: np.ndarray | None, task: Task | None, verdict: Verdict | None) -> None:
        """Add a scored video; one with an error is shown in the list of errors alone."""
        if verdict is None or video is None or task is None:
            return
        if self._bytes > _MOST_BYTES:
            self._left_out += 1
            return
        shown = np.unique(np.linspace(0, len(video) - 1, min(len(video), _MOST_FRAMES)).round().astype(int))
        clip = Clip(
            title=str(row["video"]),
            panes=[
                Pane(label="Video", frames=_scaled(video[shown]), lines=_metrics(row, ""), good=bool(row["em"])),
                _second_pane(row, video, shown, task, verdict),
            ],
            below=timeline(verdict, len(video)),
        )
        made = figure(clip)
        self._bytes += len(made)
        self._figures.append(((row["em"], row["sr"], row["pr"], row["video"]), made))

    def html(self, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
        """The whole page."""
        failed = [row for row in rows if row["status"] == "error"]
        figures = [made for _, made in sorted(self._figures, key=lambda item: item[0])]
        sections = [Section("Results", [_results(summary["rows"])])]
        if failed:
            sections.append(
                Section(
                    "Videos that could not be scored",
                    [note("They have no metrics and enter no mean."), _errors(failed)],
                )
            )
        sections.append(
            Section(
                "Videos",
                [
                    note(
                        "Failed videos first. In the right half the line is the player's track, and an orange frame "
                        "and ring mark a broken rule where and when it is broken; the bar below it is time."
                    ),
                    figure_grid(figures, self._left_out),
                ],
            )
        )
        lead = (
            f"{summary['videos']} videos, of which {summary['errors']} could not be scored; "
            f"{summary['levels_without_video']} levels of the data set have no video."
        )
        return page("Scores of videos", sections, lead=lead)


def timeline(verdict: Verdict, frames: int) -> Html:
    """Violations of a video as bars in time, one line a kind, with frames and places as text."""
    if not verdict.violations:
        return Html('<p class="yes">No rule broken.</p>')
    lines = []
    for kind in dict.fromkeys(found.kind for found in verdict.violations):
        runs = _runs(sorted({found.frame for found in verdict.violations if found.kind == kind}))
        places = dict.fromkeys(found.place for found in verdict.violations if found.kind == kind)
        bars = "".join(
            f'<i style="left:{100 * first / frames:.2f}%;width:{100 * (last + 1 - first) / frames:.2f}%"></i>'
            for first, last in runs
        )
        when = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
        where = ", ".join(str(tuple(place)) for place in itertools.islice(places, 4)) + (
            ", ..." if len(places) > 4 else ""
        )
        text = f"{kind}: {'frame' if when.isdigit() else 'frames'} {when} at {where}"
        lines.append(f'<li title="{escape(VIOLATIONS.get(kind, ""))}"><span>{escape(text)}</span><b>{bars}</b></li>')
    return Html(f'<ul class="timeline" aria-label="Broken rules over {frames} frames">{"".join(lines)}</ul>')


def _second_pane(row: Mapping[str, Any], video: np.ndarray, shown: np.ndarray, task: Task, verdict: Verdict) -> Pane:
    """What was read: the track in the frames, or of a robot the way on its floor plan; and the benchmark's metrics."""
    if isinstance(task.level, NavigationLevel) and verdict.navigation is not None:
        found = verdict.navigation
        lines = [
            f"as Target-Bench: score {found.score:.2f}, ADE {found.ade:.2f} m, FDE {found.fde:.2f} m",
            f"misses {100 * found.miss_rate:.0f} %, endpoint {found.soft_endpoint:.2f}, "
            f"approach {found.approach_consistency:.2f}",
        ]
        return Pane(label="Way", frames=plan_frames(task.level, verdict, shown, _SIDE), lines=lines)
    frames = _with_track(video, shown, task, verdict)
    return Pane(label="Track", frames=frames, lines=["as VR-Bench: " + ", ".join(_metrics(row, "vr_bench_"))])


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Runs of consecutive frames as (first, last)."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], frame)
        else:
            runs.append((frame, frame))
    return runs


def _metrics(row: Mapping[str, Any], prefix: str) -> list[str]:
    outcome = "exact match" if row[prefix + "em"] else "success, not exact" if row[prefix + "sr"] else "not solved"
    deviation = row[prefix + "sd"]
    extra = "" if deviation is None else f" SD {show(float(deviation))}"
    return [outcome, f"PR {row[prefix + 'pr']:.2f} MF {row[prefix + 'mf']:.3f}{extra}"]


def _scaled(frames: np.ndarray) -> np.ndarray:
    method = cv2.INTER_NEAREST if frames.shape[1] < _SIDE else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, (_SIDE, _SIDE), interpolation=method) for frame in frames])


def _with_track(video: np.ndarray, shown: np.ndarray, task: Task, verdict: Verdict) -> np.ndarray:
    """The frames with the track so far, what is broken in them, and a bar of time."""
    drawn = _scaled(video[shown])
    points = verdict.track * _SIDE
    broken: dict[int, list] = {}
    for found in verdict.violations:
        broken.setdefault(found.frame, []).append(found.place)
    begin = np.concatenate([[0], shown[:-1] + 1])
    for image, first, frame in zip(drawn, begin, shown, strict=True):
        places = [place for f in range(first, frame + 1) for place in broken.get(f, [])]
        # cv2 draws lines between whole pixels; 3 more bits keep the track smooth.
        for run in _known_runs(points[: frame + 1]):
            line = (run * 8).astype(np.int32)
            cv2.polylines(image, [line], False, _RIM, 4, cv2.LINE_AA, 3)
            cv2.polylines(image, [line], False, _TRACK, 2, cv2.LINE_AA, 3)
        if not np.isnan(points[frame, 0]):
            centre = (int(points[frame, 0] * 8), int(points[frame, 1] * 8))
            cv2.circle(image, centre, 4 * 8, _HERE, -1, cv2.LINE_AA, 3)
            cv2.circle(image, centre, 4 * 8, _RIM, 1, cv2.LINE_AA, 3)
        for place in places:
            x, y = task.level.center(place)
            radius = int(0.45 * task.level.cell_size * _SIDE)
            cv2.circle(image, (int(x * _SIDE), int(y * _SIDE)), max(4, radius), _BROKEN, 2, cv2.LINE_AA)
        if places:
            cv2.rectangle(image, (0, 0), (_SIDE - 1, _SIDE - 1), _BROKEN, 6)
        _draw_bar(image, int(frame), len(video), broken)
    return drawn


def _known_runs(points: np.ndarray) -> list[np.ndarray]:
    """Parts of a track in which the player is seen."""
    known = ~np.isnan(points[:, 0])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]])))
    return [points[first:last] for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _draw_bar(image: np.ndarray, frame: int, frames: int, broken: Mapping[int, list]) -> None:
    image[-_BAR:] = 60
    for bad in broken:
        left, right = int(bad / frames * _SIDE), int(np.ceil((bad + 1) / frames * _SIDE))
        image[-_BAR:, left:right] = _BROKEN
    place = int((frame + 0.5) / frames * _SIDE)
    image[-_BAR:, max(0, place - 1) : place + 2] = 255


def _results(rows: Sequence[Mapping[str, Any]]) -> Html:
    names = {"em": "EM", "sr": "SR", "pr": "PR", "sd": "SD", "mf": "MF"}
    columns = {"family": "Family", "difficulty": "Difficulty", "videos": "Videos", "errors": "Not scored"}
    columns |= names | {f"vr_bench_{name}": f"VR-Bench {title}" for name, title in names.items()}
    rates = {name: percent for name in columns if name.endswith(("em", "sr", "pr", "mf"))}
    return table(
        rows,
        caption="Means over the videos that could be scored: by strict rules, and as VR-Bench defines them",
        columns=columns,
        formats=rates,
        row_headers=2,
    )


def _errors(rows: Sequence[Mapping[str, Any]]) -> Html:
    return table(rows, caption="Why", columns={"video": "Video", "error": "Reason"})
