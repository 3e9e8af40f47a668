"""A training as a TrainJob: its command runs the stage, and the real SDK sends it to an API of the tests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_manifests import breaches, needs_kubectl
from trainer_server import TrainerServer

from launch.deployment import HUB_KEYS, S3_KEYS
from train_job import RUNTIME, command, main
from wan_r1 import cli
from wan_r1.config import ConfigError
from wan_r1.images import GPU_IMAGE

VALUES = {
    "dataset_uri": "s3://wan-r1/run/dataset",
    "certificate_uri": "s3://wan-r1/run/certificate",
    "model_uri": "s3://wan-r1/run/trained",
    "storage_uri": "s3://wan-r1/runs",
}
NO_SDK = "Kubeflow's SDK is not installed: pip install 'wan-r1[kubeflow]'"
WORDS = [f"{name}={value}" for name, value in VALUES.items()]


@pytest.fixture
def runtime(repository: Path) -> dict[str, Any]:
    """The committed runtime."""
    return yaml.safe_load((repository / "manifests" / "trainer" / "runtime.yaml").read_text())


def test_the_command_is_the_stages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {**VALUES, "preset": "tiny", "grpo_reward": "exact_match", "seed": 3}
    values["grpo_settings"] = {"sde_window": [0, 1], "epochs": 2}
    words = command("train-grpo", values, "train-grpo-1")
    assert words[:3] == ["wan-r1", "train-grpo", "--preset=tiny"]
    assert "--output=s3://wan-r1/runs/train-jobs/train-grpo-1/trained.json" in words
    # The same words through the command's own parser and config.
    given = cli._parser("train-grpo").parse_args(words[1:])
    assert (given.dataset, given.certificate, given.model) == tuple(VALUES.values())[:3]
    assert (given.reward, given.seed, json.loads(given.sde_window), given.epochs) == ("exact_match", "3", [0, 1], "2")
    assert given.learning_rate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_uri": "runs/trained"}, "model_uri=runs/trained is not allowed; a TrainJob's pod shares no folder"),
        ({"storage_uri": "runs"}, "storage_uri=runs is not allowed"),
        ({"grpo_group_size": 1}, "grpo_group_size=1 is not allowed"),
        ({"dataset_uri": ""}, "dataset_uri is missing"),
    ],
)
def test_wrong_values_send_nothing(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command("train-grpo", {**VALUES, **change}, "job")
    assert message in str(caught.value)


def test_the_runtime_is_restricted_and_takes_its_keys_from_secrets(runtime: dict[str, Any]) -> None:
    assert (runtime["kind"], runtime["metadata"]["name"]) == ("ClusterTrainingRuntime", RUNTIME)
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert breaches(pod) == []
    (container,) = pod["containers"]
    assert (container["image"], container["securityContext"]["readOnlyRootFilesystem"]) == (GPU_IMAGE, True)
    taken = {one["valueFrom"]["secretKeyRef"]["key"]: one["name"] for one in container["env"]}
    assert taken == {**S3_KEYS, **HUB_KEYS}
    assert "value" not in {key for one in container["env"] for key in one}
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


@needs_kubectl
def test_the_runtime_builds(repository: Path, runtime: dict[str, Any]) -> None:
    command = ["kubectl", "kustomize", str(repository / "manifests" / "trainer")]
    assert yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == runtime


def test_the_runtime_fits_the_models_of_the_trainers_api(runtime: dict[str, Any]) -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", reason=NO_SDK)
    read = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(runtime)
    # What the models do not know is lost on the way.
    assert read.to_dict() == runtime


def test_the_job_is_sent_and_followed(
    runtime: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kubeflow.trainer", reason=NO_SDK)
    with TrainerServer([runtime]) as server:
        options = ["--namespace", "wan-r1", "--kubeconfig", str(server.kubeconfig(tmp_path)), "--watch"]
        assert main(["train-grpo", *options, *WORDS, "grpo_reward=exact_match"]) == 0
    ((name, job),) = server.jobs.items()
    assert job["spec"]["runtimeRef"] == {"kind": "ClusterTrainingRuntime", "name": RUNTIME}
    trainer = job["spec"]["trainer"]
    assert (trainer["image"], trainer["numNodes"]) == (GPU_IMAGE, 1)
    assert trainer["command"][:3] == ["wan-r1", "train-grpo", "--preset=tiny"]
    assert "--reward=exact_match" in trainer["command"]
    # Credentials are the runtime's Secrets, never values of a job.
    assert "env" not in trainer
    printed = capsys.readouterr().out
    assert f"TrainJob {name}; its results: s3://wan-r1/runs/train-jobs/{name}" in printed
    assert "train_grpo:exact_match  step 1/2" in printed


def test_a_failed_job_fails_the_command(runtime: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("kubeflow.trainer", reason=NO_SDK)
    with TrainerServer([runtime], outcome="Failed") as server:
        options = ["--namespace", "wan-r1", "--kubeconfig", str(server.kubeconfig(tmp_path)), "--watch"]
        assert main(["train-sft", *options, *WORDS]) == 1


@pytest.mark.parametrize(
    ("runtimes", "forbidden", "message"),
    [
        (0, False, "the runtime wan-r1-gpu cannot be read (Not Found); apply it: kubectl apply -k manifests/trainer"),
        (1, True, "was refused (Forbidden); ask for the right to create trainjobs"),
    ],
)
def test_a_refusal_says_what_to_do(
    runtime: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    runtimes: int,
    forbidden: bool,
    message: str,
) -> None:
    pytest.importorskip("kubeflow.trainer", reason=NO_SDK)
    with TrainerServer([runtime][:runtimes], forbidden=forbidden) as server:
        options = ["--namespace", "wan-r1", "--kubeconfig", str(server.kubeconfig(tmp_path))]
        assert main(["train-grpo", *options, *WORDS]) == 2
    assert message in capsys.readouterr().err
    assert not server.jobs


def test_no_cluster_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("kubeflow.trainer", reason=NO_SDK)
    assert main(["train-grpo", "--kubeconfig", str(tmp_path / "none"), "--namespace", "wan-r1", *WORDS]) == 2
    assert "no cluster is configured" in capsys.readouterr().err
