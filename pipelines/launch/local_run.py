"""A run on this machine: Kubeflow's local runner, an S3 server if there is none, and the results in one folder."""

from __future__ import annotations

import builtins
import contextlib
import datetime
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from kfp import compiler, components, local
from kfp.dsl.base_component import BaseComponent

from launch.console import Console
from launch.numbers import whole_numbers
from launch.parameters import CONFIGS
from wan_r1.config import ConfigError
from wan_r1.reports.terminal import print_results
from wan_r1.runtime import git_commit
from wan_r1.source import source_hash
from wan_r1.storage import StorageError, locations
from wan_r1.storage.seaweed import BUCKET, SeaweedServer
from wan_r1.summarise_run import write_exit_summary

_STAGES = [*(config.STAGE for config in CONFIGS), "continue_sft", "summarise_run"]


def run(pipeline: BaseComponent, values: dict[str, Any], *, folder: Path, cache: bool = True) -> int:
    """Run a pipeline here and collect its results in ``<folder>/<run id>``.

    Args:
        pipeline: the pipeline.
        values: values by parameter, checked.
        folder: holds all runs, the cache of their stages and the embedded S3 server's data.
        cache: whether stages whose inputs, parameters and code are those of an earlier run are taken from there.

    Returns:
        0 if the run succeeded, 1 if it failed, 130 if it was interrupted.

    Raises:
        ConfigError: if an artifact of an earlier run is not here, before anything runs.
        StorageError: if the storage refuses, before anything runs.
    """
    values = {name: _found(name, value) for name, value in values.items()}
    folder = folder.resolve()
    run_id = values.get("run_id") or _new_run_id(folder)
    results = folder / run_id
    with contextlib.ExitStack() as stack:
        variables = _variables(stack, folder, values)
        stack.enter_context(_environment(variables))
        values = _completed(pipeline, values, run_id)
        storage_uri = _storage_uri(pipeline, values)
        if "AWS_ENDPOINT_URL" not in variables:
            # The embedded server has proved by its start that it can be written to.
            locations.check_writable(storage_uri)
        results.mkdir(parents=True, exist_ok=True)
        console = Console(sys.stdout, results / "log.txt", _STAGES)
        stack.callback(console.close)
        # After the server's own handler of SIGTERM, which would end this process without a summary.
        stack.enter_context(_interruptible(console))
        console.say(f"run {run_id}: log in {_shown(results / 'log.txt')}, storage {storage_uri}")
        status, error = "SUCCEEDED", None
        outputs: dict[str, Any] = {}
        try:
            with _quiet(console):
                outputs = _execute(pipeline, values, folder / "pipeline", cache)
        except KeyboardInterrupt:
            status, error = "CANCELED", "interrupted"
        except (RuntimeError, ValueError) as failure:
            # The local runner tells of a failed task by its own errors alone; the task's words are in the console.
            status, error = "FAILED", console.failures[-1].message if console.failures else str(failure)
        stage = console.failures[0].task if console.failures else next(iter(console.running), None)
        with contextlib.suppress(StorageError):
            locations.download_folder(locations.join(storage_uri, "runs", run_id), results)
        write_exit_summary(
            output=results / "summary.json",
            run_id=run_id,
            status=status,
            error=error,
            failed_stage=None if status == "SUCCEEDED" else stage,
            parameters=values,
            results=results / "results.json",
        )
        with contextlib.suppress(StorageError):
            locations.upload_file(results / "summary.json", locations.join(storage_uri, "runs", run_id, "summary.json"))
    _point_latest(folder, run_id)
    if status != "SUCCEEDED":
        where = f"in {stage}" if stage else "before its first stage"
        print(f"\nThe run was interrupted {where}." if status == "CANCELED" else f"\nThe run failed {where}: {error}")
        print(f"Its log: {_shown(results / 'log.txt')}. What is complete is kept; the same command goes on from there.")
        return 130 if status == "CANCELED" else 1
    _show(results, outputs)
    return 0


def local_image() -> str:
    """Name of the image that stands for this source tree: the runner's cache holds for one state of the code."""
    return f"wan-r1-python:{source_hash()}"


def _execute(pipeline: BaseComponent, values: dict[str, Any], root: Path, cache: bool) -> dict[str, Any]:
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        workspace_root=tempfile.mkdtemp(),
        enable_caching=cache,
    )
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(package))
        text = re.sub(r"^(\s+image: ).*$", rf"\g<1>{local_image()}", package.read_text(), flags=re.MULTILINE)
    with whole_numbers():
        return components.load_component_from_text(text)(**values).outputs


def _found(name: str, value: Any) -> Any:
    """A parameter's value; artifacts of earlier runs as absolute paths of what is there."""
    if name == "storage_uri" or not name.endswith(("_uri", "_uris")):
        return value
    if isinstance(value, list):
        return [_found(name, one) for one in value]
    if locations.is_s3(value):
        raise ConfigError(
            f"{name}={value}: on this machine a stage reads artifacts from folders; download it first, or submit the "
            "stage to Kubeflow Pipelines"
        )
    path = locations.local_path(value).resolve()
    if not path.exists():
        raise ConfigError(
            f"{name}={value}: there is no such file or folder; expected an artifact of an earlier run, such as "
            "runs/pipeline/<run>/generate-tasks/dataset"
        )
    return str(path)


def _storage_uri(pipeline: BaseComponent, values: dict[str, Any]) -> str:
    """Where the run's models and results are kept; pipelines without that parameter use the default bucket."""
    spec = (pipeline.component_spec.inputs or {}).get("storage_uri")
    return str(values.get("storage_uri") or (spec.default if spec else f"s3://{BUCKET}"))


def _variables(stack: contextlib.ExitStack, folder: Path, values: dict[str, Any]) -> dict[str, str]:
    """Environment of the stages, with the embedded server's if the user has named no storage."""
    scratch = tempfile.mkdtemp(prefix="wan-r1-")
    stack.callback(shutil.rmtree, scratch, ignore_errors=True)
    variables = {
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(_cores())),
        "TMPDIR": scratch,
        "WAN_R1_GIT_COMMIT": git_commit(),
    }
    named = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    if not named and "storage_uri" not in values:
        server = stack.enter_context(SeaweedServer(folder / "storage"))
        variables |= server.environment
    return variables


def _completed(pipeline: BaseComponent, values: dict[str, Any], run_id: str) -> dict[str, Any]:
    """The values with what a local run adds where the pipeline has such a parameter and the user gave none."""
    additions = {
        "run_id": run_id,
        "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        # The runner works on two arms at once: each gets half of the cores.
        "ablation_threads": max(1, _cores() // 2),
    }
    known = pipeline.component_spec.inputs or {}
    return {**{name: value for name, value in additions.items() if name in known}, **values}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    tempfile.tempdir = None
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tempfile.tempdir = None


@contextlib.contextmanager
def _quiet(console: Console) -> Iterator[None]:
    """Everything that is printed and logged goes through the console."""
    root = logging.getLogger()
    level, handlers, original_print = root.level, root.handlers[:], builtins.print
    handler = logging.StreamHandler(console)  # type: ignore[type-var]
    handler.setFormatter(logging.Formatter("%(asctime)s.000 - %(levelname)s - %(message)s", "%H:%M:%S"))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(console), warnings.catch_warnings():  # type: ignore[type-var]
            warnings.simplefilter("ignore")
            yield
    finally:
        # With arms in parallel, the runner's own restoring of these is out of order.
        builtins.print = original_print
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _interruptible(console: Console) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the stages that run and unwind this process, however they reached it."""
    unwound = threading.Event()

    def end_stages() -> None:
        # Again and again: the runner starts the arms that wait in its queue before it lets go.
        while not unwound.wait(0.2):
            for child in psutil.Process().children(recursive=True):
                # The S3 server is needed to the end of the summary; it has a session of its own and is stopped later.
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    if os.getsid(child.pid) == os.getsid(0):
                        child.terminate()

    def interrupt(number: int, frame: FrameType | None) -> None:
        console.interrupted = True
        threading.Thread(target=end_stages, daemon=True).start()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        unwound.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _new_run_id(folder: Path) -> str:
    start = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while (folder / (run_id := start if number == 1 else f"{start}-{number}")).exists():
        number += 1
    return run_id


def _point_latest(folder: Path, run_id: str) -> None:
    link = folder / "latest"
    temporary = folder / ".latest"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run_id)
    temporary.replace(link)


def _shown(path: Path) -> str:
    """A path as short as it can be written from here."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _show(results: Path, outputs: dict[str, Any]) -> None:
    """Print the table of results and where the report is, or the outputs of a pipeline that has no such table."""
    path = results / "results.json"
    if not path.exists():
        for name, artifact in outputs.items():
            print(f"{name}: {_shown(Path(getattr(artifact, 'path', str(artifact))))}")
        return
    found = json.loads(path.read_text())
    print_results(found)
    reused = [stage["name"] for stage in found["stages"] if stage["cached"]]
    if reused:
        print(f"Reused from earlier runs: {', '.join(reused)}.")
    print(f"Results: {_shown(path)}\nReport:  {_shown(results / 'report.html')}")
