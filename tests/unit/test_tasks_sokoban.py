"""Sokoban levels: solvers held against a plain search, levels as promised, boxes that move only when pushed."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.tasks.dataset import read_tasks, write_tasks
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES, Shape
from wan_r1.tasks.level import MOVES
from wan_r1.tasks.sokoban import SokobanLevel, push_along
from wan_r1.tasks.task import make_level, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.validate_tasks.facts import FACTS, row_facts

FAMILY = FAMILIES["sokoban"]
LEVELS = st.builds(
    make_level,
    st.just("sokoban"),
    st.sampled_from(DIFFICULTIES),
    seed=st.integers(0, 2**40),
    split=st.sampled_from(["train", "test"]),
    index=st.integers(0, 10**9),
    canvas=st.sampled_from([4, 5]),
    max_steps=st.integers(12, 40),
)


def level_of(picture: str) -> SokobanLevel:
    """A level from rows of text: # wall, @ player, $ box, . target."""
    rows = picture.split()
    at = {sign: [(r, c) for r, row in enumerate(rows) for c, s in enumerate(row) if s == sign] for sign in "#@$."}
    return SokobanLevel(
        family="sokoban",
        rows=len(rows),
        columns=len(rows[0]),
        canvas=8,
        offset=(1, 0),
        blocked=tuple(at["#"]),
        player=at["@"][0],
        boxes=tuple(at["$"]),
        targets=tuple(at["."]),
    )


def search(level: SokobanLevel) -> tuple[int, int, int] | None:
    """Fewest moves, number of such solutions, fewest pushes: state by state; ``None`` if there is none."""
    here, seen, moves = {level.start: 1}, {level.start}, 0
    solved = lambda place: set(level.targets) == set(zip(place[2::2], place[3::2], strict=True))  # noqa: E731
    ends: dict = {}
    while not (ends := {place: ways for place, ways in here.items() if solved(place)}):
        after: dict = {}
        for place, ways in here.items():
            for step in MOVES.values():
                there = level.after(place, step)
                if there and there not in seen:
                    after[there] = after.get(there, 0) + ways
        seen |= set(after)
        here, moves = after, moves + 1
        if not here:
            return None
    layer, known, pushes = {level.start}, {level.start}, 0
    while True:
        order = list(layer)
        for place in order:
            for step in MOVES.values():
                there = level.after(place, step)
                if there and there[2:] == place[2:] and there not in known:
                    known.add(there)
                    order.append(there)
        if any(solved(place) for place in order):
            return moves, sum(ends.values()), pushes
        found = {level.after(place, step) for place in order for step in MOVES.values()} - {None}
        layer = found - known
        known |= layer
        pushes += 1


@settings(max_examples=15, deadline=None)
@given(level=LEVELS)
def test_a_level_has_one_shortest_solution_which_makes_the_fewest_pushes(level: SokobanLevel) -> None:
    solution = level.solve()
    again = FAMILY.from_state(json.loads(json.dumps(level.to_state())))
    assert again == level and again.level_id == level.level_id and again.solve() == solution
    assert (solution.steps, solution.count, solution.pushes) == (*search(level)[:2], solution.fewest_pushes)
    assert solution.count == 1 and solution.pushes == search(level)[2]
    assert solution.path[0] == level.start and solution.path[-1] == level.goal
    assert all(level.open_between(a, b) for a, b in itertools.pairwise(solution.path))
    assert not set(level.targets) & {level.player, *level.boxes}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_search_of_a_whole_board_agrees_with_a_plain_search(seed: int) -> None:
    """Boards at random, whose states are mostly no levels: several solutions, or one that wastes pushes, or none."""
    dice = random.Random(seed)
    side, boxes = dice.choice([(3, 1), (3, 2), (4, 1), (4, 2)])
    cells = list(itertools.product(range(side), repeat=2))
    walls = dice.sample(cells, dice.randrange(len(cells) // 3))
    free = [cell for cell in cells if cell not in walls]
    form = {"family": "sokoban", "rows": side, "columns": side, "canvas": 8, "offset": (0, 0), "blocked": tuple(walls)}
    targets = tuple(dice.sample(free, boxes))
    for _ in range(5):
        player, *standing = dice.sample(free, boxes + 1)
        level = SokobanLevel(**form, player=player, boxes=tuple(sorted(standing)), targets=targets)
        board = level.search_board()
        solved, index = board.solve(targets), board.index(player, standing)
        if level.solution is None:
            assert search(level) is None and solved.pushes[index] < 0
            continue
        moves, ways, pushes = search(level)
        assert (level.solution.steps, level.solution.count, level.solution.fewest_pushes) == (moves, ways, pushes)
        assert solved.best[index] == (ways == 1 and level.solution.pushes == pushes)
        assert all(level.open_between(a, b) for a, b in itertools.pairwise(level.solution.path))


@settings(max_examples=25, deadline=None)
@given(level=LEVELS, speed=st.sampled_from([1.0, 0.7, 0.5, 0.4, 0.125]))
def test_boxes_go_where_the_solution_s_pushes_put_them(level: SokobanLevel, speed: float) -> None:
    path = level.solve().path
    frames = int(np.ceil((len(path) - 1) / speed)) + 3
    walk = FAMILY.trajectory(level, frames, speed)
    boxes = push_along(level, walk)
    assert np.abs(walk[-1] - level.center(path[-1])).max() < 1e-6
    moves = np.minimum(np.arange(frames) * speed, len(path) - 1)
    for turn in range(1, len(path) - 1):
        if path[turn - 1][:2] == path[turn + 1][:2]:
            # Where the player turns back some frame shows it there.
            moves[np.abs(moves - turn).argmin()] = turn
    for frame, move in enumerate(moves):
        before, after = np.array(path[int(move)]), np.array(path[min(int(np.ceil(move)), len(path) - 1)])
        now = (before + (after - before) * (move - int(move)))[2:].reshape(-1, 2)[:, ::-1]
        due = (now + 0.5 + np.array(level.offset[::-1])) / level.canvas
        assert np.abs(boxes[frame] - due).max() < 1e-5


@pytest.mark.parametrize("canvas", [4, 8, 16])
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_difficulty_sets_board_boxes_moves_and_pushes(difficulty: str, canvas: int) -> None:
    side = FAMILY.side(difficulty, canvas)
    low, high = FAMILY.steps(difficulty, side)
    for seed in range(3):
        level = FAMILY.generate(np.random.default_rng(seed), difficulty, canvas)
        assert (level.rows, level.columns, len(level.boxes)) == (side, side, FAMILY.boxes(difficulty, side))
        assert low <= level.solve().steps <= high and level.solve().pushes >= FAMILY.pushes(difficulty, side)
        assert all(0 <= place <= canvas - side for place in level.offset)


@pytest.mark.parametrize(
    ("canvas", "difficulty", "shape"),
    [
        (4, "medium", Shape(pushes=2, shortest=0.2)),
        (4, "hard", Shape(boxes=1, pushes=4)),
        (8, "easy", Shape(boxes=2, pushes=6, longest=1.0)),
        (8, "medium", Shape(boxes=3, pushes=8)),
        (8, "hard", Shape(pushes=12)),
        (12, "medium", Shape(shortest=0.75, longest=0.9)),
    ],
)
def test_boxes_pushes_and_moves_can_be_chosen_up_to_the_limits_told(canvas: int, difficulty: str, shape: Shape) -> None:
    maker = FAMILY.shaped(shape)
    assert maker.refusal(difficulty, canvas, 80) is None
    level = maker.generate(np.random.default_rng(1), difficulty, canvas, 80)
    low, high = FAMILY.span(difficulty, canvas)
    assert len(level.boxes) == (shape.boxes or FAMILY.boxes(difficulty, level.rows))
    assert level.solve().pushes == level.solve().fewest_pushes >= shape.pushes and level.solve().count == 1
    assert shape.shortest * (high - low) - 1 <= level.solve().steps - low <= shape.longest * (high - low) + 1


def test_the_order_of_pushes_matters_in_half_of_the_hard_levels() -> None:
    levels = [FAMILY.generate(np.random.default_rng(seed), "hard", 8, 40) for seed in range(8)]
    assert sum(level.order_matters() for level in levels) >= 4
    assert not level_of("@-- -$- -.-").order_matters()


def test_a_board_too_large_to_search_is_refused_with_what_to_do() -> None:
    rows = ["-" * 20] * 20
    rows[0] = "@$$$...-" + "-" * 12
    with pytest.raises(ValueError, match=r"3 boxes on 400 free cells .* use fewer boxes, more walls or"):
        level_of(" ".join(rows)).solve()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[9, 9]]}, "not a free cell"),
        ({"boxes": [[0, 0]]}, "not on cells of their own"),
        ({"targets": []}, "1 boxes need as many different targets"),
        ({"rows": "three"}, "malformed"),
        ({"family": "regular"}, "of family 'regular', not 'sokoban'"),
    ],
)
def test_a_bad_state_is_refused_with_the_reason(change: dict, message: str) -> None:
    state = level_of("@-- -$- -.-").to_state()
    with pytest.raises(ValueError, match=message):
        FAMILY.from_state({**state, **change})
    with pytest.raises(ValueError, match="lacks the field 'targets'"):
        FAMILY.from_state({name: value for name, value in state.items() if name != "targets"})


def test_a_level_without_a_solution_is_an_error_that_names_it() -> None:
    stuck = level_of("$-- -@- --.")
    assert stuck.solution is None
    with pytest.raises(ValueError, match=f"{stuck.level_id}: the boxes .* cannot be pushed onto"):
        stuck.solve()
    with pytest.raises(ConfigError, match="take at least 5 moves, but max_steps=3"):
        FAMILY.generate(np.random.default_rng(0), "medium", 4, 3)


@pytest.mark.parametrize("texture", sorted(TEXTURES))
def test_player_boxes_and_targets_can_be_told_apart(texture: str) -> None:
    look = TEXTURES[texture]
    for a, b in itertools.combinations((look.floor, look.wall, look.player, look.goal, look.box), 2):
        assert np.linalg.norm(np.subtract(a, b, dtype=float)) > 60
    form = {"seed": 0, "split": "test", "index": 0, "frames": 9, "size": 256, "canvas": 4}
    task = make_task("sokoban", "easy", texture, steps_per_frame=1.0, **form)
    cell, (row, column) = 64, np.add(task.level.targets[0], task.level.offset)
    tile = task.video[-1][row * cell : (row + 1) * cell, column * cell : (column + 1) * cell].astype(int)
    for colour, least in ((look.goal, 0.1), (look.box, 0.1), (look.box_mark, 0.1)):
        assert (np.abs(tile - colour).max(-1) < 20).mean() > least, "a box at rest shows itself and its target's rim"
    assert look.box_noun in task.prompt and look.player_noun in task.prompt and 20 <= len(task.prompt.split()) <= 34


def test_rows_keep_the_contract_and_a_box_that_moves_by_itself_breaks_it(tmp_path: Path) -> None:
    shape = {"seed": 1, "split": "train", "frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0}
    tasks = [make_task("sokoban", difficulty, "plain", index=0, **shape) for difficulty in DIFFICULTIES]
    write_tasks(tasks, tmp_path / "rows.parquet")
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    for row in rows:
        facts = row_facts(row, lossless=True)
        assert [name for name in FACTS if facts[name] is False] == [] and facts["pushes_fewest"] is True
    row = rows[2]
    row["solution"][1] = [*row["solution"][1][:2], *row["solution"][-1][2:]]
    assert row_facts(row, lossless=True)["solution_legal"] is False
    assert read_tasks(tmp_path, family="sokoban")[0].level == tasks[0].level
