"""Pictures: the player is where the level says on every frame, and everything that matters can be told apart."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.patterns import PATTERNS, pattern_tile
from wan_r1.tasks.task import Task, make_task
from wan_r1.tasks.textures import HELD_OUT, TEXTURES, Material, get_texture

GRID = ("regular", "trapfield")
SIZES = [(32, 4), (64, 4), (96, 8), (125, 5), (256, 16)]


def task_of(size_and_canvas: tuple[int, int], **changes: object) -> Task:
    pixels, canvas = size_and_canvas
    values = {
        "family": "regular",
        "difficulty": "easy",
        "texture": "plain",
        "seed": 0,
        "split": "train",
        "index": 0,
        "frames": 41,
        "size": pixels,
        "canvas": canvas,
        "steps_per_frame": 0.5,
    }
    return make_task(**{**values, **changes})


def player_centres(task: Task) -> np.ndarray:
    """Where the player is on each frame, in pixels, from the difference to the empty background."""
    colour = np.array(TEXTURES[task.texture].player, float)
    background = FAMILIES[task.family].render(task.level, TEXTURES[task.texture], None, task.height)[0].astype(float)
    away = colour - background
    # Least squares for the share of player's colour in each pixel.
    share = ((task.video - background) * away).sum(-1) / (away**2).sum(-1)
    rows, columns = np.mgrid[: task.height, : task.width] + 0.5
    total = share.sum((1, 2))
    return np.stack([(share * columns).sum((1, 2)) / total, (share * rows).sum((1, 2)) / total], axis=1)


@settings(max_examples=40, deadline=None)
@given(
    family=st.sampled_from(GRID),
    difficulty=st.sampled_from(DIFFICULTIES),
    texture=st.sampled_from(sorted(TEXTURES)),
    size=st.sampled_from(SIZES),
    index=st.integers(0, 10**6),
    speed=st.sampled_from([1.0, 0.5, 0.4]),
)
def test_the_video_keeps_the_rules_frame_by_frame(
    family: str, difficulty: str, texture: str, size: tuple[int, int], index: int, speed: float
) -> None:
    task = task_of(size, family=family, difficulty=difficulty, texture=texture, index=index, steps_per_frame=speed)
    centres = player_centres(task)
    assert np.abs(centres - task.trajectory * task.height).max() < 0.15
    cell = task.height / task.level.canvas
    place = centres / cell - 0.5 - np.array(task.level.offset[::-1])
    cells = [(round(y), round(x)) for x, y in place]
    assert cells[0] == task.level.start and cells[-1] == task.level.goal
    for here, there in itertools.pairwise(cells):
        assert here == there or task.level.open_between(here, there)
    # Between two cells the player is on the straight line that joins them: off the grid's lines on one axis at most.
    assert np.abs(place - np.rint(place)).min(axis=1).max() < 0.05
    steps = np.linalg.norm(np.diff(task.trajectory * task.level.canvas, axis=0), axis=1)
    assert steps.max() < speed + 1e-4
    assert tuple(dict.fromkeys(cells)) == task.solution


@settings(max_examples=20, deadline=None)
@given(family=st.sampled_from(GRID), size=st.sampled_from(SIZES), index=st.integers(0, 10**6))
def test_only_the_player_changes_and_the_first_frame_is_frame_zero(
    family: str, size: tuple[int, int], index: int
) -> None:
    task = task_of(size, family=family, difficulty="medium", index=index)
    background = FAMILIES[family].render(task.level, TEXTURES["plain"], None, task.height)[0]
    assert (task.first_frame == task.video[0]).all()
    radius = 0.3 * task.height / task.level.canvas
    rows, columns = np.mgrid[: task.height, : task.width] + 0.5
    for frame, (x, y) in zip(task.video, task.trajectory * task.height, strict=True):
        outside = np.hypot(columns - x, rows - y) > radius + 1
        assert (frame == background)[outside].all()


def test_there_are_six_textures_for_training_and_two_for_testing() -> None:
    assert len(TEXTURES) - len(HELD_OUT) >= 6 and len(HELD_OUT) == 2 and set(HELD_OUT) < set(TEXTURES)
    with pytest.raises(ConfigError, match="pattern='velvet' is unknown; allowed: brick, grass"):
        Material(pattern="velvet", grain=(0, 0, 0))


@pytest.mark.parametrize("name", sorted(PATTERNS))
@pytest.mark.parametrize("cell", [8, 12, 25, 32, 100])
def test_a_pattern_is_a_tile_that_looks_the_same_at_every_size(name: str, cell: int) -> None:
    tile = pattern_tile(name, cell)
    assert tile.shape == (cell, cell) and tile.min() >= 0 and tile.max() <= 1
    assert abs(tile.mean() - pattern_tile(name, 256).mean()) < 0.02
    # Its opposite edges continue each other: no step there that is larger than those inside.
    wide = pattern_tile(name, 128)
    for axis in (0, 1):
        inside, seam = np.abs(np.diff(wide, axis=axis)), np.abs(wide.take(0, axis) - wide.take(-1, axis))
        assert seam.mean() <= 1.2 * inside.mean(1 - axis).max() + 0.01


def test_the_pictures_of_the_plain_textures_stay_as_they_are() -> None:
    """Models and codecs are trained on them: a change here makes their results incomparable."""
    total = hashlib.sha256()
    for family, texture, difficulty, index in itertools.product(
        ("regular", "trapfield"), ("plain", "night"), DIFFICULTIES, range(4)
    ):
        form = {"seed": 3, "split": "train", "index": index, "frames": 9, "size": 32, "canvas": 4}
        task = make_task(family, difficulty, texture, steps_per_frame=1.0, **form)
        total.update(task.level_id.encode() + task.video.tobytes() + task.prompt.encode())
    assert total.hexdigest() == "c1630f5b1303c81881a97e9aac2e786ee42acd9dd78eb704503b60182dc85949"


@pytest.mark.parametrize("texture", sorted(TEXTURES))
@pytest.mark.parametrize("size", [(32, 4), (512, 16)])
def test_what_matters_can_be_told_apart(texture: str, size: tuple[int, int]) -> None:
    look = TEXTURES[texture]
    kinds = (look.floor, look.wall, look.outside, look.trap, look.player, look.goal)
    for a, b in itertools.combinations(kinds, 2):
        assert np.linalg.norm(np.subtract(a, b, dtype=float)) > 60
    task = task_of(size, texture=texture, steps_per_frame=1.0)
    cell = task.height // task.level.canvas
    row, column = (task.level.goal[axis] + task.level.offset[axis] for axis in (0, 1))
    tile = task.video[-1][row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
    rim = (np.abs(tile.astype(int) - look.goal).max(-1) < 20).mean()
    disc = (np.abs(tile.astype(int) - look.player).max(-1) < 20).mean()
    assert rim > 0.1 and disc > 0.15, "a rim of the goal shows around the player at rest"


@pytest.mark.parametrize("size", [32, 64, 512])
def test_walls_are_crisp_and_where_the_level_says(size: int) -> None:
    task = task_of((size, 4), difficulty="hard")
    look = TEXTURES["plain"]
    image = FAMILIES["regular"].render(task.level, look, None, size)[0]
    wall = (image == look.wall).all(-1)
    cell = size // 4
    width = max(1, cell // 8)
    for row, column in itertools.product(range(4), range(3)):
        inside = slice(row * cell + cell // 2, row * cell + cell // 2 + 1)
        edge = (column + 1) * cell
        line = wall[inside, edge - width // 2 : edge - width // 2 + width]
        assert line.all() == ((row, column) in task.level.right_walls) == line.any()
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3)[wall.reshape(-1)]}
    assert colours == {look.wall}
    assert wall[0].all() and wall[-1].all() and wall[:, 0].all() and wall[:, -1].all(), "a frame around the board"


def test_a_level_looks_alike_at_every_size() -> None:
    small, large = task_of((64, 4), family="trapfield"), task_of((512, 4), family="trapfield")
    assert small.level == large.level
    reduced = large.first_frame.reshape(64, 8, 64, 8, 3).mean((1, 3))
    close = np.abs(reduced - small.first_frame).max(-1) < 60
    assert close.mean() > 0.95, "only edges within a pixel may differ"


def test_prompts_use_the_texture_s_words() -> None:
    for family in [FAMILIES[name] for name in GRID]:
        for texture in TEXTURES.values():
            prompt = family.prompt(texture)
            assert texture.player_noun in prompt and texture.goal_noun in prompt
            assert 20 <= len(prompt.split()) <= 30
        assert len({family.prompt(texture) for texture in TEXTURES.values()}) == len(TEXTURES)


def test_sizes_that_do_not_suit_are_refused_with_one_that_does() -> None:
    with pytest.raises(ConfigError, match=r"size=30 px does not suit canvas=4.*such as 32"):
        task_of((32, 4), size=30)
    with pytest.raises(ConfigError, match=r"size=64 px does not suit canvas=16.*such as 128"):
        task_of((64, 4), canvas=16)
    with pytest.raises(ConfigError, match=r"texture='velvet' is unknown; allowed: brick, carpet, .*wood"):
        get_texture("velvet")


def test_a_video_too_short_for_its_solution_is_refused_with_a_length_that_works() -> None:
    level = task_of((32, 4), difficulty="hard").level
    steps = level.solve().steps
    with pytest.raises(ConfigError, match=f"{steps} moves does not fit in frames=5.*at least {2 * steps + 1} frames"):
        FAMILIES["regular"].trajectory(level, 5, 0.5)
    path = FAMILIES["regular"].trajectory(level, 2 * steps + 1, 0.5)
    assert path[-1] == pytest.approx(level.center(level.goal))


def test_the_split_prompts_has_no_video() -> None:
    task = task_of((32, 4), split="prompts")
    assert task.video is None and task.first_frame.shape == (32, 32, 3) and len(task.trajectory) == 41


@pytest.mark.parametrize("family", sorted(set(FAMILIES) & {"irregular", "maze3d", "regular", "sokoban", "trapfield"}))
def test_a_video_is_its_frames_drawn_one_by_one(family: str) -> None:
    """What moves is drawn in small windows, and what rests is copied: it must make no difference."""
    maker = FAMILIES[family]
    for index, (size, difficulty) in enumerate([(64, "easy"), (128, "hard"), (192, "medium")]):
        level = maker.generate(np.random.default_rng(index), difficulty, 8, 40)
        look = TEXTURES[sorted(TEXTURES)[index]]
        walk = maker.trajectory(level, 121, 0.4)
        video = maker.render(level, look, walk, size)
        rest = 1 + int(np.abs(np.diff(walk, axis=0)).max(1).nonzero()[0][-1])
        for frame in (0, 1, rest // 2, rest - 1, rest, rest + 1, 120):
            # Where boxes are follows from the whole walk up to a frame.
            before = walk[: frame + 1] if family == "sokoban" else walk[frame : frame + 1]
            assert (maker.render(level, look, before, size)[-1] == video[frame]).all()
        assert (video[rest:] == video[rest]).all() and (video[rest - 1] != video[rest]).any()
