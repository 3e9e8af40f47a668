"""The embedded server: keeps its data, keeps its secrets, and never outlives its run."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from wan_r1.storage import StorageError, locations
from wan_r1.storage.seaweed import SeaweedServer

HOLD = """
import sys, time
from wan_r1.storage.seaweed import SeaweedServer
with SeaweedServer(sys.argv[1]) as server:
    print(server.endpoint, server._process.pid, flush=True)
    if sys.argv[2] == "raise":
        raise RuntimeError("the run fails")
    time.sleep(60)
"""


def _answers(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    with socket.socket() as one:
        return one.connect_ex((parts.hostname, parts.port)) == 0


def _wait(condition: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def _use(server: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def test_a_second_run_has_the_first_runs_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own scratch folder, away from the servers of tests that run at the same time; short, for it holds sockets.
    scratch = Path(tempfile.mkdtemp(prefix="wan-r1-test-"))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with SeaweedServer(tmp_path) as first:
        _use(first, monkeypatch)
        locations.write_bytes(f"{first.uri}/kept", b"value")
        secret = first.environment["AWS_SECRET_ACCESS_KEY"]
    assert not _answers(first.endpoint)
    assert list(scratch.iterdir()) == []
    with SeaweedServer(tmp_path) as second:
        _use(second, monkeypatch)
        assert locations.read_bytes(f"{second.uri}/kept") == b"value"
        assert second.environment["AWS_SECRET_ACCESS_KEY"] == secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["credentials.json", "data", "lock", "server.log"]
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600
    assert secret not in (tmp_path / "server.log").read_text()
    scratch.rmdir()


def test_only_loopback_listens(seaweed: SeaweedServer) -> None:
    assert seaweed._process is not None
    connections = psutil.Process(seaweed._process.pid).net_connections(kind="inet")
    listening = {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("how", ["raise", "SIGINT", "SIGTERM", "SIGKILL"])
def test_the_server_ends_with_its_run(tmp_path: Path, how: str) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path), how]
    # A shell's background job ignores SIGINT, and so would what it starts: tests may run in one.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        endpoint, server = run.stdout.readline().split()
        if how != "raise":
            run.send_signal(getattr(signal, how))
        assert run.wait(timeout=20) != 0
    assert _wait(lambda: not psutil.pid_exists(int(server)) or not _answers(endpoint))
    assert not _answers(endpoint)


def test_a_folder_in_use_is_refused(seaweed: SeaweedServer) -> None:
    with pytest.raises(StorageError, match="is in use by another server"), SeaweedServer(seaweed.folder):
        pass


def test_a_failed_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho cannot do it\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr("wan_r1.storage.seaweed._program", lambda: str(program))
    with pytest.raises(StorageError, match=r"did not start.*\n.*cannot do it"), SeaweedServer(tmp_path / "data"):
        pass
