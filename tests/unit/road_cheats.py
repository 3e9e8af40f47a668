"""Ways to cheat on levels of roads (irregular and 3D); what each breaks is said as in `cheats`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from cheats import (
    LONG,
    NO_END,
    RULE,
    Cheat,
    camera_zooms,
    crossfades_to_the_end,
    frozen,
    mirrored,
    reversed_in_time,
    same_luma,
    texture_drifts,
)

from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.render import draw_player
from wan_r1.tasks.road_family import RoadFamily
from wan_r1.tasks.roads import place_along, sample_line
from wan_r1.tasks.task import Task, make_task
from wan_r1.tasks.textures import TEXTURES

ROADS = sorted(name for name, family in FAMILIES.items() if isinstance(family, RoadFamily))
FORMS = {
    "64 px": {"size": 64, "canvas": 8, "frames": 49, "steps_per_frame": 0.5},
    "96 px": {"size": 96, "canvas": 8, "frames": 33, "steps_per_frame": 1.0},
    "128 px": {"size": 128, "canvas": 16, "frames": 61, "steps_per_frame": 0.8},
    "512 px": {"size": 512, "canvas": 16, "frames": 25, "steps_per_frame": 1.0},
}
Video = np.ndarray
ROAD_CHEATS: dict[str, Cheat] = {}


def cheat(breaks: str):
    """Enter a generator in `ROAD_CHEATS` under its name."""

    def enter(make: Callable[[Task], Video | None]):
        ROAD_CHEATS[make.__name__] = Cheat(make, breaks)
        return make

    return enter


@functools.cache
def some_tasks(family: str, form: str, each: int = 1) -> tuple[Task, ...]:
    """All difficulties and textures; of the largest size every fifth, and only those that fit in few frames."""
    large = form == "512 px"
    made = [
        make_task(family, difficulty, texture, seed=5, split="test", index=index, **FORMS[form])
        for difficulty in (DIFFICULTIES[:2] if large else DIFFICULTIES)
        for texture in sorted(TEXTURES)
        for index in range(each)
    ]
    return tuple(made[:: 5 if large else 1])


def hiding_tasks(family: str) -> tuple[Task, ...]:
    """Levels in which something hides the player on its way, none where nothing ever does."""
    if family != "maze3d":
        return ()
    return tuple(
        make_task(
            family, "hard", texture, seed=9, split="test", index=index, **FORMS["96 px"] | {"steps_per_frame": 0.7}
        )
        for texture in ("plain", "night")
        for index in range(24)
    )


def empty(task: Task, **changes: object) -> np.ndarray:
    look = replace(TEXTURES[task.texture], **changes)
    return FAMILIES[task.family].render(task.level, look, None, task.height)[0]


def draw(task: Task, positions: np.ndarray, look=None) -> Video:
    look = look or TEXTURES[task.texture]
    return FAMILIES[task.family].render(task.level, look, np.clip(positions, 0.03, 0.97), task.height)


def paste(task: Task, video: Video, positions: np.ndarray, frames=slice(None), colour=None) -> Video:
    """The video with one more disc in some frames, over everything."""
    cell, result = task.height / task.level.canvas, video.copy()
    for f in np.arange(len(video))[frames]:
        result[f] = draw_player(video[f], positions[f : f + 1], colour or TEXTURES[task.texture].player, cell)[0]
    return result


def speed(task: Task) -> float:
    return float(np.linalg.norm(np.diff(task.trajectory, axis=0), axis=1).max() * task.level.canvas)


def along(task: Task, places) -> np.ndarray:
    """The player goes through places at the level's speed and stops."""
    line = task.level.graph.line(places)
    return place_along(line, np.arange(task.frames) * speed(task)) / task.level.canvas


def arrival(task: Task) -> int:
    return int(np.ceil(task.level.solve().length / speed(task)))


def room(task: Task, places) -> bool:
    line = task.level.graph.line(places)
    return np.linalg.norm(np.diff(line, axis=0), axis=1).sum() / speed(task) + 2 <= task.frames


def still(task: Task, place) -> np.ndarray:
    return np.repeat(np.array([task.level.center(place)]), task.frames, axis=0)


@cheat(RULE)
def teleport_to_goal(task: Task) -> Video:
    positions = still(task, task.level.start)
    positions[task.frames // 2 :] = task.level.center(task.level.goal)
    return draw(task, positions)


@cheat(RULE)
def straight_line(task: Task) -> Video | None:
    ends = np.array([task.level.center(task.level.start), task.level.center(task.level.goal)])
    line = place_along(ends, np.arange(task.frames) * speed(task) / task.level.canvas)
    roads = np.concatenate(task.level.graph.lines) / task.level.canvas
    off = np.sqrt(((line[:, None] - roads[None]) ** 2).sum(-1).min(1)) * task.level.canvas
    return draw(task, line) if off.max() > 0.45 else None


@cheat(RULE)
def beside_the_road(task: Task) -> Video:
    shift = np.minimum(np.arange(task.frames) / 2, 1)[:, None] * np.array([0.4, 0.3])
    return draw(task, task.trajectory + shift / task.level.canvas)


@cheat(RULE)
def cuts_across(task: Task) -> Video | None:
    """Leaves out the part of the solution that the straight line between its ends is farthest from."""
    line, length = task.level.graph.line(task.solution), task.level.solve().length
    roads = np.concatenate([sample_line(road, 0.1) for road in task.level.graph.lines])
    best, off = None, 0.45
    for begin in np.arange(0.1, 0.8, 0.1):
        for end in np.arange(begin + 0.1, 0.95, 0.1):
            first, second = (place_along(line, np.linspace(a, b, 30) * length) for a, b in ((0, begin), (end, 1)))
            middle = (first[-1] + second[0]) / 2
            away = np.sqrt(((middle - roads) ** 2).sum(-1).min())
            if away > off:
                best, off = np.concatenate([first, second]), away
    return (
        None
        if best is None
        else draw(task, place_along(best, np.arange(task.frames) * speed(task)) / task.level.canvas)
    )


@cheat(NO_END)
def half_way_and_stops(task: Task) -> Video:
    line = task.level.graph.line(task.solution)
    walked = np.minimum(np.arange(task.frames) * speed(task), task.level.solve().length / 2)
    return draw(task, place_along(line, walked) / task.level.canvas)


@cheat(NO_END)
def stops_half_a_cell_short(task: Task) -> Video:
    line = task.level.graph.line(task.solution)
    walked = np.minimum(np.arange(task.frames) * speed(task), task.level.solve().length - 0.5)
    return draw(task, place_along(line, walked) / task.level.canvas)


for made in (crossfades_to_the_end, mirrored, reversed_in_time, texture_drifts, camera_zooms):
    cheat(RULE)(made)
cheat(NO_END)(frozen)


@cheat(NO_END)
def wanders_after_the_goal(task: Task) -> Video | None:
    places = [*task.solution, task.solution[-2]]
    return draw(task, along(task, places)) if room(task, places) else None


@cheat(LONG)
def wrong_road_and_back(task: Task) -> Video | None:
    start = task.level.start
    for other in task.level.graph.neighbours(start):
        places = [start, other, *task.solution]
        if other != task.solution[1] and room(task, places):
            return draw(task, along(task, places))
    places = [*task.solution[:2], *task.solution]
    return draw(task, along(task, places)) if room(task, places) else None


@cheat(RULE)
def sped_up(task: Task) -> Video | None:
    return task.video[np.minimum(2 * np.arange(task.frames), task.frames - 1)] if arrival(task) > 8 else None


@cheat(RULE)
def frame_shuffle(task: Task) -> Video:
    order, last = np.arange(task.frames), arrival(task)
    order[1 : last + 1] = np.roll(order[1 : last + 1], max(1, last // 2))
    return task.video[order]


@cheat(RULE)
def starts_nearer_the_goal(task: Task) -> Video:
    return draw(task, along(task, task.solution[1:]))


@cheat(RULE)
def copy_stands_on_the_goal(task: Task) -> Video:
    return paste(task, half_way_and_stops(task), still(task, task.level.goal), slice(1, None))


@cheat(RULE)
def copy_left_at_the_start(task: Task) -> Video:
    return paste(task, task.video, still(task, task.level.start), slice(round(1 / speed(task)) + 1, None))


@cheat(RULE)
def vanishes_and_reappears_at_the_goal(task: Task) -> Video:
    video = np.repeat(empty(task)[None], task.frames, axis=0)
    video[0] = task.first_frame
    video[-task.frames // 3 :] = draw(task, still(task, task.level.goal)[:1])[0]
    return video


@cheat(RULE)
def fades_out_and_in(task: Task) -> Video:
    opacity, middle = np.ones(task.frames), arrival(task) // 2
    opacity[max(1, middle - 1) : middle + 2] = 0.2
    return mixed(task, opacity)


@cheat(RULE)
def ghost(task: Task) -> Video:
    opacity = np.full(task.frames, 0.2)
    opacity[0] = 1
    return mixed(task, opacity)


@cheat(RULE)
def no_player(task: Task) -> Video:
    return mixed(task, np.zeros(task.frames))


def mixed(task: Task, opacity: np.ndarray) -> Video:
    shown = opacity[:, None, None, None]
    return np.rint(shown * task.video + (1 - shown) * empty(task)).astype(np.uint8)


@cheat(RULE)
def player_changes_colour(task: Task) -> Video | None:
    video, half = task.video.copy(), max(1, arrival(task) // 2)
    look = TEXTURES[task.texture]
    twins = [same_luma(look.player, towards) for towards in ((40, 90, 255), (255, 90, 20), (60, 220, 60))]
    other = max(twins, key=lambda twin: np.linalg.norm(np.subtract(twin, look.player)))
    if np.linalg.norm(np.subtract(other, look.player)) < 80:
        return None
    video[half:] = draw(task, task.trajectory[half:], replace(look, player=other))
    return video


@cheat(RULE)
def goal_erased(task: Task) -> Video:
    return draw(task, task.trajectory, replace(TEXTURES[task.texture], goal=TEXTURES[task.texture].floor))


@cheat(RULE)
def goal_erased_on_arrival(task: Task) -> Video:
    """Where the player hides most of it."""
    here = int(np.argmin(np.hypot(*(task.trajectory - task.trajectory[-1]).T) > 1e-6))
    return np.concatenate([task.video[:here], goal_erased(task)[here:]])


@cheat(RULE)
def goal_brought_to_the_player(task: Task) -> Video:
    near = replace(task.level, goal=task.solution[1])
    positions = along(task, task.solution[:2])
    video = FAMILIES[task.family].render(near, TEXTURES[task.texture], positions, task.height)
    video[0] = task.first_frame
    return video


@cheat(RULE)
def roads_recoloured(task: Task) -> Video | None:
    look = TEXTURES[task.texture]
    other = same_luma(look.floor, (255, 0, 200))
    if np.linalg.norm(np.subtract(other, look.floor)) < 80:
        return None
    return draw(task, task.trajectory, replace(look, floor=other, floor_material=None))


@cheat(RULE)
def surroundings_become_road(task: Task) -> Video | None:
    look = TEXTURES[task.texture]
    video = draw(task, task.trajectory, replace(look, outside=look.floor, outside_material=look.floor_material))
    video[0] = task.first_frame
    return video


@cheat(RULE)
def camera_pans(task: Task) -> Video:
    shift = (np.linspace(0, 1, task.frames) * task.height / task.level.canvas).round().astype(int)
    return np.stack([np.roll(frame, pixels, 1) for frame, pixels in zip(task.video, shift, strict=True)])


@cheat(RULE)
def another_level_solved(task: Task) -> Video:
    others = some_tasks(task.family, "64 px", 2)
    return next(t.video for t in others if t.texture == task.texture and t.level != task.level)


@cheat(RULE)
def drawn_over_what_hides_it(task: Task) -> Video | None:
    """Through a cube: the ball is seen in front of what it is behind."""
    cell = task.height // task.level.canvas
    windows = FAMILIES[task.family].visibility(
        task.level, task.trajectory.astype(float) * task.level.canvas, task.height
    )
    inner = slice(windows.shape[1] // 2 - cell // 5, windows.shape[1] // 2 + cell // 5 + 1)
    covered = (windows[:, inner, inner].mean((1, 2)) < 0.4).sum()
    look = TEXTURES[task.texture].player
    return draw_player(empty(task), task.trajectory, look, cell) if covered >= 1 else None


# Ways that need more than one thing to be looked at


def hideouts(task: Task) -> np.ndarray:
    """Points [N, 2] of the roads, in cells, at which most of the player is covered."""
    points = np.concatenate([sample_line(line, 0.25) for line in task.level.graph.lines])
    windows = FAMILIES[task.family].visibility(task.level, points, task.height)
    cell = task.height // task.level.canvas
    inner = slice(windows.shape[1] // 2 - cell // 4, windows.shape[1] // 2 + cell // 4 + 1)
    return points[windows[:, inner, inner].mean((1, 2)) < 0.6]


@cheat(RULE)
def flickers_for_one_frame(task: Task) -> Video | None:
    """Gone for a frame where nothing can hide it."""
    places, hidden = task.trajectory * task.level.canvas, hideouts(task)
    far = [f for f in range(1, arrival(task)) if not len(hidden) or np.hypot(*(hidden - places[f]).T).min() > 1.5]
    if not far:
        return None
    opacity = np.ones(task.frames)
    opacity[far[len(far) // 2]] = 0
    return mixed(task, opacity)


@cheat(RULE)
def splits_in_two(task: Task) -> Video | None:
    """From the second place on one player goes on and one goes back."""
    back = along(task, [task.solution[0], task.solution[1], task.solution[0]])
    return paste(task, task.video, back) if len(task.solution) > 2 else None


@cheat(RULE)
def second_player_runs_straight(task: Task) -> Video | None:
    if straight_line(task) is None:
        return None
    ends = np.array([task.level.center(task.level.start), task.level.center(task.level.goal)])
    return paste(task, task.video, place_along(ends, np.arange(task.frames) * speed(task) / task.level.canvas))


@cheat(RULE)
def crosses_where_no_way_leads(task: Task) -> Video | None:
    """Goes straight from one place to another near it that no road joins, and on to the goal: over a gap, or up a
    cube without a ladder."""
    graph, start, goal = task.level.graph, task.level.start, task.level.goal
    from_start, to_goal = graph.distances(start), graph.distances(goal)
    roads = np.concatenate([sample_line(road, 0.1) for road in graph.lines])
    best, off = None, 0.4
    for a in from_start:
        for b in to_goal:
            middle = (np.array(graph.points[a]) + graph.points[b]) / 2
            gap = np.linalg.norm(np.subtract(graph.points[a], graph.points[b]))
            away = np.hypot(*(roads - middle).T).min()
            if away > off and gap < 3 and from_start[a] + gap + to_goal[b] + 1 < (task.frames - 1) * speed(task):
                best, off = (a, b), away
    if best is None:
        return None
    first, second = graph.solve(start, best[0]), graph.solve(best[1], goal)
    line = np.concatenate([graph.line(first.path), graph.line(second.path)])
    return draw(task, place_along(line, np.arange(task.frames) * speed(task)) / task.level.canvas)


@cheat(NO_END)
def oscillates_at_the_goal(task: Task) -> Video | None:
    line, length = task.level.graph.line(task.solution), task.level.solve().length
    walked = np.arange(task.frames) * speed(task)
    over = walked[-1] - length
    if over < 1.5:
        return None
    # So many times there and back that the video ends at the farthest point.
    period = over / (max(1, round(over - 0.5)) + 0.5)
    back = period / 2 - np.abs(np.maximum(walked - length, 0) % period - period / 2)
    return draw(task, place_along(line, np.minimum(walked, length) - back) / task.level.canvas)


@cheat(RULE)
def goal_moved_elsewhere(task: Task) -> Video:
    other = next(place for place in task.level.graph.points if place not in task.solution)
    level = replace(task.level, goal=other)
    return FAMILIES[task.family].render(level, TEXTURES[task.texture], task.trajectory, task.height)


@cheat(RULE)
def goal_recoloured(task: Task) -> Video:
    look = TEXTURES[task.texture]
    return draw(task, task.trajectory, replace(look, goal=same_luma(look.goal, (220, 40, 200))))


@cheat(RULE)
def goal_painted_like_the_player(task: Task) -> Video:
    """The player stays at home; at the end the goal looks like it."""
    look, home = TEXTURES[task.texture], still(task, task.level.start)
    video = draw(task, home)
    video[task.frames // 2 :] = draw(task, home[:1], replace(look, goal=look.player))[0]
    return video


@cheat(RULE)
def what_is_beside_the_way_vanishes(task: Task) -> Video | None:
    """From frame 1 on only the roads, or cubes, of the solution are there."""
    path, level = set(task.solution), task.level
    if task.family == "irregular":
        kept = tuple(road for road in level.roads if {(road[0],), (road[1],)} <= path)
        bare = replace(level, roads=kept)
        gone = len(kept) < len(level.roads)
    else:
        ladders = tuple(
            ladder for ladder in level.ladders if {ladder[:3], tuple(np.add(ladder[:3], ladder[3:]).tolist())} <= path
        )
        bare = replace(level, cubes=tuple(cube for cube in level.cubes if cube in path), ladders=ladders)
        gone = len(bare.cubes) < len(level.cubes)
    video = FAMILIES[task.family].render(bare, TEXTURES[task.texture], task.trajectory, task.height)
    video[0] = task.first_frame
    return video if gone else None


@cheat(RULE)
def ladders_erased(task: Task) -> Video | None:
    """The ball climbs where no ladder is seen."""
    if task.family != "maze3d":
        return None
    bare = replace(task.level, ladders=())
    behind = FAMILIES[task.family].render(bare, TEXTURES[task.texture], None, task.height)[0]
    shown = np.abs(task.video.astype(int) - empty(task)).max(-1, keepdims=True) > 0
    return np.where(shown, task.video, behind)


@cheat(RULE)
def floor_painted_over(task: Task) -> Video | None:
    look, way = TEXTURES[task.texture], task.level.graph.line(task.solution)
    colour = max((look.wall, look.trap, look.box), key=lambda paint: np.linalg.norm(np.subtract(paint, look.floor)))
    for place, point in task.level.graph.points.items():
        if np.hypot(*(way - point).T).min() > 1.5:
            return paste(task, task.video, still(task, place), slice(1, None), colour=colour)
    return None
