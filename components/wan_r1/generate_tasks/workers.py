"""Processes that find levels and write files, so that all cores of a task are used."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from functools import partial
from itertools import repeat
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.plan import Shard, SplitPlan, level_ids, plan_split
from wan_r1.generate_tasks.shared_plan import Pair
from wan_r1.runtime import git_commit
from wan_r1.storage import locations
from wan_r1.tasks.dataset import write_tasks
from wan_r1.tasks.task import Task, make_task

_PROCESS_ROWS = 2000
"""Rows from which another process is worth the second that it takes to start."""
_SMALL = 16_384
"""Up to so many levels a split is planned by one process, beside others; larger ones one by one, by all processes."""
_PORTION = 64
"""Levels that a process finds at a time."""


class Workers:
    """Processes that plan and write; with one worker, this process does it itself.

    Args:
        config: what to make; ``workers`` is the number of processes.
        rows: rows that are to be made, which decide how many processes are worth their start.
    """

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

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def ids(self, config: GenerateTasksConfig, family: str, split: str, places: Sequence[int]) -> NDArray[np.uint64]:
        """`level_ids`, by all processes."""
        if self._pool is None or len(places) <= _PORTION:
            return level_ids(config, family, split, places)
        portions = [places[first : first + _PORTION] for first in range(0, len(places), _PORTION)]
        return np.concatenate(
            list(self._pool.map(level_ids, repeat(config), repeat(family), repeat(split), portions)), dtype=np.uint64
        )

    def plan(self, pairs: Sequence[Pair], known: dict[Pair, NDArray[np.uint64]]) -> list[SplitPlan]:
        """The plans of families and splits; ``known`` as of `plan_split`, for those of which something is known."""
        config = self._config
        if self._pool is None:
            return [plan_split(config, *pair, known.get(pair)) for pair in pairs]
        small = {
            pair: self._pool.submit(plan_split, config, *pair, known.get(pair))
            for pair in pairs
            if config.levels(pair[1]) <= _SMALL
        }
        large = {pair: plan_split(config, *pair, known.get(pair), self.ids) for pair in pairs if pair not in small}
        return [large[pair] if pair in large else small[pair].result() for pair in pairs]

    def write(
        self, todo: Sequence[tuple[Shard, bytes]], output: Path, deliver_uri: str, tell: Callable[[int], None]
    ) -> None:
        """Write files.

        Args:
            todo: the files, each with the attempts at its places.
            output: where they are written.
            deliver_uri: place in storage to which each is moved, or nothing.
            tell: told how many rows are written, of all.
        """
        write = partial(_write_shard, self._config, output=output, deliver_uri=deliver_uri)
        if self._pool is None:
            counter = _Counter(tell)
            for shard, attempts in todo:
                write(shard, attempts, written=counter)
            return
        pending: set[Future[None]] = {self._pool.submit(write, shard, attempts) for shard, attempts in todo}
        while pending:
            finished, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            tell(self._written.value)


class _Counter:
    """Counts rows and tells each time."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._rows = tell, 0

    def __call__(self) -> None:
        self._rows += 1
        self._tell(self._rows)


def _write_shard(
    config: GenerateTasksConfig,
    shard: Shard,
    attempts: bytes,
    *,
    output: Path,
    deliver_uri: str,
    written: Callable[[], None] | None = None,
) -> None:
    metadata = {
        "wan_r1.config_hash": config.content_hash,
        "wan_r1.git_commit": git_commit(),
        "wan_r1.lossless": str(config.lossless).lower(),
    }
    file = output / shard.name
    write_tasks(
        _tasks(config, shard, attempts, written or _count_row), file, lossless=config.lossless, metadata=metadata
    )
    if deliver_uri:
        locations.upload_file(file, locations.join(deliver_uri, shard.name))
        file.unlink()


def _tasks(config: GenerateTasksConfig, shard: Shard, attempts: bytes, written: Callable[[], None]) -> Iterator[Task]:
    for index, attempt in zip(shard.places, attempts, strict=True):
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
        written()


_rows_written: Synchronized | None = None
"""In a child process: the counter it shares with its parent. A pool hands such objects over at its start only."""


def _share_counter(counter: Synchronized) -> None:
    global _rows_written
    _rows_written = counter


def _count_row() -> None:
    if _rows_written is not None:
        with _rows_written.get_lock():
            _rows_written.value += 1
