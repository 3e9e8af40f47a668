"""Places by URI: local paths, ``file://`` and any S3 endpoint, through one small set of functions.

S3 goes through boto3 with its default credentials chain (environment, profile, service account), so ``AWS_*`` variables
work as everywhere else, ``AWS_ENDPOINT_URL`` included. Every failure is a `StorageError` in plain words.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import boto3
import botocore.exceptions
from botocore.config import Config

from wan_r1.storage.errors import StorageError, error_code, explain

CHECK_SECONDS = 5.0
"""Longest time that `check_writable` waits for an endpoint that cannot be reached."""
BUSY_SECONDS = 30.0
"""Longest time that it waits for one that was reached and is slow to answer, as on a machine with too much to do."""

_FAILURES = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, boto3.exceptions.Boto3Error, OSError)
_PROBE = ".wan-r1-can-write"


def is_s3(uri: str | Path) -> bool:
    """Whether the place is an S3 URI; raises a `StorageError` for a scheme that is neither S3 nor a file."""
    scheme, found, rest = str(uri).partition("://")
    if not found or scheme == "file":
        return False
    if scheme != "s3":
        raise StorageError(f"{uri} has the scheme {scheme!r}; allowed: a local path, file:// or s3://bucket/prefix")
    if not rest.partition("/")[0]:
        raise StorageError(f"{uri} names no bucket; expected s3://bucket/prefix")
    return True


def local_path(uri: str | Path) -> Path:
    """The path of a local place (a plain path or a ``file://`` URI)."""
    text = str(uri)
    return Path(unquote(urlsplit(text).path)) if text.startswith("file://") else Path(text)


def join(uri: str | Path, *parts: str) -> str:
    """The place below ``uri``; parts are joined by single slashes."""
    pieces = [part.strip("/") for part in parts]
    return "/".join([str(uri).rstrip("/"), *[piece for piece in pieces if piece]])


def exists(uri: str | Path) -> bool:
    """Whether there is a file or object at exactly this place (or, locally, a folder)."""
    if not is_s3(uri):
        return local_path(uri).exists()
    bucket, key = _split(uri)
    try:
        client().head_object(Bucket=bucket, Key=key)
    except _FAILURES as error:
        if error_code(error) in ("404", "NoSuchKey", "NotFound"):
            return False
        raise explain(error, action="look for", uri=str(uri)) from error
    return True


def read_bytes(uri: str | Path) -> bytes:
    """The content of a file or object.

    Raises:
        StorageError: if it does not exist or cannot be read.
    """
    with _explained("read", uri):
        if not is_s3(uri):
            return local_path(uri).read_bytes()
        bucket, key = _split(uri)
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()


def write_bytes(uri: str | Path, data: bytes, *, if_absent: bool = False) -> bool:
    """Write a file or object in one piece: a reader sees all of it or nothing.

    Args:
        uri: the place.
        data: its content.
        if_absent: write only if nothing is there yet. Of several writers at once, exactly one succeeds
            (S3: ``If-None-Match: *``; local: a hard link, which never replaces).

    Returns:
        Whether it was written; ``False`` only with ``if_absent``.

    Raises:
        StorageError: if the place cannot be written.
    """
    with _explained("write", uri):
        if not is_s3(uri):
            return _write_local(local_path(uri), data, if_absent)
        bucket, key = _split(uri)
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        try:
            client().put_object(Bucket=bucket, Key=key, Body=data, **condition)
        except botocore.exceptions.ClientError as error:
            if if_absent and error_code(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict", "409"):
                return False
            raise
        return True


def list_files(prefix: str | Path) -> list[str]:
    """Places of all files below a folder, sorted; empty if there is no such folder. Temporary files are left out."""
    with _explained("list", prefix):
        if not is_s3(prefix):
            root = local_path(prefix)
            found = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".tmp-")]
            return sorted(join(str(prefix), path.relative_to(root).as_posix()) for path in found)
        bucket, key = _split(prefix)
        folder = f"{key.rstrip('/')}/" if key else ""
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
        return sorted(f"s3://{bucket}/{entry['Key']}" for page in pages for entry in page.get("Contents", []))


def upload_file(local: Path, uri: str | Path) -> None:
    """Copy a local file to a place; large files go to S3 in parts."""
    with _explained("write", uri):
        if is_s3(uri):
            bucket, key = _split(uri)
            client().upload_file(str(local), bucket, key)
            return
        with local.open("rb") as source:
            _write_local(local_path(uri), source, if_absent=False)


def download_file(uri: str | Path, local: Path) -> None:
    """Copy a file or object to a local path; the path appears only when it is complete."""
    local.parent.mkdir(parents=True, exist_ok=True)
    with _explained("read", uri):
        if is_s3(uri):
            bucket, key = _split(uri)
            client().download_file(bucket, key, str(local))
            return
        with local_path(uri).open("rb") as source:
            _write_local(local, source, if_absent=False)


def upload_folder(local: Path, uri: str | Path) -> list[str]:
    """Copy all files below a local folder to a place; returns the places written, sorted by name."""
    if not local.is_dir():
        raise StorageError(f"cannot upload {local}: it is no folder")
    written = []
    for path in sorted(path for path in local.rglob("*") if path.is_file()):
        target = join(uri, path.relative_to(local).as_posix())
        upload_file(path, target)
        written.append(target)
    return written


def download_folder(uri: str | Path, local: Path) -> list[Path]:
    """Copy all files below a place to a local folder; returns the paths written.

    Raises:
        StorageError: if there is no file below the place.
    """
    found = list_files(uri)
    if not found:
        raise explain(FileNotFoundError(), action="read", uri=str(uri))
    start = len(join(uri)) + 1
    paths = [local / place[start:] for place in found]
    for place, path in zip(found, paths, strict=True):
        download_file(place, path)
    return paths


def delete(uri: str | Path) -> None:
    """Remove a file or object; one that does not exist is no error."""
    with _explained("delete", uri):
        if is_s3(uri):
            bucket, key = _split(uri)
            client().delete_object(Bucket=bucket, Key=key)
        else:
            local_path(uri).unlink(missing_ok=True)


def check_writable(uri: str | Path, *, parameter: str = "storage_uri") -> None:
    """Write and remove a small file at a place, so that wrong storage is known before hours of work.

    Args:
        uri: the folder to be written to later.
        parameter: name of the parameter that holds it, for the message.

    Raises:
        StorageError: naming the parameter, the endpoint, the bucket, the cause and the remedy; within `CHECK_SECONDS`
            unless the endpoint takes the connection and then lets it wait.
    """
    try:
        remote = is_s3(uri)
    except StorageError as error:
        raise StorageError(f"{parameter}={error}") from error
    failures: list[Exception] = []
    reached = threading.Event()
    probe = join(uri, f"{_PROBE}-{uuid.uuid4().hex[:8]}")

    def attempt() -> None:
        try:
            if not remote:
                _write_local(local_path(probe), b"", if_absent=False)
                local_path(probe).unlink()
                return
            if _reach_endpoint():
                reached.set()
            bucket, key = _split(probe)
            quick = client(quick=True)
            quick.put_object(Bucket=bucket, Key=key, Body=b"")
            quick.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
            # Writing is what counts; a policy without s3:DeleteObject leaves an empty object behind.
            with contextlib.suppress(botocore.exceptions.ClientError):
                quick.delete_object(Bucket=bucket, Key=key)
        except _FAILURES as error:
            failures.append(error)

    # A name server that does not answer blocks longer than any timeout of boto3: hence a thread that can be left.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(CHECK_SECONDS - 0.5)
    if reached.is_set():
        thread.join(BUSY_SECONDS - CHECK_SECONDS)
    if thread.is_alive():
        failures.append(botocore.exceptions.ConnectTimeoutError(endpoint_url="", error=None))
    if failures:
        raise explain(failures[0], action="write to", uri=str(uri), parameter=parameter) from failures[0]


def client(*, quick: bool = False) -> Any:
    """A boto3 S3 client for the current environment; ``quick`` ones give up after seconds and do not retry."""
    names = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
    regions = ("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE")
    return _client(quick, os.getpid(), *(os.environ.get(name) for name in (*names, *regions)))


@functools.lru_cache(maxsize=8)
def _client(quick: bool, *_environment: object) -> Any:
    # The process id and the environment are part of the key: a client is not shared by forks or by changed settings.
    config = Config(
        connect_timeout=3 if quick else 5,
        read_timeout=BUSY_SECONDS if quick else 60,
        retries={"mode": "standard", "total_max_attempts": 1 if quick else 5},
        # Not every S3 server knows the checksums that newer SDKs add by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return boto3.session.Session().client("s3", region_name=region, config=config)


@contextlib.contextmanager
def _explained(action: str, uri: str | Path) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise explain(error, action=action, uri=str(uri)) from error


def _reach_endpoint() -> bool:
    """Connect to the endpoint of the environment; ``False`` if there is none or a proxy stands before it.

    Raises:
        BotoCoreError: if nothing takes the connection.
    """
    parts = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    if not parts.hostname or (parts.scheme in getproxies() and not proxy_bypass(parts.hostname)):
        return False
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=CHECK_SECONDS - 1):
            return True
    except TimeoutError as error:
        raise botocore.exceptions.ConnectTimeoutError(endpoint_url=parts.geturl(), error=error) from error
    except OSError as error:
        raise botocore.exceptions.EndpointConnectionError(endpoint_url=parts.geturl(), error=error) from error


def _split(uri: str | Path) -> tuple[str, str]:
    bucket, _, key = str(uri).removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def _write_local(path: Path, data: bytes | BinaryIO, if_absent: bool) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file)
            file.flush()
            os.fsync(file.fileno())
        if not if_absent:
            temporary.replace(path)
            return True
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True
    finally:
        temporary.unlink(missing_ok=True)
