"""Parameters of the reward comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.config import ConfigError, StageConfig


@dataclass(frozen=True, kw_only=True)
class CompareRewardsConfig(StageConfig):
    """Which rewards are compared: each is the only reward of a GRPO run from the same start with the same budget."""

    STAGE: ClassVar[str] = "compare_rewards"
    PREFIX: ClassVar[str] = "ablation_"

    rewards: tuple[str, ...] = ("trajectory", "exact_match", "judge")
    """Names from `wan_r1.rewards.REWARDS`, or `module:function` (the paper compares EM, PR + EM and a judge)."""
    window: int = 10
    """Iterations that first and last values and the curves are means of."""

    def validate(self) -> None:
        """Check ranges and names."""
        self.require("window", self.window >= 1, "a whole number from 1")
        self.require("rewards", len(set(self.rewards)) == len(self.rewards) >= 1, "one or more different rewards")
        # Imported here: a reward's module may import torch, which a config must not cost.
        from wan_r1.rewards import get_reward

        for name in self.rewards:
            try:
                get_reward(name)
            except ValueError as error:
                raise ConfigError(f"{self.PREFIX}rewards: {error}") from None
