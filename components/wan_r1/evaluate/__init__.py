"""Stage: evaluation of a model on levels it has never seen."""

from wan_r1.evaluate.config import EvaluateConfig
from wan_r1.evaluate.evaluation import run

__all__ = ["EvaluateConfig", "run"]
