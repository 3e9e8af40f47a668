"""Puzzles made by tasks side by side, through Kubeflow's local runner: the same data set; one part is one task."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from wan_r1.generate_tasks import GenerateTasksConfig, run
from wan_r1.tasks.dataset import data_files, dataset_sha256

FEW = {
    "families": ["regular"],
    "train_levels": 6,
    "validation_levels": 0,
    "prompts_levels": 3,
    "test_levels": 2,
    "harder_levels": 1,
    "shard_rows": 2,
    "workers": 1,
}


def test_parts_side_by_side_make_the_data_set_of_one_task(repository: Path, tmp_path: Path) -> None:
    words = [f"tasks_{name}={','.join(value) if isinstance(value, list) else value}" for name, value in FEW.items()]
    words += ["tasks_shards=3", f"storage_uri={tmp_path / 'storage'}", "--folder", str(tmp_path / "runs")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ended = subprocess.run(
        [sys.executable, str(repository / "pipelines" / "stages.py"), "generate-tasks", "run", *words],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (folder,) = (tmp_path / "runs" / "pipeline").glob("*/generate-tasks/dataset")
    whole = run(GenerateTasksConfig.from_preset("tiny", FEW), output=tmp_path / "whole")
    assert [file.name for file in data_files(folder)] == [file.name for file in data_files(tmp_path / "whole")]
    assert len(data_files(folder)) == 7 and dataset_sha256(folder) == whole["dataset_sha256"]
    log = tmp_path / "runs" / "latest" / "log.txt"
    tasks = [line.split("'")[1] for line in log.read_text().splitlines() if "Executing task '" in line]
    assert sorted(tasks) == ["generate-part", "generate-part", "generate-part", "generate-tasks", "number-parts"]
    # Parts have made all: the last task linked the files that it found.
    stored = {file.name: file for file in (tmp_path / "storage" / "tasks").rglob("*.parquet")}
    assert all(os.path.samefile(stored[file.name], file) for file in data_files(folder))


def test_one_part_needs_no_further_task(repository: Path) -> None:
    for name in ("full.yaml", "stage-generate-tasks.yaml"):
        components = next(yaml.safe_load_all((repository / "pipelines" / name).read_text()))["components"]
        tasks = components["comp-make-parts"]["dag"]["tasks"]
        assert tasks and all("shards" in task["triggerPolicy"]["condition"] for task in tasks.values())
