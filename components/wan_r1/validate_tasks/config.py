"""Parameters of the data set's check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.config import StageConfig
from wan_r1.tasks.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class ValidateTasksConfig(StageConfig):
    """What is asked of a data set beyond the rules that always hold."""

    STAGE: ClassVar[str] = "validate_tasks"
    PREFIX: ClassVar[str] = "validate_"

    splits: tuple[str, ...] = SPLITS
    """Splits that must have levels."""
    balance: float = 2.0
    """Most levels of a family in a split, or of a difficulty or texture in a family's split, as a multiple of those of
    another; 0 asks for no balance."""
    shown_rows: int = 20
    """Broken rows that the report lists for each rule; all of them are counted."""

    def validate(self) -> None:
        """Check names and ranges."""
        self.require("splits", set(self.splits) <= set(SPLITS), f"some of {', '.join(SPLITS)}")
        self.require("balance", self.balance == 0 or self.balance >= 1, "1 or more, such as 2, or 0 for any balance")
        self.require("shown_rows", 1 <= self.shown_rows <= 1000, "a whole number from 1 to 1000")
