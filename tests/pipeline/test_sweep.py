"""A sweep through Kubeflow's local runner with very small settings: one training a setting, and one comparison."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

SMALL = [
    "tasks_families=regular",
    "tasks_train_levels=12",
    "tasks_validation_levels=2",
    "tasks_prompts_levels=4",
    "tasks_test_levels=4",
    "tasks_harder_levels=4",
    "sft_steps=1",
    "sft_batch_size=4",
    "sft_validate_every=1",
    "sft_validation_levels=2",
    "grpo_iterations=1",
    "grpo_group_size=2",
    "grpo_prompts_per_iteration=2",
    "grpo_rollout_steps=2",
    "grpo_sde_window=0",
    "grpo_validation_levels=2",
    "eval_samples=4",
    "eval_steps=1",
]
ARMS = 'settings=[{"grpo_learning_rate": 0.001}, {"reward": "exact_match", "group_size": 3}]'


def test_arms_meet_in_one_table(repository: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [
        sys.executable,
        str(repository / "pipelines" / "sweep.py"),
        "run",
        "--folder",
        str(tmp_path),
        *SMALL,
        ARMS,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tables = [path for path in (tmp_path / "pipeline").glob("wan-r1-sweep-*/compare-rewards/comparison")]
    assert len(tables) == 1
    table = pq.read_table(tables[0])
    assert table["model"].to_pylist() == ["grpo:learning_rate=0.001", "grpo:reward=exact_match,group_size=3"]
    assert table["iterations"].to_pylist() == [1, 1]
    for results in table["results"].to_pylist():
        assert {(row["split"], row["n"]) for row in results} == {("test", 4), ("harder", 4)}
    assert re.search(r"^report: ", ended.stdout, flags=re.MULTILINE)
