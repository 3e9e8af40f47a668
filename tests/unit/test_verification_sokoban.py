"""Videos of Sokoban: solutions score as such in every texture, and no way of cheating with boxes is an exact match."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from box_cheats import BOX_CHEATS, TINY, boxes_glide_by_themselves, half_way_and_stops, tasks_of, true_boxes
from cheats import RULE, rewards

from wan_r1.tasks.dataset import make_task
from wan_r1.tasks.sokoban import place_cells, push_along
from wan_r1.verification import verify
from wan_r1.verification.verdict import VIOLATIONS


def noisy(video: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(video.size).standard_normal(video.shape, np.float32)
    return np.clip(video + 8 * noise, 0, 255).round().astype(np.uint8)


def blurred(video: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video])


@pytest.mark.parametrize("form", ["tiny", "slow"])
@pytest.mark.parametrize("change", [np.copy, noisy, blurred])
def test_references_are_solutions(change: Callable, form: str) -> None:
    tasks = tasks_of(form)
    verdicts = verify([change(task.video) for task in tasks], tasks)
    assert [verdict.error for verdict in verdicts if verdict.error] == []
    assert [verdict.violations for verdict in verdicts if verdict.violations] == []
    assert all(verdict.em and verdict.sr and verdict.pr == 1 and verdict.sd == 0 for verdict in verdicts)
    assert min(verdict.mf for verdict in verdicts) >= 0.99
    for task, verdict in zip(tasks, verdicts, strict=True):
        assert verdict.walk == tuple(place[:2] for place in task.solution)
        assert np.abs(verdict.track - task.trajectory).max() * task.level.canvas < 0.1
        assert np.abs(verdict.boxes - push_along(task.level, task.trajectory)).max() * task.level.canvas < 0.1


@pytest.mark.parametrize("look", ["carpet", "sand"])
def test_a_box_at_the_frames_edge_teaches_how_others_look(look: str) -> None:
    """Once its look had a rim at the frame's edge, and the box one cell further inside was not known by it."""
    task = make_task("sokoban", "hard", look, seed=11, split="test", index=0, **TINY)
    assert task.level.boxes[0][0] + task.level.offset[0] == 0
    (verdict,) = verify([task.video], [task])
    assert verdict.em and verdict.violations == ()


def test_there_are_enough_cheats() -> None:
    assert sum(any(cheat.make(task) is not None for task in tasks_of("slow")) for cheat in BOX_CHEATS.values()) >= 30


@pytest.mark.parametrize("form", ["tiny", "slow"])
@pytest.mark.parametrize("name", BOX_CHEATS)
def test_no_cheat_is_a_solution(name: str, form: str) -> None:
    tasks = [task for task in tasks_of(form) if task.texture in ("brick", "night", "plain")]
    made = [(task, BOX_CHEATS[name].make(task)) for task in tasks]
    made = [(task, video) for task, video in made if video is not None]
    assert len(made) >= 2, "the cheat fits too few levels to mean anything"
    tasks, videos = [task for task, _ in made], np.stack([video for _, video in made])
    verdicts = verify(videos, tasks)
    assert [verdict.error for verdict in verdicts if verdict.error] == []
    who = [(task.difficulty, task.texture) for task in tasks]
    assert [at for at, verdict in zip(who, verdicts, strict=True) if verdict.em or verdict.sr] == []
    assert all(violation.kind in VIOLATIONS for verdict in verdicts for violation in verdict.violations)
    if BOX_CHEATS[name].breaks == RULE:
        assert [at for at, verdict in zip(who, verdicts, strict=True) if verdict.kept_rules] == []
        halves = np.stack([half_way_and_stops(task) for task in tasks])
        honest = rewards(tasks, halves, verify(halves, tasks))
        assert (rewards(tasks, videos, verdicts) < honest).all()
    else:
        assert [at for at, verdict in zip(who, verdicts, strict=True) if not verdict.kept_rules] == []


def test_a_box_that_moves_by_itself_is_told_with_its_frame_and_place() -> None:
    task = tasks_of("tiny")[0]
    (verdict,) = verify([boxes_glide_by_themselves(task)], [task])
    frame = int((np.abs(np.diff(true_boxes(task), axis=0)).max((1, 2)) > 1e-6).argmax()) + 1
    first = verdict.violations[0]
    assert (first.kind, first.frame) == ("box_moved", frame)
    assert first.place in place_cells(task.solution[frame])[1:]
