"""What strict rules let pass: changes within a tolerance. Each turns a task into such a video of its solution.

They are no cheats that could save a player a move; `tests/benchmarks/cheats.py` counts how many of them are accepted.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from cheats import arrival, background, cell_pixels, draw, texture, without_obstacles

from wan_r1.tasks.dataset import Task

Video = np.ndarray
TOLERATED: dict[str, Callable[[Task], Video]] = {}


def tolerated(make: Callable[[Task], Video]) -> Callable[[Task], Video]:
    """Enter a generator in `TOLERATED` under its name."""
    TOLERATED[make.__name__] = make
    return make


def _with_first_frame(task: Task, video: Video) -> Video:
    video[0] = task.video[0]
    return video


@tolerated
def walls_and_traps_at_half_their_contrast(task: Task) -> Video:
    """Above `StrictRules.wall_opacity`."""
    faded = np.rint(0.5 * background(task) + 0.5 * without_obstacles(task)).astype(np.uint8)
    return _with_first_frame(task, draw(task, task.trajectory, faded))


@tolerated
def traps_and_walls_vanish_around_the_player(task: Task) -> Video:
    """Within .62 cells of it along both axes. Walls are seen to be gone; of a trap only its edge is there."""
    full, empty = background(task), without_obstacles(task)
    y, x = np.mgrid[: task.height, : task.width] + 0.5
    frames = []
    for place in task.trajectory:
        away = np.maximum(abs(x - place[0] * task.width), abs(y - place[1] * task.height))
        behind = np.where((away < 0.62 * cell_pixels(task))[..., None], empty, full)
        frames.append(draw(task, place[None], behind)[0])
    return _with_first_frame(task, np.stack(frames))


@tolerated
def player_shrinks_to_60_percent(task: Task) -> Video:
    """Of its radius; above `StrictRules.present`."""
    behind, colour = background(task), tuple(int(level) for level in texture(task).player)
    frames = []
    for x, y in task.trajectory * task.width * 16:
        frame = behind.copy()
        radius = round(0.6 * 0.3 * cell_pixels(task) * 16)
        cv2.circle(frame, (round(x) - 8, round(y) - 8), radius, colour, -1, cv2.LINE_AA, 4)
        frames.append(frame)
    return _with_first_frame(task, np.stack(frames))


@tolerated
def trail_of_a_fifth(task: Task) -> Video:
    """Each frame keeps a fifth of the one before, below `StrictRules.duplicate`."""
    video = task.video.astype(np.float64)
    for frame in range(1, len(video)):
        video[frame] = 0.8 * video[frame] + 0.2 * video[frame - 1]
    return np.rint(video).astype(np.uint8)


@tolerated
def white_mark_of_a_quarter_cell(task: Task) -> Video:
    """It wanders along the upper edge."""
    video, side = task.video.copy(), max(1, cell_pixels(task) // 4)
    for frame in range(1, len(video)):
        left = frame * 3 % (task.width - side)
        video[frame, 2 : 2 + side, left : left + side] = 255
    return video


@tolerated
def goal_moved_by_a_quarter_cell(task: Task) -> Video:
    """To the right, over what is there, until the player is about to arrive."""
    level, side = task.level, cell_pixels(task)
    top, left = ((level.goal[axis] + level.offset[axis]) * side for axis in (0, 1))
    video, goal = task.video.copy(), background(task)[top + 1 : top + side - 1, left + 1 : left + side - 1]
    right = min(left + 1 + side // 4, task.width - side + 2)
    video[1 : arrival(task) - 1, top + 1 : top + side - 1, right : right + side - 2] = goal
    return video
