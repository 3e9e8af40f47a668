"""Robot navigation: levels that one thing answers, ways that keep clear, pictures that tell the truth."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError
from wan_r1.tasks.draw_room import depths_seen, draw_room, owners_seen
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.families.navigation import FAMILY, in_view, start_pose
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.furniture import COLOURS, EXPLICIT, KINDS, WANTS
from wan_r1.tasks.navigation_level import Furniture, NavigationLevel
from wan_r1.tasks.navigation_path import motion, plan
from wan_r1.tasks.robot import CAMERA_HEIGHT, FOCAL, HORIZON, ROBOT_RADIUS, STOP_DISTANCE
from wan_r1.tasks.room_surfaces import bare_scene, placed_parts, room_scene
from wan_r1.tasks.task import make_level, make_task, split_of
from wan_r1.tasks.textures import TEXTURES

LEVELS = st.builds(
    make_level,
    st.just("navigation"),
    st.sampled_from(DIFFICULTIES),
    seed=st.integers(0, 2**40),
    split=st.sampled_from(("train", "prompts", "test")),
    index=st.integers(0, 10**9),
    canvas=st.integers(4, 12),
    max_steps=st.integers(8, 20),
)


def room(*furniture: Furniture, walls=(), start=(100, 100), goal=(300, 300), heading=0) -> NavigationLevel:
    """A level of 4 by 4 metres."""
    return NavigationLevel(
        family="navigation",
        canvas=4,
        floor=(400, 400),
        walls=walls,
        furniture=furniture,
        start=start,
        heading=heading,
        goal=goal,
        target=0,
        request=EXPLICIT,
    )


def cabinet(x: int, y: int, turn: int = 0, colour: str = "red") -> Furniture:
    return Furniture(kind="cabinet", colour=colour, x=x, y=y, width=100, depth=50, height=150, turn=turn)


@settings(max_examples=12, deadline=None)
@given(level=LEVELS, frames=st.sampled_from((9, 21, 81)))
def test_the_robot_keeps_clear_and_ends_at_rest_before_the_one_target(level: NavigationLevel, frames: int) -> None:
    solution = level.solve()
    assert solution.count == 1 and solution.path[0] == level.start and solution.path[-1] == level.goal
    assert all(level.open_between(a, b) for a, b in zip(solution.path, solution.path[1:], strict=False))
    poses = FAMILY.trajectory(level, frames, 20 / (frames - 1)).astype(float)
    assert poses.shape == (frames, 3) and np.allclose(poses[0], start_pose(level), atol=1e-5)
    _, along = motion(level, solution.path)
    assert level.clearance(along[:, :2]).min() >= ROBOT_RADIUS - 1e-3
    x0, y0, x1, y1 = level.goal_object.footprint
    x, y, heading = poses[-1]
    away = math.hypot(max(x0 - x, x - x1, 0), max(y0 - y, y - y1, 0))
    assert away == pytest.approx(STOP_DISTANCE, abs=0.011)
    assert math.cos(heading - level.facing(x, y)) > 0.9999
    assert np.abs(poses[-1] - poses[-2]).max() < 0.02
    assert in_view(level, 0.35)


@settings(max_examples=12, deadline=None)
@given(level=LEVELS)
def test_a_level_is_its_state(level: NavigationLevel) -> None:
    again = FAMILIES["navigation"].from_state(json.loads(json.dumps(level.to_state())))
    assert again == level and again.level_id == level.level_id and again.layout_id == level.layout_id
    assert max(level.floor) <= 100 * level.canvas
    for place, one in enumerate(level.furniture):
        x0, y0, x1, y1 = one.footprint
        assert x0 >= 0 and y0 >= 0 and x1 <= level.size[0] and y1 <= level.size[1]
        for a, b, c, d in (other.footprint for other in level.furniture[:place]):
            assert x1 <= a or c <= x0 or y1 <= b or d <= y0


def test_the_prompt_names_the_target_or_says_what_it_is_for() -> None:
    said = {"explicit": 0, "implicit": 0}
    for index in range(24):
        level = make_level("navigation", "medium", seed=1, split="train", index=index, canvas=8, max_steps=12)
        prompt = FAMILY.level_prompt(level, TEXTURES["wood"])
        assert "wooden floor" in prompt
        noun = level.goal_object.noun
        if level.request == EXPLICIT:
            assert f"go to the {noun}." in prompt and [one.noun for one in level.furniture].count(noun) == 1
        else:
            want = WANTS[level.request]
            assert level.goal_object.kind in want.kinds and any(text in prompt for text in want.texts)
            assert level.goal_object.colour not in prompt
            assert sum(one.kind in want.kinds + want.also for one in level.furniture) == 1
        said["explicit" if level.request == EXPLICIT else "implicit"] += 1
    assert min(said.values()) >= 5


def test_difficulty_shows() -> None:
    corners, pieces = {}, {}
    for difficulty in DIFFICULTIES:
        levels = [FAMILY.generate(np.random.default_rng(seed), difficulty, 8, 16) for seed in range(10)]
        corners[difficulty] = [len(level.solve().path) - 2 for level in levels]
        pieces[difficulty] = np.mean([len(level.furniture) for level in levels])
    assert max(corners["easy"]) == 0 and min(corners["medium"]) >= 1 and min(corners["hard"]) >= 2
    assert pieces["easy"] < pieces["medium"] < pieces["hard"]
    with pytest.raises(ConfigError, match=r"need room for at least 7 metres, but max_steps=4; use at least 7"):
        FAMILY.generate(np.random.default_rng(0), "hard", 8, 4)
    with pytest.raises(ConfigError, match="canvas=3 is too small; use at least 4"):
        FAMILY.generate(np.random.default_rng(0), "hard", 3, 16)


def test_kinds_are_answered_by_wishes_and_stand_on_their_feet() -> None:
    assert {kind for want in WANTS.values() for kind in want.kinds} == set(KINDS)
    for name, kind in KINDS.items():
        for turn in range(4):
            piece = Furniture(
                kind=name,
                colour="red",
                x=20,
                y=30,
                width=kind.width[1],
                depth=kind.depth[1],
                height=kind.height[1],
                turn=turn,
            )
            boxes = np.array([box for box, _ in placed_parts(piece)])
            x0, y0, x1, y1 = piece.footprint
            assert boxes[:, 2].min() == 0 and boxes[:, 5].max() == pytest.approx(kind.height[1] / 100)
            assert np.allclose([boxes[:, 0].min(), boxes[:, 1].min()], [x0, y0], atol=0.35)
            assert boxes[:, 3].max() <= x1 + 1e-9 and boxes[:, 4].max() <= y1 + 1e-9
    assert len(COLOURS) >= 8 and len(KINDS) >= 8


def test_a_blocked_floor_has_no_way() -> None:
    wall = ((0, 200, 400, 210),)
    assert plan(room(cabinet(250, 340), walls=wall)) is None
    around = plan(room(cabinet(150, 340), walls=((0, 200, 300, 210),), goal=(100, 270)))
    assert around is not None and len(around) >= 3
    with pytest.raises(ValueError, match="cannot be reached"):
        room(cabinet(250, 340), walls=wall).solve()


@pytest.mark.parametrize(("field", "value"), [("target", 7), ("request", "fly"), ("floor", [9000, 10]), ("start", [1])])
def test_a_state_that_is_none_is_refused(field: str, value: object) -> None:
    state = {**room(cabinet(150, 340)).to_state(), field: value}
    with pytest.raises(ValueError, match=field if field != "start" else "malformed"):
        FAMILY.from_state(state)


def test_points_are_seen_where_the_camera_model_says() -> None:
    """The depth of each ray, put back into the room, lies on the cabinet that the ray hits; its edges are where the
    camera's formula says."""
    level = room(cabinet(150, 300), start=(200, 100), heading=90)
    pose, side = start_pose(level)[None], 200
    owner, depth = owners_seen(bare_scene(level), pose, side)[0], depths_seen(bare_scene(level), pose, side)[0]
    rows, columns = np.nonzero(owner == 0)
    x = 2.0 + depth[rows, columns] * ((columns + 0.5) / side - 0.5) / FOCAL
    y, z = 1.0 + depth[rows, columns], CAMERA_HEIGHT - depth[rows, columns] * ((rows + 0.5) / side - HORIZON) / FOCAL
    assert np.all((x >= 1.5 - 1e-4) & (x <= 2.5 + 1e-4) & (y >= 3.0 - 1e-4) & (z >= -1e-4) & (z <= 1.5 + 1e-4))
    left, right = columns.min(), columns.max() + 1
    assert left == pytest.approx((0.5 - FOCAL * 0.5 / 2.0) * side, abs=1)
    assert right == pytest.approx((0.5 + FOCAL * 0.5 / 2.0) * side, abs=1)
    assert rows.max() + 1 == pytest.approx((HORIZON + FOCAL * CAMERA_HEIGHT / 2.0) * side, abs=1)
    assert rows.min() == pytest.approx((HORIZON + FOCAL * (CAMERA_HEIGHT - 1.5) / 2.0) * side, abs=1)


def test_what_is_nearer_hides_what_is_behind() -> None:
    behind, before = cabinet(150, 340), cabinet(150, 200, colour="blue")
    alone = room(behind, start=(200, 60), heading=90)
    hidden = room(behind, before, start=(200, 60), heading=90)
    assert (owners_seen(bare_scene(alone), start_pose(alone)[None], 64) == 0).sum() > 100
    assert (owners_seen(bare_scene(hidden), start_pose(hidden)[None], 64) == 0).sum() == 0
    assert in_view(alone, 0.9) and not in_view(hidden, 0.1)


def test_many_cameras_see_what_each_sees_alone() -> None:
    task = make_task("navigation", "medium", "brick", seed=2, split="train", index=0, **FORM)
    scene = room_scene(task.level, TEXTURES["brick"], 30)
    together = draw_room(scene, task.trajectory, 40)
    assert all(
        np.array_equal(draw_room(scene, pose[None], 40)[0], one)
        for pose, one in zip(task.trajectory, together, strict=True)
    )


FORM = {"frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0}


@pytest.mark.parametrize(("size", "canvas"), [(32, 4), (64, 8), (256, 8), (1024, 16)])
def test_videos_from_32_to_1024_px(size: int, canvas: int) -> None:
    form = {**FORM, "size": size, "canvas": canvas}
    task = make_task("navigation", "easy", "plain", seed=3, split="train", index=1, **form)
    assert task.video is not None and task.video.shape == (9, size, size, 3) and task.video.dtype == np.uint8
    again = make_task("navigation", "easy", "plain", seed=3, split="train", index=1, **form)
    assert np.array_equal(task.video, again.video) and task.level_id == again.level_id
    assert np.array_equal(task.video[0], task.first_frame) and split_of(task.level.layout_id) == "train"
    assert np.abs(task.video[-1].astype(int) - task.video[0]).mean() > 5
    small = FAMILY.render(task.level, TEXTURES["plain"], task.trajectory[-1:], 32)[0].astype(float)
    blocks = task.video[-1].reshape(32, size // 32, 32, size // 32, 3).mean((1, 3))
    assert np.abs(small - blocks).mean() < 6, "the same view at every size"
