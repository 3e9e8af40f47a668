"""A stage that submits its training as a TrainJob, follows it, and brings back what it has trained."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from trainer_server import TrainerServer

import stages
from launch.verbs import main
from small_inputs import SFT, small_inputs, trained_weights
from wan_r1.config import ConfigError
from wan_r1.storage import locations
from wan_r1.storage.seaweed import SeaweedServer
from wan_r1.train_sft import TrainSftConfig, run
from wan_r1.training.placement import TRAIN_RUNTIME, place
from wan_r1.training.train_jobs import TrainJobError, run_as_job

pytest.importorskip("kubeflow.trainer", reason="Kubeflow's SDK is not installed: pip install 'wan-r1[kubeflow]'")

RUNTIME = "wan-r1-gpu"
SLOW = {"validate_every": 3, "validation_steps": 50}
"""Leaves a second between the checkpoint after step 2 and the end, for a node to be taken away."""
SHARE = 1e-4
"""Largest mean difference of a weight between two nodes and one process, as a share of the weights' deviation."""


@pytest.fixture(scope="module")
def runtime(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "manifests" / "trainer" / "runtime.yaml").read_text())


@pytest.fixture(scope="module")
def variables(seaweed: SeaweedServer) -> Iterator[dict[str, str]]:
    """The storage's variables, of this process too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in seaweed.environment.items():
            patch.setenv(name, value)
        yield seaweed.environment


@pytest.fixture(scope="module")
def inputs(seaweed: SeaweedServer, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("inputs")
    return small_inputs(folder, f"{seaweed.uri}/{folder.name}")


def _use(server: TrainerServer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDK reach the server, from this process and from stages that it starts."""
    path = str(server.kubeconfig(folder))
    monkeypatch.setenv("KUBECONFIG", path)
    # What the variable said when the client was imported.
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)


def _config(**values: Any) -> TrainSftConfig:
    return TrainSftConfig.from_preset("tiny", {**SFT, "threads": 1, **values})


def _places(folder: Path) -> dict[str, Path]:
    return {name: folder / name for name in ("output", "metrics", "report")}


def test_a_stage_trains_on_two_nodes_of_which_one_is_taken_away(
    runtime: dict[str, Any],
    inputs: dict[str, Path],
    variables: dict[str, str],
    s3_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with TrainerServer([runtime], folder=logs, environment={**variables, "OMP_NUM_THREADS": "1"}) as server:
        _use(server, tmp_path, monkeypatch)
        monkeypatch.setenv(TRAIN_RUNTIME, RUNTIME)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        threading.Thread(target=_take_away, args=(server, s3_prefix), daemon=True).start()
        words = [f"{name}_uri={path}" for name, path in inputs.items()]
        words += [f"sft_{name}={value}" for name, value in {**SFT, **SLOW, "threads": 1, "nodes": 2}.items()]
        words += [f"storage_uri={s3_prefix}", "--folder", str(tmp_path / "runs"), "--no-cache"]
        assert main(stages.STAGES["train-sft"], "stages.py", ["run", *words]) == 0
        ((name, job),) = server.jobs.items()
        assert server.running[name].attempt == 1
    printed = capfd.readouterr().out
    assert f"TrainJob {name} on 2 node(s)" in printed
    assert "train_sft  resumed at step 2" in printed
    assert printed.count("train_sft  step 4/4") == 1
    assert (job["spec"]["runtimeRef"]["name"], job["spec"]["trainer"]["numNodes"]) == (RUNTIME, 2)
    assert "--nodes=2" in job["spec"]["trainer"]["command"]
    # No credential is sent: the pods have the runtime's Secrets.
    assert variables["AWS_SECRET_ACCESS_KEY"] not in str(job)
    (task,) = (tmp_path / "runs" / "pipeline").glob("wan-r1-train-sft-*/train-sft")
    monkeypatch.delenv(TRAIN_RUNTIME)
    alone = _places(tmp_path / "alone")
    place(run, _config(**SLOW), storage_uri=f"{s3_prefix}/alone", **inputs, **alone)
    before = trained_weights(alone["output"], tmp_path / "before")
    after = trained_weights(task / "trained", tmp_path / "after")
    assert before.keys() == after.keys()
    for weight, tensor in before.items():
        difference = (tensor - after[weight]).abs().mean() / (tensor.std() + 1e-3)
        assert difference < SHARE, f"{weight}: {difference}"


def _take_away(server: TrainerServer, storage_uri: str) -> None:
    """End the second node of the first job once a checkpoint is complete."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        if any(place.endswith("manifest.json") for place in locations.list_files(f"{storage_uri}/checkpoints")):
            (job,) = server.running.values()
            job.take_away(1)
            return
        time.sleep(0.05)


def test_a_failed_job_fails_the_stage_and_the_next_attempt_gets_its_own(
    runtime: dict[str, Any],
    inputs: dict[str, Path],
    s3_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TrainerServer([runtime], outcome="Failed") as server:
        _use(server, tmp_path, monkeypatch)
        for attempt in (1, 2):
            with pytest.raises(TrainJobError, match=r"the TrainJob train-sft-\w+(-2)? failed; its log stands above"):
                run_as_job(_config(), runtime=RUNTIME, storage_uri=s3_prefix, **inputs, **_places(tmp_path))
            assert len(server.jobs) == attempt
        first, second = server.jobs
        assert second == f"{first}-2"
        # What lies on this machine alone is copied to where the pods find it.
        words = server.jobs[first]["spec"]["trainer"]["command"]
        (dataset,) = [word.removeprefix("--dataset=") for word in words if word.startswith("--dataset=")]
        assert dataset == f"{s3_prefix}/train-jobs/{first}/inputs/dataset"
        assert [place for place in locations.list_files(dataset) if place.endswith(".parquet")]


def test_a_stage_that_is_tried_again_follows_the_job_that_it_finds(
    runtime: dict[str, Any],
    inputs: dict[str, Path],
    s3_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with TrainerServer([runtime]) as server:
        _use(server, tmp_path, monkeypatch)
        for _ in range(2):
            # The server only says that the job is complete: there is nothing to bring back.
            with pytest.raises(Exception, match=r"train-jobs/train-sft-\w+/trained.json"):
                run_as_job(_config(), runtime=RUNTIME, storage_uri=s3_prefix, **inputs, **_places(tmp_path))
        assert len(server.jobs) == 1


def test_what_cannot_work_is_told_before_a_job_is_made(
    runtime: dict[str, Any], inputs: dict[str, Path], s3_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {**inputs, **_places(tmp_path)}
    with pytest.raises(ConfigError, match="storage_uri=runs is not allowed for a TrainJob"):
        run_as_job(_config(), runtime=RUNTIME, storage_uri="runs", **arguments)
    with TrainerServer([], forbidden=True) as server:
        _use(server, tmp_path, monkeypatch)
        with pytest.raises(TrainJobError, match="apply it: kubectl apply -k manifests/trainer"):
            run_as_job(_config(), runtime=RUNTIME, storage_uri=s3_prefix, **arguments)
        server.runtimes = {RUNTIME: runtime}
        with pytest.raises(TrainJobError, match=r"was refused \(Forbidden\); .* manifests/trainer/access.yaml"):
            run_as_job(_config(), runtime=RUNTIME, storage_uri=s3_prefix, **arguments)
        assert not server.jobs
