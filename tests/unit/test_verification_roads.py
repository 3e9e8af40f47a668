"""Levels of roads: references score as solutions in any texture, size and quality; cheats do not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from cheats import LONG, RULE, rewards
from road_cheats import FORMS, ROAD_CHEATS, ROADS, Video, half_way_and_stops, hiding_tasks, some_tasks

from wan_r1.verification import verify


def noisy(video: Video) -> Video:
    noise = np.random.default_rng(video.size).standard_normal(video.shape, np.float32)
    return np.clip(video + 8 * noise, 0, 255).round().astype(np.uint8)


def blurred(video: Video) -> Video:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video])


def compressed(video: Video) -> Video:
    """Through H.264 with half the colour resolution, at quality 28."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "28", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("family", ROADS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", [np.asarray, noisy, blurred, compressed])
def test_references_are_solutions(family: str, form: str, change: Callable[[Video], Video]) -> None:
    tasks = some_tasks(family, form)
    if change is compressed and form != "512 px":
        # Small cells are read a second time then, which takes long.
        tasks = tasks[::5]
    verdicts = verify([change(task.video) for task in tasks], tasks)
    assert [verdict.error for verdict in verdicts if verdict.error] == []
    faults = {(t.difficulty, t.texture): v.violations[:3] for t, v in zip(tasks, verdicts, strict=True) if v.violations}
    assert faults == {}
    assert all(verdict.em and verdict.sr and verdict.pr == 1 and verdict.sd == 0 for verdict in verdicts)
    assert min(verdict.mf for verdict in verdicts) >= 0.99
    for task, verdict in zip(tasks, verdicts, strict=True):
        assert verdict.walk == task.solution and verdict.end == task.level.goal
        assert list(verdict.walk_frames) == sorted(verdict.walk_frames)
        assert np.nanmax(np.abs(verdict.track - task.trajectory)) * task.level.canvas < 0.2


@pytest.mark.parametrize("family", ROADS)
def test_the_benchmarks_metrics_count_references_as_solutions(family: str) -> None:
    tasks = some_tasks(family, "64 px")
    verdicts = verify([task.video for task in tasks], tasks, vr_bench=True)
    assert all(verdict.vr_bench_em and verdict.vr_bench_sr and verdict.vr_bench_pr == 1 for verdict in verdicts)


def test_a_look_that_is_not_ours_is_learned_from_the_given_image() -> None:
    for task in some_tasks("irregular", "128 px")[::3]:
        foreign = replace(task, texture="of another tool")
        (verdict,) = verify([task.video], [foreign])
        assert verdict.em and verdict.mf >= 0.99 and verdict.violations == ()


def test_a_ball_behind_a_cube_is_hidden_and_not_lost() -> None:
    tasks = hiding_tasks("maze3d")
    verdicts = verify([task.video for task in tasks], tasks)
    assert all(verdict.em and verdict.mf >= 0.99 for verdict in verdicts)
    hidden = [verdict for verdict in verdicts if "occluded" in verdict.states]
    assert len(hidden) >= 3
    for verdict in hidden:
        assert np.isnan(verdict.track[:, 0]).tolist() == [state == "occluded" for state in verdict.states]


@pytest.mark.parametrize("family", ROADS)
def test_there_are_enough_cheats(family: str) -> None:
    """At least 20 that a level of the family has room for."""
    tasks = some_tasks(family, "64 px", 2)[::3]
    assert sum(any(cheat.make(task) is not None for task in tasks) for cheat in ROAD_CHEATS.values()) >= 30


@pytest.mark.parametrize("family", ROADS)
@pytest.mark.parametrize("name", ROAD_CHEATS)
def test_a_cheat_is_no_solution(family: str, name: str) -> None:
    make, breaks = ROAD_CHEATS[name].make, ROAD_CHEATS[name].breaks
    some = some_tasks(family, "64 px", 2)[::3] if name != "drawn_over_what_hides_it" else hiding_tasks(family)
    made = [(task, make(task)) for task in some]
    made = [(task, video) for task, video in made if video is not None]
    if not some:
        pytest.skip("nothing can hide the player in this family")
    if not made and name == "ladders_erased":
        pytest.skip("no ladders in this family")
    assert len(made) >= 2, "the cheat fits too few levels to mean anything"
    tasks, videos = [task for task, _ in made], np.stack([video for _, video in made])
    verdicts = verify(videos, tasks)
    who = [(task.difficulty, task.texture, task.index) for task in tasks]
    assert not any(verdict.error for verdict in verdicts)
    assert [at for at, verdict in zip(who, verdicts, strict=True) if verdict.em] == []
    if breaks == LONG:
        assert [at for at, v in zip(who, verdicts, strict=True) if not (v.sr and v.sd > 0)] == []
    else:
        assert [at for at, verdict in zip(who, verdicts, strict=True) if verdict.sr] == []
    if breaks == RULE:
        # A player that vanishes beside what can hide it may be there: no rule is broken, and nothing is won.
        kept = [v for v in verdicts if not v.violations and "occluded" not in v.states]
        assert kept == []
        halves = np.stack([half_way_and_stops(task) for task in tasks])
        honest = rewards(tasks, halves, verify(halves, tasks))
        assert (rewards(tasks, videos, verdicts) < honest).all()
    else:
        assert [at for at, verdict in zip(who, verdicts, strict=True) if not verdict.kept_rules] == []
    if name == "half_way_and_stops":
        assert [round(verdict.pr, 1) for verdict in verdicts] == [0.5] * len(verdicts)
