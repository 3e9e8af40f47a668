"""One training as a TrainJob of Kubeflow Trainer v2, from the artifacts of an earlier run.

python pipelines/train_job.py train-grpo --namespace wan-r1 dataset_uri=s3://... certificate_uri=s3://... \
    model_uri=s3://... storage_uri=s3://bucket/wan-r1 grpo_reward=exact_match grpo_nodes=2

Parameters are those of the stage's own pipeline (`stages.py`), checked the same way before anything is sent. The job
runs in the runtime of `manifests/trainer`; what it leaves behind goes below ``<storage_uri>/train-jobs/<job>/``.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import parameters
from stages import STAGES
from wan_r1.config import ConfigError
from wan_r1.images import GPU_IMAGE
from wan_r1.storage import locations
from wan_r1.training.placement import PlacedConfig, stage_words
from wan_r1.training.train_jobs import OUTPUTS, TrainJobError, follow, results, submit, trainer_client

TRAININGS = ("train-sft", "train-grpo")
"""Stages that can run as a TrainJob."""
RUNTIME = "wan-r1-gpu"
"""The ClusterTrainingRuntime of `manifests/trainer`."""

_INPUTS = ("dataset_uri", "certificate_uri", "model_uri")


def command(stage: str, values: dict[str, Any], job: str) -> tuple[list[str], PlacedConfig]:
    """The command of the job's pods, and the config that it runs with.

    Args:
        stage: one of `TRAININGS`.
        values: values by parameter of the stage's pipeline, as `parameters.parse` returns them.
        job: the job's name, below which its outputs go.

    Raises:
        ConfigError: naming the parameter, its value and what is allowed.
    """
    configs = parameters.check(STAGES[stage], values)
    for name in (*_INPUTS, "storage_uri"):
        if not locations.is_s3(str(values.get(name, ""))):
            given = f"{name}={values[name]} is not allowed" if name in values else f"{name} is missing"
            raise ConfigError(f"{given}; a TrainJob's pod shares no folder with a run: expected s3://bucket/path")
    config = configs[stage.replace("-", "_")]
    assert isinstance(config, PlacedConfig)
    folder = results(str(values["storage_uri"]), job)
    places = {name.removesuffix("_uri"): values[name] for name in _INPUTS} | {"storage_uri": values["storage_uri"]}
    places |= {name: locations.join(folder, file) for name, file in OUTPUTS.items()}
    return ["wan-r1", *stage_words(config, places)], config


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
        container, config = command(given.stage, values, job)
        client = trainer_client(given.namespace, given.kubeconfig)
        submit(client, container, job=job, runtime=given.runtime, image=given.image, nodes=config.nodes)
        print(f"TrainJob {job}; its results: {results(values['storage_uri'], job)}", flush=True)
        return 0 if not given.watch or follow(client, job, timeout=given.timeout) else 1
    except (ConfigError, TrainJobError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
