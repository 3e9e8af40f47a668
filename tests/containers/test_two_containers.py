"""Trainings on two nodes, each a container, by the container backend of Kubeflow's SDK."""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from docker_client import docker

from small_inputs import SFT, small_inputs, trained_weights
from wan_r1.storage import StorageError, locations
from wan_r1.train_grpo import TrainGrpoConfig
from wan_r1.train_grpo import run as run_grpo
from wan_r1.train_sft import TrainSftConfig
from wan_r1.train_sft import run as run_sft
from wan_r1.training.placement import PlacedConfig, stage_words
from wan_r1.video_model.reference import ModelReference

pytestmark = pytest.mark.timeout(1200)
trainer = pytest.importorskip(
    "kubeflow.trainer", reason="Kubeflow's SDK is not installed: pip install 'wan-r1[kubeflow]'"
)

RUNTIME = "wan-r1-gpu"
SHARE = 1e-4
"""Largest mean difference of a weight between two nodes and one process, as a share of the weights' deviation."""
GRPO: dict[str, Any] = {
    "iterations": 2,
    "group_size": 4,
    "prompts_per_iteration": 4,
    "harder_share": 0.5,
    "minibatches": 1,
    "rollout_steps": 3,
    "replay_levels": 0,
    "warmup_share": 0.0,
    "views": 1,
    "learning_rate": 1e-4,
    "validate_every": 100,
    "validation_levels": 2,
    "checkpoint_every": 1,
    # Videos of an untrained model differ by little, which must count for there to be a gradient.
    "least_std": 1e-7,
}
"""Fields of `TrainGrpoConfig` for a training of seconds, over those of the preset `tiny`."""
FLOW: dict[str, Any] = {
    "objective": "flow_grpo",
    "sde_window": [0, 1],
    "replay_batch": 0,
    "stitches": 0,
    "demonstration_batch": 0,
}
FORWARD: dict[str, Any] = {"objective": "forward_grpo", "replay_batch": 4, "demonstration_batch": 4}
TRAININGS: dict[str, tuple[Callable[..., Any], type[PlacedConfig], dict[str, Any]]] = {
    "sft": (run_sft, TrainSftConfig, SFT),
    "flow-grpo": (run_grpo, TrainGrpoConfig, {**GRPO, **FLOW}),
    "forward-grpo-sharded": (run_grpo, TrainGrpoConfig, {**GRPO, **FORWARD, "data_parallel": "fsdp2"}),
}


def train(words: list[str]) -> None:
    """What a node's processes run: the SDK's container backend takes functions alone, and sends their text."""
    from wan_r1.cli import main

    raise SystemExit(main(words))


@pytest.fixture
def job(image: str) -> Iterator[str]:
    """Name of a job whose network is there already, so that its storage can be in it."""
    name = f"train-{uuid.uuid4().hex[:8]}"
    prefix = "trainer.kubeflow.org"
    labels = {"trainjob-name": name, "runtime-name": RUNTIME}
    words = [word for label, value in labels.items() for word in ("--label", f"{prefix}/{label}={value}")]
    docker("network", "create", *words, f"{name}-net")
    yield name
    left = docker("ps", "--all", "--quiet", "--filter", f"network={name}-net").stdout.split()
    if left:
        docker("rm", "--force", *left)
    docker("network", "rm", f"{name}-net")


@pytest.fixture
def store(job: str, image: str, repository: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The overlay's object store as a container of the job's network; returns the variables that reach it there."""
    text = (repository / "manifests" / "overlays" / "local" / "seaweedfs.yaml").read_text()
    (deployment,) = [one for one in yaml.safe_load_all(text) if one["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    keys = {"AWS_ACCESS_KEY_ID": secrets.token_hex(8), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16)}
    options = ["--read-only", "--tmpfs=/tmp", "--tmpfs=/data:mode=1777", "--cap-drop=ALL"]
    options += [word for name, value in keys.items() for word in ("--env", f"{name}={value}")]
    name = f"{job}-store"
    place = [f"--name={name}", f"--network={job}-net", "--network-alias=seaweedfs"]
    docker("run", "--detach", *place, *options, image, *container["command"], *container["args"])
    (found,) = json.loads(docker("inspect", name).stdout)
    address = found["NetworkSettings"]["Networks"][f"{job}-net"]["IPAddress"]
    variables = {**keys, "AWS_REGION": "us-east-1"}
    for variable, value in {**variables, "AWS_ENDPOINT_URL": f"http://{address}:8333", "NO_PROXY": address}.items():
        monkeypatch.setenv(variable, value)
    end = time.monotonic() + 60
    while True:
        try:
            locations.check_writable("s3://wan-r1")
            break
        except StorageError:
            assert time.monotonic() < end, docker("logs", name).stderr[-2000:]
            time.sleep(0.5)
    return {**variables, "AWS_ENDPOINT_URL": "http://seaweedfs:8333"}


@pytest.mark.parametrize("kind", TRAININGS)
def test_two_containers_train_what_one_process_trains(
    kind: str, job: str, store: dict[str, str], repository: Path, tmp_path: Path, engine: str
) -> None:
    from kubeflow.trainer import ContainerBackendConfig, CustomTrainer, TrainerClient, TrainingRuntimeSource
    from kubeflow.trainer.options import Name

    inputs = small_inputs(tmp_path, "s3://wan-r1")
    sources = TrainingRuntimeSource(sources=[f"file://{repository / 'manifests' / 'trainer' / 'runtime.yaml'}"])
    client = TrainerClient(ContainerBackendConfig(pull_policy="Never", runtime_source=sources))
    run, kind_of_config, fields = TRAININGS[kind]
    config = kind_of_config.from_preset("tiny", {**fields, "threads": 1})
    places: dict[str, Any] = {}
    for name, path in inputs.items():
        places[name] = f"s3://wan-r1/inputs/{name}"
        (locations.upload_folder if path.is_dir() else locations.upload_file)(path, places[name])
    places |= {"storage_uri": "s3://wan-r1", "output": "s3://wan-r1/out/trained.json"}
    places |= {name: f"s3://wan-r1/out/{name}" for name in ("metrics", "report")}
    arguments = {"words": stage_words(config, places)}
    node = CustomTrainer(func=train, func_args=arguments, num_nodes=2, env={**store, "OMP_NUM_THREADS": "1"})
    begin = time.monotonic()
    client.train(runtime=RUNTIME, trainer=node, options=[Name(job)])
    ended = client.wait_for_job_status(job, {"Complete", "Failed"}, timeout=600)
    printed = "".join(client.get_job_logs(job))
    assert ended.status == "Complete", printed
    print(f"two containers, {kind}: {time.monotonic() - begin:.0f} s")
    assert [step.name for step in ended.steps] == ["node-0", "node-1"]
    locations.download_file(places["output"], tmp_path / "trained.json")
    assert ModelReference.read(tmp_path / "trained.json").step == fields.get("steps", fields.get("iterations"))
    alone = {name: tmp_path / "alone" / name for name in ("output", "metrics", "report")}
    run(config, storage_uri=str(tmp_path / "storage"), **inputs, **alone)
    before = trained_weights(alone["output"], tmp_path / "before")
    after = trained_weights(tmp_path / "trained.json", tmp_path / "after")
    norms = pq.read_table(alone["metrics"])["grad_norm"].to_pylist()
    assert all(norm > 0 for norm in norms), "there was no gradient; nothing was tested"
    assert before.keys() == after.keys()
    for weight, tensor in before.items():
        difference = (tensor - after[weight]).abs().mean() / (tensor.std() + 1e-3)
        assert difference < SHARE, f"{weight}: {difference}"
    client.delete_job(job)
    assert f"{job}-node" not in docker("ps", "--all").stdout
