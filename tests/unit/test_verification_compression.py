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
from wan_r1.verification.colour_drift import SORTS, colour_drift
from wan_r1.verification.encoding import AHEAD, ALONE, Way, compress

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from calibration import blur, h264, tasks_of

TINY = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
AS_IT_IS = StrictRules(compression=0)
COLOURS = ("player_changes_colour", "goal_erased", "goal_recoloured", "goal_brought_to_the_player")
COPIES = ("copy_stands_on_the_goal", "copy_left_at_the_start", "second_player_runs_straight")
OTHERS = ("fades_out_and_in", "ghost_of_the_player", "obstacles_erased_from_frame_0", "wall_opened_then_closed")


def same(a, b) -> bool:
    return (a.em, a.sr, a.pr, a.mf, a.violations, a.walk) == (b.em, b.sr, b.pr, b.mf, b.violations, b.walk)


def solved(verdict) -> bool:
    return bool(verdict.em and verdict.sr and verdict.pr == 1 and verdict.mf >= 0.99)


@pytest.mark.parametrize("form", ["grids, 32 px", "Sokoban, 32 px"])
def test_compressed_references_of_eight_pixels_a_cell_are_solutions(form: str):
    tasks = tasks_of(form, share=0.04)
    videos = [h264(task.video) for task in tasks]
    as_they_are = verify(videos, tasks, rules=AS_IT_IS)
    assert sum(verdict.em for verdict in as_they_are) < 0.8 * len(tasks)
    verdicts = verify(videos, tasks)
    # x264 does not encode these alike each time, and two of 423 different encodings failed (calibration.md).
    again = [task for task, verdict in zip(tasks, verdicts, strict=True) if not solved(verdict)]
    assert len(again) <= 1
    failed = [
        (task.family, task.texture, task.difficulty, verdict.violations[:1], verdict.mf)
        for task, verdict in zip(again, verify([h264(task.video) for task in again], again), strict=True)
        if not solved(verdict)
    ]
    assert failed == []
    for before, after in zip(as_they_are, verdicts, strict=True):
        assert same(before, after) or not (before.kept_rules and before.mf >= 0.99) or not solved(after)


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


@pytest.mark.parametrize(("difficulty", "index"), [("easy", 17), ("medium", 14), ("hard", 1)])
def test_what_the_encoder_does_ahead_of_a_move_is_explained(difficulty: str, index: int):
    """Trapfields in wood that failed as long as the drawing was encoded without a look at coming frames: the player
    fades into the goal in the last frame, or the goal has its colour before it comes."""
    task = make_task("trapfield", difficulty, "wood", seed=11, split="test", index=index, **TINY)
    video = h264(task.video)
    (before,), (after,) = verify([video], [task], rules=AS_IT_IS), verify([video], [task])
    assert not before.em and after.em and after.mf >= 0.99


def test_walls_of_another_colour_are_seen_in_the_mean_over_all_of_them():
    """At night compression leaves so little of it that each wall alone passes."""
    tasks = [task for task in level_tasks("tiny") if task.texture == "night" and task.family == "regular"][::4]
    videos = [h264(CHEATS["obstacles_recoloured_at_equal_luma"].make(task)) for task in tasks]
    before, after = verify(videos, tasks, rules=AS_IT_IS), verify(videos, tasks)
    assert sum(verdict.em for verdict in before) >= 3
    for verdict, task in zip(after, tasks, strict=True):
        assert not (verdict.kept_rules or verdict.em or verdict.sr) and verdict.pr < 1
        assert {found.kind for found in verdict.violations} <= {"wall_changed", "floor_changed", "outside_changed"}
        assert all(found.place in task.solution for found in verdict.violations)
        assert len(verdict.walk) == len(verdict.walk_frames)


@pytest.mark.parametrize("way", [way for way in AHEAD if way.library == "swscale"])
def test_boxes_that_fade_are_seen_where_the_codec_gives_most_of_them_back(way: Way):
    """As FFmpeg encodes, in four ways that repeat themselves, chosen because all are told.

    In the other 22 ways 22 of 132 such videos pass, of plain x264's encodings, which change from run to run, one in six
    (tests/benchmarks/calibration.md).
    """
    tasks = [task for task in tasks_of_boxes("tiny") if task.texture in ("meadow", "carpet")]
    videos = [compress(BOX_CHEATS["a_box_fades_out_and_in"].make(task), way, 28) for task in tasks]
    assert not any(verdict.kept_rules for verdict in verify(videos, tasks))


def test_a_blurred_video_may_look_compressed_and_stays_a_solution():
    tasks = [*tasks_of("grids, 32 px", share=0.04)[::3], *tasks_of_boxes("tiny")[::3]]
    assert all(verdict.em for verdict in verify([blur(task.video) for task in tasks], tasks))


def test_mean_colours_move_by_cheating_and_not_by_compression():
    task = make_task("regular", "medium", "night", seed=11, split="test", index=0, **TINY)
    drawing, way = task.video, AHEAD[0]
    compressed = np.stack([compress(drawing, one, 28) for one in AHEAD])
    better = compress(drawing, way._replace(off=-6), 28)
    assert not colour_drift(better, drawing, compressed, task.texture, boxes=False).any()
    cheat = compress(CHEATS["obstacles_recoloured_at_equal_luma"].make(task), way, 28)
    found = colour_drift(cheat, drawing, compressed, task.texture, boxes=False)
    assert found.shape == (len(drawing), len(SORTS)) and found.any(1).sum() > 4 and found.sum(1).max() == 1
    later = drawing.copy()
    later[5:] = CHEATS["obstacles_recoloured_at_equal_luma"].make(task)[5:]
    assert np.flatnonzero(colour_drift(later, drawing, compressed, task.texture, boxes=False).any(1)).min() == 5


@pytest.mark.parametrize("way", [AHEAD[0], AHEAD[1], ALONE[0], ALONE[4]])
def test_compression_halves_the_colours_resolution_and_repeats_itself(way: Way):
    task = make_task("regular", "hard", "sand", seed=11, split="test", index=0, **TINY)
    once, twice = (compress(task.video, way, 28) for _ in range(2))
    assert once.shape == task.video.shape and np.array_equal(once, twice)
    worse = compress(task.video, way._replace(off=8), 28)
    errors = [np.abs(video.astype(int) - task.video).mean() for video in (once, worse)]
    assert 0 < errors[0] < errors[1]
    assert set(TEXTURES) >= {task.texture}
