"""What the results of a run say, in words that are made from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from wan_r1.reports import paired_difference, percent
from wan_r1.reports.results import model_label

Scores = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of scores, without videos, by model."""


def differences(scores: Scores, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Differences in exact match between models on the same levels, by split and family.

    Args:
        scores: of every model.
        pairs: (first model, second model); pairs with a model that was not evaluated are left out.

    Returns:
        Rows with ``first, second, split, family, n, gained, lost, difference, low, high, mf_difference``: second minus
        first, with the 95 % interval of paired rates; ``n`` is the number of levels that both were given, ``gained``
        and ``lost`` those that only the second and only the first solves.
    """
    rows = []
    for first, second in pairs:
        if first not in scores or second not in scores:
            continue
        before = {(row["split"], row["family"], row["level_id"]): row for row in scores[first]}
        after = {(row["split"], row["family"], row["level_id"]): row for row in scores[second]}
        shared = sorted(before.keys() & after.keys())
        for split, family in sorted({key[:2] for key in shared}, key=lambda place: (place[0] != "test", place)):
            levels = [key for key in shared if key[:2] == (split, family)]
            outcomes = Counter((before[key]["em"], after[key]["em"]) for key in levels)
            gained, lost = outcomes[False, True], outcomes[True, False]
            result = paired_difference(gained, lost, len(levels))
            if result is None:
                continue
            fidelity = sum(after[key]["mf"] - before[key]["mf"] for key in levels) / len(levels)
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "split": split,
                    "family": family,
                    "n": len(levels),
                    "gained": gained,
                    "lost": lost,
                    "difference": result[0],
                    "low": result[1],
                    "high": result[2],
                    "mf_difference": fidelity,
                }
            )
    return rows


def findings(rows: Sequence[Mapping[str, Any]], compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on the results: what each comparison shows, and whether chance could explain it.

    Args:
        rows: of ``results.json``.
        compared: what `differences` returns.
    """
    rates = {(row["model"], row["split"], row["family"]): row["em"] for row in rows}
    sentences = []
    for row in compared:
        first, second = model_label(row["first"]), model_label(row["second"])
        before = rates.get((row["first"], row["split"], row["family"]))
        after = rates.get((row["second"], row["split"], row["family"]))
        if before is None or after is None:
            continue
        sentences.append(
            f"On {row['split']}, {row['family']}, {second} solves {percent(after)} and {first} {percent(before)} "
            f"of the levels: {_verdict(row, second, first)} ({_points(row['difference'])}, 95 % interval "
            f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}, paired over {row['n']} levels). "
            f"Fidelity {_fidelity(row['mf_difference'])}."
        )
    return sentences


def explanation(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Plain words on how to read the tables, with the run's own sample sizes."""
    if not rows:
        return ["No model was evaluated in this run."]
    sizes = sorted({row["n"] for row in rows})
    widths = [row["em_high"] - row["em_low"] for row in rows if row["em_low"] is not None]
    count = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    errors = sum(row.get("errors", 0) for row in rows)
    unreadable = f" {errors} videos could not be read and count as failed." if errors else ""
    unseen = "" if any(row["split"] == "train" for row in rows) else "; no level was trained on"
    return [
        f"Each rate comes from {count} videos, one a level{unseen}. Exact match is the share of videos "
        "in which the player walks a shortest path and keeps every rule, success also allows detours, precision is the "
        "share of the path before the first mistake, fidelity the share of background that stays as it was."
        + unreadable,
        f"With so many videos a rate is known to within {percent(max(widths) / 2)} or better (half the widest 95 % "
        "interval), from one training run: intervals cover the choice of levels, not the luck of training. Every model "
        "saw the same levels and the same noise, so differences are measured pair by pair."
        if widths
        else "",
    ]


def _verdict(row: Mapping[str, Any], second: str, first: str) -> str:
    if row["low"] > 0:
        return f"{second} is better"
    if row["high"] < 0:
        return f"{second} is worse"
    return f"the difference between {second} and {first} could be chance"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _fidelity(difference: float) -> str:
    points = round(100 * difference, 1)
    return "is the same" if points == 0 else f"{'rises' if points > 0 else 'falls'} by {abs(points):.1f} points"
