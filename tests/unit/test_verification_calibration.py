"""A small part of the calibration run (tests/benchmarks/calibration.py): every grid family, texture and difficulty."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from calibration import CHANGES, tasks_of

from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify


@pytest.mark.parametrize("change", ["as they are", "noise 8/255", "blur 1 px"])
def test_references_stay_solutions(change: str):
    tasks = tasks_of("grids, 64 px", share=0.1)
    assert len(tasks) == 2 * 3 * len(TEXTURES)
    verdicts = verify([CHANGES[change](task.video) for task in tasks], tasks)
    failed = [
        (task.family, task.texture, task.difficulty, verdict.violations[:1], verdict.mf)
        for task, verdict in zip(tasks, verdicts, strict=True)
        if not (verdict.em and verdict.sr and verdict.pr == 1 and verdict.mf >= 0.99)
    ]
    assert failed == []
