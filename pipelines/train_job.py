"""One training as a TrainJob of Kubeflow Trainer v2, from the artifacts of an earlier run.

python pipelines/train_job.py train-grpo --namespace wan-r1 dataset_uri=s3://... certificate_uri=s3://... \
    model_uri=s3://... storage_uri=s3://bucket/wan-r1 grpo_reward=exact_match

Parameters are those of the stage's own pipeline (`stages.py`), checked the same way before anything is sent. The job
runs in the runtime of `manifests/trainer`; what it leaves behind goes below ``<storage_uri>/train-jobs/<job>/``.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch import parameters
from stages import STAGES
from wan_r1.config import ConfigError, StageConfig
from wan_r1.images import GPU_IMAGE
from wan_r1.storage import locations

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient

TRAININGS = ("train-sft", "train-grpo")
"""Stages that can run as a TrainJob."""
RUNTIME = "wan-r1-gpu"
"""The ClusterTrainingRuntime of `manifests/trainer`."""
OUTPUTS = {"output": "trained.json", "metrics": "log.parquet", "report": "report.html"}
"""What a training leaves behind, by the option of its command."""

_INPUTS = ("dataset_uri", "certificate_uri", "model_uri")
_ENDED = {"Complete", "Failed"}


class TrainJobError(RuntimeError):
    """Kubeflow Trainer cannot be used or refuses. The message says what to do."""


def command(stage: str, values: dict[str, Any], job: str) -> list[str]:
    """The command of the job's container.

    Args:
        stage: one of `TRAININGS`.
        values: values by parameter of the stage's pipeline, as `parameters.parse` returns them.
        job: the job's name, below which its outputs go.

    Raises:
        ConfigError: naming the parameter, its value and what is allowed.
    """
    pipeline = STAGES[stage]
    configs = parameters.check(pipeline, values)
    for name in (*_INPUTS, "storage_uri"):
        if not locations.is_s3(str(values.get(name, ""))):
            given = f"{name}={values[name]} is not allowed" if name in values else f"{name} is missing"
            raise ConfigError(f"{given}; a TrainJob's pod shares no folder with a run: expected s3://bucket/path")
    preset = str(values.get("preset", "tiny"))
    config = configs[stage.replace("-", "_")]
    plain = type(config).from_preset(preset)
    words = ["wan-r1", stage, f"--preset={preset}"]
    words += [f"--{name.removesuffix('_uri')}={values[name]}" for name in _INPUTS]
    words.append(f"--storage-uri={values['storage_uri']}")
    folder = results(str(values["storage_uri"]), job)
    words += [f"--{option}={locations.join(folder, file)}" for option, file in OUTPUTS.items()]
    return words + [
        f"--{field.name.replace('_', '-')}={_word(config, field.name)}"
        for field in fields(config)
        if getattr(config, field.name) != getattr(plain, field.name)
    ]


def results(storage_uri: str, job: str) -> str:
    """Where a job's outputs go."""
    return locations.join(storage_uri, "train-jobs", job)


def _word(config: StageConfig, field: str) -> str:
    """A field's value as a word of the command line."""
    value = getattr(config, field)
    return value if isinstance(value, str) else json.dumps(value)


def submit(client: TrainerClient, words: Sequence[str], *, job: str, runtime: str = RUNTIME, image: str = "") -> None:
    """Create the TrainJob.

    Args:
        client: the SDK's client.
        words: the container's command.
        job: its name.
        runtime: name of the runtime.
        image: the image; empty takes the runtime's.

    Raises:
        TrainJobError: if there is no such runtime, or the API refuses.
    """
    from kubeflow.trainer import CustomTrainerContainer
    from kubeflow.trainer.options import Labels, Name, TrainerCommand

    try:
        found = client.get_runtime(runtime)
    except (RuntimeError, TimeoutError) as error:
        raise TrainJobError(
            f"the runtime {runtime} cannot be read ({_reason(error)}); apply it: kubectl apply -k manifests/trainer "
            "(its cluster needs Kubeflow Trainer v2), or name another by --runtime"
        ) from error
    trainer = CustomTrainerContainer(image=image or found.trainer.image, num_nodes=1)
    options = [Name(job), Labels({"app.kubernetes.io/part-of": "wan-r1"}), TrainerCommand(list(words))]
    try:
        client.train(runtime=found, trainer=trainer, options=options)
    except (RuntimeError, TimeoutError) as error:
        raise TrainJobError(
            f"the TrainJob {job} was refused ({_reason(error)}); ask for the right to create trainjobs in the namespace"
        ) from error


def follow(client: TrainerClient, job: str, timeout: int) -> bool:
    """Print a job's log until it ends; returns whether it succeeded.

    Raises:
        TrainJobError: if the job cannot be read, or does not end within ``timeout`` seconds.
    """
    try:
        client.wait_for_job_status(job, {"Running", *_ENDED}, timeout=timeout)
        for line in client.get_job_logs(job, follow=True):
            print(line, flush=True)
        ended = client.wait_for_job_status(job, _ENDED, timeout=timeout)
    except (RuntimeError, TimeoutError) as error:
        raise TrainJobError(f"TrainJob {job} is no longer followed ({_reason(error)}); it goes on") from error
    return ended.status == "Complete"


def _reason(error: BaseException) -> str:
    """What the API said, in one line."""
    cause = error.__cause__
    said = getattr(cause, "reason", None) or cause or error
    return " ".join(str(said).split())


def _client(namespace: str | None, kubeconfig: Path | None) -> TrainerClient:
    try:
        from kubeflow.common.types import KubernetesBackendConfig
        from kubeflow.trainer import TrainerClient
        from kubernetes.config import ConfigException
    except ImportError as error:
        raise TrainJobError(f"{error}; pip install 'wan-r1[kubeflow]' brings Kubeflow's SDK") from None
    try:
        config_file = str(kubeconfig) if kubeconfig else None
        return TrainerClient(KubernetesBackendConfig(namespace=namespace, config_file=config_file))
    except ConfigException as error:
        raise TrainJobError(f"no cluster is configured ({error}); give --kubeconfig FILE") from None


def main(words: Sequence[str] | None = None) -> int:
    """Submit a training; returns 0, 1 if it was followed and failed, 2 if something is wrong before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=TRAININGS)
    parser.add_argument("--namespace", help="namespace of the job (default: the kubeconfig's)")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="kubeconfig (default: kubectl's)")
    parser.add_argument("--runtime", default=RUNTIME, help=f"ClusterTrainingRuntime (default: {RUNTIME})")
    parser.add_argument("--image", default="", help=f"image (default: the runtime's, {GPU_IMAGE} as shipped)")
    parser.add_argument("--watch", "-w", action="store_true", help="follow the job to its end")
    parser.add_argument("--timeout", type=int, default=172800, help="seconds to follow it at most (default: two days)")
    parser.add_argument("parameters", nargs="*", metavar="name=value")
    given, rest = parser.parse_known_args(words)
    if unknown := [word for word in rest if word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    job = f"{given.stage}-{secrets.token_hex(4)}"
    try:
        values = parameters.parse(STAGES[given.stage], [*given.parameters, *rest])
        container = command(given.stage, values, job)
        client = _client(given.namespace, given.kubeconfig)
        submit(client, container, job=job, runtime=given.runtime, image=given.image)
        print(f"TrainJob {job}; its results: {results(values['storage_uri'], job)}", flush=True)
        return 0 if not given.watch or follow(client, job, given.timeout) else 1
    except (ConfigError, TrainJobError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
