"""Levels of roads: references score as solutions in any texture, size and quality; cheats do not."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.render import draw_player
from wan_r1.tasks.road_family import RoadFamily
from wan_r1.tasks.roads import place_along, sample_line
from wan_r1.tasks.task import Task, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify

ROADS = sorted(name for name, family in FAMILIES.items() if isinstance(family, RoadFamily))
FORMS = {
    "64 px": {"size": 64, "canvas": 8, "frames": 49, "steps_per_frame": 0.5},
    "96 px": {"size": 96, "canvas": 8, "frames": 33, "steps_per_frame": 1.0},
    "128 px": {"size": 128, "canvas": 16, "frames": 61, "steps_per_frame": 0.8},
    "512 px": {"size": 512, "canvas": 16, "frames": 25, "steps_per_frame": 1.0},
}
LEAST_COMPRESSED = {"irregular": 12, "maze3d": 32}
"""Pixels a cell from which a video is read after H.264 at quality 28; tried were 8, 12 and 32."""
Video = np.ndarray


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
    cell = FORMS[form]["size"] // FORMS[form]["canvas"]
    if change is compressed and cell < LEAST_COMPRESSED[family]:
        pytest.skip(f"a player of {0.6 * cell:.0f} px that moves does not survive such compression")
    tasks = some_tasks(family, form)
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


def test_a_ball_behind_a_cube_is_hidden_and_not_lost() -> None:
    tasks = hiding_tasks("maze3d")
    verdicts = verify([task.video for task in tasks], tasks)
    assert all(verdict.em and verdict.mf >= 0.99 for verdict in verdicts)
    hidden = [verdict for verdict in verdicts if "occluded" in verdict.states]
    assert len(hidden) >= 3
    for verdict in hidden:
        assert np.isnan(verdict.track[:, 0]).tolist() == [state == "occluded" for state in verdict.states]


# Cheats

RULE, NO_END, LONG = "rule", "no end", "long"
CHEATS: dict[str, tuple[Callable[[Task], Video | None], str]] = {}


def cheat(breaks: str):
    """Enter a generator in `CHEATS`: what it gives breaks a rule, does not end on the goal, or takes a longer way."""

    def enter(make: Callable[[Task], Video | None]):
        CHEATS[make.__name__] = make, breaks
        return make

    return enter


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


def luma_twin(colour, towards) -> tuple[int, int, int]:
    """A colour of the same grey value, as near ``towards`` as can be."""
    weights, levels = np.array([0.299, 0.587, 0.114]), np.array(towards, float)
    for _ in range(50):
        levels = np.clip(levels + (weights @ np.array(colour) - weights @ levels), 0, 255)
    return tuple(int(v) for v in levels.round())


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


@cheat(NO_END)
def frozen(task: Task) -> Video:
    return np.repeat(task.first_frame[None], task.frames, axis=0)


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
def reversed_in_time(task: Task) -> Video:
    return task.video[::-1]


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
    twins = [luma_twin(look.player, towards) for towards in ((40, 90, 255), (255, 90, 20), (60, 220, 60))]
    other = max(twins, key=lambda twin: np.linalg.norm(np.subtract(twin, look.player)))
    if np.linalg.norm(np.subtract(other, look.player)) < 80:
        return None
    video[half:] = draw(task, task.trajectory[half:], replace(look, player=other))
    return video


@cheat(RULE)
def goal_erased(task: Task) -> Video:
    return draw(task, task.trajectory, replace(TEXTURES[task.texture], goal=TEXTURES[task.texture].floor))


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
    other = luma_twin(look.floor, (255, 0, 200))
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
def texture_drifts(task: Task) -> Video:
    drift = np.linspace(0, 1, task.frames)[:, None, None, None] * np.array([80.0, -80.0, 40.0])
    return np.clip(task.video + drift, 0, 255).round().astype(np.uint8)


@cheat(RULE)
def camera_pans(task: Task) -> Video:
    shift = (np.linspace(0, 1, task.frames) * task.height / task.level.canvas).round().astype(int)
    return np.stack([np.roll(frame, pixels, 1) for frame, pixels in zip(task.video, shift, strict=True)])


@cheat(RULE)
def another_level_solved(task: Task) -> Video:
    others = some_tasks(task.family, "64 px", 2)
    return next(t.video for t in others if t.texture == task.texture and t.level != task.level)


@cheat(RULE)
def mirrored(task: Task) -> Video:
    return task.video[:, :, ::-1]


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


def rewards(tasks, videos, verdicts) -> np.ndarray:
    return get_reward("trajectory")(RewardInputs(videos=videos, tasks=tasks, verdicts=verdicts)).reward


@pytest.mark.parametrize("family", ROADS)
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_no_solution(family: str, name: str) -> None:
    make, breaks = CHEATS[name]
    some = some_tasks(family, "64 px", 2)[::3] if name != "drawn_over_what_hides_it" else hiding_tasks(family)
    made = [(task, make(task)) for task in some]
    made = [(task, video) for task, video in made if video is not None]
    if not some:
        pytest.skip("nothing can hide the player in this family")
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
