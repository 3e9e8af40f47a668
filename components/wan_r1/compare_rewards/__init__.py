"""Stage: comparison of rewards."""

from wan_r1.compare_rewards.config import CompareRewardsConfig
from wan_r1.compare_rewards.stage import run

__all__ = ["CompareRewardsConfig", "run"]
