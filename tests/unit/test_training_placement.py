"""Where a training runs: its processes get equal shares, start by accelerate launch, and come to what one comes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from small_inputs import SFT, small_inputs, trained_weights
from wan_r1 import cli
from wan_r1.config import ConfigError
from wan_r1.runtime import resident_bytes
from wan_r1.train_grpo import TrainGrpoConfig
from wan_r1.train_sft import TrainSftConfig, run
from wan_r1.training import placement
from wan_r1.training.placement import PlacementError, place, stage_words
from wan_r1.video_model.reference import ModelReference

SHARE = 1e-4
"""Largest mean difference of a weight between two processes and one, as a share of the weights' standard deviation."""


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (TrainSftConfig, {"processes": -1}, "sft_processes=-1 is not allowed; expected a whole number from 0"),
        (TrainSftConfig, {"nodes": 0}, "sft_nodes=0 is not allowed; expected a whole number from 1"),
        (
            TrainSftConfig,
            {"processes": 3},
            "sft_processes=3 is not allowed; expected so many that all 3 processes get the same share of "
            "sft_batch_size=64",
        ),
        (
            TrainGrpoConfig,
            {"nodes": 3},
            "grpo_nodes=3 is not allowed; expected so many that all 3 processes get the same share of "
            "grpo_prompts_per_iteration=8",
        ),
    ],
)
def test_uneven_shares_are_refused(config: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**values)
    assert message in str(caught.value)


@pytest.mark.parametrize(("gpus", "processes"), [(0, 1), (1, 1), (3, 2), (8, 8), (12, 8)])
def test_all_visible_gpus_are_taken_that_share_a_batch_evenly(
    monkeypatch: pytest.MonkeyPatch, gpus: int, processes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placement, "_visible_gpus", lambda: gpus)
    config = placement._counted(TrainGrpoConfig(prompts_per_iteration=8, processes=0))
    assert config.processes == processes
    said = capsys.readouterr().out
    assert said == (
        f"train_grpo  uses {processes} of {gpus} GPUs: more do not share grpo_prompts_per_iteration=8 evenly\n"
        if processes < gpus
        else ""
    )


def test_nodes_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="grpo_nodes=2 is not allowed here, where a training has 1 node; more take a"):
        place(lambda config, **_: {}, TrainGrpoConfig(nodes=2))
    monkeypatch.setenv("PET_NNODES", "4")
    with pytest.raises(ConfigError, match="where a training has 4 nodes"):
        place(lambda config, **_: {}, TrainGrpoConfig(nodes=2))


def test_the_words_of_a_stage_give_its_config_back() -> None:
    config = TrainGrpoConfig.from_preset("tiny", {"seed": 3, "sde_window": [0, 1], "reward": "exact_match"})
    words = stage_words(config, {"dataset": Path("/data"), "storage_uri": "s3://bucket", "certificate": None})
    assert words[:3] == ["train-grpo", "--dataset=/data", "--storage-uri=s3://bucket"]
    places = [f"--{name}=x" for name in ("model", "output", "metrics", "report")]
    given = cli._parser("train-grpo").parse_args([*words, *places])
    assert given.certificate is None
    names = [name for name in json.loads(config.to_json()) if getattr(given, name) is not None]
    values = {name: cli.field_value(TrainGrpoConfig, name, getattr(given, name)) for name in names}
    assert TrainGrpoConfig.build(values) == config


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return small_inputs(folder, str(folder / "storage"))


def _train(folder: Path, inputs: dict[str, Path], **values: Any) -> tuple[dict[str, Any], Path]:
    config = TrainSftConfig.from_preset("tiny", {**SFT, "threads": 1, **values})
    outputs = {name: folder / name for name in ("output", "metrics", "report")}
    summary = place(run, config, storage_uri=str(folder / "storage"), **inputs, **outputs)
    return summary, outputs["output"]


def test_two_processes_train_what_one_trains(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, alone = _train(tmp_path / "one", inputs)
    capfd.readouterr()
    held = resident_bytes()
    two, together = _train(tmp_path / "two", inputs, processes=2)
    printed = capfd.readouterr().out
    assert printed.count("train_sft  step 4/4") == 1
    assert two["steps"] == one["steps"] == 4
    # Both processes count, each with torch and diffusers, beside what the tests before have left in this one.
    assert two["peak_memory_bytes"] - held > 2 * 300e6
    assert ModelReference.read(together).stage == two
    before, after = (trained_weights(path, tmp_path / path.parent.name / "w") for path in (alone, together))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        difference = (tensor - after[name]).abs().mean() / (tensor.std() + 1e-3)
        assert difference < SHARE, f"{name}: {difference}"


def test_a_failure_of_the_processes_is_told(inputs: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "certificate"
    other.write_text('{"dataset_sha256": "0"}')
    with pytest.raises(PlacementError, match=r"dataset=.* is not the data that certificate=.* is for"):
        _train(tmp_path, {**inputs, "certificate": other}, processes=2)
