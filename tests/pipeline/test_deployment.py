"""A deployment file becomes what the SDK itself compiles on each task, and wrong entries are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_server import check_run

import full
import stages
from launch.deployment import GPU_TASKS, TASKS, Deployment, compile_pipeline
from launch.verbs import main
from wan_r1.config import ConfigError
from wan_r1.images import GPU_IMAGE
from wan_r1.training.placement import TRAIN_IMAGE, TRAIN_RUNTIME

FILE = """
cpu_image = "registry.example.org/wan-r1-cpu@sha256:11"
gpu_image = "registry.example.org/wan-r1-gpu@sha256:22"
image_pull_policy = "Always"
image_pull_secrets = ["registry"]
s3_secret = "store"
hub_secret = ""
environment = {HTTPS_PROXY = "http://proxy.example.org:3128"}

[cpu]
cpu_request = "500m"
memory_request = "2Gi"
memory_limit = "4Gi"
retries = 0

[gpu]
accelerator = "nvidia.com/gpu"
accelerators = 2
cpu_request = "8"
cpu_limit = "16"
memory_request = "64Gi"
memory_limit = "96Gi"
shared_memory = "16Gi"
timeout = 3600
retries = 3
retry_wait = 30
retry_factor = 2.0
retry_wait_limit = 600
node_selector = {pool = "gpu"}
tolerations = [{key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule"}]

[tasks.train_grpo]
accelerators = 8
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    return path


def _compiled(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("deployed")
    deployment = Deployment.read(_file(folder, FILE))
    return _compiled(compile_pipeline(full.full, folder / "full.yaml", deployment))


def _tasks(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    return {name: task for dag in dags for name, task in dag["tasks"].items()}


@pytest.mark.parametrize(("name", "count"), [("train-sft", "2"), ("evaluate", "2"), ("train-grpo", "8")])
def test_gpu_stages_have_their_resources(deployed: tuple, name: str, count: str) -> None:
    spec, platform = deployed
    container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    assert container["image"] == "registry.example.org/wan-r1-gpu@sha256:22"
    resources = container["resources"]
    assert resources["accelerator"] == {
        "type": "nvidia.com/gpu",
        "count": count,
        "resourceType": "nvidia.com/gpu",
        "resourceCount": count,
    }
    assert {name: value for name, value in resources.items() if name.startswith("resource")} == {
        "resourceCpuRequest": "8",
        "resourceCpuLimit": "16",
        "resourceMemoryRequest": "64Gi",
        "resourceMemoryLimit": "96Gi",
    }
    assert container["env"] == [{"name": "HTTPS_PROXY", "value": "http://proxy.example.org:3128"}]
    settings = platform[f"exec-{name}"]
    assert settings["emptyDirMounts"] == [
        {"volumeName": "shared-memory", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "16Gi"}
    ]
    assert settings["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert settings["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert settings["activeDeadlineSeconds"] == "3600"
    assert settings["imagePullPolicy"] == "Always"
    assert settings["imagePullSecret"][0]["secretName"] == "registry"
    assert settings["securityContext"] == {"runAsUser": "1000", "runAsNonRoot": True}
    (secret,) = settings["secretAsEnv"]
    assert (secret["secretName"], secret["optional"]) == ("store", True)
    assert {one["secretKey"]: one["envVar"] for one in secret["keyToEnv"]}["secret-key"] == "AWS_SECRET_ACCESS_KEY"


def test_cpu_stages_have_theirs(deployed: tuple) -> None:
    spec, platform = deployed
    container = spec["deploymentSpec"]["executors"]["exec-generate-tasks"]["container"]
    assert container["image"] == "registry.example.org/wan-r1-cpu@sha256:11"
    assert "accelerator" not in container["resources"]
    assert container["resources"]["resourceMemoryLimit"] == "4Gi"
    assert {"emptyDirMounts", "nodeSelector", "tolerations"}.isdisjoint(platform["exec-generate-tasks"])


def test_tasks_are_tried_again_with_growing_waits(deployed: tuple) -> None:
    spec, _ = deployed
    tasks = _tasks(spec)
    policy = {"maxRetryCount": 3, "backoffDuration": "30s", "backoffFactor": 2.0, "backoffMaxDuration": "600s"}
    for name in ("train-sft", "train-grpo", "continue-sft", "evaluate", "evaluate-4"):
        assert tasks[name]["retryPolicy"] == policy, name
    assert "retryPolicy" not in tasks["generate-tasks"]


def test_every_task_of_a_pipeline_is_covered_and_the_api_takes_it(deployed: tuple, repository: Path) -> None:
    spec, platform = deployed
    containers = {name for name, one in spec["deploymentSpec"]["executors"].items() if "container" in one}
    assert set(platform) == containers
    names = {name.removeprefix("exec-").rstrip("-0123456789").replace("-", "_") for name in containers}
    assert names <= set(TASKS)
    plain, _ = _compiled(repository / "pipelines" / "full.yaml")
    for name, executor in plain["deploymentSpec"]["executors"].items():
        task = name.removeprefix("exec-").rstrip("-0123456789").replace("-", "_")
        assert (executor["container"]["image"] == GPU_IMAGE) == (task in GPU_TASKS), task
    document = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": platform}}}}
    check_run({"display_name": "x", "pipeline_spec": {"pipeline_spec": spec, "platform_spec": document}})


def test_the_defaults_ask_for_no_gpu_and_the_example_for_one(repository: Path, tmp_path: Path) -> None:
    spec, _ = _compiled(repository / "pipelines" / "full.yaml")
    for executor in spec["deploymentSpec"]["executors"].values():
        assert "accelerator" not in executor.get("container", {}).get("resources", {})
        assert executor.get("container", {"resources": {}})["resources"] is not None
    path = tmp_path / "grpo.yaml"
    words = ["compile", "--deployment", str(repository / "pipelines" / "deployments" / "gpu.toml")]
    assert main(stages.STAGES["train-grpo"], "stage-train-grpo.py", [*words, "--output", str(path)]) == 0
    spec, platform = _compiled(path)
    resources = spec["deploymentSpec"]["executors"]["exec-train-grpo"]["container"]["resources"]
    assert resources["accelerator"]["resourceCount"] == "1"
    assert platform["exec-train-grpo"]["emptyDirMounts"][0]["medium"] == "Memory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu_imgae = 'x'", "cpu_imgae is unknown (did you mean cpu_image?)"),
        ("[gpu]\naccelerator_count = 1", "gpu.accelerator_count is unknown (did you mean accelerator?)"),
        ("[gpu]\naccelerators = '1'", "gpu.accelerators='1' is not allowed; expected a whole number"),
        ("[gpu]\naccelerators = -1", "gpu.accelerators=-1 is not allowed; expected a whole number from 0"),
        ("[gpu]\nmemory_limit = '96 GB'", "gpu.memory_limit='96 GB' is not allowed; expected bytes, such as 512Mi"),
        ("[cpu]\ncpu_request = '4'\ncpu_limit = '500m'", "cpu.cpu_request='4' is above cpu_limit='500m'"),
        ("[gpu]\nshared_memory = '8Gi'", "shared_memory='8Gi' leaves nothing of memory_limit='8Gi'"),
        ("[tasks.train_gpro]\nretries = 1", "tasks.train_gpro is no task (did you mean train_grpo?)"),
        (
            "[gpu]\nnode_selector = {pool = 1}",
            "gpu.node_selector={'pool': 1} is not allowed; expected a table of texts",
        ),
        ("[gpu]\ntolerations = [{taint = 'x'}]", "expected any of key, operator"),
        ("environment = {AWS_SECRET_ACCESS_KEY = 'marked'}", "put it into a Secret"),
        ("run_as_user = 0", "run_as_user=0 is not allowed; expected a user id above 0"),
        ("image_pull_policy = 'Sometimes'", "expected Always, IfNotPresent or Never"),
        ("gpu = 3", "gpu=3 is not allowed; expected a table"),
        ("gpu = [", "is no TOML"),
    ],
)
def test_wrong_entries_are_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Deployment.read(_file(tmp_path, text))
    assert message in str(caught.value)
    assert "deployment.toml" in str(caught.value)
    assert "marked" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compile", "--deployment", str(tmp_path / "none.toml"), "--output", str(tmp_path / "out.yaml")]
    assert main(full.full, "full.py", words) == 2
    assert "none.toml cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_secret_is_named_and_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN", "KF_PIPELINES_TOKEN"):
        monkeypatch.setenv(name, f"marked-{name}")
    text = compile_pipeline(full.full, tmp_path / "full.yaml").read_text()
    assert "marked-" not in text
    assert json.loads(json.dumps(list(yaml.safe_load_all(text))))


def test_credentials_come_from_secrets_or_from_the_account(tmp_path: Path) -> None:
    found = {}
    for hub, store in (("hub", ""), ("hub", "store"), ("", "")):
        text = FILE.replace('hub_secret = ""', f'hub_secret = "{hub}"')
        text = text.replace('s3_secret = "store"', f's3_secret = "{store}"')
        deployment = Deployment.read(_file(tmp_path, text))
        _, platform = _compiled(compile_pipeline(full.full, tmp_path / "full.yaml", deployment))
        # A cluster's account (IRSA, workload identity) gives access where no Secret does.
        found[hub, store] = platform["exec-prepare-model"].get("secretAsEnv", [])
    assert found["", ""] == []
    (token,) = found["hub", ""]
    assert (token["secretName"], token["keyToEnv"]) == ("hub", [{"secretKey": "token", "envVar": "HF_TOKEN"}])
    assert [one["secretName"] for one in found["hub", "store"]] == ["store", "hub"]


def test_trainings_are_submitted_as_train_jobs_where_a_runtime_is_named(tmp_path: Path) -> None:
    text = FILE.replace('hub_secret = ""', 'hub_secret = ""\ntrain_runtime = "wan-r1-gpu"').split("[tasks")[0]
    deployment = Deployment.read(_file(tmp_path, f"{text}[tasks.continue_sft]\nmemory_limit = '3Gi'\n"))
    spec, platform = _compiled(compile_pipeline(full.full, tmp_path / "full.yaml", deployment))
    executors = spec["deploymentSpec"]["executors"]
    for name in ("train-sft", "train-grpo", "continue-sft"):
        container = executors[f"exec-{name}"]["container"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        assert variables == {
            "HTTPS_PROXY": "http://proxy.example.org:3128",
            TRAIN_RUNTIME: "wan-r1-gpu",
            TRAIN_IMAGE: "registry.example.org/wan-r1-gpu@sha256:22",
        }
        # It only follows: no GPU, but as much time and as many attempts as the training.
        assert container["image"] == "registry.example.org/wan-r1-cpu@sha256:11"
        assert "accelerator" not in container["resources"]
        assert container["resources"]["resourceMemoryLimit"] == ("3Gi" if name == "continue-sft" else "4Gi")
    assert platform["exec-train-grpo"]["activeDeadlineSeconds"] == "3600"
    assert _tasks(spec)["train-grpo"]["retryPolicy"]["maxRetryCount"] == 3
    evaluate = executors["exec-evaluate"]["container"]
    assert evaluate["resources"]["accelerator"]["count"] == "2"
    assert TRAIN_RUNTIME not in {one["name"] for one in evaluate["env"]}
