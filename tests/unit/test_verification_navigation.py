"""Navigation metrics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from wan_r1.verification.navigation import (
    PAPER,
    PUBLISHED_CONFIG,
    NavigationRules,
    PathError,
    approach_consistency,
    navigation_metrics,
    resample,
)

STRAIGHT = np.stack([np.linspace(0, 2, 41), np.zeros(41)], axis=1)


def test_the_recorded_path_itself_is_perfect():
    for rules in (PAPER, PUBLISHED_CONFIG):
        found = navigation_metrics(STRAIGHT, STRAIGHT, rules)
        assert (found.ade, found.fde, found.miss_rate, found.soft_endpoint, found.approach_consistency) == (
            0,
            0,
            0,
            1,
            1,
        )
        assert found.score == pytest.approx(0.9)


@pytest.mark.parametrize(("rules", "misses"), [(PAPER, 0.0), (PUBLISHED_CONFIG, 1.0)])
def test_a_shifted_path(rules, misses):
    """1.5 m to the side all the way: a miss for the shipped configuration, none for the paper's 2 m."""
    found = navigation_metrics(STRAIGHT + np.array([0, 1.5]), STRAIGHT, rules)
    assert found.ade == pytest.approx(1.5) and found.fde == pytest.approx(1.5)
    assert found.miss_rate == misses
    assert found.soft_endpoint == pytest.approx(np.exp(-(1.5**2) / (2 * rules.endpoint_sigma**2)))
    assert found.approach_consistency == pytest.approx(np.exp(-5))
    both = rules.weight_endpoint + rules.weight_approach
    expected = (0.05 + 0.10) * np.exp(-1.5) + 0.10 * (1 - misses)
    assert found.score == pytest.approx(expected + both * found.soft_endpoint * np.exp(-5))


def test_weights_are_the_published_ones():
    def weights(rules: NavigationRules):
        names = ("ade", "fde", "miss", "endpoint", "approach")
        return tuple(getattr(rules, f"weight_{name}") for name in names)

    assert weights(PAPER) == (0.05, 0.10, 0.10, 0.35, 0.30)
    assert weights(PUBLISHED_CONFIG) == (0.05, 0.10, 0.10, 0.45, 0.20)
    assert (PUBLISHED_CONFIG.miss_distance, PUBLISHED_CONFIG.endpoint_sigma) == (1.0, 0.5)


def test_paths_of_other_lengths_are_compared_at_equal_times():
    assert np.allclose(resample(STRAIGHT[::4], 41), STRAIGHT)
    found = navigation_metrics(STRAIGHT[::4], STRAIGHT)
    assert found.ade == pytest.approx(0, abs=1e-12) and found.approach_consistency == 1
    # Half of the way in the same time: the error grows evenly from 0 to 1 m.
    half = navigation_metrics(STRAIGHT * 0.5, STRAIGHT)
    assert half.ade == pytest.approx(0.5) and half.fde == pytest.approx(1) and half.miss_rate == 0


def test_the_corridor_is_narrow_at_its_ends_and_wide_in_the_middle():
    end = 0.15 + 0.35 * np.exp(-2)
    for start, limit in ((0, end), (20, 0.5)):
        inside, outside = (STRAIGHT[start] + np.array([0, limit + step]) for step in (-1e-6, 1e-3))
        rules = NavigationRules(reference_points=41)
        if start == 0:
            # Neighbours of the end have wider corridors: look behind it.
            inside, outside = (STRAIGHT[0] - np.array([limit + step, 0]) for step in (-1e-6, 1e-3))
        assert approach_consistency(inside[None], STRAIGHT, rules) == 1
        assert approach_consistency(outside[None], STRAIGHT, rules) < 1
    mixed = np.concatenate([STRAIGHT[:3], STRAIGHT[:1] + np.array([0, 9])])
    assert approach_consistency(mixed, STRAIGHT) == pytest.approx(np.exp(-5 / 4))


def test_three_coordinates_and_one_point():
    lifted = np.concatenate([STRAIGHT, np.ones((41, 1))], axis=1)
    flat = np.concatenate([STRAIGHT, np.zeros((41, 1))], axis=1)
    assert navigation_metrics(lifted, flat).ade == pytest.approx(1)
    still = navigation_metrics(STRAIGHT[:1], STRAIGHT)
    assert still.ade == pytest.approx(1) and still.fde == pytest.approx(2)


@pytest.mark.parametrize(
    ("path", "recorded", "says"),
    [
        (np.zeros((0, 2)), STRAIGHT, r"path has the shape \[0, 2\]"),
        (STRAIGHT, np.zeros(3), r"recorded has the shape \[3\]"),
        (np.full((3, 2), np.nan), STRAIGHT, "path has nan"),
        (np.zeros((3, 3)), STRAIGHT, "path has 3 coordinates, recorded 2"),
    ],
)
def test_paths_that_cannot_be_compared(path, recorded, says):
    with pytest.raises(PathError, match=says):
        navigation_metrics(path, recorded)
