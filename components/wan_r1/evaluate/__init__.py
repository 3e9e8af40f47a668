"""Stage: evaluation of a model on levels it has never seen."""

from wan_r1.evaluate.config import EvaluateConfig
from wan_r1.evaluate.stage import run

__all__ = ["EvaluateConfig", "run"]
