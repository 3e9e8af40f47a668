"""Group-relative advantages: each video is compared with the other videos of its own prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STD_FLOOR = 1e-4
"""Added to a group's standard deviation, so that a tie does not divide by zero."""


@dataclass(frozen=True, kw_only=True)
class Advantages:
    """Advantages of a rollout.

    Attributes:
        values: float32 `[prompts, group]`; 0 throughout a group without variance.
        mixed: bool `[prompts]`, groups whose rewards differ enough; the others teach nothing and are skipped.
    """

    values: np.ndarray
    mixed: np.ndarray

    @property
    def zero_std_groups(self) -> float:
        """Share of groups without variance."""
        return float(1 - self.mixed.mean())


def group_advantages(rewards: np.ndarray, clip: float, least_std: float) -> Advantages:
    """``A_i = (R_i - mean) / (std + 1e-4)`` within each group (Wan-R1, arXiv 2603.27866, Eq. 6), clipped to +- clip.

    Args:
        rewards: `[prompts, group]`.
        clip: bound of the advantages.
        least_std: standard deviation up to which a group counts as equal. Where all its videos solve their level, or
            fail alike, their rewards still differ in the last digits of the fidelity; divided by its own spread, that
            would weigh as much as solving a level.
    """
    mean = rewards.mean(1, keepdims=True)
    std = rewards.std(1, keepdims=True)
    mixed = std[:, 0] > least_std
    values = np.where(mixed[:, None], (rewards - mean) / (std + STD_FLOOR), 0.0)
    return Advantages(values=values.clip(-clip, clip).astype(np.float32), mixed=mixed)
