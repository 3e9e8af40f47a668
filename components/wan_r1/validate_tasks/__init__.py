"""Stage: the data set's contract, recomputed with Great Expectations."""

from wan_r1.tasks.schema import DataContractError
from wan_r1.validate_tasks.config import ValidateTasksConfig
from wan_r1.validate_tasks.stage import run

__all__ = ["DataContractError", "ValidateTasksConfig", "run"]
