"""Runs that cannot succeed: known at once where it can be, and never without a summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import stages
from launch.verbs import main
from wan_r1.storage.seaweed import SeaweedServer

FEW = [f"tasks_{split}_levels=4" for split in ("train", "validation", "prompts", "test", "harder")]


def _command(repository: Path, runs: Path, *words: str) -> list[str]:
    return [sys.executable, str(repository / "pipelines" / "full.py"), "run", "--folder", str(runs), *FEW, *words]


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}


def _servers(runs: Path) -> list[psutil.Process]:
    found = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    return [one for one in found if any(str(runs) in word for word in one.info["cmdline"])]


def test_a_wrong_parameter_starts_nothing(repository: Path, tmp_path: Path) -> None:
    command = _command(repository, tmp_path / "runs", "grpo_group_size=1")
    ended = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: grpo_group_size=1 is not allowed; expected at least 2")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "s3://bucket/dataset",
            "dataset_uri=s3://bucket/dataset: on this machine a stage reads artifacts from folders",
        ),
        ("no-such-folder", "dataset_uri=no-such-folder: there is no such file or folder; expected an artifact"),
    ],
)
def test_an_artifact_that_is_not_here_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], uri: str, message: str
) -> None:
    words = ["run", "--folder", str(tmp_path / "runs"), f"dataset_uri={uri}"]
    assert main(stages.STAGES["validate-tasks"], "stages.py", words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_refused_credentials_start_nothing(repository: Path, tmp_path: Path, seaweed: SeaweedServer) -> None:
    wrong = {**seaweed.environment, "AWS_SECRET_ACCESS_KEY": "marked-5be1", "HF_TOKEN": "marked-90c4"}
    command = _command(repository, tmp_path, "storage_uri=s3://wan-r1/x")
    ended = subprocess.run(command, capture_output=True, text=True, env=_environment(**wrong), check=False)
    assert ended.returncode == 2
    assert "storage_uri=s3://wan-r1/x" in ended.stderr
    assert "the secret does not belong to the access key; set AWS_SECRET_ACCESS_KEY" in ended.stderr
    assert "marked-" not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_stage_is_named_and_the_run_summed_up(repository: Path, tmp_path: Path) -> None:
    command = _command(repository, tmp_path, f"model_source={tmp_path / 'no-such-folder'}")
    ended = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
    assert ended.returncode == 1
    assert "The run failed in prepare_model: " in ended.stdout
    assert "no-such-folder" in ended.stdout
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text())
    assert (summary["status"], summary["failed_stage"]) == ("FAILED", "prepare_model")
    assert "no-such-folder" in summary["error"]
    assert summary["rows"] is None
    assert not _servers(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_a_summary_and_no_process(
    repository: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = _command(repository, tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("generate_tasks  starting"):
                break
        time.sleep(0.5)
        begin = time.monotonic()
        run.send_signal(number)
        rest = run.stdout.read()
        assert run.wait(timeout=30) == 130
        assert time.monotonic() - begin < 20
    assert "The run was interrupted in generate_tasks." in rest
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text())
    assert (summary["status"], summary["failed_stage"]) == ("CANCELED", "generate_tasks")
    assert not _servers(tmp_path)
