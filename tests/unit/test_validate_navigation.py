"""Facts about rows of robots are recomputed: each fault is told by the fact that it breaks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wan_r1.tasks.dataset import make_task, read_rows, write_tasks
from wan_r1.validate_tasks.facts import FACTS, row_facts

Row = dict[str, Any]


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    task = make_task(
        "navigation", "hard", "sand", seed=4, split="train", index=2, frames=21, size=64, canvas=8, steps_per_frame=0.7
    )
    file = tmp_path_factory.mktemp("data") / "a.parquet"
    write_tasks([task], file)
    ((_, values),) = read_rows(file)
    return values


def test_a_row_as_it_is_made_holds(row: Row) -> None:
    facts = row_facts(row, lossless=True)
    assert {name: facts[name] for name in FACTS if facts[name] is not True} == {"pushes_fewest": None}
    assert facts["notes"] == ""


def _poses(change: Callable[[np.ndarray], None]) -> Callable[[Row], None]:
    def tamper(row: Row) -> None:
        poses = np.array(row["trajectory"])
        change(poses)
        row["trajectory"] = poses.tolist()

    return tamper


def _through_furniture(poses: np.ndarray) -> None:
    share = np.linspace(0, 1, len(poses))[:, None]
    poses[:] = poses[0] * (1 - share) + poses[-1] * share


def _stop_early(poses: np.ndarray) -> None:
    poses[-3:] = poses[-8]


def _aside(poses: np.ndarray) -> None:
    poses[8, 0] += 0.1


def _state(change: Callable[[dict], None]) -> Callable[[Row], None]:
    def tamper(row: Row) -> None:
        state = json.loads(row["state"])
        change(state)
        row["state"] = json.dumps(state)

    return tamper


def _another_answer(state: dict) -> None:
    """A second piece like the target, in a corner."""
    twin = {**state["furniture"][state["target"]], "x": 1, "y": 1, "width": 10, "depth": 10}
    state["furniture"].append(twin)


@pytest.mark.parametrize(
    ("fact", "tamper"),
    [
        ("path_clear", _poses(_through_furniture)),
        ("target_reached", _poses(_stop_early)),
        ("trajectory_true", _poses(_aside)),
        ("trajectory_true", lambda row: row.update(trajectory=[pose[:2] for pose in row["trajectory"]])),
        ("target_named", lambda row: row.update(prompt=row["prompt"].replace("robot", "cat"))),
        ("solution_unique", _state(_another_answer)),
        ("state_readable", _state(lambda state: state.update(target=99))),
        ("level_id_true", _state(lambda state: state.update(heading=(state["heading"] + 1) % 360))),
        ("solution_legal", lambda row: row.update(solution=[row["solution"][0], row["solution"][-1]], steps=1)),
        ("target_in_view", _state(lambda state: state.update(heading=(state["heading"] + 180) % 360))),
    ],
)
def test_a_fault_is_told_by_its_fact(row: Row, fact: str, tamper: Callable[[Row], None]) -> None:
    broken = copy.deepcopy(row)
    tamper(broken)
    facts = row_facts(broken, lossless=True)
    assert facts[fact] is False and facts["notes"]
