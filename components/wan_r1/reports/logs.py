"""Training logs: the Parquet files that training stages write, one row a step or iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from wan_r1.storage.tables import read_table

MODEL_KEY = b"wan_r1.model"
"""Key of a log's schema metadata that holds the name of the model which was trained, such as ``grpo:judge``."""


@dataclass(frozen=True, kw_only=True)
class TrainingLog:
    """One training run, step by step.

    Attributes:
        path: where it was read.
        model: name of the trained model; empty where the file does not say.
        table: one row a step (supervised) or iteration (reinforcement).
    """

    path: Path
    model: str
    table: pa.Table

    @property
    def rows(self) -> int:
        """Steps or iterations that were logged."""
        return self.table.num_rows

    @property
    def reinforcement(self) -> bool:
        """Whether it is reinforcement learning's, counted in iterations."""
        return "iteration" in self.table.column_names

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.table.column_names

    def column(self, name: str) -> list[float]:
        """A column as floats; not-a-number where a row has no value, and everywhere if there is no such column."""
        if name not in self.table.column_names:
            return [math.nan] * self.rows
        return [math.nan if value is None else float(value) for value in self.table[name].to_pylist()]

    def has(self, name: str) -> bool:
        """Whether a column has at least one value."""
        return any(math.isfinite(value) for value in self.column(name))

    def last(self, name: str) -> float | None:
        """The last value of a column."""
        known = [value for value in self.column(name) if math.isfinite(value)]
        return known[-1] if known else None


def read_log(path: Path | str) -> TrainingLog:
    """Read a training log.

    Raises:
        StorageError: if the file is missing or damaged.
    """
    table = read_table(path)
    model = (table.schema.metadata or {}).get(MODEL_KEY, b"").decode()
    return TrainingLog(path=Path(path), model=model, table=table)
