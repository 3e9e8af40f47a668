"""Stage: the diffusers pipeline that a run starts from."""

from wan_r1.prepare_model.config import PrepareModelConfig
from wan_r1.prepare_model.stage import run

__all__ = ["PrepareModelConfig", "run"]
