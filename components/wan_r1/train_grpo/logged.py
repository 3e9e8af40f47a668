"""What an iteration of reinforcement learning logs of its rollout."""

from __future__ import annotations

import numpy as np

from wan_r1.train_grpo.rollouts import Rollout
from wan_r1.train_grpo.stitching import Stitched

AGREES = "judge_agrees"
"""Component of the rewards of every judge, fitted or multimodal: its score is at least one half exactly on videos that
are verified exact matches (1) or not (0)."""


def logged_of(rollout: Rollout, stitched: Stitched | None = None) -> dict[str, float]:
    """Means over this process's videos, seconds by phase, and shares of its groups.

    Where a judge gave the rewards, ``judge_agreement`` is the share of videos on which it agrees with verified facts.

    Args:
        rollout: the groups.
        stitched: what came of the failed ones, if they were gone on from.
    """
    em = np.array([verdict.em for verdict in rollout.verdicts], float)
    harder = np.array([task.split == "prompts" for task in rollout.tasks])
    entry = {
        "reward": float(rollout.rewards.mean()),
        "verified_reward": float(rollout.verified.mean()),
        "em": float(em.mean()),
        "mf": float(np.mean([verdict.mf for verdict in rollout.verdicts])),
        **{f"reward_{name}": float(values.mean()) for name, values in rollout.components.items()},
        **{f"seconds_{name}": value for name, value in rollout.seconds.items()},
    }
    if harder.any():
        entry["em_harder"] = float(em[harder].mean())
    if AGREES in rollout.components:
        entry["judge_agreement"] = float(rollout.components[AGREES].mean())
    if stitched is not None:
        numbers = {"tried": stitched.tried, "solved": len(stitched.successes), "videos": stitched.sampled}
        entry |= {f"stitching_{name}": number / len(rollout.levels) for name, number in numbers.items()}
    return entry
