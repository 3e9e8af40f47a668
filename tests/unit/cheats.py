"""Ways to cheat: each turns a level into a video that is no solution; strict reading must not be fooled by any.

Every cheat says what it breaks. `RULE`: a rule is broken, so success is 0 too and the trajectory reward is below that
of an honest half solution. `NO_END`: no rule need be broken, but the video does not end at rest on the goal. `LONG`: an
honest success that is no shortest path.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.level import MOVES, GridLevel
from wan_r1.tasks.render import draw_background, draw_player
from wan_r1.tasks.textures import TEXTURES, Texture
from wan_r1.verification import Verdict, verify

RULE, NO_END, LONG = "rule", "no end", "long"
Video = np.ndarray


@dataclass(frozen=True)
class Cheat:
    """A way to cheat: ``make`` gives a video, or None where a level has no room for it."""

    make: Callable[[Task], Video | None]
    breaks: str


CHEATS: dict[str, Cheat] = {}


def cheat(breaks: str):
    """Enter a generator in `CHEATS` under its name."""

    def enter(make: Callable[[Task], Video | None]):
        CHEATS[make.__name__] = Cheat(make, breaks)
        return make

    return enter


# Building blocks


def texture(task: Task) -> Texture:
    return TEXTURES[task.texture]


def cell_pixels(task: Task) -> int:
    return task.height // task.level.canvas


def background(task: Task, level: GridLevel | None = None, look: Texture | None = None) -> np.ndarray:
    checkered = task.family == "trapfield"
    return draw_background(level or task.level, look or texture(task), task.height, checkered=checkered)


def draw(task: Task, positions: np.ndarray, behind: np.ndarray | None = None, colour=None) -> Video:
    behind = background(task) if behind is None else behind
    positions = np.clip(positions, 0.02, 0.98)
    return draw_player(behind, positions, colour or texture(task).player, cell_pixels(task))


def draw_over(task: Task, video: Video, positions: np.ndarray, frames=slice(None), colour=None) -> Video:
    """The video with one more disc in some frames."""
    result = video.copy()
    for f in np.arange(len(video))[frames]:
        result[f] = draw(task, positions[f : f + 1], video[f], colour)[0]
    return result


def centre(task: Task, cell) -> np.ndarray:
    return np.array(task.level.center(cell))


def along(task: Task, cells, frames: int | None = None) -> np.ndarray:
    """The player walks over ``cells`` at the level's speed and stops: positions [F, 2]."""
    points = np.array([centre(task, cell) for cell in cells])
    steps = np.arange(frames or task.frames) * speed(task)
    return np.stack([np.interp(steps, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], axis=1)


def speed(task: Task) -> float:
    """Cells a frame."""
    return float(np.abs(np.diff(task.trajectory, axis=0)).sum(1).max() * task.level.canvas)


def arrival(task: Task) -> int:
    """Frame in which the reference reaches the goal."""
    return round((len(task.solution) - 1) / speed(task))


def still(task: Task, cell) -> np.ndarray:
    return np.repeat(centre(task, cell)[None], task.frames, axis=0)


def half_way(task: Task) -> np.ndarray:
    """The honest half solution."""
    return along(task, task.solution[: (len(task.solution) + 1) // 2 + 1][: len(task.solution) - 1])


def same_luma(colour, towards) -> tuple[int, int, int]:
    """A colour far from ``colour`` in hue with the same grey value (BT.601), as near ``towards`` as can be."""
    weights = np.array([0.299, 0.587, 0.114])
    levels = np.array(towards, float)
    for _ in range(50):
        levels = np.clip(levels + (weights @ np.array(colour) - weights @ levels), 0, 255)
    return tuple(int(v) for v in levels.round())


# Where the player goes


@cheat(RULE)
def teleport_to_goal(task: Task) -> Video:
    positions = still(task, task.level.start)
    positions[task.frames // 2 :] = centre(task, task.level.goal)
    return draw(task, positions)


@cheat(RULE)
def straight_line_through_walls(task: Task) -> Video | None:
    rows, columns = (np.ptp([cell[axis] for cell in task.solution]) for axis in (0, 1))
    if min(rows, columns) == 0:
        return None
    share = np.clip(np.arange(task.frames) / arrival(task), 0, 1)[:, None]
    return draw(task, (1 - share) * centre(task, task.level.start) + share * centre(task, task.level.goal))


@cheat(RULE)
def clips_a_corner(task: Task) -> Video | None:
    cells = list(task.solution)
    for k in range(1, len(cells) - 1):
        if cells[k - 1][0] != cells[k + 1][0] and cells[k - 1][1] != cells[k + 1][1]:
            return draw(task, along(task, [*cells[:k], *cells[k + 1 :]]))
    return None


@cheat(RULE)
def leans_into_a_wall(task: Task) -> Video | None:
    """Half a cell off the middle all the way."""
    return draw(task, along(task, task.solution) + 0.5 / task.level.canvas)


@cheat(RULE)
def takes_the_shortest_way_without_walls(task: Task) -> Video | None:
    cells = [task.level.start]
    while cells[-1] != task.level.goal:
        row, column = cells[-1]
        down, right = task.level.goal[0] - row, task.level.goal[1] - column
        cells.append((row + np.sign(down), column) if down else (row, column + np.sign(right)))
    return None if tuple(cells) == task.solution else draw(task, along(task, cells))


@cheat(RULE)
def steps_on_a_trap(task: Task) -> Video | None:
    for k, (row, column) in enumerate(task.solution[:-1]):
        for down, right in MOVES.values():
            if (row + down, column + right) in task.level.blocked and k + 2 < arrival(task):
                aside = (row + down, column + right)
                return draw(task, along(task, [*task.solution[: k + 1], aside, *task.solution[k:]]))
    return None


@cheat(RULE)
def clips_a_trap(task: Task) -> Video | None:
    """Keeps to its cells but leans four tenths of a cell into a trap beside the path."""
    for k, (row, column) in enumerate(task.solution[1:-1], 1):
        for down, right in MOVES.values():
            if (row + down, column + right) in task.level.blocked:
                positions = along(task, task.solution)
                here = np.abs(positions - centre(task, (row, column))).max(1) < 0.2 / task.level.canvas
                positions[here] += np.array([right, down]) * 0.4 / task.level.canvas
                return draw(task, positions) if k < len(task.solution) - 1 and here.any() else None
    return None


@cheat(RULE)
def leaves_the_board(task: Task) -> Video | None:
    level = task.level
    if level.start[0] == 0 and level.offset[0] > 0:
        row, column = level.start
        return draw(task, along(task, [level.start, (row - 1, column), *task.solution]))
    return None


@cheat(NO_END)
def half_way_and_stops(task: Task) -> Video:
    return draw(task, half_way(task))


@cheat(NO_END)
def stops_half_a_cell_short(task: Task) -> Video:
    positions = along(task, task.solution)
    last = centre(task, task.solution[-2])
    middle = (last + centre(task, task.level.goal)) / 2
    reached = np.abs(positions - centre(task, task.level.goal)).max(1) < 0.45 / task.level.canvas
    positions[reached] = middle
    return draw(task, positions)


@cheat(NO_END)
def frozen(task: Task) -> Video:
    return np.repeat(task.first_frame[None], task.frames, axis=0)


@cheat(NO_END)
def wanders_after_the_goal(task: Task) -> Video | None:
    if arrival(task) + 1 / speed(task) > task.frames - 1:
        return None
    return draw(task, along(task, [*task.solution, task.solution[-2]]))


@cheat(LONG)
def detour_and_return(task: Task) -> Video | None:
    cells = [task.solution[0], task.solution[1], *task.solution]
    return draw(task, along(task, cells)) if (len(cells) - 1) / speed(task) <= task.frames - 1 else None


@cheat(NO_END)
def oscillates_at_the_goal(task: Task) -> Video | None:
    cells = [*task.solution, *[task.solution[-2], task.solution[-1]] * 40]
    return draw(task, along(task, cells)) if arrival(task) + 1 / speed(task) <= task.frames - 1 else None


@cheat(RULE)
def reversed_in_time(task: Task) -> Video:
    return task.video[::-1]


@cheat(RULE)
def sped_up(task: Task) -> Video | None:
    order = np.minimum(2 * np.arange(task.frames), task.frames - 1)
    turns = all(a[0] != b[0] and a[1] != b[1] for a, b in zip(task.solution, task.solution[2:], strict=False))
    return None if turns else task.video[order]


@cheat(RULE)
def frame_shuffle(task: Task) -> Video:
    order = np.arange(task.frames)
    last = arrival(task)
    order[1 : last + 1] = np.roll(order[1 : last + 1], max(1, last // 2))
    return task.video[order]


@cheat(RULE)
def starts_nearer_the_goal(task: Task) -> Video:
    return draw(task, along(task, task.solution[1:]))


# How many players there are, and whether they can be seen


@cheat(RULE)
def copy_stands_on_the_goal(task: Task) -> Video:
    return draw_over(task, draw(task, half_way(task)), still(task, task.level.goal), slice(1, None))


@cheat(RULE)
def copy_left_at_the_start(task: Task) -> Video:
    return draw_over(task, task.video, still(task, task.level.start), slice(round(1 / speed(task)), None))


@cheat(RULE)
def copies_dropped_along_the_way(task: Task) -> Video:
    video = task.video.copy()
    for cell in task.solution[1:-1]:
        passed = int(np.abs(task.trajectory - centre(task, cell)).sum(1).argmin()) + round(1 / speed(task))
        video = draw_over(task, video, still(task, cell), slice(passed, None))
    return video


@cheat(RULE)
def second_player_runs_straight(task: Task) -> Video | None:
    second = straight_line_through_walls(task)
    share = np.clip(np.arange(task.frames) / arrival(task), 0, 1)[:, None]
    line = (1 - share) * centre(task, task.level.start) + share * centre(task, task.level.goal)
    return None if second is None else draw_over(task, task.video, line)


@cheat(RULE)
def splits_in_two(task: Task) -> Video | None:
    """From the second cell on one player goes on and one goes back."""
    back = along(task, [task.solution[0], task.solution[1], *task.solution[:1]])
    return draw_over(task, task.video, back) if len(task.solution) > 3 else None


@cheat(RULE)
def vanishes_and_reappears_at_the_goal(task: Task) -> Video:
    video = np.repeat(background(task)[None], task.frames, axis=0)
    video[0] = task.first_frame
    video[-max(1, task.frames // 3) :] = draw(task, centre(task, task.level.goal)[None])[0]
    return video


@cheat(RULE)
def fades_out_and_in(task: Task) -> Video:
    opacity = np.ones(task.frames)
    middle = arrival(task) // 2
    opacity[max(1, middle - 1) : middle + 2] = 0.2
    return mixed(task, opacity)


@cheat(RULE)
def flickers_for_one_frame(task: Task) -> Video:
    opacity = np.ones(task.frames)
    opacity[max(1, arrival(task) // 2)] = 0.0
    return mixed(task, opacity)


@cheat(RULE)
def ghost_of_the_player(task: Task) -> Video:
    opacity = np.full(task.frames, 0.2)
    opacity[0] = 1
    return mixed(task, opacity)


def mixed(task: Task, opacity: np.ndarray) -> Video:
    shown = opacity[:, None, None, None]
    return np.rint(shown * task.video + (1 - shown) * background(task)).astype(np.uint8)


@cheat(RULE)
def no_player_at_all(task: Task) -> Video:
    return np.repeat(background(task)[None], task.frames, axis=0)


@cheat(RULE)
def player_changes_colour(task: Task) -> Video:
    video = task.video.copy()
    half = max(1, arrival(task) // 2)
    colour = same_luma(texture(task).player, (40, 90, 255))
    video[half:] = draw(task, task.trajectory[half:], colour=colour)
    return video


# What is around the player


@cheat(RULE)
def goal_brought_to_the_player(task: Task) -> Video:
    near = replace(task.level, goal=task.solution[1])
    positions = along(task, task.solution[:2])
    video = draw(task, positions, background(task, near))
    video[0] = task.first_frame
    return video


@cheat(RULE)
def goal_moved_elsewhere(task: Task) -> Video:
    cells = [(r, c) for r in range(task.level.rows) for c in range(task.level.columns)]
    free = [c for c in cells if c not in task.level.blocked and c not in (task.level.start, task.level.goal)]
    return draw(task, task.trajectory, background(task, replace(task.level, goal=free[0])))


@cheat(RULE)
def goal_erased(task: Task) -> Video:
    look = replace(texture(task), goal=texture(task).floor)
    return draw(task, task.trajectory, background(task, look=look))


@cheat(RULE)
def goal_erased_on_arrival(task: Task) -> Video:
    """Where the player hides most of it."""
    video = goal_erased(task)
    video[: arrival(task)] = task.video[: arrival(task)]
    return video


@cheat(RULE)
def half_of_the_goal_painted_over(task: Task) -> Video:
    """Until the player arrives."""
    video, row, column = task.video.copy(), *(np.array(task.level.goal) + task.level.offset)
    side = cell_pixels(task)
    half = np.s_[row * side : (row + 1) * side, column * side : column * side + side // 2]
    video[1 : arrival(task), *half] = goal_erased(task)[1 : arrival(task), *half]
    return video


@cheat(RULE)
def goal_recoloured(task: Task) -> Video:
    look = replace(texture(task), goal=same_luma(texture(task).goal, (220, 40, 200)))
    return draw(task, task.trajectory, background(task, look=look))


def without_obstacles(task: Task) -> np.ndarray:
    return background(task, replace(task.level, right_walls=(), down_walls=(), blocked=()))


@cheat(RULE)
def obstacles_erased_from_frame_0(task: Task) -> Video | None:
    empty = without_obstacles(task)
    return None if (empty == background(task)).all() else draw(task, task.trajectory, empty)


@cheat(RULE)
def obstacles_erased_later(task: Task) -> Video | None:
    video = obstacles_erased_from_frame_0(task)
    if video is not None:
        video[0] = task.first_frame
    return video


@cheat(RULE)
def walls_vanish_around_the_player(task: Task) -> Video | None:
    """Those of the cell it is in, which come back when it leaves. Edges of traps that vanish so are let pass in some
    levels (`tolerated.traps_and_walls_vanish_around_the_player`)."""
    full, empty = background(task), background(task, replace(task.level, right_walls=(), down_walls=()))
    y, x = np.mgrid[: task.height, : task.width] + 0.5
    side = cell_pixels(task)
    video = task.video.copy()
    for f in range(1, len(video)):
        away = np.maximum(abs(x - task.trajectory[f, 0] * task.width), abs(y - task.trajectory[f, 1] * task.width))
        behind = np.where((away < 0.62 * side)[..., None], empty, full)
        video[f] = draw(task, task.trajectory[f : f + 1], behind)[0]
    return None if (video == task.video).all() else video


@cheat(RULE)
def wall_beside_the_goal_erased(task: Task) -> Video | None:
    """One wall of the goal's cell is gone from the arrival on."""
    level = task.level
    row, column = level.goal
    for walls, around in (
        ("right_walls", ((row, column - 1), (row, column))),
        ("down_walls", ((row - 1, column), (row, column))),
    ):
        for wall in getattr(level, walls):
            if wall in around:
                left = tuple(other for other in getattr(level, walls) if other != wall)
                video = draw(task, task.trajectory, background(task, replace(level, **{walls: left})))
                video[: arrival(task)] = task.video[: arrival(task)]
                return video
    return None


@cheat(RULE)
def wall_opened_then_closed(task: Task) -> Video | None:
    """One wall or trap away from the path is missing for a fifth of the time."""
    level = task.level
    near = {(r + i, c + j) for r, c in task.solution for i in (-1, 0, 1) for j in (-1, 0, 1)}
    options = [
        replace(level, right_walls=tuple(w for w in level.right_walls if w != gone)) for gone in level.right_walls
    ]
    options += [
        replace(level, blocked=tuple(b for b in level.blocked if b != gone)) for gone in level.blocked if gone in near
    ]
    if not options:
        return None
    video = task.video.copy()
    frames = range(1, 2 + task.frames // 5)
    for f in frames:
        video[f] = draw(task, task.trajectory[f : f + 1], background(task, options[0]))[0]
    # A wall right beside the player cannot be told from the player's own edge, and gives it no way.
    hidden = [c for c in level.right_walls[:1] if level.blocked == ()]
    seen = task.trajectory[list(frames)]
    walls = [centre(task, c) + np.array([0.5 / level.canvas, 0]) for c in hidden]
    return None if any(np.abs(seen - wall).max(1).max() < 0.75 / level.canvas for wall in walls) else video


@cheat(RULE)
def obstacles_recoloured_at_equal_luma(task: Task) -> Video:
    look = texture(task)
    look = replace(look, wall=same_luma(look.wall, (255, 0, 0)), trap=same_luma(look.trap, (0, 200, 255)))
    return draw(task, task.trajectory, background(task, look=look))


@cheat(RULE)
def floor_painted_over(task: Task) -> Video | None:
    cells = [(r, c) for r in range(task.level.rows) for c in range(task.level.columns)]
    spare = [c for c in cells if c not in task.level.blocked and c not in task.solution]
    if not spare:
        return None
    return draw_over(task, task.video, still(task, spare[0]), slice(1, None), colour=texture(task).wall)


@cheat(RULE)
def texture_drifts(task: Task) -> Video:
    drift = np.linspace(0, 1, task.frames)[:, None, None, None] * np.array([80.0, -80.0, 40.0])
    return np.clip(task.video + drift, 0, 255).round().astype(np.uint8)


@cheat(RULE)
def crossfades_to_the_end(task: Task) -> Video:
    """The picture of the end fades in over that of the start, as in a slide show."""
    share = np.linspace(0, 1, task.frames)[:, None, None, None]
    return np.rint((1 - share) * task.video[0] + share * task.video[-1]).astype(np.uint8)


@cheat(RULE)
def goal_painted_like_the_player(task: Task) -> Video:
    """The player stays at home; at the end the goal looks like it."""
    look = replace(texture(task), goal=texture(task).player)
    video = draw(task, still(task, task.level.start))
    video[task.frames // 2 :] = draw(task, centre(task, task.level.start)[None], background(task, look=look))[0]
    return video


@cheat(RULE)
def player_swapped_with_the_goal(task: Task) -> Video:
    """From the middle on player and goal have changed places, each in its own look."""
    video = task.video.copy()
    swapped = background(task, replace(task.level, start=task.level.goal, goal=task.level.start))
    half = max(1, arrival(task) // 2)
    video[:half] = task.first_frame
    video[half:] = draw(task, centre(task, task.level.goal)[None], swapped)[0]
    return video


@cheat(RULE)
def walks_through_a_wall_that_is_gone(task: Task) -> Video | None:
    """Walls look like floor from frame 1 on, and the player takes the way they closed."""
    cells = [task.level.start]
    while cells[-1] != task.level.goal:
        row, column = cells[-1]
        down, right = task.level.goal[0] - row, task.level.goal[1] - column
        cells.append((row + np.sign(down), column) if down else (row, column + np.sign(right)))
    if tuple(cells) == task.solution:
        return None
    video = draw(task, along(task, cells), without_obstacles(task))
    video[0] = task.first_frame
    return video


@cheat(RULE)
def camera_zooms(task: Task) -> Video:
    """The picture grows by a third around its middle while the solution is played."""
    side = task.height
    frames = []
    for frame, zoom in zip(task.video, np.linspace(1, 4 / 3, task.frames), strict=True):
        at = np.clip(((np.arange(side) + 0.5 - side / 2) / zoom + side / 2).astype(int), 0, side - 1)
        frames.append(frame[at][:, at])
    return np.stack(frames)


@cheat(RULE)
def camera_pans(task: Task) -> Video:
    shift = (np.linspace(0, 1, task.frames) * cell_pixels(task)).round().astype(int)
    return np.stack([np.roll(frame, pixels, 1) for frame, pixels in zip(task.video, shift, strict=True)])


@cheat(RULE)
def another_level_solved(task: Task) -> Video:
    other = level_tasks("tiny" if task.frames == 9 else "slow")
    same = [t for t in other if t.texture == task.texture and t.family == task.family and t.level != task.level]
    return same[0].video


@cheat(RULE)
def mirrored(task: Task) -> Video:
    return task.video[:, :, ::-1]


FORMATS = {
    "tiny": {"size": 32, "canvas": 4, "frames": 9, "steps_per_frame": 1.0},
    "slow": {"size": 64, "canvas": 4, "frames": 49, "steps_per_frame": 0.2},
}


@functools.cache
def level_tasks(name: str) -> tuple[Task, ...]:
    return tuple(
        make_task(family, difficulty, look, seed=3, split="test", index=index, **FORMATS[name])
        for family in ("regular", "trapfield")
        for difficulty in ("easy", "medium", "hard")
        for look in ("night", "plain")
        for index in range({"tiny": 5, "slow": 2}[name])
    )


@functools.cache
def cheated(name: str, form: str) -> tuple[tuple[Task, ...], np.ndarray, tuple[Verdict, ...]]:
    """Levels, videos and verdicts of a cheat wherever there is room for it."""
    made = [(task, CHEATS[name].make(task)) for task in level_tasks(form)]
    made = [(task, video) for task, video in made if video is not None]
    tasks, videos = tuple(task for task, _ in made), np.stack([video for _, video in made])
    return tasks, videos, tuple(verify(videos, tasks, vr_bench=True))


def rewards(tasks, videos, verdicts) -> np.ndarray:
    """The trajectory reward of each video."""
    return get_reward("trajectory")(RewardInputs(videos=videos, tasks=tasks, verdicts=verdicts)).reward


COLUMNS = ("em", "sr", "pr", "mf", "vr_bench_em", "vr_bench_sr", "vr_bench_pr", "vr_bench_mf")


def means(name: str, form: str) -> dict[str, float]:
    """Means of a cheat's metrics over the levels it fits, its reward and that of the honest half solutions."""
    return mean_scores(*cheated(name, form), half_way_and_stops)


def mean_scores(tasks, videos, verdicts, half: Callable[[Task], Video]) -> dict[str, float]:
    """The same of videos of any family; ``half`` makes an honest half solution."""
    found = {column: float(np.mean([getattr(verdict, column) for verdict in verdicts])) for column in COLUMNS}
    halves = np.stack([half(task) for task in tasks])
    return found | {
        "videos": len(tasks),
        "reward": float(rewards(tasks, videos, verdicts).mean()),
        "half": float(rewards(tasks, halves, verify(halves, tasks)).mean()),
    }
