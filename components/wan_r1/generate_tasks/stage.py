"""Make the data set: plan the levels, then draw and write them shard by shard."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from wan_r1.config import ConfigError
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.plan import Shard, SplitPlan, check_plans, file_rows, plan_split, shards
from wan_r1.progress import Progress
from wan_r1.runtime import StageClock, git_commit
from wan_r1.storage import locations
from wan_r1.tasks.dataset import dataset_sha256, open_data_file, write_tasks
from wan_r1.tasks.schema import SCHEMA_VERSION, SPLITS, DataContractError
from wan_r1.tasks.task import Task, make_task

_PROCESS_ROWS = 2000
"""Rows from which another process is worth the second that it takes to start."""


def run(config: GenerateTasksConfig, *, output: Path, deliver: str = "") -> dict[str, Any]:
    """Write the data set.

    Args:
        config: what to make.
        output: folder for the Parquet files; new, empty, or with finished files of this very data set from a run that
            was cut short, which are kept.
        deliver: place in storage to which each finished file is moved; files that are there are kept as well.

    Returns:
        The stage's summary, with ``rows``, ``rows_by_split``, ``files``, ``kept_files`` (those found finished),
        ``schema_version`` and, unless files are delivered, ``dataset_sha256``.

    Raises:
        ConfigError: if a split cannot have as many different levels, or the folder holds anything else.
        StorageError: if the storage refuses.
    """
    output = Path(output)
    _check_folder(config, output)
    output.mkdir(parents=True, exist_ok=True)
    total = sum(config.levels(split) for split in SPLITS) * len(config.families)
    files = dict(list(file_rows(config).items())[config.shard :: config.shards])
    finished = {Path(uri).name for uri in locations.list_files(deliver)} if deliver else set()
    left = {name for name in files if name not in finished and not (output / name).exists()}
    with StageClock(config.STAGE) as clock, _Workers(config, total if left else 0) as workers:
        if left:
            with Progress(config.STAGE) as progress:
                progress.note(f"planning {total} levels")
                plans = workers.plan()
            check_plans(config, plans)
            todo = [shard for shard in shards(config, plans) if shard.name in left]
            with Progress(config.STAGE, sum(len(shard.attempts) for shard in todo), unit="level") as progress:
                workers.write(todo, output, deliver, progress)
    by_split = Counter[str]()
    for split, rows in files.values():
        by_split[split] += rows
    return {
        **clock.summary(),
        "rows": by_split.total(),
        "rows_by_split": dict(by_split),
        "files": len(files),
        "kept_files": len(files) - len(left),
        "schema_version": SCHEMA_VERSION,
        "config_hash": config.hash,
        **({} if deliver else {"dataset_sha256": dataset_sha256(output)}),
    }


def _check_folder(config: GenerateTasksConfig, output: Path) -> None:
    """Refuse a folder with anything but files of this data set; remove what a run that was cut short left half-made."""
    if not output.exists():
        return
    wrong: Path | None = output if output.is_file() else None
    for path in () if wrong else sorted(output.iterdir()):
        if path.name.endswith(".parquet.unfinished"):
            path.unlink()
        elif not (path.suffix == ".parquet" and _origin(path) == (config.content_hash, git_commit())):
            wrong = path
    if wrong is not None:
        raise ConfigError(
            f"output={str(output)!r} holds {wrong.name}, which is no file of this data set at this commit; give a new "
            "or an empty folder, or the folder of a run with the same parameters to finish that"
        )


def _origin(file: Path) -> tuple[str, str] | None:
    """The config's hash and the commit that a file was made with; ``None`` if it is no file of a data set."""
    try:
        metadata = open_data_file(file).schema_arrow.metadata or {}
    except DataContractError:
        return None
    return metadata.get(b"wan_r1.config_hash", b"").decode(), metadata.get(b"wan_r1.git_commit", b"").decode()


class _Workers:
    """Processes that plan and write; with one worker, this process does it itself."""

    def __init__(self, config: GenerateTasksConfig, rows: int) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._config = config
        count = config.workers or min(cores, 1 + rows // _PROCESS_ROWS)
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            # A forked child of a process with threads (progress, clock) may inherit a held lock; a spawned one cannot.
            context = multiprocessing.get_context("spawn")
            self._written = context.Value("q", 0)
            self._pool = ProcessPoolExecutor(count, context, initializer=_share_counter, initargs=(self._written,))

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def plan(self) -> list[SplitPlan]:
        """The plans of all families and splits that have levels, split by split."""
        config = self._config
        places = [(family, split) for split in SPLITS if config.levels(split) for family in config.families]
        if self._pool is None:
            return [plan_split(config, family, split) for family, split in places]
        return list(self._pool.map(partial(plan_split, config), *zip(*places, strict=True)))

    def write(self, files: list[Shard], output: Path, deliver: str, progress: Progress) -> None:
        """Write all shards, telling the progress how many rows are done."""
        if self._pool is None:
            done = Counter[str]()

            def tell(rows: int) -> None:
                done["rows"] += rows
                progress.update(done["rows"])

            for shard in files:
                _write_shard(self._config, shard, output, deliver, tell)
            return
        pending: set[Future[None]] = {
            self._pool.submit(_write_in_child, self._config, shard, output, deliver) for shard in files
        }
        while pending:
            finished, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            progress.update(self._written.value)


def _write_shard(
    config: GenerateTasksConfig, shard: Shard, output: Path, deliver: str, tell: Callable[[int], None]
) -> None:
    metadata = {
        "wan_r1.config_hash": config.content_hash,
        "wan_r1.git_commit": git_commit(),
        "wan_r1.lossless": str(config.lossless).lower(),
    }
    file = output / shard.name
    write_tasks(_tasks(config, shard, tell), file, lossless=config.lossless, metadata=metadata)
    if deliver:
        locations.upload_file(file, locations.join(deliver, shard.name))
        file.unlink()


def _tasks(config: GenerateTasksConfig, shard: Shard, tell: Callable[[int], None]) -> Iterator[Task]:
    for index, attempt in enumerate(shard.attempts, shard.first):
        difficulty, texture = config.place(shard.split, index)
        yield make_task(
            shard.family,
            difficulty,
            texture,
            seed=config.seed,
            split=shard.split,
            index=index,
            frames=config.frames,
            size=config.height,
            canvas=config.canvas,
            steps_per_frame=config.steps_per_frame,
            fps=config.fps,
            attempt=attempt,
            shape=config.shape,
        )
        tell(1)


_rows_written: Synchronized | None = None
"""In a child process: the counter it shares with its parent. A pool hands such objects over at its start only."""


def _share_counter(counter: Synchronized) -> None:
    global _rows_written
    _rows_written = counter


def _write_in_child(config: GenerateTasksConfig, shard: Shard, output: Path, deliver: str) -> None:
    _write_shard(config, shard, output, deliver, _count_rows)


def _count_rows(rows: int) -> None:
    if _rows_written is not None:
        with _rows_written.get_lock():
            _rows_written.value += rows
