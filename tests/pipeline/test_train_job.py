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
from wan_r1.train_grpo import TrainGrpoConfig
from wan_r1.words import field_value

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
    values["grpo_settings"] = settings = {"sde_window": [0, 1], "epochs": 2}
    words, config = command("train-grpo", values, "train-grpo-1")
    assert words[:2] == ["wan-r1", "train-grpo"]
    assert "--output=s3://wan-r1/runs/train-jobs/train-grpo-1/trained.json" in words
    # The same words through the command's own parser and config.
    given = cli._parser("train-grpo").parse_args(words[1:])
    assert (given.dataset, given.certificate, given.model) == tuple(VALUES.values())[:3]
    names = [name for name in json.loads(config.to_json()) if getattr(given, name) is not None]
    read = TrainGrpoConfig.build({name: field_value(TrainGrpoConfig, name, getattr(given, name)) for name in names})
    assert read == config == TrainGrpoConfig.from_preset("tiny", {"reward": "exact_match", "seed": 3, **settings})


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
def test_the_runtime_and_its_rights_build(repository: Path, runtime: dict[str, Any]) -> None:
    command = ["kubectl", "kustomize", str(repository / "manifests" / "trainer")]
    built = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert runtime in built
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    for resource in built:
        if resource != runtime:
            validate.validate(resource, validate.latest_version(), strict=True)
    rules = [rule for resource in built if resource["kind"].endswith("Role") for rule in resource["rules"]]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {
        ("trainjobs", "create"),
        ("trainjobs", "get"),
        ("trainjobs", "delete"),
        ("trainingruntimes", "get"),
        ("clustertrainingruntimes", "get"),
        ("pods/log", "get"),
    }
    (everywhere,) = [resource for resource in built if resource["kind"] == "ClusterRole"]
    assert [rule["resourceNames"] for rule in everywhere["rules"]] == [[RUNTIME]]
    for resource in built:
        if resource["kind"].endswith("Binding"):
            assert resource["subjects"] == [{"kind": "ServiceAccount", "name": "wan-r1-stage", "namespace": "wan-r1"}]


@needs_kubectl
def test_nodes_reach_each_other_and_nothing_else_does(repository: Path, runtime: dict[str, Any]) -> None:
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    labels = node["template"]["spec"]["template"]["metadata"]["labels"]
    text = (repository / "manifests" / "trainer" / "access.yaml").read_text()
    (policy,) = [one["spec"] for one in yaml.safe_load_all(text) if one["kind"] == "NetworkPolicy"]
    peer = {"podSelector": {"matchLabels": labels}}
    assert policy["podSelector"] == peer["podSelector"]
    assert (policy["ingress"], policy["egress"]) == ([{"from": [peer]}], [{"to": [peer]}])


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
    assert trainer["command"][:2] == ["wan-r1", "train-grpo"]
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
        (1, True, "was refused (Forbidden); the account needs the rights of manifests/trainer/access.yaml"),
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
