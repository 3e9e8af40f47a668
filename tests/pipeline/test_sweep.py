"""A sweep through Kubeflow's local runner with very small settings: one training a setting, and one comparison."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from launch.numbers import whole

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


def _run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def swept(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the artifacts of a sweep."""
    folder = tmp_path_factory.mktemp("runs")
    ended = _run(repository / "pipelines" / "sweep.py", "run", "--folder", str(folder), *SMALL, ARMS)
    assert re.search(r"^report: ", ended.stdout, flags=re.MULTILINE)
    (run,) = (folder / "pipeline").glob("wan-r1-sweep-*")
    return run


def test_arms_meet_in_one_table(swept: Path) -> None:
    table = pq.read_table(swept / "compare-rewards" / "comparison")
    first, second = table["model"].to_pylist()
    assert first == "grpo:learning_rate=0.001"
    assert second == "grpo:group_size=3,reward=exact_match"
    assert table["reward"].to_pylist() == ["trajectory", "exact_match"]
    assert table["iterations"].to_pylist() == [1, 1]
    for results in table["results"].to_pylist():
        assert {(row["split"], row["n"]) for row in results} == {("test", 4), ("harder", 4)}


def test_the_page_tells_settings_from_rewards(swept: Path) -> None:
    page = (swept / "compare-rewards" / "report").read_text()
    assert "Settings compared" in page
    assert "2 GRPO runs from the same checkpoint, each with other settings." in page
    assert "another reward" not in page
    assert "Trained with: group_size=3, reward=exact_match" in page
    assert "Trained on" not in page


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 3.0, "a": [1.0, 0.5, {"c": -2.0}]}, {"a": [1, 0.5, {"c": -2}], "b": 3}),
        ({"lossless": True, "name": "3.0", "none": None}, {"lossless": True, "name": "3.0", "none": None}),
    ],
)
def test_settings_keep_whole_numbers(value: dict[str, Any], expected: dict[str, Any]) -> None:
    # As text, since 3 == 3.0 and dictionaries know no order.
    assert json.dumps(whole(value)) == json.dumps(expected)


def test_the_comparison_alone_gives_the_same_table(swept: Path, repository: Path, tmp_path: Path) -> None:
    arms = sorted(swept.glob("for-loop-*-iteration-*"))
    words = [f"arm_uris={','.join(str(arm / 'train-grpo' / 'log') for arm in arms)}"]
    words += [f"evaluation_uris={','.join(str(arm / 'evaluate' / 'scores') for arm in arms)}"]
    _run(repository / "pipelines" / "stages.py", "compare-rewards", "run", "--folder", str(tmp_path), *words)
    (again,) = (tmp_path / "pipeline").glob("wan-r1-compare-rewards-*/compare-rewards/comparison")
    assert pq.read_table(again).equals(pq.read_table(swept / "compare-rewards" / "comparison"))
