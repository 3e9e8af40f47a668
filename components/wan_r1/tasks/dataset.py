"""The data set on disk: a folder of Parquet files under `TASK_SCHEMA`, written and read row group by row group."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.level import Level
from wan_r1.tasks.schema import SPLITS, TASK_SCHEMA, DataContractError, schema_faults
from wan_r1.tasks.task import Task, make_level, make_task, room_for_steps, split_of
from wan_r1.tasks.video import MediaError, decode_image, decode_video, encode_image, encode_video

__all__ = [
    "Task",
    "data_files",
    "dataset_sha256",
    "make_level",
    "make_task",
    "read_rows",
    "read_tasks",
    "room_for_steps",
    "split_of",
    "write_rows",
    "write_tasks",
]

_ROW_GROUP = 64
"""Rows that are in memory together; a lossless video of 81 frames at 512 px is about a tenth of a megabyte."""

_MEDIA = ("first_frame", "video")


def write_tasks(
    tasks: Iterable[Task],
    path: Path | str,
    *,
    lossless: bool = True,
    metadata: Mapping[str, str] | None = None,
    row_group: int = _ROW_GROUP,
) -> int:
    """Write one Parquet file, whole or not at all, holding one row group in memory.

    Args:
        tasks: the rows in order; an iterator is consumed as it is written.
        path: the file, ending in ``.parquet``; its folder is made.
        lossless: see `wan_r1.tasks.video.encode_video`.
        metadata: what to add to the schema's metadata, such as the commit and the config's hash.
        row_group: rows per row group.

    Returns:
        Rows written.
    """
    return write_rows((_encode(task, lossless) for task in tasks), path, metadata=metadata, row_group=row_group)


def write_rows(
    values: Iterable[Mapping[str, Any]],
    path: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    row_group: int = _ROW_GROUP,
) -> int:
    """`write_tasks` for rows that are encoded already.

    Args:
        values: the rows' values by column, media as ``{"bytes": ..., "path": None}``.
        path: as `write_tasks`, like ``metadata`` and ``row_group``.

    Returns:
        Rows written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = TASK_SCHEMA.with_metadata({**(TASK_SCHEMA.metadata or {}), **(metadata or {})})
    small = [name for name in TASK_SCHEMA.names if name not in _MEDIA]
    unfinished = path.with_name(path.name + ".unfinished")
    rows = 0
    values = iter(values)
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd", use_dictionary=small) as writer:
            while group := list(itertools.islice(values, row_group)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=row_group)
                rows += len(group)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def read_tasks(
    folder: Path | str,
    *,
    split: str | None = None,
    family: str | None = None,
    limit: int | None = None,
    videos: bool = True,
) -> list[Task]:
    """Tasks of a data set, ordered by (index, family, split), so that a limit takes the same from each family.

    Args:
        folder: the data set's folder, or one of its files.
        split: only this split.
        family: only this family.
        limit: at most this many tasks.
        videos: whether to decode the videos; if not, ``video`` is ``None``.

    Raises:
        ConfigError: if the split or the family is unknown.
        DataContractError: naming the file that is missing, damaged or of another schema or version, or the bad row.
    """
    places = _places(folder, split, family)[:limit]
    return _read(places, videos)


def iterate_tasks(folder: Path | str, *, split: str, part: int = 64) -> Iterator[Task]:
    """The tasks of a split with their videos, in the order of `read_tasks`, of which ``part`` are in memory at a time.

    Raises:
        As `read_tasks`.
    """
    places = _places(folder, split, None)
    for start in range(0, len(places), part):
        yield from _read(places[start : start + part], videos=True)


def _places(folder: Path | str, split: str | None, family: str | None) -> list[tuple[Path, int]]:
    """File and row of the tasks of a data set, ordered by (index, family, split)."""
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    if family is not None and family not in FAMILIES:
        raise ConfigError(f"family={family!r} is unknown; allowed: {', '.join(sorted(FAMILIES))}")
    wanted: list[tuple[int, str, str, Path, int]] = []
    for file in data_files(folder):
        keys = open_data_file(file).read(columns=["index", "family", "split"]).to_pydict()
        for row, (index, kind, part) in enumerate(zip(*keys.values(), strict=True)):
            if split in (None, part) and family in (None, kind):
                wanted.append((index, kind, part, file, row))
    wanted.sort()
    return [(file, row) for _, _, _, file, row in wanted]


def _read(places: list[tuple[Path, int]], videos: bool) -> list[Task]:
    """The tasks at these places."""
    found: dict[tuple[Path, int], Task] = {}
    by_file: dict[Path, list[int]] = {}
    for file, row in places:
        by_file.setdefault(file, []).append(row)
    for file, rows in by_file.items():
        for row, values in read_rows(file, sorted(rows), videos=videos):
            found[file, row] = decode_task(values, f"{file}, row {row}")
    return [found[place] for place in places]


def data_files(folder: Path | str) -> list[Path]:
    """The Parquet files of a data set in the order of their names.

    Raises:
        DataContractError: if there is none.
    """
    path = Path(folder)
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise DataContractError(f"{path} has no Parquet file; it is not a data set that generate_tasks has written")
    return files


def open_data_file(file: Path) -> pq.ParquetFile:
    """A Parquet file of the data set, its schema checked.

    Raises:
        DataContractError: naming the file if it is damaged or of another schema or version.
    """
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataContractError(f"{file} is no readable Parquet file: {error}") from error
    faults = schema_faults(parquet.schema_arrow)
    if faults:
        raise DataContractError(f"{file}: {'; '.join(faults)}. Make the data set again with this version")
    return parquet


def dataset_sha256(folder: Path | str) -> str:
    """SHA-256 over the names and contents of a data set's files: equal for equal data, wherever it lies.

    Raises:
        DataContractError: if the folder has no data.
    """
    total = hashlib.sha256()
    root = Path(folder)
    for file in data_files(root):
        name = file.name if root.is_file() else file.relative_to(root).as_posix()
        with file.open("rb") as stream:
            total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def decode_task(values: Mapping[str, Any], place: str) -> Task:
    """A row as a `Task`.

    Args:
        values: the row's values by column; without ``video`` the task has none.
        place: the file and the row, for messages.

    Raises:
        DataContractError: naming the place if a picture, a video or the state cannot be read.
    """
    try:
        media = values.get("video")
        return Task(
            **{name: values[name] for name in ("level_id", "family", "difficulty", "texture", "split", "index")},
            prompt=values["prompt"],
            first_frame=decode_image(values["first_frame"]["bytes"]),
            video=decode_video(media["bytes"]) if media else None,
            frames=values["frames"],
            height=values["height"],
            width=values["width"],
            fps=values["fps"],
            level=decode_level(values["family"], values["state"]),
            solution=tuple(tuple(place) for place in values["solution"]),
            trajectory=_trajectory(values["trajectory"]),
        )
    except (MediaError, ValueError, TypeError) as error:
        raise DataContractError(f"{place}, level {values['level_id']}: {error}") from error


def _trajectory(points: list[list[float]]) -> NDArray[np.float32]:
    found = np.array(points, np.float32)
    return found if found.ndim == 2 else found.reshape(-1, 2)


def decode_level(family: str, state: str) -> Level:
    """The level of a row.

    Raises:
        ValueError: if the family is unknown or the state describes none of its levels.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} is unknown; allowed: {', '.join(sorted(FAMILIES))}")
    values = json.loads(state)
    if not isinstance(values, dict):
        raise ValueError(f"level state is {type(values).__name__}; expected an object")
    return FAMILIES[family].from_state(values)


def _encode(task: Task, lossless: bool) -> dict[str, Any]:
    video = None if task.video is None else {"bytes": encode_video(task.video, task.fps, lossless), "path": None}
    solution = task.level.solve()
    return {
        "level_id": task.level_id,
        "family": task.family,
        "difficulty": task.difficulty,
        "texture": task.texture,
        "split": task.split,
        "index": task.index,
        "prompt": task.prompt,
        "first_frame": {"bytes": encode_image(task.first_frame), "path": None},
        "video": video,
        "frames": task.frames,
        "height": task.height,
        "width": task.width,
        "fps": task.fps,
        "state": json.dumps(task.level.to_state(), separators=(",", ":")),
        "solution": [list(cell) for cell in task.solution],
        "steps": solution.steps,
        "shortest_solutions": solution.count,
        "trajectory": task.trajectory.tolist(),
    }


def read_rows(
    file: Path, rows: Sequence[int] | None = None, *, videos: bool = True
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a file with their numbers, as they are stored, one row group in memory at a time.

    Args:
        file: a Parquet file of a data set.
        rows: numbers of the rows, ascending; ``None`` for all.
        videos: whether to read the column ``video``.

    Raises:
        DataContractError: naming the file if it is damaged or of another schema or version.
    """
    parquet = open_data_file(file)
    columns = [name for name in TASK_SCHEMA.names if videos or name != "video"]
    first = 0
    for group in range(parquet.num_row_groups):
        last = first + parquet.metadata.row_group(group).num_rows
        inside = range(first, last) if rows is None else [row for row in rows if first <= row < last]
        if inside:
            table = parquet.read_row_group(group, columns=columns)
            if rows is not None:
                table = table.take([row - first for row in inside])
            yield from zip(inside, table.to_pylist(), strict=True)
        first = last
