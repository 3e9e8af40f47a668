"""What the results of a run say, in words that are made from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from wan_r1.reports import Html, paired_difference, table
from wan_r1.reports.results import model_label
from wan_r1.tasks.schema import SPLITS

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
        for split, family in sorted({key[:2] for key in shared}, key=lambda place: (SPLITS.index(place[0]), place[1])):
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


def findings(compared: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on how models differ: where one is better, where worse, and where chance could explain it.

    Args:
        compared: what `differences` returns.
    """
    sentences = []
    for first, second in dict.fromkeys((row["first"], row["second"]) for row in compared):
        members = [row for row in compared if (row["first"], row["second"]) == (first, second)]
        better = [row for row in members if row["low"] > 0]
        worse = [row for row in members if row["high"] < 0]
        unclear = [row for row in members if row not in better and row not in worse]
        parts = [
            f"{words} on {'; '.join(map(_place, rows))}"
            for words, rows in (("better", better), ("worse", worse), ("not clearly different", unclear))
            if rows
        ]
        fidelity = sorted({round(100 * row["mf_difference"], 1) for row in members})
        span = " to ".join(f"{points:+.1f}" for points in dict.fromkeys((fidelity[0], fidelity[-1])))
        sentences.append(
            f"{model_label(second)} against {model_label(first)}: {'. It is '.join(parts)}. "
            f"Fidelity changes by {span} points."
        )
    return sentences


def differences_table(compared: Sequence[Mapping[str, Any]]) -> Html:
    """Paired differences as a table."""
    rows = [
        {
            "pair": f"{model_label(row['second'])} minus {model_label(row['first'])}",
            "split": row["split"],
            "family": row["family"],
            "n": row["n"],
            "difference": f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})",
            "gained": row["gained"],
            "lost": row["lost"],
            "mf": f"{100 * row['mf_difference']:+.1f}",
        }
        for row in compared
    ]
    return table(
        rows,
        caption="Differences on the same levels, in points, with 95 % intervals of paired rates",
        columns={
            "pair": "Models",
            "split": "Split",
            "family": "Family",
            "n": "n",
            "difference": "Exact match",
            "gained": "Levels gained",
            "lost": "Levels lost",
            "mf": "Fidelity",
        },
        formats={"difference": str, "mf": str},
        row_headers=3,
        group_by="pair",
    )


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
        f"With so many videos a rate is known to within {100 * max(widths) / 2:.1f} points or better (half the widest "
        "95 % interval), from one training run: intervals cover the choice of levels, not the luck of training. Every "
        "model saw the same levels and the same noise, so differences are measured pair by pair."
        if widths
        else "",
    ]


def _place(row: Mapping[str, Any]) -> str:
    return (
        f"{row['split']}, {row['family']} ({100 * row['difference']:+.1f} points, "
        f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    )
