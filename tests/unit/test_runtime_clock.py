"""What a stage costs, and what its artifacts say about it."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wan_r1 import runtime
from wan_r1.artifacts import describe, numbers
from wan_r1.config import StageConfig
from wan_r1.runtime import StageClock

MEBIBYTE = 2**20


def _work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_seconds_and_core_seconds() -> None:
    with StageClock("stage") as clock:
        _work(0.2)
        time.sleep(0.3)
    summary = clock.summary()
    assert 0.5 <= summary["seconds"] < 5
    assert 0.2 <= summary["core_seconds"] < summary["seconds"]
    assert summary == clock.summary()


def test_children_count() -> None:
    with StageClock("stage") as clock:
        child = multiprocessing.get_context("spawn").Process(target=_work, args=(0.3,))
        child.start()
        child.join()
    assert clock.summary()["core_seconds"] >= 0.3


def test_peak_memory_is_of_the_whole_tree() -> None:
    before = runtime.resident_bytes()
    program = f"import time; block = bytearray(b'x') * {200 * MEBIBYTE}; time.sleep(1.5)"
    with StageClock("stage") as clock:
        subprocess.run([sys.executable, "-c", program], check=True)
    assert clock.summary()["peak_memory_bytes"] >= before + 190 * MEBIBYTE
    assert runtime.resident_bytes() < before + 100 * MEBIBYTE


def test_the_commit_of_an_image_is_taken_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.git_commit.cache_clear()
    monkeypatch.setenv("WAN_R1_GIT_COMMIT", "abc")
    assert runtime.git_commit() == "abc"
    runtime.git_commit.cache_clear()


def test_the_machine_is_described() -> None:
    machine = runtime.machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 2**28


@dataclass
class _Artifact:
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def log_metric(self, metric: str, value: float) -> None:
        self.metadata[metric] = value


def test_artifacts_are_described(tmp_path: Path) -> None:
    summary = {
        "rows": [
            {"split": "test", "family": "regular", "n": 4, "em": 0.5, "sr": 1.0, "pr": None, "mf": 1, "reward": 0}
        ],
        "seconds": 2.0,
        "git_commit": "abc",
        "checkpoint_uri": None,
        "final_loss": float("nan"),
    }
    metrics, model = _Artifact(str(tmp_path / "deep" / "metrics")), _Artifact("unused")
    config = StageConfig(seed=4)
    describe(summary, config=config, metrics=metrics, artifacts=(model,), name="evaluate base")
    assert model.metadata == {"git_commit": "abc", "seconds": 2.0, "rows": 4, "config_hash": config.hash}
    assert metrics.metadata["test/regular/em"] == 0.5
    assert "test/regular/pr" not in metrics.metadata
    written = json.loads(Path(metrics.path).read_text())
    assert (written["label"], written["config"]) == ("evaluate base", {"seed": 4})


def test_numbers_leave_out_what_is_none() -> None:
    summary = {"a": 1, "b": True, "c": float("inf"), "d": "x", "em": {"regular": 0.5}, "config": {"seed": 1}}
    assert numbers(summary) == {"a": 1.0, "em/regular": 0.5}
