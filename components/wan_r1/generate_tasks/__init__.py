"""Stage: the data set of levels with their solution videos."""

from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.parts import collect, make_part
from wan_r1.generate_tasks.stage import run

__all__ = ["GenerateTasksConfig", "collect", "make_part", "run"]
