"""The compiled pipelines: committed as they compile, free of secrets, built around the local runner's limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.dsl.base_component import BaseComponent

import full
import stages
import sweep
from launch.deployment import compile_pipeline

PIPELINES = {
    "full": full.full,
    "sweep": sweep.sweep,
    **{f"stage-{name}": pipeline for name, pipeline in stages.STAGES.items()},
}


def _documents(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A compiled pipeline without the version of the SDK that compiled it, and its platform's settings."""
    spec, platform = yaml.safe_load_all(path.read_text())
    spec.pop("sdkVersion")
    return spec, platform


def _read(path: Path) -> dict[str, Any]:
    return _documents(path)[0]


def _dags(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield spec["root"]["dag"]
    for component in spec["components"].values():
        if "dag" in component:
            yield component["dag"]


@pytest.mark.parametrize("name", list(PIPELINES))
def test_committed_yaml_is_what_the_source_compiles_to(name: str, repository: Path, tmp_path: Path) -> None:
    compiled = _documents(compile_pipeline(PIPELINES[name], tmp_path / "pipeline.yaml"))
    committed = _documents(repository / "pipelines" / f"{name}.yaml")
    assert compiled == committed, f"pipelines/{name}.yaml is out of date; run `make compile`"


@pytest.mark.parametrize("name", list(PIPELINES))
def test_tasks_install_nothing_and_name_our_images(name: str, repository: Path) -> None:
    spec = _read(repository / "pipelines" / f"{name}.yaml")
    containers = [
        executor["container"] for executor in spec["deploymentSpec"]["executors"].values() if "container" in executor
    ]
    assert containers
    for container in containers:
        assert container["image"] in ("wan-r1-cpu:0.1.0", "wan-r1-gpu:0.1.0")
        assert "pip install" not in " ".join([*container["command"], *container["args"]])


@pytest.mark.parametrize("name", list(PIPELINES))
def test_no_machine_and_no_secret_is_in_the_yaml(name: str, repository: Path) -> None:
    text = (repository / "pipelines" / f"{name}.yaml").read_text()
    for word in (str(repository), "/home/", "/root/"):
        assert word not in text
    spec, platform = _documents(repository / "pipelines" / f"{name}.yaml")
    # The names of credentials stand in the platform's settings alone, as what keys of a Secret become.
    assert "AWS_" not in yaml.dump(spec)
    for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        assert {key for secret in executor["secretAsEnv"] for entry in secret["keyToEnv"] for key in entry} == {
            "secretKey",
            "envVar",
        }


@pytest.mark.parametrize(("name", "number"), [("full", 2), ("stage-generate-tasks", 1), ("sweep", 1)])
def test_loops_take_no_parameter_of_an_upstream_task(name: str, number: int, repository: Path) -> None:
    """But for what they go through: the local runner gives a loop's body its item in place of any other."""
    loops = [
        task
        for dag in _dags(_read(repository / "pipelines" / f"{name}.yaml"))
        for task in dag["tasks"].values()
        if "parameterIterator" in task
    ]
    assert len(loops) == number
    for loop in loops:
        items = loop["parameterIterator"]["items"].get("inputParameter")
        of_tasks = {key for key, value in loop["inputs"]["parameters"].items() if "taskOutputParameter" in value}
        assert of_tasks <= {items}


def test_every_stage_of_the_pipeline_has_a_file_for_its_metrics(repository: Path) -> None:
    spec = _read(repository / "pipelines" / "full.yaml")
    for name, component in spec["components"].items():
        outputs = component.get("outputDefinitions", {}).get("artifacts", {})
        if "executorLabel" in component and "metrics" in outputs:
            executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
            source = executor["container"]["command"][-1]
            assert "describe(" in source, f"{name} writes no file for its metrics, so that the cache never has it"


def test_only_the_last_tasks_are_never_reused(repository: Path) -> None:
    spec = _read(repository / "pipelines" / "full.yaml")
    uncached = {
        name
        for dag in _dags(spec)
        for name, task in dag["tasks"].items()
        if "comp-exit" not in task["componentRef"]["name"]
        and "dag" not in spec["components"][task["componentRef"]["name"]]
        and not task.get("cachingOptions", {}).get("enableCache")
    }
    assert uncached == {"summarise-run", "record-outcome"}


def test_a_changed_seed_runs_every_stage_again(repository: Path) -> None:
    spec = _read(repository / "pipelines" / "full.yaml")
    seeds = {
        name: task["inputs"]["parameters"].get("seed")
        for dag in _dags(spec)
        for name, task in dag["tasks"].items()
        if task.get("cachingOptions", {}).get("enableCache")
    }
    # How many parts there are is counted; nothing is drawn.
    del seeds["number-parts"]
    assert len(seeds) > 10
    assert not [name for name, seed in seeds.items() if seed is None or "componentInputParameter" not in seed]


@pytest.mark.parametrize("pipeline", [full.full, sweep.sweep], ids=["full", "sweep"])
def test_every_parameter_is_documented_and_optional(pipeline: BaseComponent) -> None:
    for name, spec in pipeline.component_spec.inputs.items():
        assert spec.optional, f"{name} has no default"
        assert spec.description, f"{name} has no description"
