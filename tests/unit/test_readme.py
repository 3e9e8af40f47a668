"""The README says what the code does: every parameter of the pipeline with its meaning, results that were measured."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "pipelines"))

from readme import parameter_table, results_table  # noqa: E402

README = (ROOT / "README.md").read_text()


def test_every_parameter_of_the_pipeline_is_in_the_readme():
    assert parameter_table() in README, "run `python pipelines/readme.py` after a parameter was changed"


def test_the_results_are_those_of_the_committed_run():
    shown = README.partition("<!-- results -->")[2].partition("<!-- end of results -->")[0].strip()
    committed = ROOT / "tests" / "benchmarks" / "demo" / "results.json"
    expected = results_table(json.loads(committed.read_text())) if committed.exists() else ""
    assert shown == expected, "run `python pipelines/readme.py` after a new demo run was committed"
