"""What can be told of the images without an engine: their Containerfiles and the lock of their dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

KINDS = ("cpu", "gpu")


def _lines(repository: Path, kind: str) -> list[str]:
    text = (repository / "containers" / f"{kind}.Containerfile").read_text()
    joined = text.replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_and_the_indexes_are_arguments(repository: Path, kind: str) -> None:
    lines = _lines(repository, kind)
    bases = {"FROM ${BASE} AS dependencies", "FROM dependencies AS package", "FROM ${BASE}"}
    assert {line for line in lines if line.startswith("FROM")} == bases
    arguments = {line.removeprefix("ARG ").partition("=")[0] for line in lines if line.startswith("ARG ")}
    assert {"BASE", "PIP_INDEX", "TORCH_INDEX", "GIT_COMMIT", "VERSION"} <= arguments
    # A secret of the build stands in no layer; a copied file or an argument would.
    assert any("--mount=type=secret,id=ca" in line for line in lines)


def test_the_base_is_a_digest_where_none_is_given(repository: Path) -> None:
    given = {
        line.removeprefix("ARG BASE=") for kind in KINDS for line in _lines(repository, kind) if "ARG BASE=" in line
    }
    (base,) = given
    assert re.fullmatch(r"docker\.io/library/python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_stage_is_labelled_not_roots_and_installs_nothing(repository: Path, kind: str) -> None:
    lines = _lines(repository, kind)
    last = lines[lines.index("FROM ${BASE}") :]
    assert not [line for line in last if line.startswith("RUN")]
    assert [line for line in last if line.startswith("USER")] == ["USER 1000:1000"]
    assert not [line for line in lines if line.startswith("HEALTHCHECK")]
    (label,) = [line for line in last if line.startswith("LABEL")]
    found = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', label))
    assert found == {
        "title": f"wan-r1-{kind}",
        "licenses": "Apache-2.0",
        "version": "${VERSION}",
        "revision": "${GIT_COMMIT}",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_dependencies_have_a_layer_of_their_own(repository: Path, kind: str) -> None:
    lines = _lines(repository, kind)
    package = lines.index("FROM dependencies AS package")
    last = lines.index("FROM ${BASE}")
    assert any("--requirement /build/requirements.lock" in line for line in lines[:package])
    assert not any("components" in line for line in lines[:package])
    assert any("--no-deps" in line and line.endswith("/build") for line in lines[package:last])
    copied = [line.partition("--from=")[2] for line in lines[last:] if line.startswith("COPY")]
    assert [line.split()[0] for line in copied] == ["dependencies", "package", "package"]


def test_the_lock_pins_what_the_package_asks_for(repository: Path) -> None:
    lines = (repository / "containers" / "requirements.lock").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.name in pinned, f"{wanted.name} is not in containers/requirements.lock; run containers/lock"
        assert pinned[wanted.name] in wanted.specifier, (
            f"{wanted.name}: {pinned[wanted.name]} is not {wanted.specifier}"
        )
