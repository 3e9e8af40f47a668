"""A robot's video is read in its known room: where its camera was, what it did, and every cheat found out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from robot_cheats import CHEATS, HONEST

from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.score.floor_plan import plan_frames
from wan_r1.tasks.task import Task, make_task
from wan_r1.tasks.video import decode_video, encode_video
from wan_r1.verification import verify
from wan_r1.verification.verdict import VIOLATIONS

FORM = {"frames": 17, "size": 64, "canvas": 8, "steps_per_frame": 0.7}


@pytest.fixture(scope="module")
def task() -> Task:
    """A hard level in two rooms or with several corners."""
    return make_task("navigation", "hard", "marble", seed=11, split="train", index=1, **FORM)


def _noisy(video: np.ndarray) -> np.ndarray:
    return np.clip(video + np.random.default_rng(0).normal(0, 8, video.shape), 0, 255).astype(np.uint8)


FORMS = {
    "as it is": lambda video: video,
    "noise of 8 levels": _noisy,
    "blur of 1 px": lambda video: np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in video]),
    "H.264": lambda video: decode_video(encode_video(video, 24.0, False)),
}


@pytest.mark.parametrize("form", FORMS)
def test_references_are_read_to_centimetres_and_succeed(task: Task, form: str) -> None:
    (verdict,) = verify([FORMS[form](task.video)], [task])
    assert verdict.error is None and verdict.violations == () and verdict.em and verdict.sr and verdict.pr == 1
    assert verdict.mf > 0.99 and verdict.first_frame > 0.99 and verdict.moved and set(verdict.states) == {"tracked"}
    off = np.hypot(*(verdict.poses[:, :2] - task.trajectory[:, :2]).T)
    assert off.mean() < 0.06 and off.max() < 0.25
    assert verdict.navigation is not None and verdict.navigation.ade < 0.06 and verdict.navigation.score > 0.85


@pytest.mark.parametrize("texture", ["brick", "night"])
def test_a_camera_that_comes_to_rest_is_not_overshot(texture: str) -> None:
    """What the search expected of a moving camera fitted the first frame at rest well enough to be kept there."""
    task = make_task("navigation", "hard", texture, seed=11, split="test", index=0, **FORM)
    assert np.array_equal(task.trajectory[-1], task.trajectory[-2])
    (verdict,) = verify([task.video], [task])
    assert verdict.em and np.hypot(*(verdict.poses[-2] - verdict.poses[-1])[:2]) < 0.02


@pytest.mark.parametrize("texture", ["brick", "meadow", "night"])
def test_a_fast_robot_is_followed_though_every_frame_is_damaged(texture: str) -> None:
    """No frame fits well then; that was taken for a camera that is nowhere, and it was looked for no more."""
    form = {**FORM, "frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0}
    task = make_task("navigation", "medium", texture, seed=23, split="test", index=0, **form)
    files = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 12])[1] for frame in task.video]
    (verdict,) = verify([np.stack([cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files])], [task])
    assert verdict.em and verdict.mf > 0.99 and set(verdict.states) == {"tracked"}


def test_the_tiny_size_is_read_too() -> None:
    tasks = [
        make_task(
            "navigation",
            difficulty,
            "night",
            seed=7,
            split="train",
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index, difficulty in enumerate(("easy", "medium", "hard"))
    ]
    verdicts = verify([task.video for task in tasks], tasks)
    assert all(verdict.em for verdict in verdicts)


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_succeeds_or_pays(task: Task, name: str) -> None:
    video = CHEATS[name](task)
    (verdict,) = verify([video], [task])
    assert verdict.error is None and not verdict.em and not verdict.sr
    assert {one.kind for one in verdict.violations} <= set(VIOLATIONS)
    assert (name in HONEST) == verdict.kept_rules, verdict.violations[:4]
    inputs = RewardInputs(videos=video[None], tasks=[task], verdicts=[verdict])
    reward = float(get_reward("trajectory")(inputs).reward[0])
    half = 0.5 * 0.5 + 0.2
    assert reward < (0.75 if name in HONEST else half)


def test_half_of_the_way_is_half_a_solution(task: Task) -> None:
    half = task.video.copy()
    half[task.frames // 2 :] = half[task.frames // 2]
    (verdict,) = verify([half], [task])
    assert verdict.kept_rules and not verdict.sr and 0.2 < verdict.pr < 0.8


def test_what_cannot_be_read_is_an_error(task: Task) -> None:
    wrong = [np.zeros((17, 32, 32, 3), np.uint8), np.zeros((17, 64, 64), np.uint8), task.video.astype(float)]
    verdicts = verify([*wrong, task.video], [task] * 4)
    assert [verdict.error is None for verdict in verdicts] == [False, False, False, True]
    nothing = [
        np.full_like(task.video, 127),
        np.random.default_rng(0).integers(0, 256, task.video.shape).astype(np.uint8),
    ]
    for verdict in verify(nothing, [task] * 2):
        assert not verdict.sr and not verdict.kept_rules and verdict.pr == 0


def test_the_score_of_target_bench_is_a_reward(task: Task) -> None:
    videos = np.stack([task.video, CHEATS["teleport"](task), CHEATS["frozen"](task)])
    inputs = RewardInputs(videos=videos, tasks=[task] * 3, verdicts=verify(videos, [task] * 3))
    output = get_reward("navigation")(inputs)
    assert output.reward[0] > 0.95 and output.reward[1] < 0.5 and output.reward[2] < 0.3
    assert output.components["sr"].tolist() == [1, 0, 0] and output.components["ade"][0] < 0.06


def test_the_way_is_drawn_on_the_floor_plan(task: Task) -> None:
    (verdict,) = verify([task.video], [task])
    shown = np.array([0, 8, 16])
    frames = plan_frames(task.level, verdict, shown, 200)
    assert frames.shape == (3, 200, 200, 3) and frames.dtype == np.uint8
    drawn = [int((frame != frames[0]).any(-1).sum()) for frame in frames]
    assert drawn[0] == 0 < drawn[1] and drawn[2] > 0
