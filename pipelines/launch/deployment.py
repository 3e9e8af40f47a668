"""How a pipeline runs on a cluster: images, pods, Secrets, retries. One TOML file, laid over the compiled pipeline.

The pipelines say what is done; which nodes, accelerators and Secrets a cluster has is not theirs to know. Without a
file the defaults below hold, which any cluster with the manifests of this repository can run without a GPU.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp import compiler, dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from launch.parameters import CONFIGS
from wan_r1.config import ConfigError
from wan_r1.images import CPU_IMAGE, GPU_IMAGE
from wan_r1.training.placement import TRAIN_IMAGE, TRAIN_RUNTIME

TASKS = (
    *(config.STAGE for config in CONFIGS),
    "generate_part",
    "number_parts",
    "continue_sft",
    "summarise_run",
    "record_outcome",
)
"""Tasks that a deployment may name."""
GPU_TASKS = ("prepare_model", "train_sft", "continue_sft", "train_grpo", "evaluate")
"""Those of them that run the video model."""
TRAININGS = ("train_sft", "continue_sft", "train_grpo")
"""Those of them that can be submitted as TrainJobs."""

S3_KEYS = {
    "access-key": "AWS_ACCESS_KEY_ID",
    "secret-key": "AWS_SECRET_ACCESS_KEY",
    "session-token": "AWS_SESSION_TOKEN",
    "endpoint": "AWS_ENDPOINT_URL",
    "region": "AWS_DEFAULT_REGION",
}
"""Keys of the Secret for the object store, all of them optional, and the variables that they become."""
HUB_KEYS = {"token": "HF_TOKEN"}
"""Keys of the Secret for the model hub."""

_CPU = re.compile(r"(\d+(?:\.\d+)?)(m?)")
_BYTES = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_CREDENTIAL = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
_TOLERATION = {"key": str, "operator": str, "value": str, "effect": str, "toleration_seconds": int}


@dataclass(frozen=True, kw_only=True)
class Pod:
    """The pod of a task."""

    cpu_request: str = "1"
    """Cores that the scheduler reserves, such as 500m or 2."""
    cpu_limit: str = ""
    """Cores at most; empty for no limit, since a throttled training helps nobody."""
    memory_request: str = "2Gi"
    """Memory that the scheduler reserves."""
    memory_limit: str = "8Gi"
    """Memory at which the pod is killed; empty for no limit."""
    accelerator: str = "nvidia.com/gpu"
    """Resource name of the accelerator."""
    accelerators: int = 0
    """Accelerators of the pod."""
    shared_memory: str = ""
    """Size of a memory-backed /dev/shm, which counts towards the pod's memory; empty keeps the runtime's 64 MiB."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Labels that the node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """Taints of nodes that the pod may run on: key, operator, value, effect, toleration_seconds."""
    timeout: int = 0
    """Seconds after which the pod is ended; 0 for never."""
    retries: int = 2
    """Further attempts after a failure; a training goes on from its own last checkpoint."""
    retry_wait: int = 60
    """Seconds before the first further attempt."""
    retry_factor: float = 2.0
    """What the wait is multiplied by after each attempt."""
    retry_wait_limit: int = 1800
    """Seconds between two attempts at most."""

    def __post_init__(self) -> None:
        cpu = {name: _cores(name, getattr(self, name)) for name in ("cpu_request", "cpu_limit")}
        memory = {name: _bytes(name, getattr(self, name)) for name in ("memory_request", "memory_limit")}
        for kind, amounts in (("cpu", cpu), ("memory", memory)):
            request, limit = amounts[f"{kind}_request"], amounts[f"{kind}_limit"]
            if request and limit and request > limit:
                values = getattr(self, f"{kind}_request"), getattr(self, f"{kind}_limit")
                raise ConfigError(f"{kind}_request={values[0]!r} is above {kind}_limit={values[1]!r}")
        shared = _bytes("shared_memory", self.shared_memory)
        if shared and memory["memory_limit"] and shared >= memory["memory_limit"]:
            raise ConfigError(
                f"shared_memory={self.shared_memory!r} leaves nothing of memory_limit={self.memory_limit!r}, "
                "in which it counts"
            )
        for name in ("accelerators", "timeout", "retries", "retry_wait"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "a whole number from 0")
        _require("retry_factor", self.retry_factor, self.retry_factor >= 1, "a number from 1")
        for toleration in self.tolerations:
            for name, value in toleration.items():
                allowed = ", ".join(_TOLERATION)
                _require("tolerations", toleration, isinstance(value, _TOLERATION.get(name, ())), f"any of {allowed}")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Everything that differs between clusters."""

    cpu_image: str = CPU_IMAGE
    """Image of the stages that make and check data and reports; by digest for a release."""
    gpu_image: str = GPU_IMAGE
    """Image of the stages that run the video model."""
    image_pull_policy: str = ""
    """Always, IfNotPresent or Never; empty for Kubernetes' own."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with the registry's credentials."""
    s3_secret: str = "wan-r1-s3"
    """Secret with the object store's `S3_KEYS`; empty or absent where the service account gives access."""
    hub_secret: str = "wan-r1-hub"
    """Secret with the model hub's `token`; empty or absent for public models."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables of all stages, such as a proxy's; credentials belong in Secrets."""
    run_as_user: int = 1000
    """User id of the stages, never 0."""
    train_runtime: str = ""
    """TrainingRuntime or ClusterTrainingRuntime of Kubeflow Trainer: where one is named, a training is submitted as a
    TrainJob that runs in it, and its own pod, one of `cpu`, only follows."""
    cpu: Pod = field(default_factory=Pod)
    """Pods of the stages that need no accelerator."""
    gpu: Pod = field(default_factory=Pod)
    """Pods of the stages that run the video model."""
    tasks: dict[str, Pod] = field(default_factory=dict)
    """Pods of single tasks."""

    def __post_init__(self) -> None:
        for name in self.environment:
            if _CREDENTIAL.search(name):
                raise ConfigError(
                    f"environment.{name} looks like a credential, which would be readable in every compiled pipeline; "
                    "put it into a Secret and name that by s3_secret or hub_secret"
                )
        policies = ("", "Always", "IfNotPresent", "Never")
        _require(
            "image_pull_policy",
            self.image_pull_policy,
            self.image_pull_policy in policies,
            "Always, IfNotPresent or Never",
        )
        _require("run_as_user", self.run_as_user, self.run_as_user > 0, "a user id above 0")

    @classmethod
    def read(cls, path: Path) -> Deployment:
        """A deployment from a TOML file.

        Tables ``[cpu]`` and ``[gpu]`` hold fields of `Pod`; ``[tasks.NAME]`` those in which one task differs.

        Raises:
            ConfigError: naming the file, the entry and what is allowed.
        """
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise ConfigError(f"--deployment {path} cannot be read: {error.strerror}") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"--deployment {path} is no TOML: {error}") from None
        try:
            return cls._build(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    def follows(self, task: str) -> bool:
        """Whether a task submits its training as a TrainJob and follows it."""
        return bool(self.train_runtime) and task in TRAININGS

    def pod(self, task: str) -> Pod:
        """The pod of a task; one that follows a TrainJob lasts as long as the training and is tried as often."""
        if task in self.tasks:
            return self.tasks[task]
        if self.follows(task):
            lasting = ("timeout", "retries", "retry_wait", "retry_factor", "retry_wait_limit")
            return dataclasses.replace(self.cpu, **{name: getattr(self.gpu, name) for name in lasting})
        return self.gpu if task in GPU_TASKS else self.cpu

    @classmethod
    def _build(cls, values: dict[str, Any]) -> Deployment:
        tables = {name: _table(name, values.pop(name, {})) for name in ("cpu", "gpu", "tasks")}
        pods = {name: _fill(Pod, f"{name}.", tables[name]) for name in ("cpu", "gpu")}
        tasks = {}
        for name, table in tables["tasks"].items():
            if name not in TASKS:
                raise ConfigError(f"tasks.{name} is no task{_nearest(name, TASKS)}; there are: {', '.join(TASKS)}")
            followed = bool(values.get("train_runtime")) and name in TRAININGS
            kind = "gpu" if name in GPU_TASKS and not followed else "cpu"
            tasks[name] = _fill(Pod, f"tasks.{name}.", {**tables[kind], **_table(f"tasks.{name}", table)})
        return _fill(cls, "", {**values, **pods, "tasks": tasks})


def compile_pipeline(pipeline: BaseComponent, path: Path, deployment: Deployment | None = None) -> Path:
    """Write a pipeline's YAML as it is to run on a cluster.

    Args:
        pipeline: the pipeline.
        path: the file.
        deployment: the cluster's; `None` takes the defaults.
    """
    compiler.Compiler().compile(pipeline, str(path))
    text = path.read_text()
    comments = "".join(line for line in text.splitlines(keepends=True) if line.startswith("# "))
    spec = next(document for document in yaml.safe_load_all(text) if document)
    platform = deploy(spec, deployment or Deployment())
    documents = [yaml.dump(one, sort_keys=True) for one in (spec, platform)]
    path.write_text(comments + "---\n".join(documents))
    return path


def deploy(spec: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
    """Lay a deployment over a compiled pipeline.

    Args:
        spec: the pipeline's specification, changed in place: images, variables, resources, retries.
        deployment: the cluster's.

    Returns:
        The platform specification that goes with it: Secrets, volumes, nodes, timeouts.
    """
    compiled: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {}
    platform: dict[str, Any] = {}
    retries: dict[str, Any] = {}
    for label, executor in spec["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        task = re.sub(r"-\d+$", "", label.removeprefix("exec-")).replace("-", "_")
        pod, followed = deployment.pod(task), deployment.follows(task)
        if repr(pod) not in compiled:
            compiled[repr(pod)] = _compiled(pod, deployment)
        container, retries[label], platform[label] = copy.deepcopy(compiled[repr(pod)])
        on_gpu = task in GPU_TASKS and not followed
        executor["container"]["image"] = deployment.gpu_image if on_gpu else deployment.cpu_image
        executor["container"] |= container
        if followed:
            variables = {TRAIN_RUNTIME: deployment.train_runtime, TRAIN_IMAGE: deployment.gpu_image}
            env = [{"name": name, "value": value} for name, value in variables.items()]
            executor["container"]["env"] = [*executor["container"].get("env", []), *env]
    for component in ({"dag": spec["root"]["dag"]}, *spec["components"].values()):
        for task in component.get("dag", {}).get("tasks", {}).values():
            label = spec["components"][task["componentRef"]["name"]].get("executorLabel")
            if retries.get(label):
                task["retryPolicy"] = dict(retries[label])
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": platform}}}}


def _compiled(pod: Pod, deployment: Deployment) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A pod's settings as the SDK compiles them: of the container, of the task's retries, and of the platform."""

    @dsl.container_component
    def stage():  # type: ignore[no-untyped-def]
        return dsl.ContainerSpec(image="stage", command=["true"])

    @dsl.pipeline(name="settings")
    def settings():  # type: ignore[no-untyped-def]
        task = stage()
        for name in ("cpu_request", "cpu_limit", "memory_request", "memory_limit"):
            if getattr(pod, name):
                getattr(task, f"set_{name}")(getattr(pod, name))
        if pod.accelerators:
            task.set_accelerator_type(pod.accelerator).set_accelerator_limit(pod.accelerators)
        if pod.retries:
            waits = {"backoff_duration": f"{pod.retry_wait}s", "backoff_max_duration": f"{pod.retry_wait_limit}s"}
            task.set_retry(pod.retries, backoff_factor=pod.retry_factor, **waits)
        for name, value in deployment.environment.items():
            task.set_env_variable(name, value)
        # Optional, so that a pod starts without and the stage itself can say which credentials are missing.
        for secret, keys in ((deployment.s3_secret, S3_KEYS), (deployment.hub_secret, HUB_KEYS)):
            if secret:
                kubernetes.use_secret_as_env(task, secret, keys, optional=True)
        if deployment.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, list(deployment.image_pull_secrets))
        if deployment.image_pull_policy:
            kubernetes.set_image_pull_policy(task, deployment.image_pull_policy)
        if pod.shared_memory:
            memory = {"medium": "Memory", "size_limit": pod.shared_memory}
            kubernetes.empty_dir_mount(task, volume_name="shared-memory", mount_path="/dev/shm", **memory)
        for label, value in pod.node_selector.items():
            kubernetes.add_node_selector(task, label, value)
        for toleration in pod.tolerations:
            kubernetes.add_toleration(task, **toleration)
        if pod.timeout:
            kubernetes.set_timeout(task, pod.timeout)
        kubernetes.set_security_context(task, run_as_user=deployment.run_as_user, run_as_non_root=True)

    spec = json_format.MessageToDict(settings.pipeline_spec)
    container = spec["deploymentSpec"]["executors"]["exec-stage"]["container"]
    kept = {name: container[name] for name in ("resources", "env") if name in container}
    retries = spec["root"]["dag"]["tasks"]["stage"].get("retryPolicy", {})
    executors = json_format.MessageToDict(settings.platform_spec)["platforms"]["kubernetes"]["deploymentSpec"][
        "executors"
    ]
    return kept, retries, executors["exec-stage"]


def _fill(kind: type, prefix: str, values: Mapping[str, Any]) -> Any:
    """A dataclass from TOML values, with their names and types checked."""
    hints = typing.get_type_hints(kind)
    known = [one.name for one in dataclasses.fields(kind)]
    found = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{prefix}{name} is unknown{_nearest(name, known)}; there are: {', '.join(known)}")
        origin = typing.get_origin(hints[name]) or hints[name]
        value = tuple(value) if origin is tuple and isinstance(value, list) else value
        value = float(value) if origin is float and isinstance(value, int) else value
        if not isinstance(value, origin) or isinstance(value, bool):
            words = {str: "a text", int: "a whole number", float: "a number", dict: "a table", tuple: "a list"}
            raise ConfigError(f"{prefix}{name}={value!r} is not allowed; expected {words[origin]}")
        if origin is dict and name != "tasks" and not all(isinstance(one, str) for one in value.values()):
            raise ConfigError(f"{prefix}{name}={value!r} is not allowed; expected a table of texts")
        found[name] = value
    try:
        return kind(**found)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from None


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name}={value!r} is not allowed; expected a table")
    return value


def _require(name: str, value: Any, holds: bool, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"{name}={value!r} is not allowed; expected {allowed}")


def _nearest(name: str, known: typing.Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def _cores(name: str, text: str) -> float:
    found = _CPU.fullmatch(text)
    _require(name, text, not text or bool(found), "cores, such as 2 or 500m")
    return float(found[1]) / (1000 if found[2] else 1) if found else 0.0


def _bytes(name: str, text: str) -> float:
    found = _BYTES.fullmatch(text)
    _require(name, text, not text or bool(found), "bytes, such as 512Mi or 16Gi")
    return float(found[1]) * _UNITS[found[2]] if found else 0.0
