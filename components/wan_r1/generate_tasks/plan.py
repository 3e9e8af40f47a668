"""Which level stands at which place, without drawing any picture: no level twice, whatever is made where.

The level at a place is a pure function of (seed, family, split, index, attempt). Splits cannot share a level, since a
layout's hash decides its split (`wan_r1.tasks.task.split_of`). Within a split, places are filled in the order of their
index, and a place takes its first attempt that no earlier place has. So the plan is the same for any number of shards
and processes.

Whether a place needs another attempt depends on the ids of all places before it, but finding the first attempt's id,
which is nearly all the work, does not: ids can be made anywhere, in any order, and be shared (`wan_r1.generate_tasks
.shared_plan`). A plan takes some 30 bytes a level while it is made, and one when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import make_level

_ATTEMPTS = 200
"""Attempts at a place before the split counts as full: enough while one draw in forty is a new level."""

_BLOCKS = (256, 16_384)
"""Places that are filled together, at first and later: few at first, so that a split of few levels is soon full."""


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The levels of a family in a split: the attempt at each place, a byte each; fewer places than asked for if there
    are no more levels."""

    family: str
    split: str
    attempts: bytes


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive places of a family in a split that go in one file."""

    name: str
    family: str
    split: str
    places: range


def data_shards(config: GenerateTasksConfig) -> list[Shard]:
    """The files of the data set, in order, whoever makes which."""
    found = []
    for split in SPLITS:
        levels = config.levels(split)
        starts = range(0, levels, config.shard_rows)
        for family in config.families:
            for number, first in enumerate(starts):
                name = f"{split}-{family}-{number:05d}-of-{len(starts):05d}.parquet"
                places = range(first, min(first + config.shard_rows, levels))
                found.append(Shard(name=name, family=family, split=split, places=places))
    return found


def level_ids(
    config: GenerateTasksConfig, family: str, split: str, places: Sequence[int], attempt: int = 0
) -> NDArray[np.uint64]:
    """Content hashes of the levels that an attempt at these places gives, as whole numbers."""
    found = np.empty(len(places), np.uint64)
    for number, index in enumerate(places):
        level = make_level(
            family,
            config.place(split, index)[0],
            seed=config.seed,
            split=split,
            index=index,
            canvas=config.canvas,
            max_steps=config.max_steps,
            attempt=attempt,
            shape=config.shape,
        )
        found[number] = int(level.level_id, 16)
    return found


def plan_split(
    config: GenerateTasksConfig,
    family: str,
    split: str,
    known: NDArray[np.uint64] | None = None,
    compute: Callable[[GenerateTasksConfig, str, str, Sequence[int]], NDArray[np.uint64]] = level_ids,
) -> SplitPlan:
    """Fill the places of a family in a split in order, until they are full or there are no more levels.

    Args:
        config: what to make.
        family: the family.
        split: the split.
        known: the id of each place's first attempt where it is known, else 0. The id of the level that the place has
            in the end does as well; the plan then says 0 for this place, whose level is made already.
        compute: `level_ids`, or the same by many processes.
    """
    levels = config.levels(split)
    taken, attempts = _Taken(), bytearray()
    while (first := len(attempts)) < levels:
        last = min(levels, first + min(max(_BLOCKS[0], first), _BLOCKS[1]))
        ids = np.zeros(last - first, np.uint64) if known is None else known[first:last].copy()
        missing = np.flatnonzero(ids == 0)
        if len(missing):
            ids[missing] = compute(config, family, split, (first + missing).tolist())

        def again(number: int, attempt: int, first: int = first) -> int:
            return int(level_ids(config, family, split, [first + number], attempt)[0])

        filled = taken.fill(ids, again)
        attempts += filled
        if len(filled) < last - first:
            break
    return SplitPlan(family=family, split=split, attempts=bytes(attempts))


class _Taken:
    """Ids of the levels of all places so far, 8 bytes each."""

    def __init__(self) -> None:
        self._ids = np.empty(0, np.uint64)

    def fill(self, ids: NDArray[np.uint64], again: Callable[[int, int], int]) -> bytes:
        """The attempts with which the next places get levels that no place before has.

        Args:
            ids: ids of the places' first attempts.
            again: the id of a further attempt, by the place's number among these and the attempt.

        Returns:
            A byte for each place, up to the first one that gets none.
        """
        held = self._holds(ids)
        if not held.any() and len(np.unique(ids)) == len(ids):
            self._keep(ids)
            return bytes(len(ids))
        here: set[int] = set()
        filled = bytearray()
        for number, (one, old) in enumerate(zip(ids.tolist(), held.tolist(), strict=True)):
            attempt = 0
            while (old or one in here) and attempt < _ATTEMPTS - 1:
                attempt += 1
                one = again(number, attempt)
                old = bool(self._holds(np.array([one], np.uint64))[0])
            if old or one in here:
                break
            here.add(one)
            filled.append(attempt)
        self._keep(np.array(list(here), np.uint64))
        return bytes(filled)

    def _keep(self, ids: NDArray[np.uint64]) -> None:
        self._ids = np.sort(np.concatenate([self._ids, ids]), kind="stable")

    def _holds(self, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not len(self._ids):
            return np.zeros(len(ids), bool)
        places = np.searchsorted(self._ids, ids).clip(max=len(self._ids) - 1)
        return self._ids[places] == ids


def check_plans(config: GenerateTasksConfig, plans: Iterable[SplitPlan]) -> None:
    """Refuse a count that some family cannot reach, with one that every family can.

    Raises:
        ConfigError: naming the parameter, the family and the count.
    """
    plans = list(plans)
    for split in SPLITS:
        short = [plan for plan in plans if plan.split == split and len(plan.attempts) < config.levels(split)]
        if short:
            least = min(short, key=lambda plan: len(plan.attempts))
            raise ConfigError(
                f"tasks_{split}_levels={config.levels(split)} is more than the family {least.family!r} has different "
                f"levels for {', '.join(config.difficulties(split))} on tasks_canvas={config.canvas}; use at most "
                f"{len(least.attempts)}, or a larger canvas"
            )
