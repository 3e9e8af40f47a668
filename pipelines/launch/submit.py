"""Submission to Kubeflow Pipelines, and following a run there."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kfp_server_api
from kfp.dsl.base_component import BaseComponent

from launch.api import Api, ApiError, repeatedly, spoken
from launch.deployment import Deployment, compile_pipeline
from wan_r1.config import ConfigError
from wan_r1.storage import locations

_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
# Kubeflow's own steps around each task.
_INNER = ("root", "executor")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """How a run is submitted."""

    experiment: str = "wan-r1"
    """Experiment of the run; made if there is none."""
    namespace: str | None = None
    """The user's namespace, where Kubeflow has several users."""
    service_account: str | None = None
    """Service account of the run's pods; `None` takes the cluster's default."""
    pipeline_root: str | None = None
    """Where Kubeflow keeps artifacts; `None` takes the cluster's default."""
    cache: bool = True
    """Whether tasks whose inputs, parameters and code are those of an earlier run are taken from there."""
    deployment: Deployment = field(default_factory=Deployment)
    """The cluster's images, pods and Secrets."""
    watch: bool = False
    """Whether to follow the run to its end."""


def submit(api: Callable[[], Api], pipeline: BaseComponent, values: dict[str, Any], submission: Submission) -> int:
    """Compile a pipeline and start a run of it.

    Args:
        api: makes the client; called when all values are known to be right.
        pipeline: the pipeline.
        values: values by parameter, checked.
        submission: experiment and the rest.

    Returns:
        0 if the run was started and, if it was followed, succeeded; 1 if it did not.

    Raises:
        ConfigError: if a value cannot work on a cluster.
        ApiError: if the API cannot be reached or refuses.
    """
    storage_uri = values.get("storage_uri")
    if storage_uri is not None and not locations.is_s3(str(storage_uri)):
        raise ConfigError(
            f"storage_uri={storage_uri!r} is not allowed on a cluster, where a stage's folder ends with its pod; "
            "expected s3://bucket/prefix"
        )
    known = pipeline.component_spec.inputs or {}
    if "started_at" in known:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        values = {"started_at": now, **values}
    kubeflow = api()
    run = _start(kubeflow, pipeline, values, submission)
    url = f"{kubeflow.url}/#/runs/details/{run.run_id}"
    print(f"run {run.run_id} of experiment {submission.experiment}: {url}", flush=True)
    if not submission.watch:
        return 0
    return follow(kubeflow, run.run_id, url)


def _start(kubeflow: Api, pipeline: BaseComponent, values: dict[str, Any], submission: Submission) -> Any:
    """The run, started exactly once: before a repetition, whether the attempt was carried out is looked up by name."""
    moment = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    name = f"{pipeline.name} {moment} {secrets.token_hex(3)}"
    known_by_name = json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
    attempts = 0

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile_pipeline(pipeline, package, submission.deployment)

        def attempt() -> kfp_server_api.V2beta1Run:
            nonlocal attempts
            attempts += 1
            with spoken(kubeflow.url, kubeflow.timeout), contextlib.redirect_stdout(io.StringIO()):
                # It looks for one of that name first, so that it may be called again.
                experiment = kubeflow.create_experiment(submission.experiment, namespace=submission.namespace)
                if attempts > 1:
                    found = kubeflow.list_runs(experiment_id=experiment.experiment_id, filter=known_by_name).runs
                    if found:
                        return found[0]
                return kubeflow.run_pipeline(
                    experiment_id=experiment.experiment_id,
                    job_name=name,
                    pipeline_package_path=str(package),
                    params=values,
                    pipeline_root=submission.pipeline_root,
                    enable_caching=None if submission.cache else False,
                    service_account=submission.service_account,
                )

        return repeatedly(attempt, kubeflow.waits)


def follow(kubeflow: Api, run_id: str, url: str, *, every: float = 10.0) -> int:
    """Print each change of a run's tasks until it has ended.

    Args:
        kubeflow: the client.
        run_id: the run.
        url: its page, for messages.
        every: seconds between looks.

    Returns:
        0 if the run succeeded, 1 if not, 130 after Ctrl-C, which leaves the run alone.
    """
    states: dict[str, str] = {}
    try:
        while True:
            with spoken(kubeflow.url, kubeflow.timeout):
                run = kubeflow.get_run(run_id)
            for task in (run.run_details.task_details if run.run_details else None) or []:
                if task.display_name in _INNER or str(task.display_name).endswith("driver"):
                    continue
                if task.state and states.get(task.task_id) != task.state:
                    states[task.task_id] = task.state
                    print(_line(task), flush=True)
            if run.state in _ENDED:
                why = f": {run.error.message}" if run.error and run.error.message else ""
                print(f"the run {run.state.lower()}{why}" if run.state != "SUCCEEDED" else "the run succeeded")
                return 0 if run.state == "SUCCEEDED" else 1
            time.sleep(every)
    except KeyboardInterrupt:
        print(f"\nno longer followed; the run goes on: {url}")
        return 130
    except ApiError as error:
        raise ApiError(f"{error}. The run itself goes on: {url}", transient=error.transient) from error


def _line(task: kfp_server_api.V2beta1PipelineTaskDetail) -> str:
    """One line on a task's new state."""
    why = f": {task.error.message}" if task.error and task.error.message else ""
    seconds = ""
    if task.start_time and task.end_time and task.state == "SUCCEEDED":
        seconds = f" in {(task.end_time - task.start_time).total_seconds():.0f} s"
    return f"{str(task.display_name).replace('-', '_')}  {task.state.lower()}{seconds}{why}"
