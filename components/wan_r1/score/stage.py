"""Scoring a folder of videos: read, match with levels, verify, write the table and the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wan_r1.progress import Progress
from wan_r1.score.files import VideoFileError, find_videos, read_video
from wan_r1.score.levels import LevelError, Levels, ScoreError, Target, at_size, open_levels
from wan_r1.score.page import ScorePage
from wan_r1.score.summary import summarise
from wan_r1.storage.tables import write_table
from wan_r1.verification import BenchmarkRules, Verdict, verify
from wan_r1.verification.vr_bench import repeat_last

SCHEMA_VERSION = "1"
SCORES_FILE, SUMMARY_FILE, PAGE_FILE = "scores.parquet", "summary.json", "scores.html"
METRICS = ("em", "sr", "pr", "sd", "mf")

_BATCH_BYTES = 128 * 2**20
_BATCH_VIDEOS = 256
_LEAST_LIKENESS = 0.5
"""Share of the given image's background that frame 0 must show; below, the video was made for another image."""

_VIOLATION = pa.struct([("kind", pa.string()), ("frame", pa.int32()), ("place", pa.list_(pa.int32()))])


def _field(name: str, kind: pa.DataType, doc: str, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


SCORE_SCHEMA = pa.schema(
    [
        _field("video", pa.string(), "file, relative to the scored folder", nullable=False),
        _field("status", pa.string(), "ok, or error: then every metric is null", nullable=False),
        _field("error", pa.string(), "why the video could not be scored"),
        _field("level", pa.string(), "the level's id, or its name in VR-Bench"),
        _field("family", pa.string(), "family of the level"),
        _field("difficulty", pa.string(), "easy, medium or hard"),
        _field("texture", pa.string(), "texture or skin of the level"),
        _field("frames", pa.int32(), "frames of the video"),
        _field("em", pa.bool_(), "exact match, strict"),
        _field("sr", pa.bool_(), "success, strict: at rest on the goal at the end, every rule kept"),
        _field("pr", pa.float32(), "precision in [0, 1], strict: share of a shortest path before the first mistake"),
        _field("sd", pa.float32(), "extra length as a share of the shortest path; null without success"),
        _field("mf", pa.float32(), "fidelity in [0, 1]: background unchanged from the given image"),
        _field("vr_bench_em", pa.bool_(), "exact match as VR-Bench defines it"),
        _field("vr_bench_sr", pa.bool_(), "success as VR-Bench defines it"),
        _field("vr_bench_pr", pa.float32(), "precision rate as VR-Bench defines it"),
        _field("vr_bench_sd", pa.float32(), "step deviation as VR-Bench defines it"),
        _field("vr_bench_mf", pa.float32(), "fidelity as VR-Bench defines it"),
        _field("violations", pa.list_(_VIOLATION), "every broken rule: kind, frame, place (row, column)"),
    ],
    metadata={"wan_r1.schema": "video_scores", "wan_r1.schema_version": SCHEMA_VERSION},
)
"""One row a video."""


@dataclass(kw_only=True)
class _Entry:
    """A video on its way: read, matched, judged."""

    name: Path
    video: np.ndarray | None = None
    target: Target | None = None
    verdict: Verdict | None = None
    error: str | None = None


def run(
    *,
    videos: Path,
    dataset: Path,
    output: Path,
    layout: str = "wan-r1",
    benchmark: BenchmarkRules | None = None,
) -> dict[str, Any]:
    """Score videos against the levels they claim to solve.

    A video that cannot be read or matched gets the status ``error`` with the reason, and no metric; it stops nothing.

    Args:
        videos: folder of videos (mp4, mkv, webm, mov, avi, npy), or one of them.
        dataset: the data set, in our layout or VR-Bench's.
        output: folder that receives ``scores.parquet``, ``summary.json`` and ``scores.html``.
        layout: one of `LAYOUTS`.
        benchmark: tolerances of VR-Bench's metrics.

    Returns:
        The summary: counts, and mean metrics over the videos that could be scored.

    Raises:
        ScoreError: if the layout is unknown, the data set is none, or there is no video.
        DataContractError: if a data set in our layout is damaged.
    """
    if not videos.exists():
        raise ScoreError(f"videos={videos} does not exist")
    levels = open_levels(dataset, layout)
    files = find_videos(videos)
    if not files:
        raise ScoreError(f"videos={videos} has no video; expected mp4, mkv, webm, mov, avi or npy files below it")
    root = videos if videos.is_dir() else videos.parent
    rows: list[dict[str, Any]] = []
    found: set[str] = set()
    paths: dict[Path, np.ndarray | None] = {}
    page = ScorePage()
    with Progress("score", len(files), unit="video") as progress:
        for entries in _batches(files, root, levels):
            _judge(entries, benchmark or BenchmarkRules(), paths)
            for entry in entries:
                rows.append(_row(entry))
                found |= {entry.target.key} if entry.target else set()
                page.add(rows[-1], entry.video, entry.target.task if entry.target else None, entry.verdict)
            progress.update(len(rows), errors=sum(row["status"] == "error" for row in rows))
    summary = {
        "videos": len(rows),
        "errors": sum(row["status"] == "error" for row in rows),
        "levels_without_video": levels.missing(found),
        "layout": layout,
        "rows": summarise(rows),
    }
    output.mkdir(parents=True, exist_ok=True)
    write_table(rows, output / SCORES_FILE, SCORE_SCHEMA)
    (output / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")
    (output / PAGE_FILE).write_text(page.html(summary, rows))
    return summary


def _batches(files: Sequence[Path], root: Path, levels: Levels) -> Iterator[list[_Entry]]:
    """Videos read and matched, some at a time, so that memory holds few of them."""
    batch: list[_Entry] = []
    held = 0
    for file in files:
        entry = _read(file, root, levels)
        size = 0 if entry.video is None else entry.video.nbytes
        if batch and (held + size > _BATCH_BYTES or len(batch) == _BATCH_VIDEOS):
            yield batch
            batch, held = [], 0
        batch.append(entry)
        held += size
    yield batch


def _read(file: Path, root: Path, levels: Levels) -> _Entry:
    entry = _Entry(name=file.relative_to(root))
    try:
        video = read_video(file)
        entry.target = levels.find(entry.name, video)
        entry.video = video
    except (VideoFileError, LevelError) as error:
        entry.error = str(error)
    return entry


def _judge(entries: list[_Entry], benchmark: BenchmarkRules, paths: dict[Path, np.ndarray | None]) -> None:
    """Set the verdict or the error of each entry; ``paths`` keeps the tracks of references."""
    readable = [entry for entry in entries if entry.video is not None and entry.target is not None]
    verdicts = verify(
        [entry.video for entry in readable],  # type: ignore[misc]
        [entry.target.task for entry in readable],  # type: ignore[union-attr]
        vr_bench=True,
        any_length=True,
        benchmark=benchmark,
        references=[_references(entry.target, paths) for entry in readable],  # type: ignore[arg-type]
    )
    for entry, verdict in zip(readable, verdicts, strict=True):
        entry.error = verdict.error
        if verdict.error is None and verdict.first_frame < _LEAST_LIKENESS:
            entry.error = (
                f"frame 0 is not the given image: {100 * verdict.first_frame:.0f} % of the background is the same, of "
                f"at least {100 * _LEAST_LIKENESS:.0f} %; was the video made for another level or texture?"
            )
        entry.verdict = verdict if entry.error is None else None


def _references(target: Target, paths: dict[Path, np.ndarray | None]) -> list[np.ndarray] | None:
    """The tracks of a level's reference videos; `None` (the level's own path) if there is none that can be read."""
    for file in target.references:
        if file not in paths:
            paths[file] = _track(file, target)
    tracks = [track for file in target.references if (track := paths[file]) is not None]
    return tracks or None


def _track(file: Path, target: Target) -> np.ndarray | None:
    try:
        video = read_video(file)
    except VideoFileError:
        return None
    task = at_size(target.task, video)
    # As the benchmark draws them, references may be faster or slower than the level's 12 frames a cell.
    (verdict,) = verify([video], [replace(task, frames=len(video))], any_length=True)
    return None if verdict.error else repeat_last(verdict.track, task.level.center(task.level.start))


def _row(entry: _Entry) -> dict[str, Any]:
    task = entry.target.task if entry.target else None
    row: dict[str, Any] = {
        "video": entry.name.as_posix(),
        "status": "error" if entry.error else "ok",
        "error": entry.error,
        "level": task.level_id if task else None,
        "family": task.family if task else None,
        "difficulty": task.difficulty if task else None,
        "texture": task.texture if task else None,
        "frames": len(entry.video) if entry.video is not None and entry.video.ndim else None,
        "violations": None,
    }
    for name in METRICS:
        for column in (name, f"vr_bench_{name}"):
            row[column] = getattr(entry.verdict, column) if entry.verdict else None
    if entry.verdict:
        row["violations"] = [
            {"kind": found.kind, "frame": found.frame, "place": list(found.place)} for found in entry.verdict.violations
        ]
    return row
