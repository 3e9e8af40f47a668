"""Intervals of rates: Wilson's score interval, and the interval of a difference between paired rates."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a rate (E. B. Wilson, JASA 22, 1927).

    ``(p + z^2/2n -+ z sqrt(p(1 - p)/n + z^2/4n^2)) / (1 + z^2/n)``; it stays within [0, 1] and has a width at rates of
    0 and 1, where the usual ``p -+ z sqrt(p(1 - p)/n)`` has none.

    Args:
        successes: number of successes, in [0, trials].
        trials: number of trials.
        confidence: share of such intervals that contain the true rate.

    Returns:
        (low, high), or None without trials.

    Raises:
        ValueError: if the counts are impossible.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} is not allowed; expected 0 to trials={trials}")
    if trials == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At the ends the exact bound is 0 or 1; rounding must not put it beyond the rate itself.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def paired_difference(
    gained: int, lost: int, trials: int, confidence: float = 0.95
) -> tuple[float, float, float] | None:
    """Difference of two rates measured on the same levels, with its interval (Agresti and Min, Stat. Med. 24, 2005).

    Half a level is added to each of the four cells of the 2 x 2 table before the usual large-sample interval is taken,
    which keeps its coverage at small counts. Pairing counts only the levels on which the two models differ, so the
    interval is narrower than that of two independent rates.

    Args:
        gained: levels that only the second model solves.
        lost: levels that only the first model solves.
        trials: levels that both were given.

    Returns:
        (difference, low, high) in [-1, 1], second minus first; None without trials.

    Raises:
        ValueError: if the counts are impossible.
    """
    if gained < 0 or lost < 0 or gained + lost > trials:
        raise ValueError(f"gained={gained}, lost={lost} are not allowed with trials={trials}")
    if trials == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    more, less, count = gained + 0.5, lost + 0.5, trials + 2
    centre = (more - less) / count
    spread = z * math.sqrt(max(0.0, more + less - (more - less) ** 2 / count)) / count
    return (gained - lost) / trials, max(-1.0, centre - spread), min(1.0, centre + spread)
