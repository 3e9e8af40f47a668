"""`wan-r1 doctor`: what reinforcement learning of a video model rests on, checked one by one before a long run."""

from wan_r1.doctor.run import DoctorError, run
from wan_r1.train_grpo.config import TrainGrpoConfig

__all__ = ["DoctorError", "TrainGrpoConfig", "run"]
