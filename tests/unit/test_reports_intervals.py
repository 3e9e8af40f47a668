"""Intervals against values that are known from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wan_r1.reports.intervals import paired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3 (score, no continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_published_values(successes, trials, low, high):
    found = wilson(successes, trials)
    assert found == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_solves_its_defining_equation():
    """Both ends p are where the observed rate is z standard errors *of p* away."""
    for successes, trials in ((3, 8), (128, 256), (255, 256), (1, 5)):
        for end in wilson(successes, trials):
            distance = abs(successes / trials - end) / math.sqrt(end * (1 - end) / trials)
            assert distance == pytest.approx(1.959964, abs=1e-5)


def test_wilson_at_the_ends_and_without_trials():
    assert wilson(0, 0) is None
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == 1.0
    assert wilson(0, 10)[1] == pytest.approx(1 - wilson(10, 10)[0])
    with pytest.raises(ValueError, match=r"successes=5 .* trials=4"):
        wilson(5, 4)


def test_wilson_covers_the_true_rate_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for rate in (0.1, 0.5, 0.9):
        counts = rng.binomial(256, rate, size=2000)
        inside = [low <= rate <= high for low, high in (wilson(int(count), 256) for count in counts)]
        assert 0.93 < np.mean(inside) < 0.97


def test_paired_difference_is_antisymmetric_and_narrower_than_unpaired():
    difference, low, high = paired_difference(30, 10, 200)
    assert difference == pytest.approx(0.1)
    assert paired_difference(10, 30, 200) == pytest.approx((-difference, -high, -low))
    # Two independent rates of .5 and .6 of 200: half-width 1.96 sqrt(.25/200 + .24/200) = .097.
    assert low > 0 and (high - low) / 2 < 0.07


def test_paired_difference_covers_the_true_difference():
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(2000):
        _, gained, lost, _ = rng.multinomial(128, [0.4, 0.2, 0.1, 0.3])
        _, low, high = paired_difference(int(gained), int(lost), 128)
        inside.append(low <= 0.1 <= high)
    assert 0.93 < np.mean(inside) < 0.98


def test_paired_difference_without_any_change_still_has_a_width():
    difference, low, high = paired_difference(0, 0, 16)
    assert difference == 0 and low < 0 < high
    assert paired_difference(0, 0, 0) is None
    with pytest.raises(ValueError, match="gained=9, lost=9"):
        paired_difference(9, 9, 10)
