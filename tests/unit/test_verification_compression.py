"""Compressed videos of small cells: honest ones are read, cheats are not, and other videos are read as ever."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_cheats import BOX_CHEATS
from box_cheats import tasks_of as tasks_of_boxes
from cheats import CHEATS, level_tasks
from kept_rollouts import kept

from wan_r1.tasks.dataset import make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import StrictRules, verify
from wan_r1.verification.compression import compress

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from calibration import h264, tasks_of

TINY = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
AS_IT_IS = StrictRules(compression=0)
COLOURS = ("player_changes_colour", "goal_erased", "goal_recoloured", "goal_brought_to_the_player")
COPIES = ("copy_stands_on_the_goal", "copy_left_at_the_start", "second_player_runs_straight")
OTHERS = ("fades_out_and_in", "ghost_of_the_player", "obstacles_erased_from_frame_0", "wall_opened_then_closed")


def same(a, b) -> bool:
    return (a.em, a.sr, a.pr, a.mf, a.violations, a.walk) == (b.em, b.sr, b.pr, b.mf, b.violations, b.walk)


@pytest.mark.parametrize("form", ["grids, 32 px", "Sokoban, 32 px"])
def test_compressed_references_of_eight_pixels_a_cell_are_solutions(form: str):
    tasks = tasks_of(form, share=0.04)
    videos = [h264(task.video) for task in tasks]
    as_they_are = verify(videos, tasks, rules=AS_IT_IS)
    assert sum(verdict.em for verdict in as_they_are) < 0.8 * len(tasks)
    verdicts = verify(videos, tasks)
    failed = [
        (task.family, task.texture, task.difficulty, verdict.violations[:1], verdict.mf)
        for task, verdict in zip(tasks, verdicts, strict=True)
        if not (verdict.em and verdict.sr and verdict.pr == 1 and verdict.mf >= 0.99)
    ]
    assert failed == []
    for before, after in zip(as_they_are, verdicts, strict=True):
        assert same(before, after) or not (before.kept_rules and before.mf >= 0.99)


def test_an_honest_half_is_read_as_that():
    """Not only solutions: what was read of the way is drawn, whatever it is."""
    for task in level_tasks("tiny")[::7]:
        half = CHEATS["half_way_and_stops"].make(task)
        plain, compressed = verify([half, h264(half)], [task, task])
        assert compressed.kept_rules and not compressed.sr and compressed.walk == plain.walk


@pytest.mark.parametrize("name", (*COLOURS, *COPIES, *OTHERS))
def test_compression_hides_no_cheat(name: str):
    made = [(task, CHEATS[name].make(task)) for task in level_tasks("tiny")[::5]]
    tasks = [task for task, video in made if video is not None]
    videos = [h264(video) for _, video in made if video is not None]
    assert len(tasks) >= 2
    for before, after in zip(verify(videos, tasks, rules=AS_IT_IS), verify(videos, tasks), strict=True):
        assert same(before, after) and not after.em


@pytest.mark.parametrize("name", ["a_box_vanishes", "a_box_is_pulled_back_and_home_again", "a_box_changes_colour"])
def test_compression_hides_no_cheat_with_a_box(name: str):
    """Of these a codec leaves so little that some were taken for honest until more was asked of what is left."""
    made = [(task, BOX_CHEATS[name].make(task)) for task in tasks_of_boxes("tiny")]
    made = [(task, video) for task, video in made if video is not None and task.texture in ("meadow", "sand")]
    assert len(made) >= 3
    tasks, videos = [task for task, _ in made], [h264(video) for _, video in made]
    assert not any(verdict.kept_rules for verdict in verify(videos, tasks))


def test_what_a_model_makes_is_read_as_it_is():
    """Its colours have the full resolution, so that nothing is forgiven."""
    rollouts = kept()
    videos, tasks = [video for _, video in rollouts], [task for task, _ in rollouts]
    for before, after in zip(verify(videos, tasks, rules=AS_IT_IS), verify(videos, tasks), strict=True):
        assert same(before, after)


def test_a_look_that_is_not_ours_is_read_as_it_is():
    """There is nothing to draw then."""
    task = make_task("regular", "hard", "sand", seed=11, split="test", index=0, **TINY)
    foreign, video = replace(task, texture="of another tool"), h264(task.video)
    before, after = verify([video], [foreign], rules=AS_IT_IS), verify([video], [foreign])
    assert same(before[0], after[0])


@pytest.mark.parametrize("library", ["opencv", "swscale"])
def test_compression_halves_the_colours_resolution_and_repeats_itself(library: str):
    task = make_task("regular", "hard", "sand", seed=11, split="test", index=0, **TINY)
    once, twice = (compress(task.video, "veryfast", 3, 0, library, 28) for _ in range(2))
    assert once.shape == task.video.shape and np.array_equal(once, twice)
    worse = compress(task.video, "veryfast", 3, 8, library, 28)
    errors = [np.abs(video.astype(int) - task.video).mean() for video in (once, worse)]
    assert 0 < errors[0] < errors[1]
    assert set(TEXTURES) >= {task.texture}
