"""Levels: solvable, solved once, within their difficulty; and a solver that agrees with counting by brute force."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.tasks.families import FAMILIES, get_family
from wan_r1.tasks.family import DIFFICULTIES, Shape
from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.task import SPLIT_SHARES, make_level, room_for_steps, split_of

GRID = ("regular", "trapfield")
LEVELS = st.builds(
    make_level,
    st.sampled_from(GRID),
    st.sampled_from(DIFFICULTIES),
    seed=st.integers(0, 2**40),
    split=st.sampled_from(sorted(SPLIT_SHARES)),
    index=st.integers(0, 10**9),
    canvas=st.integers(4, 9),
    max_steps=st.integers(16, 40),
)


def walks(level: GridLevel, most: int) -> dict[int, int]:
    """Number of walks from start to goal by length, counted with powers of the adjacency matrix."""
    cells = [(row, column) for row in range(level.rows) for column in range(level.columns)]
    matrix = np.array([[int(level.open_between(a, b)) for b in cells] for a in cells], dtype=object)
    reached = np.array([int(cell == level.start) for cell in cells], dtype=object)
    found = {}
    for steps in range(1, most + 1):
        reached = reached @ matrix
        found[steps] = reached[cells.index(level.goal)]
    return found


@settings(max_examples=60, deadline=None)
@given(level=LEVELS)
def test_a_level_has_exactly_one_shortest_solution(level: GridLevel) -> None:
    solution = level.solve()
    counted = walks(level, solution.steps)
    assert [counted[steps] for steps in range(1, solution.steps)] == [0] * (solution.steps - 1)
    assert counted[solution.steps] == solution.count == 1


@settings(max_examples=60, deadline=None)
@given(level=LEVELS)
def test_the_solution_keeps_the_rules(level: GridLevel) -> None:
    path = level.solve().path
    assert path[0] == level.start and path[-1] == level.goal
    assert len(set(path)) == len(path)
    assert all(level.open_between(a, b) for a, b in itertools.pairwise(path))


@settings(max_examples=40, deadline=None)
@given(level=LEVELS)
def test_neighbours_agree_with_single_steps_and_the_state_round_trips(level: GridLevel) -> None:
    cells = [(row, column) for row in range(level.rows) for column in range(level.columns)]
    for cell in cells:
        assert set(level.neighbours(cell)) == {other for other in cells if level.open_between(cell, other)}
    again = FAMILIES[level.family].from_state(json.loads(json.dumps(level.to_state())))
    assert again == level and again.level_id == level.level_id


@pytest.mark.parametrize("family", GRID)
@pytest.mark.parametrize(
    ("canvas", "sides"), [(4, (3, 3, 4)), (5, (3, 3, 5)), (8, (3, 5, 7)), (12, (5, 8, 11)), (16, (7, 11, 15))]
)
def test_difficulty_sets_the_board_and_the_moves(family: str, canvas: int, sides: tuple[int, ...]) -> None:
    maker = FAMILIES[family]
    for difficulty, side in zip(DIFFICULTIES, sides, strict=True):
        low, high = maker.steps(difficulty, side)
        for seed in range(4):
            level = maker.generate(np.random.default_rng(seed), difficulty, canvas)
            assert (level.rows, level.columns, level.canvas) == (side, side, canvas)
            assert low <= level.solve().steps <= high
            assert all(0 <= place <= canvas - side for place in level.offset)


def test_the_tiny_canvas_has_the_documented_moves() -> None:
    assert [FAMILIES["regular"].steps(d, s) for d, s in (("easy", 3), ("medium", 3), ("hard", 4))] == [
        (2, 4),
        (5, 8),
        (3, 8),
    ]
    assert [FAMILIES["trapfield"].steps(d, s) for d, s in (("easy", 3), ("medium", 3), ("hard", 4))] == [
        (2, 4),
        (3, 8),
        (3, 8),
    ]


@pytest.mark.parametrize(("difficulty", "canvas"), [("medium", 4), ("hard", 4), ("medium", 8), ("hard", 12)])
def test_most_trapfield_solutions_are_no_plain_manhattan_path(difficulty: str, canvas: int) -> None:
    levels = [FAMILIES["trapfield"].generate(np.random.default_rng(seed), difficulty, canvas) for seed in range(60)]
    longer = [
        level.solve().steps > abs(level.start[0] - level.goal[0]) + abs(level.start[1] - level.goal[1])
        for level in levels
    ]
    assert sum(longer) >= 30


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), canvas=st.integers(4, 9), loops=st.floats(0.05, 1))
def test_loops_leave_one_shortest_path(seed: int, canvas: int, loops: float) -> None:
    tree = FAMILIES["regular"].generate(np.random.default_rng(seed), "medium", canvas)
    level = FAMILIES["regular"].shaped(Shape(loops=loops)).generate(np.random.default_rng(seed), "medium", canvas)
    counted = walks(level, level.solve().steps)
    assert sum(counted.values()) == counted[level.solve().steps] == 1
    opened = len(tree.right_walls) + len(tree.down_walls) - len(level.right_walls) - len(level.down_walls)
    assert 0 <= opened <= round(loops * (len(tree.right_walls) + len(tree.down_walls)))


def test_loops_are_there_and_lengths_can_be_chosen() -> None:
    place = {"seed": 3, "split": "train", "canvas": 16, "max_steps": 60}
    for index in range(5):
        level = make_level("regular", "hard", index=index, shape=Shape(loops=0.5), **place)
        cells = [(row, column) for row in range(level.rows) for column in range(level.columns)]
        assert sum(len(level.neighbours(cell)) for cell in cells) // 2 > len(cells) + 10
    low, high = FAMILIES["regular"].steps("hard", 15)
    long, short = Shape(shortest=0.75), Shape(longest=0.25)
    assert make_level("regular", "hard", index=0, shape=long, **place).solve().steps >= low + 0.74 * (high - low)
    assert make_level("regular", "hard", index=0, shape=short, **place).solve().steps <= low + 0.26 * (high - low)


def test_a_regular_maze_is_a_spanning_tree() -> None:
    for seed in range(20):
        level = FAMILIES["regular"].generate(np.random.default_rng(seed), "hard", 8)
        cells = [(row, column) for row in range(level.rows) for column in range(level.columns)]
        passages = sum(len(level.neighbours(cell)) for cell in cells) // 2
        assert passages == len(cells) - 1
        assert len(level.distances((0, 0))) == len(cells)


@settings(max_examples=30, deadline=None)
@given(level=LEVELS)
def test_no_level_is_longer_than_the_video_has_room_for(level: GridLevel) -> None:
    assert level.solve().steps <= 40


def test_max_steps_bounds_the_solution() -> None:
    for family in [FAMILIES[name] for name in GRID]:
        fewest = family.shortest_allowed("hard", 4)
        for seed in range(10):
            assert family.generate(np.random.default_rng(seed), "hard", 4, fewest).solve().steps == fewest
        with pytest.raises(
            ConfigError, match=f"at least {fewest} moves.*max_steps={fewest - 1}.*use at least {fewest}"
        ):
            family.generate(np.random.default_rng(0), "hard", 4, fewest - 1)


@pytest.mark.parametrize(("frames", "speed", "room"), [(9, 1.0, 8), (81, 0.1, 8), (193, 0.25, 48), (41, 0.3, 12)])
def test_room_for_steps_is_exact(frames: int, speed: float, room: int) -> None:
    assert room_for_steps(frames, speed) == room


def test_a_level_is_a_pure_function_of_its_place() -> None:
    place = {"seed": 5, "split": "test", "index": 7, "canvas": 4, "max_steps": 8}
    level = make_level("regular", "medium", **place)
    assert make_level("regular", "medium", **place) == level
    others = [{**place, "seed": 6}, {**place, "index": 8}, {**place, "split": "train"}, {**place, "attempt": 1}]
    assert all(make_level("regular", "medium", **other) != level for other in others)


def test_the_levels_of_version_one_stay_as_they_are() -> None:
    """A change here changes every data set: raise SCHEMA_VERSION with it."""
    place = {"seed": 0, "split": "train", "index": 0, "canvas": 4, "max_steps": 8}
    ids = {name: make_level(name, "hard", **place).level_id for name in LEVEL_IDS}
    assert ids == LEVEL_IDS


LEVEL_IDS = {"regular": "054281d946acce52", "trapfield": "138be2cf0b853c4a"}


def test_a_layout_belongs_to_one_split_wherever_the_board_lies() -> None:
    level = make_level("trapfield", "easy", seed=1, split="harder", index=0, canvas=4, max_steps=8)
    moved = dataclasses.replace(level, offset=(0, 1) if level.offset == (0, 0) else (0, 0))
    assert moved.level_id != level.level_id and moved.layout_id == level.layout_id
    assert split_of(level.layout_id) == "harder"


def test_split_shares_are_what_the_hash_gives() -> None:
    assert sum(SPLIT_SHARES.values()) == pytest.approx(1)
    layouts = [f"{value:016x}" for value in np.random.default_rng(0).integers(0, 2**63, 20_000, np.uint64) * 2]
    for split, share in SPLIT_SHARES.items():
        assert sum(split_of(layout) == split for layout in layouts) / len(layouts) == pytest.approx(share, abs=0.015)
    assert split_of("0" * 16) == "train" and split_of("f" * 16) == "harder"


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"family='regula' is unknown; allowed: .*regular, .*trapfield"):
        get_family("regula")
    with pytest.raises(ConfigError, match="difficulty='extreme' is unknown; allowed: easy, medium, hard"):
        FAMILIES["regular"].generate(np.random.default_rng(0), "extreme", 4)
    with pytest.raises(ConfigError, match="canvas=3 is too small; use at least 4"):
        FAMILIES["regular"].generate(np.random.default_rng(0), "easy", 3)
    with pytest.raises(ConfigError, match="split='dev' is unknown; allowed: train, validation"):
        make_level("regular", "easy", seed=0, split="dev", index=0, canvas=4, max_steps=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goal": None}, "malformed"),
        ({"start": [9, 9]}, "not a free cell"),
        ({"family": "sokoban"}, "of family 'sokoban', not 'regular'"),
        ({"rows": "three"}, "malformed"),
    ],
)
def test_a_bad_state_is_refused_with_the_reason(change: dict, message: str) -> None:
    state = make_level("regular", "easy", seed=0, split="train", index=0, canvas=4, max_steps=8).to_state()
    with pytest.raises(ValueError, match=message):
        FAMILIES["regular"].from_state({**state, **change})
    with pytest.raises(ValueError, match="lacks the field 'down_walls'"):
        FAMILIES["regular"].from_state({name: value for name, value in state.items() if name != "down_walls"})


def test_an_unreachable_goal_is_an_error_that_names_the_level() -> None:
    level = GridLevel(
        family="trapfield",
        rows=3,
        columns=3,
        canvas=4,
        offset=(0, 0),
        blocked=((0, 1), (1, 1), (2, 1)),
        right_walls=(),
        down_walls=(),
        start=(0, 0),
        goal=(0, 2),
    )
    assert level.solution is None
    with pytest.raises(ValueError, match=f"{level.level_id}: the goal .* cannot be reached"):
        level.solve()
