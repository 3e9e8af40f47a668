"""The CPU image as a real engine builds it, and the whole pipeline in containers of it."""

# Annotations stay objects: the SDK reads those of a pipeline.

import contextlib
import io
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker_client import COMMIT, IMAGE, MARK, RESTRICTED, client, docker
from kfp import components, local

from wan_r1 import __version__
from wan_r1.storage import locations
from wan_r1.storage.seaweed import SeaweedServer

pytestmark = pytest.mark.timeout(3600)

VALUES: dict[str, Any] = {
    **{f"tasks_{split}_levels": 4 for split in ("prompts", "test", "harder")},
    "tasks_families": ["regular"],
    "tasks_train_levels": 12,
    "tasks_settings": {"validation_levels": 2},
    "sft_steps": 2,
    "sft_batch_size": 4,
    "sft_settings": {"validate_every": 2, "validation_levels": 2},
    "grpo_group_size": 2,
    "grpo_iterations": 1,
    "grpo_settings": {"prompts_per_iteration": 2, "rollout_steps": 2, "sde_window": [0], "validation_levels": 2},
    "eval_samples": 4,
    "eval_steps": 2,
    "ablation_iterations": 1,
    "ablation_rewards": ["exact_match"],
    "run_id": "compared",
}
"""A whole run in which every stage does a little of its work."""
TOLERANCE = 1e-6
"""Of every number in the results, between containers and processes of this machine."""
START_SECONDS = 6.0


def _inside(*words: str) -> str:
    return docker("run", "--rm", "--network=none", *RESTRICTED, IMAGE, *words).stdout.strip()


def test_the_image_is_labelled_small_and_not_roots(image: str) -> None:
    (found,) = json.loads(docker("image", "inspect", image).stdout)
    assert found["Config"]["User"] == "1000:1000"
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.version"] == __version__
    assert "Healthcheck" not in found["Config"]
    print(f"image: {found['Size'] / 1e6:.0f} MB")
    assert found["Size"] <= 2.5e9


def test_nothing_to_build_with_is_left(image: str) -> None:
    script = "for one in gcc cc make git; do command -v $one; done; ls -A /root/.cache /build 2>/dev/null; ls -A /tmp"
    # As root, from whom no folder is hidden.
    assert docker("run", "--rm", "--network=none", "--user=0", image, "sh", "-c", script).stdout == ""
    assert _inside("id", "-u") == "1000"
    ours = int(_inside("sh", "-c", "du -sk /opt/wan-r1-package | cut -f1"))
    print(f"ours: {ours / 1024:.1f} MiB")
    assert ours <= 50 * 1024


def test_the_command_runs_with_a_read_only_root(image: str) -> None:
    assert _inside("wan-r1", "--version") == __version__


def test_the_certificates_of_the_build_are_in_no_layer(image: str) -> None:
    with subprocess.Popen([client(), "save", image], stdout=subprocess.PIPE) as archive:
        words = ["grep", "--count", "--text", "--fixed-strings", MARK]
        found = subprocess.run(words, stdin=archive.stdout, capture_output=True, check=False)
    assert found.stdout.strip() == b"0"


@dataclass(frozen=True)
class Ran:
    """A whole run in containers: the folder of its artifacts, its storage, and all that it printed."""

    folder: Path
    storage_uri: str
    printed: str


@pytest.fixture(scope="module")
def ran(in_containers: Callable[[], Path], seaweed: SeaweedServer, repository: Path) -> Ran:
    root = in_containers()
    storage_uri = f"{seaweed.uri}/{uuid.uuid4().hex[:12]}"
    printed = io.StringIO()
    begin = time.monotonic()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            _load(repository)(storage_uri=storage_uri, **VALUES)
        except RuntimeError as error:
            raise AssertionError(printed.getvalue()[-4000:]) from error
    print(f"the run in containers: {time.monotonic() - begin:.0f} s")
    (run,) = root.glob("wan-r1-*")
    return Ran(run, storage_uri, printed.getvalue())


def _load(repository: Path) -> Callable[..., Any]:
    return components.load_component_from_file(str(repository / "pipelines" / "full.yaml"))


def _results(storage_uri: str, folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    locations.download_file(locations.join(storage_uri, "runs", "compared", "results.json"), path)
    return json.loads(path.read_text())


def test_containers_and_processes_give_the_same_results(
    ran: Ran, s3_prefix: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(tmp_path / "processes"),
        workspace_root=tempfile.mkdtemp(),
    )
    _load(repository)(storage_uri=s3_prefix, **VALUES)
    contained, plain = _results(ran.storage_uri, tmp_path), _results(s3_prefix, tmp_path)
    assert [stage["name"] for stage in contained["stages"]] == [stage["name"] for stage in plain["stages"]]
    assert len(contained["rows"]) == len(plain["rows"]) == 5 * 2
    for one, other in zip(contained["rows"], plain["rows"], strict=True):
        assert one.keys() == other.keys()
        # SFT continued ends by measured seconds, which differ from run to run.
        names = ("model", "split", "family", "n") if one["model"] == "sft_continued" else one.keys()
        for name in names:
            value = one[name]
            close = isinstance(value, float) and abs(value - other[name]) <= TOLERANCE
            assert close or value == other[name], f"{name} of {one['model']}: {value} and {other[name]}"


def test_no_artifact_object_or_line_holds_a_credential(
    ran: Ran, seaweed: SeaweedServer, s3_prefix: str, tmp_path: Path
) -> None:
    secret = seaweed.environment["AWS_SECRET_ACCESS_KEY"].encode()
    assert len(ran.printed) > 1000
    assert secret not in ran.printed.encode()
    locations.download_folder(ran.storage_uri, tmp_path)
    for folder in (ran.folder, tmp_path):
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 20
        assert not [path for path in files if secret in path.read_bytes()]


def _first_line(seaweed: SeaweedServer, mounted: Path, stage: str, *words: str) -> float:
    """Seconds from ``docker run`` to a stage's first line."""
    name = f"wan-r1-start-{uuid.uuid4().hex[:8]}"
    variables = [word for key, value in seaweed.environment.items() for word in ("--env", f"{key}={value}")]
    options = ["--rm", "--name", name, "--network=host", *RESTRICTED, *variables, f"--volume={mounted}:/run:ro"]
    command = [client(), "run", *options, IMAGE, "wan-r1", stage, "--preset=tiny", *words]
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith(f"{stage.replace('-', '_')}  "):
                break
        seconds = time.monotonic() - begin
        docker("kill", name, check=False)
    assert printed and printed[-1].startswith(stage.replace("-", "_")), "".join(printed)
    return seconds


def test_stages_start_fast(ran: Ran, seaweed: SeaweedServer) -> None:
    inputs = {"dataset": "generate-tasks/dataset", "model": "prepare-model/model"}
    places = [f"--{option}=/run/{path}" for option, path in inputs.items()]
    outputs = [f"--{name}=/tmp/{name}" for name in ("output", "metrics", "report")]
    trained = [*places, *outputs, f"--storage-uri={ran.storage_uri}/start", "--validation-levels=2"]
    # The least of three, since other programs take their share of the machine.
    for stage, words in {"generate-tasks": ["--output=/tmp/tasks"], "train-sft": trained}.items():
        taken = [_first_line(seaweed, ran.folder, stage, *words) for _ in range(3)]
        print(f"{stage}: {', '.join(f'{one:.1f}' for one in taken)} s to its first line")
        load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
        if min(taken) > START_SECONDS and load > 1.5 * cores:
            pytest.skip(f"{stage} took {min(taken):.1f} s, but other programs had the machine: load {load:.1f}")
        assert min(taken) <= START_SECONDS, f"{stage} takes {taken} s to its first line"
