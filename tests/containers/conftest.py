"""A real Docker engine and our CPU image on it. This tier takes minutes and gigabytes, so it is asked for:

    WAN_R1_CONTAINERS=1 pytest tests/containers

``DOCKER_HOST`` names an engine that runs already; otherwise one is started, and installed if need be, which takes root.
``WAN_R1_BASE`` names a base image with Python 3.11; otherwise one is made by debootstrap. ``WAN_R1_WHEELS`` is a folder
of wheels, such as PyTorch's CPU build, which stand beside those of the package index.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_client import COMMIT, GPU_IMAGE, IMAGE, MARK, docker
from kfp import local
from wheels import index_of

from wan_r1.storage.seaweed import SeaweedServer

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_START_SECONDS = 120


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """Address of a Docker engine."""
    if os.environ.get("WAN_R1_CONTAINERS") != "1":
        pytest.skip("it builds an image, which takes minutes and gigabytes: set WAN_R1_CONTAINERS=1 to run it")
    pytest.importorskip("docker", reason="the package docker is not installed: pip install 'wan-r1[kubeflow]'")
    if shutil.which("docker") and docker("info", check=False).returncode == 0:
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    _install("dockerd", "docker.io")
    # Not in pytest's own folders, three of which are kept: it grows to gigabytes.
    folder = Path(tempfile.mkdtemp(prefix="wan-r1-engine-"))
    address = f"unix://{folder}/docker.sock"
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
    words = [f"--{option}={folder / name}" for option, name in places.items()]
    # Containers use the machine's own network, so that the engine need not change its rules.
    words += [f"--host={address}", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    log = folder / "log"
    with log.open("w") as output, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(["dockerd", *words], stdout=output, stderr=output)
        patch.setenv("DOCKER_HOST", address)
        try:
            end = time.monotonic() + _START_SECONDS
            while docker("info", check=False).returncode:
                if process.poll() is not None or time.monotonic() > end:
                    pytest.skip(f"dockerd does not start here: {log.read_text()[-500:]}")
                time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait()
            # The engine leaves its network's namespace mounted.
            subprocess.run(["umount", str(folder / "exec" / "netns" / "default")], capture_output=True, check=False)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def base(engine: str) -> Iterator[str]:
    """An image with Python 3.11 and nothing else of use."""
    if os.environ.get("WAN_R1_BASE"):
        yield os.environ["WAN_R1_BASE"]
        return
    _install("debootstrap", "debootstrap")
    folder = Path(tempfile.mkdtemp(prefix="wan-r1-base-"))
    try:
        packages = "--include=python3,python3-venv,ca-certificates"
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"debootstrap makes no base image here: {(made.stdout + made.stderr)[-500:]}")
        # What a base image of a registry does not have either.
        without = [f"--exclude=./var/{name}/*" for name in ("cache/apt", "lib/apt/lists", "log")]
        archive = subprocess.Popen(
            ["tar", "-C", str(folder), "--one-file-system", *without, "-c", "."], stdout=subprocess.PIPE
        )
        with archive:
            subprocess.run(["docker", "import", "-", "wan-r1-base:bookworm"], stdin=archive.stdout, check=True)
        assert archive.returncode == 0
        yield "wan-r1-base:bookworm"
    finally:
        # Where debootstrap was cut short, it leaves these mounted.
        for mounted in ("proc", "sys"):
            subprocess.run(["umount", "--recursive", str(folder / mounted)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def image(base: str, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The CPU image and, with the same PyTorch, the GPU image, built by their Containerfiles; returns the first."""
    wheels = os.environ.get("WAN_R1_WHEELS")
    if not wheels and not _reached(CPU_INDEX):
        pytest.skip(
            f"PyTorch's CPU build is not to be had: {CPU_INDEX} is not reached, and WAN_R1_WHEELS names no folder"
        )
    ca = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.write_text(f"# {MARK}\n" + (SYSTEM_CA.read_text() if SYSTEM_CA.exists() else ""))
    arguments = {"BASE": base, "GIT_COMMIT": COMMIT}
    with contextlib.ExitStack() as stack:
        if wheels:
            arguments["TORCH_INDEX"] = stack.enter_context(index_of(Path(wheels)))
        if index := os.environ.get("PIP_INDEX_URL"):
            arguments["PIP_INDEX"] = index
        common = ["build", "--network=host", "--secret", f"id=ca,src={ca}"]
        common += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        # With the same index the second one has the first one's layers, and is what a GPU stage runs in here.
        for name, file in ((IMAGE, "cpu"), (GPU_IMAGE, "gpu")):
            docker(*common, "--tag", name, "--file", f"containers/{file}.Containerfile", str(repository))
    return IMAGE


@pytest.fixture(scope="session")
def in_containers(
    image: str, seaweed: SeaweedServer, shared_folders: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """Prepares Kubeflow's local runner: restricted containers with 2 GiB; returns the folder of its runs."""
    root = tmp_path_factory.mktemp("containers")
    root.chmod(0o777)
    restricted = {"read_only": True, "tmpfs": {"/tmp": ""}, "cap_drop": ["ALL"], "mem_limit": "2g"}
    variables = {**seaweed.environment, "OMP_NUM_THREADS": "1", "WAN_R1_GIT_COMMIT": COMMIT}

    def prepare() -> Path:
        runner = local.DockerRunner(
            network_mode="host", environment=variables, security_opt=["no-new-privileges"], **restricted
        )
        # The runner removes the workspace after each run.
        local.init(runner, pipeline_root=str(root), workspace_root=tempfile.mkdtemp())
        return root

    return prepare


@pytest.fixture(scope="session")
def shared_folders() -> Iterator[None]:
    """The runner makes folders as this user; the image's own user writes into them."""
    before = os.umask(0)
    yield
    os.umask(before)


def _reached(index: str) -> bool:
    try:
        with urllib.request.urlopen(f"{index}/torch/", timeout=10):
            return True
    except OSError:
        return False


def _install(program: str, package: str) -> None:
    """Make sure that a program is there, or skip and say what is missing."""
    if shutil.which(program):
        return
    if os.getuid() or not shutil.which("apt-get"):
        pytest.skip(f"{program} is not installed, and it cannot be without root and apt-get; install {package}")
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    words = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
    if subprocess.run(words, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}).returncode:
        pytest.skip(f"{program} is not installed, and `apt-get install {package}` failed")
