"""Checkpoints: whole or absent, never in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wan_r1.storage import StorageError, checkpoints, locations


def test_round_trip(place: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(os.urandom(1000))
    uri = checkpoints.save(place, step=100, files={"model/w": weights, "state": b"rng"}, info={"em": 0.5})
    assert uri == locations.join(place, "step-00000100")
    found = checkpoints.latest(place)
    assert found is not None
    assert (found.uri, found.step, found.info) == (uri, 100, {"em": 0.5})
    loaded = checkpoints.load(uri, tmp_path / "loaded")
    assert loaded == found
    assert (tmp_path / "loaded/model/w").read_bytes() == weights.read_bytes()
    assert (tmp_path / "loaded/state").read_bytes() == b"rng"


def test_latest_is_the_highest_step(place: str) -> None:
    assert checkpoints.latest(place) is None
    for step in (9, 100, 20):
        checkpoints.save(place, step=step, files={"w": str(step).encode()}, info={})
    assert [one.step for one in checkpoints.steps(place)] == [9, 20, 100]
    latest = checkpoints.latest(place)
    assert latest is not None
    assert latest.step == 100


def test_saving_again_is_harmless_and_other_content_is_refused(place: str) -> None:
    uri = checkpoints.save(place, step=1, files={"w": b"a"}, info={})
    assert checkpoints.save(place, step=1, files={"w": b"a"}, info={}) == uri
    with pytest.raises(StorageError, match="another one with other content exists"):
        checkpoints.save(place, step=1, files={"w": b"b"}, info={})
    assert locations.read_bytes(locations.join(uri, "w")) == b"a"


def test_without_manifest_it_does_not_exist(place: str) -> None:
    checkpoints.save(place, step=1, files={"w": b"old"}, info={})
    locations.write_bytes(locations.join(place, "step-00000002", "w"), b"half")
    latest = checkpoints.latest(place)
    assert latest is not None
    assert latest.step == 1
    # The stage that starts again writes the same step over what was left.
    checkpoints.save(place, step=2, files={"w": b"whole"}, info={})
    latest = checkpoints.latest(place)
    assert latest is not None
    assert latest.step == 2


def test_without_one_file_it_does_not_exist(place: str) -> None:
    checkpoints.save(place, step=1, files={"w": b"1"}, info={})
    uri = checkpoints.save(place, step=2, files={"w": b"2", "v": b"2"}, info={})
    locations.delete(locations.join(uri, "v"))
    assert [one.step for one in checkpoints.steps(place)] == [1]


def test_damage_is_named(place: str, tmp_path: Path) -> None:
    uri = checkpoints.save(place, step=1, files={"w": b"good"}, info={})
    locations.write_bytes(locations.join(uri, "w"), b"evil")
    with pytest.raises(StorageError, match=r"step-00000001/w is damaged"):
        checkpoints.load(uri, tmp_path)
    assert not (tmp_path / "w").exists()


def test_broken_manifest_is_named(place: str) -> None:
    locations.write_bytes(locations.join(place, "step-00000003", "manifest.json"), b"{")
    with pytest.raises(StorageError, match=r"step-00000003/manifest.json is no checkpoint manifest"):
        checkpoints.latest(place)


@pytest.mark.parametrize("name", ["manifest.json", "/etc/x", "../x"])
def test_names_that_would_escape_are_refused(place: str, name: str) -> None:
    with pytest.raises(StorageError, match="cannot have a file named"):
        checkpoints.save(place, step=1, files={name: b""}, info={})


def test_killed_between_file_and_manifest(place: str) -> None:
    """A real process is killed after its last file and before its manifest."""
    checkpoints.save(place, step=1, files={"w": b"before"}, info={})
    program = (
        "import os, signal, sys\n"
        "from wan_r1.storage import checkpoints, locations\n"
        "write = locations.write_bytes\n"
        "def stop_at_manifest(uri, data, **options):\n"
        "    if uri.endswith('manifest.json'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return write(uri, data, **options)\n"
        "locations.write_bytes = stop_at_manifest\n"
        "checkpoints.save(sys.argv[1], step=2, files={'w': b'after'}, info={})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, place], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert locations.exists(locations.join(place, "step-00000002", "w"))
    latest = checkpoints.latest(place)
    assert latest is not None
    assert latest.step == 1


def test_manifest_lists_sizes_and_hashes(place: str) -> None:
    uri = checkpoints.save(place, step=7, files={"w": b"abc"}, info={"k": [1]})
    manifest = json.loads(locations.read_bytes(locations.join(uri, "manifest.json")))
    assert manifest["files"] == {
        "w": {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    }
    assert (manifest["step"], manifest["info"]) == (7, {"k": [1]})
