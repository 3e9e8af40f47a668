"""What all tests share: a real S3 server, started once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_r1.storage.seaweed import SeaweedServer

REPOSITORY = Path(__file__).parents[1]

# Several tests run at once, each on one core; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Processes that tests start see the same source tree as the tests, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY / "components"), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A SeaweedFS server for the session; tests that use it do not depend on each other's objects."""
    with SeaweedServer(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture
def s3_prefix(seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused place on the real S3 server, with the environment that reaches it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    return f"{seaweed.uri}/{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An unused place, once as a local folder and once on S3."""
    if request.param == "local":
        return str(tmp_path / "place")
    return str(request.getfixturevalue("s3_prefix"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY
