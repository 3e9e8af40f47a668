"""Mean metrics over the rows of a table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_METRICS = ("em", "sr", "pr", "sd", "mf")


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means by family and difficulty, then of everything; videos with an error are counted, never averaged.

    Step deviation is averaged over the videos that have one.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["family"] or "unknown", row["difficulty"] or "unknown"), []).append(row)
    found = [_means(family, difficulty, groups[family, difficulty]) for family, difficulty in sorted(groups)]
    return found if len(found) < 2 else [*found, _means("all", "all", rows)]


def _means(family: str, difficulty: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scored = [row for row in rows if row["status"] == "ok"]
    result: dict[str, Any] = {
        "family": family,
        "difficulty": difficulty,
        "videos": len(rows),
        "errors": len(rows) - len(scored),
    }
    for prefix in ("", "vr_bench_"):
        for name in _METRICS:
            values = [float(row[prefix + name]) for row in scored if row[prefix + name] is not None]
            result[prefix + name] = sum(values) / len(values) if values else None
    return result
