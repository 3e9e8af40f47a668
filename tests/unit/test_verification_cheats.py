"""Ways to cheat (`cheats`): strict reading must not be fooled by any, and none must pay."""

from __future__ import annotations

import numpy as np
import pytest
from cheats import CHEATS, FORMATS, LONG, RULE, cheated, frozen, half_way_and_stops, level_tasks, means, rewards

from wan_r1.verification import verify


def test_there_are_enough_cheats():
    assert len(CHEATS) >= 30


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_no_solution(name: str, form: str):
    tasks, videos, verdicts = cheated(name, form)
    assert len(tasks) >= 2, "the cheat fits too few levels to mean anything"
    assert not any(verdict.error for verdict in verdicts)
    assert [task.level_id for task, verdict in zip(tasks, verdicts, strict=True) if verdict.em] == []
    if CHEATS[name].breaks == LONG:
        assert all(verdict.sr and verdict.sd > 0 for verdict in verdicts)
    else:
        assert [task.level_id for task, verdict in zip(tasks, verdicts, strict=True) if verdict.sr] == []
    if CHEATS[name].breaks == RULE:
        assert all(verdict.violations for verdict in verdicts)
        halves = np.stack([half_way_and_stops(task) for task in tasks])
        honest = rewards(tasks, halves, verify(halves, tasks))
        assert (rewards(tasks, videos, verdicts) < honest).all()
    else:
        assert all(verdict.kept_rules for verdict in verdicts)


def test_an_honest_half_earns_more_than_a_still_video_and_less_than_a_solution():
    tasks = level_tasks("tiny")
    halves, stills, whole = (
        np.stack([make(task) for task in tasks]) for make in (half_way_and_stops, frozen, lambda task: task.video)
    )
    half, idle, full = (rewards(tasks, videos, verify(videos, tasks)) for videos in (halves, stills, whole))
    assert (idle < half).all() and (half < full).all()
    assert np.allclose(full, 1, atol=1e-3) and np.allclose(idle, 0.2, atol=1e-3)


def test_the_benchmarks_metrics_are_fooled_where_ours_are_not():
    """The reason to exist: the same videos under the benchmark's definitions (tests/benchmarks/cheats.py has all)."""
    for name in ("obstacles_erased_from_frame_0", "goal_erased", "second_player_runs_straight"):
        found = means(name, "slow")
        assert found["em"] == found["sr"] == 0 < found["vr_bench_em"]
