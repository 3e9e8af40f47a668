"""The whole pipeline through Kubeflow's local runner with very small settings, and again from its cache."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from wan_r1.storage import locations
from wan_r1.storage.seaweed import SeaweedServer
from wan_r1.tasks.dataset import dataset_sha256
from wan_r1.video_model.reference import ModelReference

SMALL = [
    "tasks_train_levels=24",
    "tasks_validation_levels=4",
    "tasks_prompts_levels=8",
    "tasks_test_levels=4",
    "tasks_harder_levels=4",
    "sft_steps=4",
    "sft_batch_size=8",
    "sft_validate_every=4",
    "sft_validation_levels=2",
    "grpo_group_size=2",
    "grpo_prompts_per_iteration=2",
    "grpo_iterations=2",
    "grpo_rollout_steps=2",
    "grpo_sde_window=0",
    "grpo_validation_levels=2",
    "eval_samples=4",
    "eval_steps=1",
    "ablation_iterations=1",
    "ablation_rewards=exact_match",
]
ROW = {
    "model",
    "family",
    "difficulty",
    "texture",
    "split",
    "n",
    "em",
    "em_low",
    "em_high",
    "sr",
    "pr",
    "sd",
    "mf",
    "reward",
}


def _environment() -> dict[str, str]:
    """This process's without any S3 server's, so that the run brings its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)


@pytest.fixture(scope="module")
def script(repository: Path) -> Path:
    return repository / "pipelines" / "full.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(script: Path, runs: Path) -> subprocess.CompletedProcess[str]:
    return _run(script, "run", "--folder", str(runs), *SMALL)


def _results(runs: Path) -> dict[str, Any]:
    return json.loads((runs / "latest" / "results.json").read_text())


def test_a_run_gives_its_results(first: subprocess.CompletedProcess[str], runs: Path) -> None:
    assert first.returncode == 0, first.stdout + first.stderr
    results = _results(runs)
    assert set(results["run"]) == {"id", "git_commit", "config", "seed", "machine"}
    assert results["run"]["config"]["train_grpo"]["group_size"] == 2
    rows = results["rows"]
    assert all(set(row) >= ROW for row in rows)
    assert {row["model"] for row in rows} == {"base", "sft", "sft_continued", "grpo", "grpo:exact_match"}
    places = {(row["split"], row["family"]) for row in rows}
    assert places == {(split, family) for split in ("test", "harder") for family in ("regular", "trapfield")}
    assert len(rows) == 5 * len(places)
    assert all(0 <= row["em_low"] <= row["em"] <= row["em_high"] <= 1 for row in rows)
    names = [stage["name"] for stage in results["stages"]]
    assert names[:6] == ["generate_tasks", "validate_tasks", "prepare_model", "train_sft", "train_grpo", "continue_sft"]
    assert "train_grpo exact_match" in names
    for stage in results["stages"]:
        assert stage["seconds"] > 0
        assert 2**25 < stage["peak_memory_bytes"] < 6 * 2**30
        assert stage["cached"] is False


def test_a_run_leaves_a_report_tables_and_a_summary(first: subprocess.CompletedProcess[str], runs: Path) -> None:
    latest = runs / "latest"
    assert (latest / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    scores = pq.read_table(latest / "scores" / "grpo.parquet")
    assert scores.num_rows == 16
    assert all(video["bytes"] for video in scores["video"].to_pylist())
    assert (latest / "comparison.parquet").exists()
    summary = json.loads((latest / "summary.json").read_text())
    assert (summary["status"], summary["failed_stage"], summary["error"]) == ("SUCCEEDED", None, None)
    assert summary["parameters"]["grpo_group_size"] == 2


def test_the_terminal_shows_progress_results_and_the_report(first: subprocess.CompletedProcess[str]) -> None:
    assert "train_sft  step 4/4" in first.stdout
    assert re.search(r"train_grpo\S*  step 2/2", first.stdout)
    assert "Report:" in first.stdout
    assert "KFP Executor" not in first.stdout


def test_no_server_and_no_secret_is_left(first: subprocess.CompletedProcess[str], runs: Path) -> None:
    servers = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    assert not [one for one in servers if any(str(runs) in word for word in one.info["cmdline"])]
    secret = json.loads((runs / "storage" / "credentials.json").read_text())["secret_key"]
    written = [path for path in runs.rglob("*") if path.is_file() and "storage" not in path.relative_to(runs).parts]
    assert written
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in first.stdout + first.stderr


def test_artifacts_have_metadata(first: subprocess.CompletedProcess[str], runs: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for path in (runs / "pipeline").rglob("executor_output.json"):
        for name, value in json.loads(path.read_text()).get("artifacts", {}).items():
            found[f"{path.parent.name}/{name}"] = value["artifacts"][0]["metadata"]
    data, model = found["generate-tasks/dataset"], found["train-grpo/trained"]
    assert data["rows"] == 2 * (24 + 4 + 8 + 4 + 4)
    assert data["schema_version"]
    assert model["checkpoint_uri"].startswith("s3://wan-r1/checkpoints/train_grpo/")
    for metadata in (data, model, found["evaluate/scores"]):
        assert {"git_commit", "config_hash", "seconds", "peak_memory_bytes"} <= set(metadata)


def test_a_second_run_takes_what_has_not_changed(
    first: subprocess.CompletedProcess[str], script: Path, runs: Path
) -> None:
    before = _results(runs)
    second = _run(script, "run", "--folder", str(runs), *SMALL)
    assert second.returncode == 0, second.stdout + second.stderr
    after = _results(runs)
    assert after["rows"] == before["rows"]
    assert after["run"]["id"] != before["run"]["id"]
    assert all(stage["cached"] for stage in after["stages"])
    assert "train_sft  reused" in second.stdout


def test_a_changed_grpo_parameter_reruns_grpo_and_what_follows(
    first: subprocess.CompletedProcess[str], script: Path, runs: Path
) -> None:
    third = _run(script, "run", "--folder", str(runs), *SMALL, "grpo_learning_rate=0.0003")
    assert third.returncode == 0, third.stdout + third.stderr
    cached = {stage["name"]: stage["cached"] for stage in _results(runs)["stages"]}
    kept = {"generate_tasks", "validate_tasks", "prepare_model", "train_sft", "evaluate base", "evaluate sft"}
    assert {name for name, value in cached.items() if value} == kept


def test_a_stage_alone_takes_an_earlier_runs_artifacts(
    first: subprocess.CompletedProcess[str], repository: Path, runs: Path
) -> None:
    task = next((runs / "pipeline").glob("wan-r1-*/generate-tasks"))
    words = ["validate-tasks", "run", "--folder", str(runs), "--no-cache", f"dataset_uri={task / 'dataset'}"]
    ended = _run(repository / "pipelines" / "stages.py", *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.search(r"^certificate: (.*)$", ended.stdout, flags=re.MULTILINE)
    assert found is not None
    certificate = json.loads((repository / found[1]).read_text())
    assert certificate["dataset_sha256"] == dataset_sha256(task / "dataset")


def _weights(reference: Path, folder: Path) -> dict[str, Any]:
    locations.download_folder(ModelReference.read(reference).checkpoint_uri, folder)
    found = {path.relative_to(folder).as_posix(): load_file(path) for path in folder.rglob("*.safetensors")}
    assert found
    return found


def test_grpo_alone_gives_what_it_gave_in_the_run(
    first: subprocess.CompletedProcess[str],
    repository: Path,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The first run's, whose name has the earliest time: later ones reuse stages and leave no folders of them.
    task = min((runs / "pipeline").glob("wan-r1-*/train-grpo")).parent
    inputs = {
        "dataset_uri": task / "generate-tasks" / "dataset",
        "certificate_uri": task / "validate-tasks" / "certificate",
        "model_uri": task / "train-sft" / "trained",
    }
    words = [f"{name}={path}" for name, path in inputs.items()]
    words += [word for word in SMALL if word.startswith("grpo_")]
    with SeaweedServer(runs / "storage") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        environment = {**_environment(), **server.environment}
        # Another place for its checkpoints, or it would find the run's own and have nothing left to do.
        command = [sys.executable, str(repository / "pipelines" / "stages.py"), "train-grpo", "run", "--no-cache"]
        command += ["--folder", str(tmp_path / "runs"), f"storage_uri={server.uri}/again", *words]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert re.search(r"train_grpo\S*  step 2/2", ended.stdout)
        (again,) = (tmp_path / "runs" / "pipeline").glob("wan-r1-train-grpo-*/train-grpo")
        tables = [pq.read_table(place / "log") for place in (task / "train-grpo", again)]
        kept = [name for name in tables[0].column_names if "seconds" not in name]
        assert {"reward", "verified_reward", "em"} <= set(kept)
        assert tables[1].select(kept).equals(tables[0].select(kept))
        before = _weights(task / "train-grpo" / "trained", tmp_path / "before")
        after = _weights(again / "trained", tmp_path / "after")
    assert before.keys() == after.keys()
    for file, tensors in before.items():
        for name, tensor in tensors.items():
            assert (tensor == after[file][name]).all(), f"{file}: {name}"
