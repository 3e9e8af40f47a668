"""Rollouts of tiny Wans, trained against verification as it was, on which it and the slow reader disagreed.

Found by `tests/benchmarks/agreement.py` and looked at by eye.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES

FILE = Path(__file__).with_name("disagreements.npz")


def kept() -> list[tuple[Task, np.ndarray]]:
    """Every rollout ``[9, 32, 32, 3]`` with its level."""
    data = np.load(FILE)
    found = []
    for video, state, texture in zip(data["videos"], data["states"], data["textures"], strict=True):
        values = json.loads(str(state))
        form = {"frames": 9, "size": 32, "canvas": values["canvas"], "steps_per_frame": 1.0}
        base = make_task(values["family"], "easy", str(texture), seed=0, split="test", index=0, **form)
        family = FAMILIES[values["family"]]
        level = family.from_state(values)
        trajectory = family.trajectory(level, 9, 1.0)
        first = family.render(level, TEXTURES[str(texture)], trajectory[:1], 32)[0]
        task = replace(base, level=level, trajectory=trajectory, first_frame=first, solution=level.solve().path)
        found.append((task, video))
    return found
