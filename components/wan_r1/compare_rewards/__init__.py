"""Stage: comparison of rewards."""

from wan_r1.compare_rewards.comparison import run
from wan_r1.compare_rewards.config import CompareRewardsConfig

__all__ = ["CompareRewardsConfig", "run"]
