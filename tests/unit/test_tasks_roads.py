"""Levels of roads: solvable, unique by a margin, within their difficulty; videos that obey the rules frame by frame."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.tasks.draw_cubes import visible_shares
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.maze3d_level import spot
from wan_r1.tasks.road_family import MARGIN, MARGIN_CELLS, RoadFamily, RoadLevel, count_choices, fewest_choices
from wan_r1.tasks.roads import Road, RoadGraph, place_along, sample_line
from wan_r1.tasks.task import Task, make_level, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.validate_tasks.facts import FACTS, row_facts

ROADS = sorted(name for name, family in FAMILIES.items() if isinstance(family, RoadFamily))
LEVELS = st.builds(
    make_level,
    st.sampled_from(ROADS),
    st.sampled_from(DIFFICULTIES),
    seed=st.integers(0, 2**40),
    split=st.just("train"),
    index=st.integers(0, 10**9),
    canvas=st.sampled_from([8, 9, 12, 16]),
    max_steps=st.integers(24, 60),
)


def all_simple_ways(graph: RoadGraph, start, goal, most: float) -> list[tuple[float, tuple]]:
    """Every way that visits no place twice and is no longer than ``most``, by exhaustion."""
    found, stack = [], [(0.0, (start,))]
    while stack:
        length, path = stack.pop()
        if path[-1] == goal:
            found.append((length, path))
            continue
        for other in graph.neighbours(path[-1]):
            road = graph.road(path[-1], other)
            if other not in path and length + road.length <= most:
                stack.append((length + road.length, (*path, other)))
    return sorted(found)


@settings(max_examples=25, deadline=None)
@given(level=LEVELS)
def test_the_solution_is_the_shortest_way_by_the_stated_margin(level: RoadLevel) -> None:
    solution = level.solve()
    least = max(MARGIN_CELLS, MARGIN * solution.length)
    ways = all_simple_ways(level.graph, level.start, level.goal, solution.length + least - 1e-6)
    assert [path for _, path in ways] == [solution.path]
    assert ways[0][0] == pytest.approx(solution.length)
    assert solution.count == 1 and solution.margin >= least


@settings(max_examples=25, deadline=None)
@given(level=LEVELS)
def test_a_level_keeps_to_its_difficulty_and_survives_its_state(level: RoadLevel) -> None:
    family = FAMILIES[level.family]
    solution = level.solve()
    assert all(level.open_between(a, b) for a, b in itertools.pairwise(solution.path))
    assert solution.length <= 60 and count_choices(level.graph, solution) >= fewest_choices("easy", level.canvas)
    again = family.from_state(json.loads(json.dumps(level.to_state())))
    assert again == level and again.level_id == level.level_id and again.solve() == solution


@pytest.mark.parametrize("family", ROADS)
@pytest.mark.parametrize("canvas", [8, 16])
def test_difficulty_sets_length_and_choices(family: str, canvas: int) -> None:
    lengths = []
    for difficulty in DIFFICULTIES:
        low, high = FAMILIES[family].lengths(difficulty, canvas)
        levels = [FAMILIES[family].generate(np.random.default_rng(seed), difficulty, canvas) for seed in range(12)]
        assert all(low <= level.solve().length <= high for level in levels)
        assert all(count_choices(level.graph, level.solve()) >= fewest_choices(difficulty, canvas) for level in levels)
        lengths.append(np.mean([level.solve().length for level in levels]))
    assert lengths == sorted(lengths)


@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(ROADS),
    difficulty=st.sampled_from(DIFFICULTIES),
    texture=st.sampled_from(sorted(TEXTURES)),
    index=st.integers(0, 10**6),
    form=st.sampled_from([(64, 8, 65, 1.0), (96, 8, 161, 0.3), (128, 16, 121, 0.5)]),
)
def test_a_video_obeys_the_rules_frame_by_frame(family, difficulty, texture, index, form) -> None:
    size, canvas, frames, speed = form
    task = a_task(family, difficulty, texture, index, size=size, canvas=canvas, frames=frames, speed=speed)
    level, solution = task.level, task.level.solve()
    assert task.video.shape == (frames, size, size, 3) and (task.video[0] == task.first_frame).all()
    # Constant speed along the line of the solution, from its start to its end, then rest.
    line = level.graph.line(solution.path)
    walked = np.minimum(np.arange(frames) * speed, line_length(line))
    assert np.abs(task.trajectory * canvas - place_along(line, walked)).max() < 1e-4
    assert walked[-1] == line_length(line)
    assert task.trajectory[-1] == pytest.approx(level.center(level.goal), abs=1e-6)
    # The frames show the player there, and nothing else changes.
    empty = FAMILIES[family].render(level, TEXTURES[texture], None, size)[0]
    rows, columns = np.mgrid[:size, :size] + 0.5
    for frame, (x, y) in zip(task.video[::7], task.trajectory[::7] * size, strict=True):
        changed = (frame != empty).any(-1)
        assert np.hypot(columns - x, rows - y)[changed].max(initial=0) <= 0.3 * size / canvas + 1


def line_length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def a_task(family, difficulty="easy", texture="plain", index=0, *, size=64, canvas=8, frames=33, speed=1.0) -> Task:
    return make_task(
        family,
        difficulty,
        texture,
        seed=4,
        split="test",
        index=index,
        frames=frames,
        size=size,
        canvas=canvas,
        steps_per_frame=speed,
    )


@pytest.mark.parametrize("family", ROADS)
def test_a_level_and_its_video_are_functions_of_their_place(family: str) -> None:
    one, other = a_task(family), a_task(family)
    assert one.level == other.level and (one.video == other.video).all()
    assert a_task(family, index=1).level != one.level


@pytest.mark.parametrize("family", ROADS)
def test_every_size_shows_the_same_picture(family: str) -> None:
    small, large = a_task(family, "hard", size=64), a_task(family, "hard", size=512)
    assert small.level == large.level
    reduced = large.first_frame.reshape(64, 8, 64, 8, 3).mean((1, 3))
    assert (np.abs(reduced - small.first_frame).max(-1) < 60).mean() > 0.97


@pytest.mark.parametrize("family", ROADS)
def test_prompts_use_the_texture_s_words(family: str) -> None:
    prompts = {texture: FAMILIES[family].prompt(texture) for texture in TEXTURES.values()}
    assert len(set(prompts.values())) == len(TEXTURES)
    assert all(20 <= len(prompt.split()) <= 36 for prompt in prompts.values())


@pytest.mark.parametrize("family", ROADS)
def test_what_cannot_be_made_is_refused_with_a_value_that_works(family: str) -> None:
    maker, rng = FAMILIES[family], np.random.default_rng(0)
    with pytest.raises(ConfigError, match=rf"canvas=4 is too small for .*{family}.*at least 8 cells .a frame of 64 px"):
        maker.generate(rng, "easy", 4)
    with pytest.raises(ConfigError, match="difficulty='extreme' is unknown; allowed: easy, medium, hard"):
        maker.generate(rng, "extreme", 8)
    needed = maker.shortest_allowed("hard", 16)
    with pytest.raises(
        ConfigError, match=rf"at least {needed} moves, but max_steps={needed - 1}; use at least {needed}"
    ):
        maker.generate(rng, "hard", 16, needed - 1)
    assert maker.generate(rng, "hard", 16, needed).solve().length <= needed
    level = maker.generate(rng, "easy", 8)
    with pytest.raises(ConfigError, match=r"does not fit in frames=5 .* use at least \d+ frames"):
        maker.trajectory(level, 5, 0.25)
    with pytest.raises(ConfigError, match=r"size=32 px does not suit canvas=8.*such as 64"):
        maker.render(level, TEXTURES["plain"], None, 32)
    with pytest.raises(ConfigError, match=rf"tasks_canvas=4 .* from 8 to 64.*{family} needs at least 8.*64 px"):
        GenerateTasksConfig(families=(family,), canvas=4, height=32, width=32)


@pytest.mark.parametrize("family", ROADS)
def test_a_bad_state_is_refused_with_the_reason(family: str) -> None:
    state = make_level(family, "easy", seed=0, split="train", index=0, canvas=8, max_steps=32).to_state()
    for change, message in (
        ({"goal": None}, "malformed"),
        ({"start": [99, 99, 99]}, "start"),
        ({"family": "regular"}, f"of family 'regular', not '{family}'"),
    ):
        with pytest.raises(ValueError, match=message):
            FAMILIES[family].from_state({**state, **change})
    with pytest.raises(ValueError, match="lacks the field 'canvas'"):
        FAMILIES[family].from_state({name: value for name, value in state.items() if name != "canvas"})


def test_no_two_cubes_of_a_picture_look_as_if_they_touched_when_they_do_not() -> None:
    for seed in range(60):
        level = FAMILIES["maze3d"].generate(np.random.default_rng(seed), DIFFICULTIES[seed % 3], (8, 12, 16)[seed % 3])
        spots = {spot(*cube): cube for cube in level.cubes}
        rungs = [spot(x, y, z + k) for x, y, z, *_, height in level.ladders for k in range(1, height + 1)]
        assert len(spots) == len(level.cubes) and not spots.keys() & set(rungs) and len(set(rungs)) == len(rungs)
        for (i, j), cube in spots.items():
            for near in (spots.get((i + 1, j)), spots.get((i, j + 1))):
                # The one that is lower in the picture is on the same height, or below the other's side.
                assert near is None or near[2] <= cube[2]
        # All is seen, inside the frame, and the ball keeps off what is drawn.
        # (a quarter is asked for in the middle of the frame; elsewhere other pixels are counted)
        assert min(visible_shares(level).values()) >= 0.2
        corners = np.array(level.cubes)[:, None] + np.array(list(itertools.product((0, 1), repeat=3)))
        shown = level.project(corners)
        assert shown.min() > 0.3 and shown.max() < level.canvas - 0.3
        assert len({z for _, _, z in level.solve().path}) > 1


def test_the_way_in_the_picture_is_as_long_as_in_space() -> None:
    level = FAMILIES["maze3d"].generate(np.random.default_rng(1), "hard", 16)
    for a, b, line in level.ways:
        assert level.graph.road(a, b).length == pytest.approx(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
        middle = line.mean(0, keepdims=True)
        if len(line) == 2:
            assert level.depths(level.project(middle)) == pytest.approx(middle.sum())


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_cube_mazes_have_no_shortcut_by_direction(difficulty: str) -> None:
    maker = FAMILIES["maze3d"]
    levels = [maker.generate(np.random.default_rng(seed), difficulty, 16) for seed in range(60)]
    ways = {tuple(tuple(np.subtract(b, a)) for a, b in itertools.pairwise(level.solve().path)) for level in levels}
    assert len(ways) >= 50
    rises = [level.goal[2] - level.start[2] for level in levels]
    assert min(sum(rise > 0 for rise in rises), sum(rise < 0 for rise in rises)) >= 15


def test_the_solver_counts_equal_ways_and_finds_the_margin() -> None:
    points = {(0,): (0.0, 0.0), (1,): (3.0, 0.0), (2,): (0.0, 4.0), (3,): (3.0, 4.0)}
    roads = [Road.along(a, b, np.array([points[a], points[b]])) for a, b in (((0,), (1,)), ((1,), (3,)), ((2,), (0,)))]
    graph = RoadGraph(points, roads)
    assert graph.solve((0,), (3,)).margin == np.inf and graph.solve((0,), (3,)).length == 7
    bent = np.array([[0.0, 4.0], [1.5, 6.0], [3.0, 4.0]])
    graph = RoadGraph(points, [*roads, Road.along((3,), (2,), bent[::-1])])
    assert (graph.solve((0,), (3,)).path, graph.solve((0,), (3,)).margin) == (((0,), (1,), (3,)), pytest.approx(2.0))
    square = RoadGraph(points, [*roads, Road.along((2,), (3,), np.array([points[2,], points[3,]]))])
    assert square.solve((0,), (3,)).count == 2 and square.solve((0,), (3,)).margin == pytest.approx(0.0)
    assert len(sample_line(bent, 0.5)) == 11


@pytest.mark.parametrize("family", ROADS)
def test_recomputed_facts_hold_for_a_row_and_fail_for_a_false_one(family: str, tmp_path) -> None:
    import pyarrow.parquet as pq

    from wan_r1.tasks.dataset import read_tasks, write_tasks

    task = a_task(family, "medium")
    write_tasks([task], tmp_path / "a.parquet")
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    facts = row_facts(row, lossless=True)
    # Pushes are Sokoban's.
    assert [name for name in FACTS if facts[name] is False] == [], facts["notes"]
    assert facts["pushes_fewest"] is None
    (read,) = read_tasks(tmp_path)
    assert read.level == task.level and read.solution == task.solution and (read.video == task.video).all()

    aside = [*row["trajectory"][:5], [0.01, 0.01], *row["trajectory"][6:]]
    assert row_facts({**row, "trajectory": aside}, lossless=True)["trajectory_true"] is False
    assert row_facts({**row, "solution": row["solution"][1:]}, lossless=True)["solution_legal"] is False
    assert row_facts({**row, "steps": row["steps"] + 1}, lossless=True)["solution_shortest"] is False
