"""Stage: group-relative reinforcement learning with verified rewards."""

from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.stage import run

__all__ = ["TrainGrpoConfig", "run"]
