"""Stage: supervised fine-tuning on solution videos."""

from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.stage import run

__all__ = ["TrainSftConfig", "run"]
