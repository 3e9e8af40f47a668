"""Which level stands at which place, without drawing any picture: no level twice, whatever is made where.

The level at a place is a pure function of (seed, family, split, index, attempt). Splits cannot share a level, since a
layout's hash decides its split (`wan_r1.tasks.task.split_of`). Within a split, places are filled in the order of their
index, and a place takes its first attempt that no earlier place has. So the plan is the same for any number of shards
and processes, and a shard needs nothing but its part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wan_r1.config import ConfigError
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import make_level

_ATTEMPTS = 200
"""Attempts at a place before the split counts as full: enough while one draw in forty is a new level."""


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The levels of a family in a split: the attempt at each place, fewer than asked for if there are no more."""

    family: str
    split: str
    attempts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive places of a family in a split that go in one file."""

    name: str
    family: str
    split: str
    first: int
    attempts: tuple[int, ...]


def plan_split(config: GenerateTasksConfig, family: str, split: str) -> SplitPlan:
    """Fill the places of a family in a split in order, until they are full or there are no more levels."""
    taken: set[str] = set()
    attempts: list[int] = []
    for index in range(config.levels(split)):
        difficulty, _ = config.place(split, index)
        for attempt in range(_ATTEMPTS):
            level = make_level(
                family,
                difficulty,
                seed=config.seed,
                split=split,
                index=index,
                canvas=config.canvas,
                max_steps=config.max_steps,
                attempt=attempt,
                shape=config.shape,
            )
            if level.level_id not in taken:
                break
        else:
            break
        taken.add(level.level_id)
        attempts.append(attempt)
    return SplitPlan(family=family, split=split, attempts=tuple(attempts))


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


def file_rows(config: GenerateTasksConfig) -> dict[str, tuple[str, int]]:
    """The data set's files by name, in order, whoever makes which: the split and the rows of each."""
    found = {}
    for split in SPLITS:
        starts = range(0, config.levels(split), config.shard_rows)
        for family in config.families:
            for number, first in enumerate(starts):
                rows = min(config.shard_rows, config.levels(split) - first)
                found[_file_name(split, family, number, len(starts))] = (split, rows)
    return found


def _file_name(split: str, family: str, number: int, files: int) -> str:
    return f"{split}-{family}-{number:05d}-of-{files:05d}.parquet"


def shards(config: GenerateTasksConfig, plans: Iterable[SplitPlan]) -> list[Shard]:
    """The files of the data set."""
    made = []
    for plan in plans:
        starts = range(0, len(plan.attempts), config.shard_rows)
        for number, first in enumerate(starts):
            made.append(
                Shard(
                    name=_file_name(plan.split, plan.family, number, len(starts)),
                    family=plan.family,
                    split=plan.split,
                    first=first,
                    attempts=plan.attempts[first : first + config.shard_rows],
                )
            )
    return made
