"""Videos of Sokoban: solutions score as such in every texture, and no way of cheating with boxes is an exact match."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.render import draw_player
from wan_r1.tasks.sokoban import place_cells, push_along
from wan_r1.tasks.sokoban_drawing import draw_boxes, draw_store
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify
from wan_r1.verification.verdict import VIOLATIONS

TINY = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
SLOW = {"size": 64, "canvas": 4, "frames": 37, "steps_per_frame": 0.25}


@functools.cache
def tasks_of(form: str) -> tuple[Task, ...]:
    shape = {"tiny": TINY, "slow": SLOW}[form]
    looks = sorted(TEXTURES) if form == "tiny" else ("brick", "night", "plain")
    return tuple(
        make_task("sokoban", difficulty, look, seed=5, split="test", index=0, **shape)
        for difficulty in DIFFICULTIES
        for look in looks
    )


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


# Ways to cheat: the player's and the boxes' places, [F, 2] and [F, boxes, 2], or a whole video.


def draw(task: Task, player: np.ndarray, boxes: np.ndarray, store: np.ndarray | None = None) -> np.ndarray:
    look, cell = TEXTURES[task.texture], task.height // task.level.canvas
    behind = draw_store(task.level, look, task.height) if store is None else store
    return draw_boxes(draw_player(behind, player, look.player, cell), boxes, look, cell)


def true_boxes(task: Task) -> np.ndarray:
    return push_along(task.level, task.trajectory)


def still(task: Task) -> np.ndarray:
    return np.repeat(task.trajectory[:1], task.frames, axis=0)


def boxes_glide_by_themselves(task: Task) -> np.ndarray:
    return draw(task, still(task), true_boxes(task))


def boxes_never_move(task: Task) -> np.ndarray:
    return draw(task, task.trajectory, np.repeat(true_boxes(task)[:1], task.frames, axis=0))


def boxes_jump_home_at_the_end(task: Task) -> np.ndarray:
    boxes = np.repeat(true_boxes(task)[:1], task.frames, axis=0)
    boxes[-3:] = true_boxes(task)[-1]
    return draw(task, task.trajectory, boxes)


def boxes_go_straight_home(task: Task) -> np.ndarray:
    ends, share = true_boxes(task), np.linspace(0, 1, task.frames)[:, None, None]
    return draw(task, task.trajectory, ends[:1] + share**0.5 * (ends[-1:] - ends[:1]))


def a_box_is_pulled_back_and_home_again(task: Task) -> np.ndarray:
    """The player walks away from the goal with the last box behind it, and brings it back."""
    frames, middle = task.frames, task.frames // 2
    order = np.concatenate([np.arange(middle + 1), np.arange(middle, 2 * middle - frames + 1, -1)])[:frames]
    return draw(task, task.trajectory[order], true_boxes(task)[order])


def a_second_box_waits_on_a_target(task: Task) -> np.ndarray:
    extra = np.repeat(true_boxes(task)[-1:, :1], task.frames, axis=0)
    first = np.repeat(true_boxes(task)[:1], task.frames, axis=0)
    return draw(task, still(task), np.concatenate([first, extra], axis=1))


def a_box_vanishes(task: Task) -> np.ndarray:
    boxes = true_boxes(task)
    boxes[task.frames // 2 :, 0] = -1
    return draw(task, task.trajectory, np.where(boxes < 0, -0.2, boxes))


def targets_come_to_the_boxes(task: Task) -> np.ndarray:
    look = TEXTURES[task.texture]
    moved = type(task.level)(**{**vars_of(task.level), "targets": task.level.boxes})
    video = draw(task, still(task), np.repeat(true_boxes(task)[:1], task.frames, axis=0))
    boxes = np.repeat(true_boxes(task)[:1], task.frames - 1, axis=0)
    video[1:] = draw(task, still(task)[1:], boxes, draw_store(moved, look, task.height))
    return video


def vars_of(level) -> dict:
    return {name: getattr(level, name) for name in level.__dataclass_fields__}


def frozen(task: Task) -> np.ndarray:
    return np.repeat(task.first_frame[None], task.frames, axis=0)


def reversed_in_time(task: Task) -> np.ndarray:
    return task.video[::-1].copy()


def solved_from_the_second_frame_on(task: Task) -> np.ndarray:
    return np.concatenate([task.video[:1], np.repeat(task.video[-1:], task.frames - 1, axis=0)])


def half_way(task: Task) -> np.ndarray:
    """It stops a move before the end."""
    video = task.video.copy()
    stop = int((len(task.solution) - 2) / speed(task))
    video[stop:] = video[stop]
    return video


def speed(task: Task) -> float:
    return float(np.abs(np.diff(task.trajectory, axis=0)).sum(1).max() * task.level.canvas)


def a_second_player(task: Task) -> np.ndarray:
    look, cell = TEXTURES[task.texture], task.height // task.level.canvas
    free = set(place_cells(task.level.start)) | set(task.level.targets)
    path = {cell for place in task.solution for cell in place_cells(place)}
    board = [(r, c) for r in range(task.level.rows) for c in range(task.level.columns)]
    spare = [cell for cell in board if task.level.is_free(cell) and cell not in free | path]
    if not spare:
        return frozen(task)
    place = np.array([task.level.center(spare[0])])
    return np.stack([draw_player(frame, place, look.player, cell)[0] for frame in task.video])


def walls_are_gone(task: Task) -> np.ndarray:
    empty = type(task.level)(**{**vars_of(task.level), "blocked": ()})
    if not task.level.blocked:
        return frozen(task)
    store = draw_store(empty, TEXTURES[task.texture], task.height)
    return np.concatenate([task.video[:1], draw(task, task.trajectory, true_boxes(task), store)[1:]])


CHEATS = [
    boxes_glide_by_themselves,
    boxes_never_move,
    boxes_jump_home_at_the_end,
    boxes_go_straight_home,
    a_box_is_pulled_back_and_home_again,
    a_second_box_waits_on_a_target,
    a_box_vanishes,
    targets_come_to_the_boxes,
    frozen,
    reversed_in_time,
    solved_from_the_second_frame_on,
    half_way,
    a_second_player,
    walls_are_gone,
]


@pytest.mark.parametrize("form", ["tiny", "slow"])
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_no_cheat_is_a_solution(cheat: Callable, form: str) -> None:
    tasks = [task for task in tasks_of(form) if task.texture in ("brick", "night", "plain")]
    verdicts = verify([cheat(task) for task in tasks], tasks)
    assert [verdict.error for verdict in verdicts if verdict.error] == []
    assert [task.difficulty for task, verdict in zip(tasks, verdicts, strict=True) if verdict.em or verdict.sr] == []
    assert all(violation.kind in VIOLATIONS for verdict in verdicts for violation in verdict.violations)


def test_a_box_that_moves_by_itself_is_told_with_its_frame_and_place() -> None:
    task = tasks_of("tiny")[0]
    (verdict,) = verify([boxes_glide_by_themselves(task)], [task])
    frame = int((np.abs(np.diff(true_boxes(task), axis=0)).max((1, 2)) > 1e-6).argmax()) + 1
    first = verdict.violations[0]
    assert (first.kind, first.frame) == ("box_moved", frame)
    assert first.place in place_cells(task.solution[frame])[1:]
