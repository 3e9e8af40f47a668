"""Places: the same behaviour locally and on a real S3 server, and errors that say what to do."""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from wan_r1.storage import StorageError, locations
from wan_r1.storage.seaweed import SeaweedServer


def test_join_has_single_slashes() -> None:
    assert locations.join("s3://bucket/a/", "/b/", "c") == "s3://bucket/a/b/c"
    assert locations.join("/data", "", "x") == "/data/x"
    assert locations.join("s3://bucket") == "s3://bucket"


def test_bytes_round_trip(place: str) -> None:
    target = locations.join(place, "a", "b.bin")
    assert not locations.exists(target)
    assert locations.write_bytes(target, b"one")
    assert locations.write_bytes(target, b"two")
    assert locations.exists(target)
    assert locations.read_bytes(target) == b"two"
    locations.delete(target)
    locations.delete(target)
    assert not locations.exists(target)


def test_missing_file_is_named(place: str) -> None:
    target = locations.join(place, "nothing")
    with pytest.raises(StorageError, match="nothing"):
        locations.read_bytes(target)
    assert locations.list_files(place) == []
    with pytest.raises(StorageError, match="cannot read"):
        locations.download_folder(place, Path("unused"))


def test_conditional_write_leaves_the_first(place: str) -> None:
    target = locations.join(place, "once")
    assert locations.write_bytes(target, b"first", if_absent=True)
    assert not locations.write_bytes(target, b"second", if_absent=True)
    assert locations.read_bytes(target) == b"first"


def test_conditional_write_race_has_one_winner(place: str) -> None:
    target = locations.join(place, "race")
    start = threading.Barrier(8)

    def write(number: int) -> bool:
        start.wait()
        return locations.write_bytes(target, str(number).encode(), if_absent=True)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert sum(won) == 1
    assert locations.read_bytes(target) == str(won.index(True)).encode()
    assert locations.list_files(place) == [target]


def test_folders_round_trip(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    contents = {"a.txt": b"a", "deep/b with space.bin": bytes(range(256)), "deep/deeper/c": b""}
    for name, content in contents.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    written = locations.upload_folder(source, place)
    assert written == locations.list_files(place) == [locations.join(place, name) for name in sorted(contents)]
    copy = tmp_path / "copy"
    locations.download_folder(place, copy)
    assert {
        path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()
    } == contents


def test_listing_does_not_enter_a_longer_name(place: str) -> None:
    locations.write_bytes(locations.join(place, "run", "x"), b"")
    locations.write_bytes(locations.join(place, "run-2", "y"), b"")
    assert locations.list_files(locations.join(place, "run")) == [locations.join(place, "run", "x")]


def test_large_file_goes_in_parts(s3_prefix: str, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(20 * 2**20))
    locations.upload_file(source, f"{s3_prefix}/large")
    locations.download_file(f"{s3_prefix}/large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_check_writable_leaves_nothing(place: str) -> None:
    locations.check_writable(place)
    assert locations.list_files(place) == []


def _refusal(uri: str) -> str:
    begin = time.monotonic()
    with pytest.raises(StorageError) as caught:
        locations.check_writable(uri)
    assert time.monotonic() - begin < locations.CHECK_SECONDS
    message = str(caught.value)
    assert f"storage_uri={uri}" in message
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in message
    return message


def test_wrong_secret_is_said(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret-of-this-key")
    message = _refusal(s3_prefix)
    assert "the secret does not belong to the access key" in message
    assert "set AWS_SECRET_ACCESS_KEY" in message
    assert os.environ["AWS_ENDPOINT_URL"] in message
    assert "'wan-r1'" in message


def test_wrong_key_is_said(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "the access key is unknown there; set AWS_ACCESS_KEY_ID" in _refusal(s3_prefix)


def test_missing_bucket_is_said(s3_prefix: str) -> None:
    assert "there is no such bucket; create the bucket" in _refusal("s3://no-such-bucket/x")
    assert "bucket's name is not valid" in _refusal("s3://No_Bucket/x")


def test_unreachable_endpoint_is_said(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached; check AWS_ENDPOINT_URL" in _refusal(s3_prefix)


def test_silent_endpoint_is_said_in_time(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "BUSY_SECONDS", locations.CHECK_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "did not answer in time" in _refusal(s3_prefix)


def test_a_busy_endpoint_is_waited_for(s3_prefix: str, seaweed: SeaweedServer) -> None:
    assert seaweed._process is not None
    server = psutil.Process(seaweed._process.pid)
    server.suspend()
    timer = threading.Timer(locations.CHECK_SECONDS + 1, server.resume)
    timer.start()
    begin = time.monotonic()
    locations.check_writable(s3_prefix)
    assert time.monotonic() - begin > locations.CHECK_SECONDS
    timer.join()


def test_password_in_an_endpoint_is_not_shown(s3_prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:hunter2@127.0.0.1:9")
    assert "hunter2" not in _refusal(s3_prefix)


def test_no_credentials_is_said(s3_prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="no credentials were found; set AWS_ACCESS_KEY_ID"):
        locations.check_writable(s3_prefix)


@pytest.mark.parametrize("uri", ["gs://bucket/x", "s3:///x", "http://host/x"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=r"storage_uri=.*s3://bucket/prefix"):
        locations.check_writable(uri)


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file is where a folder should be"):
        locations.check_writable(tmp_path / "file")


def test_a_missing_key_is_a_clear_error_on_s3(s3_prefix: str) -> None:
    with pytest.raises(StorageError, match="there is no such object; check the path"):
        locations.read_bytes(f"{s3_prefix}/missing")
