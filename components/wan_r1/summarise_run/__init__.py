"""Last stage: one file of results and one page for a whole run."""

from wan_r1.summarise_run.exit_summary import write_exit_summary
from wan_r1.summarise_run.stage import run

__all__ = ["run", "write_exit_summary"]
