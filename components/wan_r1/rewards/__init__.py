"""From facts to a number: rewards are plain functions of verified facts, in [0, 1].

`REWARDS` holds ours by name; `get_reward` also loads a user's own as ``module:function``::

    def careful(inputs: RewardInputs) -> RewardOutput:
        moved = np.array([verdict.moved for verdict in inputs.verdicts], np.float32)
        return RewardOutput(reward=0.1 * moved, components={"moved": moved})
"""

from wan_r1.rewards.catalogue import REWARDS, get_reward
from wan_r1.rewards.facts import exact_match, precision, success, trajectory
from wan_r1.rewards.interface import Judge, RewardError, RewardFn, RewardInputs, RewardOutput

__all__ = [
    "REWARDS",
    "Judge",
    "RewardError",
    "RewardFn",
    "RewardInputs",
    "RewardOutput",
    "exact_match",
    "get_reward",
    "precision",
    "success",
    "trajectory",
]
