"""Our levels of navigation as segments in Target-Bench's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.progress import Progress
from wan_r1.task_tools.target_bench import HEADING, Segment, write_segment
from wan_r1.tasks.dataset import data_files, decode_task, open_data_file, read_rows
from wan_r1.tasks.families.navigation import FAMILY, start_pose
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.robot import ROBOT_RADIUS
from wan_r1.tasks.schema import SPLITS, DataContractError
from wan_r1.tasks.task import Task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.tasks.video import encode_video

_BACK = 0.3
"""Metres from the start at which the first frame is taken."""


def run(*, dataset: Path, output: Path, split: str | None = None) -> dict[str, Any]:
    """Write the folders.

    Args:
        dataset: folder of a data set, or one of its files.
        output: folder to write, new or empty.
        split: only this split.

    Returns:
        ``levels`` written, and ``left_out``: levels of other families.

    Raises:
        ConfigError: if the split is unknown, or the output holds anything.
        DataContractError: naming the file and the row that cannot be written, or if there is no level to write.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(f"output={str(output)!r} is not empty; give a new or an empty folder")
    files = data_files(dataset)
    total = sum(open_data_file(file).metadata.num_rows for file in files)
    written = left_out = done = 0
    with Progress("export", total, unit="level") as progress:
        for file in files:
            for row, values in read_rows(file):
                done += 1
                progress.update(done)
                if split not in (None, values["split"]):
                    continue
                task = decode_task(values, f"{file}, row {row}")
                if not isinstance(task.level, NavigationLevel) or task.texture not in TEXTURES:
                    left_out += 1
                    continue
                _write(output, task, task.level)
                written += 1
    if not written:
        raise DataContractError(f"{dataset} has no level of the family navigation of our own; nothing to export")
    return {"levels": written, "left_out": left_out}


def _write(root: Path, task: Task, level: NavigationLevel) -> None:
    # The benchmark's scale comes from a picture that was taken before, at a known distance.
    before = _seen_before(level)
    look = TEXTURES[task.texture]
    video = task.video if task.video is not None else FAMILY.render(level, look, task.trajectory, task.height)
    first = FAMILY.render(level, look, before[None], task.height)
    start = start_pose(level)
    segment = Segment(
        name=f"sample_{task.level_id}",
        caption=task.prompt,
        first_frame=first[0],
        current_frame=task.first_frame,
        video=video,
        path=in_view_of(task.trajectory[:, :2].astype(np.float64), start),
        displacement=float(np.hypot(*(before[:2] - start[:2]))),
    )
    lossless = task.height % 2 == 1
    encoded = encode_video(np.concatenate([first, video]), task.fps, lossless)
    extra = {
        "target": level.goal_object.noun,
        "is_explicit": int(level.request == "explicit"),
        "difficulty": task.difficulty,
        "split": task.split,
    }
    write_segment(root, segment, encoded, 1, extra)


def _seen_before(level: NavigationLevel) -> NDArray[np.float64]:
    """A pose near the start with the same heading: behind it if there is room, else where there is most."""
    start = start_pose(level)
    turns = start[2] + np.pi + np.array([0, 1, -1, 2, -2, 3, -3, 4]) * np.pi / 4
    poses = np.stack([start[0] + _BACK * np.cos(turns), start[1] + _BACK * np.sin(turns), np.full(8, start[2])], axis=1)
    clear = level.clearance(poses[:, :2])
    return poses[0] if clear[0] >= ROBOT_RADIUS else poses[int(clear.argmax())]


def in_view_of(path: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """A path ``[N, 2]`` as it is from a pose: that is at (0, 0) and looks along y."""
    turn = HEADING - pose[2]
    cos, sin = np.cos(turn), np.sin(turn)
    x, y = (path - pose[:2]).T
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)
