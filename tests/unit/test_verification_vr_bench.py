"""The benchmark's definitions, against closed forms and what its code is known to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wan_r1.tasks.dataset import make_task
from wan_r1.verification import BenchmarkRules, verify
from wan_r1.verification.vr_bench import benchmark_metrics, grey_fidelity, prefix_precision, repeat_last

FORM = {"frames": 33, "size": 64, "canvas": 4, "steps_per_frame": 0.25}


def task(family: str = "trapfield", index: int = 0):
    return make_task(family, "medium", "plain", seed=4, split="test", index=index, **FORM)


def line(*points) -> np.ndarray:
    return np.array(points, float)


def test_prefix_precision_is_the_share_of_length_before_the_first_miss():
    rules = BenchmarkRules(epsilon=0.05, samples=1001)
    straight = line((0, 0), (1, 0))
    assert prefix_precision(straight, straight, rules) == 1
    # Leaves at .5 at a right angle: the distance is sqrt(2) times the length gone since.
    leaves = line((0, 0), (0.5, 0), (0.5, 0.5))
    assert prefix_precision(leaves, straight, rules) == pytest.approx(0.5 + 0.05 / np.sqrt(2), abs=2e-3)
    # A path that stops is held at its end.
    assert prefix_precision(line((0, 0), (0.5, 0)), straight, rules) == pytest.approx(0.55, abs=2e-3)
    # Time plays no role, and what comes after the reference's length is free.
    assert prefix_precision(line((0, 0), (0.1, 0), (1, 0), (1, 1)), straight, rules) == 1


def test_a_lost_player_stays_where_it_was_seen_last():
    track = np.array([[np.nan] * 2, [0.2, 0.3], [np.nan] * 2, [np.nan] * 2, [0.5, 0.6]])
    expected = [(0.1, 0.1), (0.2, 0.3), (0.2, 0.3), (0.2, 0.3), (0.5, 0.6)]
    assert np.allclose(repeat_last(track, (0.1, 0.1)), expected)


def test_references_are_perfect():
    for index in range(4):
        for family in ("regular", "trapfield"):
            level = task(family, index)
            (verdict,) = verify(level.video[None], [level], vr_bench=True)
            assert verdict.vr_bench_em and verdict.vr_bench_sr
            assert verdict.vr_bench_pr == 1 and verdict.vr_bench_sd == pytest.approx(0, abs=0.05)
            assert verdict.vr_bench_mf > 0.97


def test_they_are_left_out_unless_asked_for():
    level = task()
    (verdict,) = verify(level.video[None], [level])
    assert verdict.vr_bench_em is None and verdict.vr_bench_mf is None


def test_success_is_any_point_in_the_goals_box():
    level = task()
    touches = np.repeat(level.trajectory[:1], level.frames, axis=0)
    touches[7] = np.array(level.level.center(level.level.goal)) + 0.49 / 4
    rules = BenchmarkRules()
    assert benchmark_metrics(level.video, touches, level, rules)["vr_bench_sr"]
    touches[7] += 0.02 / 4
    assert not benchmark_metrics(level.video, touches, level, rules)["vr_bench_sr"]


def test_step_deviation_is_none_below_the_reference_and_without_success():
    level = task()
    rules = BenchmarkRules()
    cut = level.trajectory.copy()
    cut[1:] = level.trajectory[-1]
    shorter = benchmark_metrics(level.video, cut, level, rules)
    if np.ptp(level.trajectory, axis=0).min() > 0:
        assert shorter["vr_bench_sr"] and shorter["vr_bench_sd"] is None
    longer = np.concatenate([level.trajectory[:-1], level.trajectory[-1:] + 0.05])
    deviation = benchmark_metrics(level.video, longer, level, rules)["vr_bench_sd"]
    length = np.hypot(*np.diff(level.trajectory, axis=0).T).sum()
    assert deviation == pytest.approx(np.hypot(0.05, 0.05) / length, rel=1e-3)
    still = np.repeat(level.trajectory[:1], level.frames, axis=0)
    assert benchmark_metrics(level.video, still, level, rules)["vr_bench_sd"] is None


def test_fidelity_is_blind_to_hue_to_other_frames_and_to_start_and_goal():
    level = task()
    points = np.asarray(level.trajectory, float)
    rules = BenchmarkRules()
    still = np.repeat(level.video[:1], level.frames, axis=0)
    assert grey_fidelity(still, points, level, rules) == 1
    others = still.copy()
    others[np.arange(level.frames) % 5 > 0] = 0
    assert grey_fidelity(others, points, level, rules) == 1
    dark = still.copy()
    dark[5:] = np.clip(dark[5:].astype(int) - 40, 0, 255)
    assert grey_fidelity(dark, points, level, rules) < 0.5
    assert grey_fidelity(level.video[:5], points[:5], level, rules) == 0


def test_the_tolerance_is_a_parameter():
    level = task()
    off = np.clip(level.trajectory + 0.04, 0, 1)
    wide = benchmark_metrics(level.video, off, level, BenchmarkRules(epsilon=0.06))
    narrow = benchmark_metrics(level.video, off, level, BenchmarkRules(epsilon=0.01))
    assert wide["vr_bench_pr"] == 1 and narrow["vr_bench_pr"] == 0


def test_a_video_that_cannot_be_read_has_no_benchmark_scores():
    level = task()
    (verdict,) = verify([level.video[:3]], [replace(level)], vr_bench=True)
    assert verdict.error and verdict.vr_bench_em is None


NOTHING = {"vr_bench_em": False, "vr_bench_sr": False, "vr_bench_pr": 0.0, "vr_bench_sd": 0.0, "vr_bench_mf": 0.0}


@pytest.mark.parametrize("points", [0, 1])
def test_fewer_than_two_points_on_either_side_are_zero_with_a_step_deviation(points: int):
    """As the benchmark has it: the step deviation is then 0 and enters its mean, not None."""
    level = task()
    rules, whole = BenchmarkRules(), np.asarray(level.trajectory, float)
    assert benchmark_metrics(level.video, whole[:points], level, rules) == NOTHING
    assert benchmark_metrics(level.video, whole, level, rules, [whole[-1:][:points]]) == NOTHING
    # Another reference that says something is better than one that says nothing.
    assert benchmark_metrics(level.video, whole, level, rules, [whole[:points], whole])["vr_bench_em"]


def test_a_player_that_is_never_seen_stays_at_the_start():
    level = task()
    unseen = np.full(level.trajectory.shape, np.nan, np.float32)
    still = np.repeat(np.array([level.level.center(level.level.start)]), level.frames, axis=0)
    found, expected = (benchmark_metrics(level.video, track, level, BenchmarkRules()) for track in (unseen, still))
    assert found == expected
    assert not found["vr_bench_sr"] and not found["vr_bench_em"] and found["vr_bench_sd"] is None
    length = np.hypot(*np.diff(level.trajectory, axis=0).T).sum()
    assert found["vr_bench_pr"] == pytest.approx(0.05 / length, abs=2e-3), "the radius around the start is followed"


def test_a_reference_without_length_is_followed_from_its_place_alone():
    level = task()
    there, elsewhere = (
        np.repeat(np.array([level.level.center(cell)]), 5, axis=0) for cell in (level.level.start, level.level.goal)
    )
    walked = np.asarray(level.trajectory, float)
    at_home = benchmark_metrics(level.video, walked, level, BenchmarkRules(), [there])
    assert (at_home["vr_bench_pr"], at_home["vr_bench_sd"], at_home["vr_bench_em"]) == (1.0, 0.0, True)
    away = benchmark_metrics(level.video, walked, level, BenchmarkRules(), [elsewhere])
    assert (away["vr_bench_pr"], away["vr_bench_sd"], away["vr_bench_em"]) == (0.0, 0.0, False)


def test_points_that_repeat_or_leave_the_frame_are_no_error():
    level = task()
    walked = np.asarray(level.trajectory, float)
    slow = np.repeat(walked, 3, axis=0)
    rules = BenchmarkRules()
    assert prefix_precision(slow, walked, rules) == prefix_precision(walked, slow, rules) == 1
    far = walked.copy()
    far[3:] = (-4.0, 7.0)
    found = benchmark_metrics(level.video, far, level, rules)
    assert not found["vr_bench_sr"] and 0 < found["vr_bench_pr"] < 1 and found["vr_bench_mf"] < 1


def test_no_reference_at_all_is_refused_before_anything_is_read():
    level = task()
    with pytest.raises(ValueError, match=r"references\[1\] has no path"):
        verify([level.video, level.video], [level, level], vr_bench=True, references=[None, []])
