"""Navigation metrics of Target-Bench (arXiv 2511.17792): a path recovered from a video beside the recorded one.

Definitions are those of the benchmark's published evaluation (TUM-AVS/target-bench, `evaluation/metrics.py`). Paths are
``[points, 2]`` or ``[points, 3]`` in metres, sampled evenly in time; paths of different lengths are compared at the
moments of the recorded one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class PathError(ValueError):
    """Paths that cannot be compared; the message names which, its shape and what is expected."""


@dataclass(frozen=True, kw_only=True)
class NavigationRules:
    """Parameters and weights; defaults are the paper's, `PUBLISHED_CONFIG` is what the benchmark's code ships with."""

    miss_distance: float = 2.0
    """Distance in metres from which a point counts as a miss."""
    endpoint_sigma: float = 0.6
    """Tolerance of the soft endpoint in metres."""
    reference_points: int = 20
    """Points of the recorded path around which its corridor is drawn."""
    narrowest: float = 0.15
    """What the corridor's radius comes near to at both ends, in metres."""
    widest: float = 0.5
    """The corridor's radius half-way, in metres."""
    corridor_shape: float = 0.25
    """Standard deviation of the corridor's widening, as a share of the path."""
    sharpness: float = 5.0
    """How fast approach consistency falls with the share of points outside of the corridor."""
    weight_ade: float = 0.05
    """Weight of the average displacement in the score."""
    weight_fde: float = 0.10
    """Weight of the final displacement."""
    weight_miss: float = 0.10
    """Weight of the points that are no miss."""
    weight_endpoint: float = 0.35
    """Weight of the soft endpoint, which counts only together with approach consistency."""
    weight_approach: float = 0.30
    """Weight of approach consistency, likewise."""


PAPER = NavigationRules()
"""The weighting of the paper: .05, .10, .10, .35, .30."""
PUBLISHED_CONFIG = NavigationRules(
    miss_distance=1.0, endpoint_sigma=0.5, narrowest=0.5, widest=1.5, weight_endpoint=0.45, weight_approach=0.20
)
"""The benchmark's shipped configuration (`evaluation/config/vggt_config.yaml`): .05, .10, .10, .45, .20, misses from
1 m, sigma .5 m, and a corridor of .5 to 1.5 m."""


FULL_SCORE = 0.9
"""The score of the recorded path itself: what the weights add up to in both published weightings."""


@dataclass(frozen=True, kw_only=True)
class NavigationMetrics:
    """Metrics of one path.

    Attributes:
        ade: mean distance to the recorded path at equal times, metres.
        fde: distance of the end points, metres.
        miss_rate: share of points further off than `NavigationRules.miss_distance`, 0 to 1 (there in percent).
        soft_endpoint: Gaussian of the distance of the end points, 0 to 1.
        approach_consistency: 1 if every point lies in the recorded path's corridor, exponentially less if not.
        score: the weighted score; its weights add up to .9 in both published weightings.
    """

    ade: float
    fde: float
    miss_rate: float
    soft_endpoint: float
    approach_consistency: float
    score: float


def navigation_metrics(path: np.ndarray, recorded: np.ndarray, rules: NavigationRules = PAPER) -> NavigationMetrics:
    """All metrics of a path against the recorded one.

    Raises:
        PathError: if a path is empty, has nan, or the two have different dimensions.
    """
    path, recorded = _checked("path", path), _checked("recorded", recorded)
    if path.shape[1] != recorded.shape[1]:
        raise PathError(f"path has {path.shape[1]} coordinates, recorded {recorded.shape[1]}; give the same ones")
    away = np.linalg.norm(resample(path, len(recorded)) - recorded, axis=1)
    ade = float(away.mean())
    fde = float(np.linalg.norm(path[-1] - recorded[-1]))
    misses = float((away > rules.miss_distance).mean())
    endpoint = float(np.exp(-(fde**2) / (2 * rules.endpoint_sigma**2)))
    approach = approach_consistency(path, recorded, rules)
    score = (
        rules.weight_ade * np.exp(-ade)
        + rules.weight_fde * np.exp(-fde)
        + rules.weight_miss * (1 - misses)
        + (rules.weight_endpoint + rules.weight_approach) * endpoint * approach
    )
    return NavigationMetrics(
        ade=ade,
        fde=fde,
        miss_rate=misses,
        soft_endpoint=endpoint,
        approach_consistency=approach,
        score=float(score),
    )


def approach_consistency(path: np.ndarray, recorded: np.ndarray, rules: NavigationRules = PAPER) -> float:
    """``exp(-sharpness * share)`` of the share of points outside of the corridor around ``recorded``."""
    count = min(rules.reference_points, len(recorded))
    at = np.linspace(0, len(recorded) - 1, count).astype(int)
    progress = at / max(len(recorded) - 1, 1)
    widening = np.exp(-((progress - 0.5) ** 2) / (2 * rules.corridor_shape**2))
    radius = rules.narrowest + (rules.widest - rules.narrowest) * widening
    away = np.linalg.norm(path[:, None] - recorded[at], axis=-1)
    outside = ~(away <= radius).any(1)
    return float(np.exp(-rules.sharpness * outside.mean()))


def resample(path: np.ndarray, points: int) -> np.ndarray:
    """A path at ``points`` moments spread evenly over its time, by linear interpolation."""
    if len(path) == points:
        return path
    at = np.linspace(0, len(path) - 1, points)
    return np.stack([np.interp(at, np.arange(len(path)), values) for values in path.T], axis=1)


def _checked(name: str, path: np.ndarray) -> np.ndarray:
    found = np.asarray(path, np.float64)
    if found.ndim != 2 or found.shape[1] not in (2, 3) or not len(found):
        raise PathError(f"{name} has the shape {list(found.shape)}; expected [points, 2] or [points, 3] with a point")
    if not np.isfinite(found).all():
        raise PathError(f"{name} has nan or infinite coordinates; leave such points out")
    return found
