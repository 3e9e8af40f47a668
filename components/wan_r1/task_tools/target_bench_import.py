"""Target-Bench's segments as our table, held against the same contract as our own; what breaks it is listed by file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.progress import Progress
from wan_r1.runtime import git_commit
from wan_r1.task_tools.target_bench import HEADING, Segment, SegmentError, read_segment, segment_folders
from wan_r1.tasks.dataset import write_rows
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.schema import SPLITS, TASK_SCHEMA, DataContractError
from wan_r1.tasks.textures import RECORDED
from wan_r1.tasks.video import encode_image, encode_video
from wan_r1.validate_tasks import ValidateTasksConfig
from wan_r1.validate_tasks.contract import check_rows
from wan_r1.validate_tasks.facts import row_facts
from wan_r1.verification.navigation import resample

FAULTS_FILE = "import.json"
_FPS = 25.0
"""Frames per second of the benchmark's videos."""
_LARGEST = 1024
_DIFFICULTIES = ((3.0, "easy"), (6.0, "medium"), (np.inf, "hard"))
"""The benchmark has no difficulties: segments are sorted by their length in metres."""
_LARGE = ("first_frame", "video", "state", "solution", "trajectory")


def run(
    *, source: Path, output: Path, split: str | None = None, size: int | None = None, frames: int | None = None
) -> dict[str, Any]:
    """Write the segments that keep the contract as a Parquet file, and a list of faults, ``import.json``.

    Args:
        source: folder in Target-Bench's layout.
        output: folder to write, new or empty.
        split: split of all rows; by default `test`.
        size: pixels to bring the larger side to, 32 to 1024; by default pictures stay as they are.
        frames: frames, 4k + 1, to bring videos to; by default the most that a video has.

    Returns:
        ``levels`` found, ``rows`` written, ``rows_by_split``, and ``faults``: ``file``, ``rule``, ``found`` of each.

    Raises:
        ConfigError: if a value cannot work, or the output holds anything.
        DataContractError: if there is no segment at all, or none that can be kept.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    if frames is not None and (frames < 5 or frames % 4 != 1):
        raise ConfigError(f"frames={frames} is not allowed; expected 4k + 1 from 5 on, such as 121")
    if size is not None and not 32 <= size <= _LARGEST:
        raise ConfigError(f"size={size} is not allowed; expected 32 to {_LARGEST} px")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(f"output={str(output)!r} is not empty; give a new or an empty folder")
    folders = segment_folders(source)
    if not folders:
        raise DataContractError(
            f"{source} has no <segment>/<segment>_metadata.json below it; give a folder in Target-Bench's layout"
        )
    rows: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    faults: list[dict[str, str]] = []
    with Progress("import", len(folders), unit="segment") as progress:
        for number, folder in enumerate(folders, 1):
            name = folder.relative_to(source).as_posix()
            try:
                values = _row(read_segment(folder), split or "test", len(rows), size, frames)
            except (SegmentError, ValueError) as error:
                rule = error.rule if isinstance(error, SegmentError) else "state_readable"
                faults.append({"file": name, "rule": rule, "found": str(error)})
            else:
                small = {column: values[column] for column in TASK_SCHEMA.names if column not in _LARGE}
                lines.append({"file": name, "row": None, **small, **row_facts(values, lossless=False)})
                rows.append(values)
            progress.update(number, faults=len(faults))
    kept = _kept(lines, faults)
    output.mkdir(parents=True, exist_ok=True)
    result = {
        "levels": len(folders),
        "rows": len(kept),
        "rows_by_split": {split or "test": len(kept)},
        "faults": faults,
    }
    (output / FAULTS_FILE).write_text(json.dumps(result, indent=1) + "\n")
    if not kept:
        first = faults[0]
        raise DataContractError(
            f"none of the {len(folders)} segments of {source} keeps the contract; {output / FAULTS_FILE} lists why, "
            f"first {first['file']} breaks the rule {first['rule']!r}: {first['found']}"
        )
    metadata = {"wan_r1.source": "target-bench", "wan_r1.git_commit": git_commit(), "wan_r1.lossless": "false"}
    numbered = ({**rows[row], "index": index} for index, row in enumerate(kept))
    write_rows(
        numbered, output / f"{split or 'test'}-navigation-00000-of-00001.parquet", metadata=metadata, row_group=8
    )
    return result


def _kept(lines: list[dict[str, Any]], faults: list[dict[str, str]]) -> list[int]:
    """Numbers of the rows that keep the contract; faults of the others are added."""
    if not lines:
        return []
    table = pd.DataFrame(lines).assign(layout_in_one_split=True)
    for column in table.columns:
        if table[column].dtype == bool:
            table[column] = table[column].astype(object)
    numbers = {line["file"]: number for number, line in enumerate(lines)}
    broken: set[int] = set()
    for rule in check_rows(table, ValidateTasksConfig(splits=(lines[0]["split"],), balance=0)).broken:
        for place in rule.broken:
            faults.append({"file": place["file"], "rule": rule.name, "found": place["notes"] or rule.text})
            broken.add(numbers[place["file"]])
        if not rule.broken:
            faults.append({"file": "", "rule": rule.name, "found": f"{rule.text}; found {rule.found}"})
    return [number for number in range(len(lines)) if number not in broken]


def _row(segment: Segment, split: str, index: int, size: int | None, frames: int | None) -> dict[str, Any]:
    """A segment as a row of our table."""
    count = frames or 4 * ((len(segment.video) - 1) // 4) + 1
    chosen = np.rint(np.linspace(0, len(segment.video) - 1, count)).astype(int)
    video = np.stack([_sized(segment.video[frame], size) for frame in chosen])
    centimetres = np.rint(100 * segment.path).astype(int).tolist()
    path = [tuple(place) for k, place in enumerate(centimetres) if not k or place != centimetres[k - 1]]
    level = RecordedLevel(family="navigation", segment=segment.name, caption=segment.caption, path=tuple(path))
    poses = recorded_poses(segment.path, count)
    length = float(np.hypot(*np.diff(segment.path, axis=0).T).sum())
    return {
        "level_id": level.level_id,
        "family": "navigation",
        "difficulty": next(name for limit, name in _DIFFICULTIES if length <= limit),
        "texture": RECORDED,
        "split": split,
        "index": index,
        "prompt": segment.caption,
        "first_frame": {"bytes": encode_image(_sized(segment.current_frame, size)), "path": None},
        "video": None if split == "prompts" else {"bytes": encode_video(video, _FPS, False), "path": None},
        "frames": count,
        "height": video.shape[1],
        "width": video.shape[2],
        "fps": _FPS,
        "state": json.dumps(level.to_state(), separators=(",", ":")),
        "solution": [list(place) for place in level.path],
        "steps": len(level.path) - 1,
        "shortest_solutions": 1,
        "trajectory": poses.tolist(),
    }


def recorded_poses(path: NDArray[np.float64], frames: int) -> NDArray[np.float32]:
    """Poses (x, y, heading) at even times along a path, ``[F, 3]``; headings are the path's, none being recorded."""
    places = resample(path, frames)
    ahead = np.diff(resample(path, frames + 1), axis=0)
    moving = np.hypot(*ahead.T) > 0.01
    heading = np.where(moving, np.arctan2(ahead[:, 1], ahead[:, 0]), np.nan)
    last = HEADING
    for frame, value in enumerate(heading):
        last = heading[frame] = last if np.isnan(value) else float(value)
    return np.concatenate([places, np.unwrap(heading)[:, None]], axis=1).astype(np.float32)


def _sized(picture: NDArray[np.uint8], size: int | None) -> NDArray[np.uint8]:
    """A picture with ``size`` pixels on its larger side, both sides even as common H.264 needs them."""
    height, width, _ = picture.shape
    scale = 1.0 if size is None else size / max(height, width)
    high, wide = (max(2, 2 * round(side * scale / 2)) for side in (height, width))
    if (high, wide) == (height, width):
        return picture
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (wide, high), interpolation=method), np.uint8)
