"""Submission to Kubeflow Pipelines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from kfp import client, compiler
from kfp.dsl.base_component import BaseComponent


def submit(pipeline: BaseComponent, values: dict[str, Any], *, endpoint: str | None, experiment: str) -> int:
    """Compile a pipeline and start a run of it.

    Args:
        pipeline: the pipeline.
        values: values by parameter, checked.
        endpoint: URL of the Kubeflow Pipelines API; `None` as the client finds it.
        experiment: name of the experiment, made if there is none.
    """
    kubeflow = client.Client(host=endpoint)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        run = kubeflow.create_run_from_pipeline_package(str(package), arguments=values, experiment_name=experiment)
    print(f"run {run.run_id} of experiment {experiment} was started")
    return 0
