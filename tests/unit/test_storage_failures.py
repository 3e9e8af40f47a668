"""Storage that refuses or is full: a message that says what to do, and nothing lost that was complete before."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from wan_r1.storage import checkpoints, locations
from wan_r1.storage.errors import StorageError
from wan_r1.storage.seaweed import BUCKET, SeaweedServer


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_the_last_checkpoint_kept(small_disk: Path) -> None:
    prefix = small_disk / "train"
    first = checkpoints.save(prefix, step=1, files={"weights": b"a" * 400_000}, info={})
    with pytest.raises(StorageError) as caught:
        checkpoints.save(prefix, step=2, files={"weights": b"b" * 800_000}, info={})
    assert "the disk is full; free space and start again; what is complete is kept" in str(caught.value)
    assert str(prefix) in str(caught.value)
    newest = checkpoints.latest(prefix)
    assert newest is not None
    assert newest.uri == first
    checkpoints.load(first, small_disk.parent / "loaded")
    assert (small_disk.parent / "loaded" / "weights").read_bytes() == b"a" * 400_000


@pytest.fixture
def reader(s3_prefix: str, seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place with one object, and credentials in the environment that may read it and no more."""
    locations.write_bytes(f"{s3_prefix}/there", b"content")
    (server,) = [
        one for one in psutil.process_iter(["cmdline"]) if f"-dir={seaweed.folder}/data" in (one.info["cmdline"] or [])
    ]
    options = dict(word.removeprefix("-").split("=", 1) for word in server.info["cmdline"] if "=" in word)
    places = {
        name: f"127.0.0.1:{options[f'{name}.port']}.{options[f'{name}.port.grpc']}" for name in ("master", "filer")
    }
    user = f"reader{uuid.uuid4().hex[:8]}"
    order = (
        f"s3.configure -user={user} -access_key={user} -secret_key=s{user} -buckets={BUCKET} -actions=Read,List -apply"
    )
    command = [server.info["cmdline"][0], "shell", *(f"-{name}={place}" for name, place in places.items())]
    subprocess.run(command, input=f"{order}\nexit\n", capture_output=True, text=True, check=True, timeout=60)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"s{user}")
    return s3_prefix


def test_missing_rights_are_said_before_anything_runs(reader: str) -> None:
    assert locations.read_bytes(f"{reader}/there") == b"content"
    with pytest.raises(StorageError) as caught:
        locations.check_writable(reader)
    assert "the credentials may not do this; grant s3:GetObject, s3:PutObject and s3:ListBucket" in str(caught.value)
    assert f"storage_uri={reader}" in str(caught.value)
