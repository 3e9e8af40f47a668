"""Group-relative advantages: each video is compared with the other videos of its own prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STD_FLOOR = 1e-4
"""Added to a standard deviation, so that a tie does not divide by zero."""


@dataclass(frozen=True, kw_only=True)
class Advantages:
    """Advantages of a rollout.

    Attributes:
        values: float32 `[prompts, group]`; 0 throughout a group without variance.
        mixed: bool `[prompts]`, groups whose rewards differ enough; the others teach nothing and are skipped.
        trained: which videos of each group are learned from, int64 `[prompts, videos]`.
    """

    values: np.ndarray
    mixed: np.ndarray
    trained: np.ndarray

    @property
    def zero_std_groups(self) -> float:
        """Share of groups without variance."""
        return float(1 - self.mixed.mean())


def group_advantages(
    rewards: np.ndarray, clip: float, least_std: float, *, spread: str = "group", best_and_worst: int = 0
) -> Advantages:
    """``A_i = (R_i - mean) / (std + 1e-4)`` within each group (Wan-R1, arXiv 2603.27866, Eq. 6), clipped to +- clip.

    Args:
        rewards: `[prompts, group]`.
        clip: bound of the advantages.
        least_std: standard deviation up to which a group counts as equal. Where all its videos solve their level, or
            fail alike, their rewards still differ in the last digits of the fidelity; divided by its own spread, that
            would weigh as much as solving a level.
        spread: what rewards are divided by: `group`, its standard deviation; `global`, that of all groups
            (Flow-GRPO); `none` (Dr.GRPO, arXiv 2503.20783).
        best_and_worst: how many videos of a group are learned from, half of them its best and half its worst
            (DanceGRPO's best-of-N, arXiv 2505.07818); all are compared. 0 takes all.
    """
    mean = rewards.mean(1, keepdims=True)
    std = rewards.std(1, keepdims=True)
    mixed = std[:, 0] > least_std
    divisor = {"group": std + STD_FLOOR, "global": rewards.std() + STD_FLOOR, "none": 1.0}[spread]
    values = np.where(mixed[:, None], (rewards - mean) / divisor, 0.0)
    trained = np.broadcast_to(np.arange(rewards.shape[1]), rewards.shape)
    if best_and_worst:
        # Stable, so that ties fall the same way on every machine.
        order = rewards.argsort(1, kind="stable")
        half = best_and_worst // 2
        trained = np.sort(np.concatenate([order[:, :half], order[:, -half:]], axis=1), axis=1)
    return Advantages(
        values=values.clip(-clip, clip).astype(np.float32), mixed=mixed, trained=np.array(trained, np.int64)
    )
