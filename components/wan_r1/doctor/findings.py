"""What a check has found, as a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was checked.
        seen: the number that was seen, with its meaning.
        wanted: the number that was wanted.
        good: whether it is as wanted.
        remedy: what to do if it is not.
    """

    check: str
    seen: str
    wanted: str
    good: bool
    remedy: str

    def __str__(self) -> str:
        line = f"{'ok  ' if self.good else 'BAD '}  {self.check}: {self.seen} (wanted: {self.wanted})"
        return line if self.good else f"{line}\n      {self.remedy}"
