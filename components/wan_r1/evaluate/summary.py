"""From scores to rates with intervals: the rows of ``results.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wan_r1.reports.intervals import wilson
from wan_r1.tasks.schema import SPLITS

ALL = "all"
"""In place of a difficulty or texture: every one of them."""


def summary_rows(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per model, split and family, over all difficulties and textures.

    Args:
        scores: rows of `SCORES_SCHEMA`; videos are not needed.

    Returns:
        Rows with ``model, family, difficulty, texture, split, n, em, em_low, em_high, sr, pr, sd, mf, reward, errors``:
        rates in [0, 1], `em` with its 95 % Wilson interval, null where undefined, ``sd`` over successes alone,
        ``errors`` the number of videos that could not be read and therefore count as failed.
    """
    return _grouped(scores, ("model", "split", "family"))


def detail_rows(scores: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rows by difficulty, then by texture, where there is more than one of them."""
    scores = list(scores)
    rows = []
    for axis in ("difficulty", "texture"):
        finer = _grouped(scores, ("model", "split", "family", axis))
        places = [(row["model"], row["split"], row["family"]) for row in finer]
        rows += [row for row, place in zip(finer, places, strict=True) if places.count(place) > 1]
    return rows


def _grouped(scores: Iterable[Mapping[str, Any]], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for score in scores:
        groups.setdefault(tuple(score[key] for key in keys), []).append(score)

    def order(place: tuple) -> tuple:
        return place[0], SPLITS.index(place[1]), *place[2:]

    return [_row(dict(zip(keys, place, strict=True)), groups[place]) for place in sorted(groups, key=order)]


def _row(place: dict[str, str], scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    solved = sum(bool(score["em"]) for score in scores)
    interval = wilson(solved, len(scores))
    low, high = interval if interval else (None, None)
    return {
        "model": place["model"],
        "family": place["family"],
        "difficulty": place.get("difficulty", ALL),
        "texture": place.get("texture", ALL),
        "split": place["split"],
        "n": len(scores),
        "em": solved / len(scores),
        "em_low": low,
        "em_high": high,
        "sr": _mean(scores, "sr"),
        "pr": _mean(scores, "pr"),
        "sd": _mean(scores, "sd"),
        "mf": _mean(scores, "mf"),
        "reward": _mean(scores, "reward"),
        "errors": sum(score["error"] is not None for score in scores),
    }


def _mean(scores: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [float(score[key]) for score in scores if score[key] is not None]
    return sum(values) / len(values) if values else None
