"""Ways to cheat in Sokoban, with the boxes and without; what each breaks is said as in `cheats`.

Most are the player's and the boxes' places, [F, 2] and [F, boxes, 2], drawn without asking who pushes what.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from cheats import (
    NO_END,
    RULE,
    Cheat,
    arrival,
    camera_pans,
    camera_zooms,
    crossfades_to_the_end,
    frame_shuffle,
    frozen,
    mirrored,
    reversed_in_time,
    same_luma,
    speed,
    texture_drifts,
)

from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.render import draw_player
from wan_r1.tasks.sokoban import place_cells, push_along
from wan_r1.tasks.sokoban_drawing import draw_boxes, draw_store
from wan_r1.tasks.task import Task, make_task
from wan_r1.tasks.textures import TEXTURES

TINY = {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0}
SLOW = {"size": 64, "canvas": 4, "frames": 37, "steps_per_frame": 0.25}
Video = np.ndarray
BOX_CHEATS: dict[str, Cheat] = {}


def cheat(breaks: str):
    """Enter a generator in `BOX_CHEATS` under its name."""

    def enter(make: Callable[[Task], Video | None]):
        BOX_CHEATS[make.__name__] = Cheat(make, breaks)
        return make

    return enter


@functools.cache
def tasks_of(form: str) -> tuple[Task, ...]:
    shape = {"tiny": TINY, "slow": SLOW}[form]
    looks = sorted(TEXTURES) if form == "tiny" else ("brick", "night", "plain")
    return tuple(
        make_task("sokoban", difficulty, look, seed=5, split="test", index=0, **shape)
        for difficulty in DIFFICULTIES
        for look in looks
    )


def draw(task: Task, player: np.ndarray, boxes: np.ndarray, store: np.ndarray | None = None, look=None) -> Video:
    look, cell = look or TEXTURES[task.texture], task.height // task.level.canvas
    behind = draw_store(task.level, look, task.height) if store is None else store
    return draw_boxes(draw_player(behind, player, look.player, cell), boxes, look, cell)


def true_boxes(task: Task) -> np.ndarray:
    return push_along(task.level, task.trajectory)


def first_boxes(task: Task) -> np.ndarray:
    """The boxes stay where they are."""
    return np.repeat(true_boxes(task)[:1], task.frames, axis=0)


def still(task: Task, frame: int = 0) -> np.ndarray:
    return np.repeat(task.trajectory[frame : frame + 1], task.frames, axis=0)


def add_player(task: Task, video: Video, positions: np.ndarray, frames=slice(None)) -> Video:
    """The video with one more disc in some frames."""
    look, cell, result = TEXTURES[task.texture], task.height // task.level.canvas, video.copy()
    for f in np.arange(len(video))[frames]:
        result[f] = draw_player(video[f], positions[f : f + 1], look.player, cell)[0]
    return result


def spare_cell(task: Task):
    """A free cell that nothing ever is on; None if there is none."""
    used = set(task.level.targets) | {cell for place in task.solution for cell in place_cells(place)}
    board = [(r, c) for r in range(task.level.rows) for c in range(task.level.columns)]
    return next((cell for cell in board if task.level.is_free(cell) and cell not in used), None)


for general in (
    camera_pans,
    camera_zooms,
    crossfades_to_the_end,
    frame_shuffle,
    mirrored,
    reversed_in_time,
    texture_drifts,
):
    cheat(RULE)(general)
cheat(NO_END)(frozen)


# What the boxes do


@cheat(RULE)
def boxes_glide_by_themselves(task: Task) -> Video:
    return draw(task, still(task), true_boxes(task))


@cheat(RULE)
def boxes_never_move(task: Task) -> Video:
    return draw(task, task.trajectory, first_boxes(task))


@cheat(RULE)
def boxes_jump_home_at_the_end(task: Task) -> Video:
    boxes = first_boxes(task)
    boxes[-3:] = true_boxes(task)[-1]
    return draw(task, task.trajectory, boxes)


@cheat(RULE)
def boxes_are_home_from_the_second_frame_on(task: Task) -> Video:
    """Teleported; the player stays where it is."""
    boxes = np.repeat(true_boxes(task)[-1:], task.frames, axis=0)
    video = draw(task, still(task), boxes)
    video[0] = task.first_frame
    return video


@cheat(RULE)
def boxes_go_straight_home(task: Task) -> Video:
    ends, share = true_boxes(task), np.linspace(0, 1, task.frames)[:, None, None]
    return draw(task, task.trajectory, ends[:1] + share**0.5 * (ends[-1:] - ends[:1]))


@cheat(RULE)
def a_box_runs_ahead(task: Task) -> Video:
    """Every box moves a whole move before it is pushed, as if thrown."""
    late = np.minimum(np.arange(task.frames) + round(1 / speed(task)), task.frames - 1)
    return draw(task, task.trajectory, true_boxes(task)[late])


@cheat(RULE)
def a_box_lags_behind(task: Task) -> Video:
    """Every box moves a whole move after its push: the player goes through it."""
    early = np.maximum(np.arange(task.frames) - round(1 / speed(task)), 0)
    return draw(task, task.trajectory, true_boxes(task)[early])


@cheat(RULE)
def a_box_is_pulled_back_and_home_again(task: Task) -> Video | None:
    """The player walks away from the goal with the last box behind it, and brings it back."""
    frames, middle = task.frames, task.frames // 2
    order = np.concatenate([np.arange(middle + 1), np.arange(middle, 2 * middle - frames + 1, -1)])[:frames]
    boxes = true_boxes(task)[order]
    # Where every push comes before the frame that it goes back to, nothing is pulled.
    return draw(task, task.trajectory[order], boxes) if (boxes[-1] != boxes[middle]).any() else None


@cheat(RULE)
def a_box_goes_through_a_wall(task: Task) -> Video | None:
    """It is pushed once and on over the board's edge, and comes home from there."""
    boxes = true_boxes(task)
    moved = np.abs(boxes - boxes[0]).max((0, 2)) > 0
    if not moved.any():
        return None
    box = int(moved.argmax())
    direction = np.sign(boxes[np.abs(boxes[:, box] - boxes[0, box]).max(1) > 0][0, box] - boxes[0, box])
    away = np.sin(np.linspace(0, np.pi, task.frames))[:, None] * direction * (task.level.rows / task.level.canvas)
    boxes[:, box] = np.clip(boxes[:, box] + away, 0.05, 0.95)
    return draw(task, task.trajectory, boxes)


@cheat(RULE)
def a_second_box_waits_on_a_target(task: Task) -> Video:
    extra = np.repeat(true_boxes(task)[-1:, :1], task.frames, axis=0)
    return draw(task, still(task), np.concatenate([first_boxes(task), extra], axis=1))


@cheat(RULE)
def a_box_splits_in_two(task: Task) -> Video:
    """One goes where it is pushed, the other stays."""
    return draw(task, task.trajectory, np.concatenate([true_boxes(task), first_boxes(task)], axis=1))


@cheat(RULE)
def a_box_vanishes(task: Task) -> Video:
    boxes = true_boxes(task)
    boxes[task.frames // 2 :, 0] = -0.2
    return draw(task, task.trajectory, boxes)


@cheat(RULE)
def a_box_fades_out_and_in(task: Task) -> Video:
    boxes = true_boxes(task)
    boxes[:, 0] = -0.2
    without, middle = draw(task, task.trajectory, boxes), max(1, arrival(task) // 2)
    opacity = np.ones(task.frames)
    opacity[max(1, middle - 1) : middle + 2] = 0.2
    shown = opacity[:, None, None, None]
    return np.rint(shown * task.video + (1 - shown) * without).astype(np.uint8)


@cheat(RULE)
def a_box_changes_colour(task: Task) -> Video:
    look = TEXTURES[task.texture]
    twins = [same_luma(look.box, towards) for towards in ((40, 90, 255), (255, 90, 20), (60, 220, 60))]
    other = max(twins, key=lambda twin: np.linalg.norm(np.subtract(twin, look.box)))
    video = draw(task, task.trajectory, true_boxes(task), look=replace(look, box=other, box_mark=other))
    video[0] = task.first_frame
    return video


@cheat(NO_END)
def half_way_and_stops(task: Task) -> Video:
    """An honest half: up to the middle of the solution."""
    video = task.video.copy()
    stop = int((len(task.solution) - 1) / 2 / speed(task))
    video[stop:] = video[stop]
    return video


@cheat(NO_END)
def stops_a_move_before_the_end(task: Task) -> Video:
    video = task.video.copy()
    stop = int((len(task.solution) - 2) / speed(task))
    video[stop:] = video[stop]
    return video


@cheat(RULE)
def solved_from_the_second_frame_on(task: Task) -> Video:
    return np.concatenate([task.video[:1], np.repeat(task.video[-1:], task.frames - 1, axis=0)])


# What the player does


@cheat(RULE)
def the_player_jumps_to_each_push(task: Task) -> Video | None:
    """It skips the ways between pushes in one frame."""
    boxes = true_boxes(task)
    pushing = np.flatnonzero(np.abs(np.diff(boxes, axis=0)).max((1, 2)) > 1e-6)
    if not len(pushing) or pushing[0] * speed(task) < 2:
        return None
    order = np.concatenate([[0], np.arange(pushing[0], task.frames)])
    return task.video[np.concatenate([order, np.full(task.frames - len(order), task.frames - 1)])]


@cheat(RULE)
def sped_up(task: Task) -> Video:
    return task.video[np.minimum(2 * np.arange(task.frames), task.frames - 1)]


@cheat(RULE)
def a_second_player(task: Task) -> Video | None:
    spare = spare_cell(task)
    if spare is None:
        return None
    return add_player(task, task.video, np.repeat(np.array([task.level.center(spare)]), task.frames, axis=0))


@cheat(RULE)
def copy_left_at_the_start(task: Task) -> Video | None:
    if place_cells(task.solution[0])[0] in {cell for place in task.solution[2:] for cell in place_cells(place)}:
        return None
    return add_player(task, task.video, still(task), slice(2 * round(1 / speed(task)), None))


@cheat(RULE)
def flickers_for_one_frame(task: Task) -> Video:
    video, middle = task.video.copy(), max(1, arrival(task) // 2)
    video[middle] = draw(task, np.full((1, 2), -0.2), true_boxes(task)[middle : middle + 1])[0]
    return video


@cheat(RULE)
def no_player_at_all(task: Task) -> Video:
    return draw(task, np.full((task.frames, 2), -0.2), true_boxes(task))


# What is around


@cheat(RULE)
def targets_come_to_the_boxes(task: Task) -> Video:
    moved = replace(task.level, targets=task.level.boxes)
    store = draw_store(moved, TEXTURES[task.texture], task.height)
    video = draw(task, still(task), first_boxes(task), store)
    video[0] = task.first_frame
    return video


@cheat(RULE)
def walls_are_gone(task: Task) -> Video | None:
    if not task.level.blocked:
        return None
    store = draw_store(replace(task.level, blocked=()), TEXTURES[task.texture], task.height)
    video = draw(task, task.trajectory, true_boxes(task), store)
    video[0] = task.first_frame
    return video


@cheat(RULE)
def floor_is_walled_up(task: Task) -> Video | None:
    spare = spare_cell(task)
    if spare is None:
        return None
    level = replace(task.level, blocked=tuple(sorted((*task.level.blocked, spare))))
    video = draw(task, task.trajectory, true_boxes(task), draw_store(level, TEXTURES[task.texture], task.height))
    video[0] = task.first_frame
    return video


@cheat(RULE)
def another_level_solved(task: Task) -> Video:
    others = tasks_of("tiny" if task.frames == TINY["frames"] else "slow")
    return next(t.video for t in others if t.texture == task.texture and t.level != task.level)
