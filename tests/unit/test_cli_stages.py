"""The command line: help with every field, one message for what is wrong, places on S3."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from wan_r1 import cli
from wan_r1.storage import locations
from wan_r1.words import field_docs, field_value

TINY = ("--preset", "tiny", "--seed", "3")
FEW = [f"--{split}-levels=4" for split in ("train", "validation", "prompts", "test", "harder")]


@pytest.mark.parametrize("command", list(cli.STAGES))
def test_help_tells_every_field(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    config, run = cli._stage(command)
    for field in fields(config):
        assert f"--{field.name.replace('_', '-')}" in shown
    for name in cli._places(run):
        assert f"--{name.replace('_', '-')}" in shown


@pytest.mark.parametrize("command", list(cli.STAGES))
def test_every_field_is_documented(command: str) -> None:
    config, _ = cli._stage(command)
    assert [name for name, doc in field_docs(config).items() if not doc] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate-tasks", "--output=x", "--train-levels=-3"], "tasks_train_levels=-3 is not allowed"),
        (["generate-tasks", "--output=x", "--seed=one"], "seed='one' is not of type int"),
        (["generate-tasks", "--output=x", "--families=regulr"], "tasks_families=('regulr',) is not allowed"),
        (["generate-tasks", "--output=x", "--preset=tny"], "preset='tny' is unknown; allowed: small, tiny"),
        (["validate-tasks", "--dataset=none", "--certificate=c", "--report=r"], "none has no Parquet file"),
        (["run", "local", "none.py"], "none.py is no file"),
    ],
)
def test_what_is_wrong_is_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_installed_as_a_program(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wan_r1.cli", "generate-tasks", "--train-levels=-1", f"--output={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_stages_read_and_write_s3(s3_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{s3_prefix}/tasks"
    assert cli.main(["generate-tasks", *TINY, *FEW, "--output", data]) == 0
    assert any(name.endswith(".parquet") for name in locations.list_files(data))
    certificate, report = f"{s3_prefix}/certificate.json", tmp_path / "report.html"
    words = ["validate-tasks", "--dataset", data, "--certificate", certificate, "--report", str(report)]
    assert cli.main([*words, *TINY]) == 0
    assert "dataset_sha256" in json.loads(locations.read_bytes(certificate))
    assert report.read_text().lstrip().startswith("<!")


def test_field_values_are_json_or_words() -> None:
    config, _ = cli._stage("generate-tasks")
    assert field_value(config, "families", "a, b") == ["a", "b"]
    assert field_value(config, "families", '["a"]') == ["a"]
    assert field_value(config, "lossless", "true") is True
    assert field_value(config, "train_levels", "7") == 7
    assert field_value(config, "train_levels", "seven") == "seven"
    grpo, _ = cli._stage("train-grpo")
    assert field_value(grpo, "sde_window", "0,1") == [0, 1]
    assert field_value(grpo, "reward", "7") == "7"
