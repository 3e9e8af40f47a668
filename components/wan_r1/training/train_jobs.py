"""A training as a TrainJob of Kubeflow Trainer v2: submitted, followed, and its outputs taken back.

The job's pods run the stage's own command. On several nodes each pod starts its processes by `placement.place`, which
finds the others by the variables that the Trainer's torch policy sets.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from wan_r1.config import ConfigError
from wan_r1.source import source_hash
from wan_r1.storage import locations
from wan_r1.training.placement import PlacedConfig, PlacementError, stage_words
from wan_r1.video_model.reference import ModelReference

if TYPE_CHECKING:
    from kubeflow.trainer import TrainerClient

OUTPUTS = {"output": "trained.json", "metrics": "log.parquet", "report": "report.html"}
"""What a training leaves behind, by argument of the stage's function."""

_ENDED = ("Complete", "Failed")
_MOUNT = "/s3/"
"""Below this Kubeflow's launcher puts artifacts: ``s3://bucket/key`` is ``/s3/bucket/key``."""
_TRIES = 5
"""Looks at a job that may fail one after the other before it is no longer followed."""


class TrainJobError(PlacementError):
    """Kubeflow Trainer cannot be used, refuses, or a job failed. The message says what to do."""


def run_as_job(
    config: PlacedConfig, *, runtime: str, image: str = "", storage_uri: str, **arguments: Any
) -> dict[str, Any]:
    """Train as a TrainJob and bring its outputs here, as if the stage had run in this process.

    The job's name derives from config, inputs and code: a stage that is tried again follows the job that it finds
    instead of starting another one. If this process is asked to end (SIGTERM), the job is deleted; the next attempt
    goes on from its last checkpoint.

    Args:
        config: the stage's parameters.
        runtime: name of the TrainingRuntime or ClusterTrainingRuntime.
        image: of the job's pods; empty takes the runtime's.
        storage_uri: where checkpoints go, on S3; the job's outputs lie below ``train-jobs/``.
        arguments: inputs and outputs of the stage's function. Inputs that are no artifacts on S3 are copied there.

    Returns:
        The stage's summary.

    Raises:
        ConfigError: if the storage is a folder, which a job's pods do not share.
        StorageError: if the storage refuses.
        TrainJobError: if Kubeflow Trainer refuses, or the job fails.
    """
    if not locations.is_s3(storage_uri):
        raise ConfigError(
            f"storage_uri={storage_uri} is not allowed for a TrainJob, whose pods share no folder with this stage; "
            "expected s3://bucket/prefix"
        )
    locations.check_writable(storage_uri)
    inputs = {name: Path(path) for name, path in arguments.items() if name not in OUTPUTS and path is not None}
    base = f"{config.STAGE.replace('_', '-')}-{_key(config, storage_uri, image, inputs)}"
    client = trainer_client()
    job, found = _unfailed(client, base)
    folder = results(storage_uri, job)
    if not found:
        places = {name: _uri(path, locations.join(folder, "inputs", name)) for name, path in inputs.items()}
        outputs = {name: locations.join(folder, file) for name, file in OUTPUTS.items()}
        words = ["wan-r1", *stage_words(config, {**places, "storage_uri": storage_uri, **outputs})]
        submit(client, words, job=job, runtime=runtime, image=image, nodes=config.nodes)
    print(f"{config.STAGE}  TrainJob {job} on {config.nodes} node(s); its results: {folder}", flush=True)
    with _deleted_on_termination(client, job):
        succeeded = follow(client, job)
    if not succeeded:
        raise TrainJobError(
            f"the TrainJob {job} failed; its log stands above (kubectl describe trainjob {job}); what it saved is "
            "kept, and the next attempt goes on from there"
        )
    for name, file in OUTPUTS.items():
        locations.download_file(locations.join(folder, file), Path(arguments[name]))
    return ModelReference.read(arguments["output"]).stage or {}


def trainer_client(namespace: str | None = None, kubeconfig: Path | None = None) -> TrainerClient:
    """The SDK's client.

    Args:
        namespace: of jobs; `None` takes the pod's own or the kubeconfig's.
        kubeconfig: file; `None` takes the pod's own account or kubectl's file.

    Raises:
        TrainJobError: if the SDK is not installed, or no cluster is configured.
    """
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
        raise TrainJobError(f"no cluster is configured ({error}); give a kubeconfig: KUBECONFIG=FILE") from None


def submit(
    client: TrainerClient, words: Sequence[str], *, job: str, runtime: str, image: str = "", nodes: int = 1
) -> None:
    """Create the TrainJob.

    Args:
        client: the SDK's client.
        words: the command of its pods.
        job: its name.
        runtime: name of the runtime.
        image: the image; empty takes the runtime's.
        nodes: pods that train together.

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
            "(its cluster needs Kubeflow Trainer v2), or name another"
        ) from error
    trainer = CustomTrainerContainer(image=image or found.trainer.image, num_nodes=nodes)
    options = [Name(job), Labels({"app.kubernetes.io/part-of": "wan-r1"}), TrainerCommand(list(words))]
    try:
        client.train(runtime=found, trainer=trainer, options=options)
    except (RuntimeError, TimeoutError) as error:
        raise TrainJobError(
            f"the TrainJob {job} was refused ({_reason(error)}); the account needs the rights of "
            "manifests/trainer/access.yaml, and the namespace room in its quota"
        ) from error


def follow(client: TrainerClient, job: str, *, timeout: float = float("inf"), every: float = 5.0) -> bool:
    """Print the log of a job's first node until the job ends, also where its pods are started again.

    Args:
        client: the SDK's client.
        job: its name.
        timeout: seconds after which it is no longer followed.
        every: seconds between looks while there is no log to read.

    Returns:
        Whether it succeeded.

    Raises:
        TrainJobError: if the job can no longer be read, or does not end in time; it goes on by itself.
    """
    read: set[str] = set()
    failures = 0
    end = time.monotonic() + timeout
    while True:
        try:
            found = client.get_job(job)
            failures = 0
            node = next((step for step in found.steps if step.name == "node-0"), None)
            if node is not None and node.status != "Pending" and node.pod_name not in read:
                read.add(node.pod_name)
                for line in client.get_job_logs(job, follow=True):
                    print(line.rstrip("\n"), flush=True)
                continue
        except (RuntimeError, TimeoutError) as error:
            failures += 1
            if failures == _TRIES:
                raise TrainJobError(f"TrainJob {job} is no longer followed ({_reason(error)}); it goes on") from error
        else:
            if found.status in _ENDED:
                return found.status == "Complete"
        if time.monotonic() > end:
            raise TrainJobError(f"TrainJob {job} has not ended in {timeout:.0f} s; it goes on")
        time.sleep(every)


def results(storage_uri: str, job: str) -> str:
    """Where a job's outputs go."""
    return locations.join(storage_uri, "train-jobs", job)


def _key(config: PlacedConfig, storage_uri: str, image: str, inputs: Mapping[str, Path]) -> str:
    """What tells a training from others: its config, its code, and its inputs' own small files."""
    # A certificate holds the data set's hash, a model reference the checkpoint that it stands for.
    texts = [path.read_text() for _, path in sorted(inputs.items()) if path.is_file()]
    content = repr([config.STAGE, config.to_json(), storage_uri, image, source_hash(), *texts])
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _unfailed(client: TrainerClient, base: str) -> tuple[str, bool]:
    """The name of the job that runs or is done under this name, or else of the next attempt; and whether it exists."""
    attempt = 1
    while True:
        job = base if attempt == 1 else f"{base}-{attempt}"
        try:
            status = client.get_job(job).status
        except (RuntimeError, TimeoutError) as error:
            if getattr(error.__cause__, "status", None) == 404:
                return job, False
            raise TrainJobError(
                f"TrainJobs cannot be read ({_reason(error)}); the cluster needs Kubeflow Trainer v2, and the account "
                "the rights of manifests/trainer/access.yaml"
            ) from error
        if status != "Failed":
            return job, True
        attempt += 1


def _uri(path: Path, place: str) -> str:
    """Where a job's pods find an input: the artifact's own URI, or a copy of what lies here alone."""
    if str(path).startswith(_MOUNT):
        return f"s3://{str(path).removeprefix(_MOUNT)}"
    if path.is_dir():
        locations.upload_folder(path, place)
    else:
        locations.upload_file(path, place)
    return place


@contextlib.contextmanager
def _deleted_on_termination(client: TrainerClient, job: str) -> Iterator[None]:
    """Whoever ends the stage ends its job: GPUs are not left to a run that nobody waits for."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        print(f"TrainJob {job} is deleted, since this stage was ended; its checkpoints are kept", flush=True)
        client.delete_job(job)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _reason(error: BaseException) -> str:
    """What the API said, in one line."""
    cause = error.__cause__
    said = getattr(cause, "reason", None) or cause or error
    return " ".join(str(said).split())
