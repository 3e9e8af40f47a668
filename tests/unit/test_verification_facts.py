"""Facts that verification states about a video, and what it says of videos that it cannot read."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import STATES, VIOLATIONS, StrictRules, verify
from wan_r1.verification.scene import get_scene


def task(family: str = "trapfield", index: int = 0, difficulty: str = "medium", **changes) -> Task:
    form = {"frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0} | changes
    return make_task(family, difficulty, "plain", seed=2, split="test", index=index, **form)


def on_level(level: GridLevel, frames: int = 9, size: int = 32) -> Task:
    """A task on a level made by hand, in the look of the trapfield."""
    base = task(frames=frames, size=size)
    family = FAMILIES["trapfield"]
    trajectory = family.trajectory(level, frames, 1.0)
    video = family.render(level, TEXTURES["plain"], trajectory, size)
    return replace(base, level=level, trajectory=trajectory, video=video, first_frame=video[0])


def walk(task: Task, cells, texture: str = "plain") -> np.ndarray:
    """A video of the player on each of ``cells`` in turn, one a frame; it stays on the last one."""
    cells = [*cells, *[cells[-1]] * (task.frames - len(cells))]
    positions = np.array([task.level.center(cell) for cell in cells])
    return FAMILIES["trapfield"].render(task.level, TEXTURES[texture], positions, task.height)


OPEN = GridLevel(
    family="trapfield",
    rows=3,
    columns=3,
    canvas=4,
    offset=(1, 0),
    blocked=(),
    right_walls=(),
    down_walls=(),
    start=(0, 0),
    goal=(2, 1),
)
"""A field without traps: three shortest paths."""


def test_any_shortest_path_is_an_exact_match():
    open_field = on_level(OPEN)
    paths = [
        [(0, 0), (0, 1), (1, 1), (2, 1)],
        [(0, 0), (1, 0), (1, 1), (2, 1)],
        [(0, 0), (1, 0), (2, 0), (2, 1)],
    ]
    verdicts = verify(np.stack([walk(open_field, path) for path in paths]), [open_field] * 3)
    assert all(verdict.em and verdict.pr == 1 and verdict.sd == 0 for verdict in verdicts)
    assert [list(verdict.walk) for verdict in verdicts] == paths
    assert verdicts[0].walk_frames == (0, 1, 2, 3)


def test_a_longer_way_is_a_success_with_its_extra_length():
    open_field = on_level(OPEN)
    longer = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (2, 1)]
    (verdict,) = verify(walk(open_field, longer)[None], [open_field])
    assert verdict.sr and not verdict.em
    assert verdict.sd == pytest.approx(5 / 3 - 1)
    assert verdict.pr == pytest.approx(1 / 3)


def test_precision_counts_moves_before_the_first_mistake():
    open_field = on_level(OPEN)
    for cells, matched in (
        ([(0, 0)], 0),
        ([(0, 0), (1, 0)], 1),
        ([(0, 0), (1, 0), (1, 1)], 2),
        ([(0, 0), (1, 0), (1, 1), (1, 2), (2, 2), (2, 1)], 2),
    ):
        (verdict,) = verify(walk(open_field, cells)[None], [open_field])
        assert verdict.pr == pytest.approx(matched / 3)
        assert verdict.kept_rules


def test_precision_ends_at_the_first_violation():
    open_field = on_level(OPEN)
    (verdict,) = verify(walk(open_field, [(0, 0), (1, 0), (2, 1)])[None], [open_field])
    assert verdict.pr == pytest.approx(1 / 3)
    first = verdict.violations[0]
    assert (first.kind, first.frame) == ("jump", 2)


def test_violations_name_kind_frame_and_place():
    walled = replace(OPEN, blocked=((1, 1),))
    level = on_level(walled)
    (verdict,) = verify(walk(level, [(0, 0), (0, 1), (1, 1), (2, 1)])[None], [level])
    found = {(violation.kind, violation.frame): violation.place for violation in verdict.violations}
    assert found["obstacle", 2] == (1, 1)
    assert set(kind for kind, _ in found) <= set(VIOLATIONS)
    assert not verdict.sr

    wall = on_level(replace(OPEN, right_walls=((0, 0),)))
    (verdict,) = verify(walk(wall, [(0, 0), (0, 1), (1, 1), (2, 1)])[None], [wall])
    assert ("wall", 1) in {(violation.kind, violation.frame) for violation in verdict.violations}
    assert verdict.pr == 0


def test_states_say_where_the_player_is_seen():
    open_field = on_level(OPEN)
    video = walk(open_field, [(0, 0), (1, 0), (1, 1), (2, 1)])
    empty = FAMILIES["trapfield"].render(OPEN, TEXTURES["plain"], None, 32)[0]
    video[2] = empty
    other = walk(open_field, [(0, 2)])[0]
    rows = slice(8, 16)
    video[4, rows, 16:24] = other[rows, 16:24]
    (verdict,) = verify(video[None], [open_field])
    assert verdict.states == tuple({2: "lost", 4: "duplicated"}.get(frame, "tracked") for frame in range(9))
    assert set(verdict.states) <= set(STATES)
    assert np.isnan(verdict.track[2]).all() and not np.isnan(np.delete(verdict.track, 2, 0)).any()
    kinds = {violation.frame: violation.kind for violation in verdict.violations if violation.frame in (2, 4)}
    assert kinds[2] == "lost"


def test_a_player_that_looks_like_the_goal_is_hidden_there_not_lost():
    texture = replace(TEXTURES["plain"], goal=TEXTURES["plain"].player)
    base = on_level(OPEN)
    family = FAMILIES["trapfield"]
    through = replace(OPEN, start=(0, 1), goal=(1, 1))
    positions = np.array([through.center(cell) for cell in [(0, 1), (1, 1), (2, 1), *[(2, 1)] * 6]])
    video = family.render(through, texture, positions, 32)
    hidden = replace(base, level=through, video=video, first_frame=video[0], trajectory=base.trajectory)
    (verdict,) = verify(video[None], [hidden])
    assert verdict.states[:3] == ("tracked", "occluded", "tracked")
    assert not any(violation.kind in ("lost", "jump") for violation in verdict.violations)


def test_still_videos_are_told_from_moves():
    level = task()
    still = np.repeat(level.first_frame[None], level.frames, axis=0)
    frozen, moving = verify(np.stack([still, level.video]), [level, level])
    assert not frozen.moved and frozen.end == level.level.start and frozen.pr == 0 and frozen.kept_rules
    assert moving.moved and moving.end == level.level.goal


def test_passing_over_the_goal_in_the_last_frame_only_is_enough_when_it_is_first_reached_then():
    """A path of eight moves in nine frames has no time to rest."""
    line = on_level(replace(OPEN, start=(0, 0), goal=(2, 1)), frames=4)
    (verdict,) = verify(line.video[None], [line])
    assert verdict.em


def test_the_given_first_frame_is_compared_with_the_videos_own():
    level = task()
    other = level.video.copy()
    other[0] = other[1]
    (verdict,) = verify(other[None], [level])
    assert "wrong_start" in {violation.kind for violation in verdict.violations if violation.frame == 0}
    assert not verdict.sr and verdict.pr == 0


def test_fidelity_counts_changed_background_and_spares_the_player():
    level = task()
    clean, spotted = level.video.copy(), level.video.copy()
    ys, xs = 28, 28
    where = [(y, x) for y in (0, ys) for x in (0, xs)]
    away = [(y, x) for y, x in where if (np.abs(level.trajectory * 32 - (x + 2, y + 2)).max(1) > 10).all()]
    y, x = away[0]
    spotted[:, y : y + 4, x : x + 4] = 255 - spotted[:, y : y + 4, x : x + 4]
    good, bad = verify(np.stack([clean, spotted]), [level, level])
    assert good.mf == 1
    assert 1 - 60 / 970 <= bad.mf <= 1 - 16 / 1024


def test_a_verdict_depends_on_its_video_alone():
    levels = [task(index=index) for index in range(6)] + [task("regular", index) for index in range(6)]
    rng = np.random.default_rng(0)
    videos = [np.clip(t.video + rng.normal(0, 20, t.video.shape), 0, 255).astype(np.uint8) for t in levels]
    videos[3] = videos[3][::-1].copy()
    together = verify(np.stack(videos), levels)
    order = rng.permutation(len(levels))
    shuffled = verify(np.stack([videos[i] for i in order]), [levels[i] for i in order])
    for place, i in enumerate(order):
        (alone,) = verify(videos[i][None], [levels[i]])
        for other in (shuffled[place], alone):
            assert other.violations == together[i].violations
            assert (other.em, other.sr, other.pr, other.sd) == (
                together[i].em,
                together[i].sr,
                together[i].pr,
                together[i].sd,
            )
            assert np.allclose(other.track, together[i].track, atol=1e-5, equal_nan=True)
            assert other.mf == pytest.approx(together[i].mf, abs=1e-6)


def test_videos_of_several_sizes_in_one_call():
    levels = [task(), task(size=64, frames=17, steps_per_frame=0.5), task("regular", size=48, canvas=6, frames=13)]
    assert all(verdict.em for verdict in verify([t.video for t in levels], levels))


def test_a_shorter_video_is_accepted_on_demand_at_its_own_speed():
    slow = task(size=64, frames=33, steps_per_frame=0.25)
    half = slow.video[::2]
    (refused,) = verify([half], [slow])
    assert "17 frames" in refused.error and "33" in refused.error
    (accepted,) = verify([half], [slow], any_length=True)
    assert accepted.em


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda video: video[:0], "0 frames"),
        (lambda video: video[:1], "1 frames"),
        (lambda video: video[:5], "5 frames"),
        (lambda video: video[:, :16], "16 x 32"),
        (lambda video: np.repeat(np.repeat(video, 2, 1), 2, 2), "64 x 64"),
        (lambda video: video[..., :1], "[9, 32, 32, 1]"),
        (lambda video: video[..., 0], "[9, 32, 32]"),
        (lambda video: video.astype(np.float32) / 255, "float32"),
        (lambda video: np.full(video.shape, np.nan), "float64"),
        (lambda video: video.astype(np.int64), "int64"),
        (lambda video: None, "NoneType"),
    ],
)
def test_a_malformed_video_is_an_error_and_does_not_stop_the_batch(change, says):
    level = task()
    good, bad, also_good = verify([level.video, change(level.video), level.video], [level] * 3)
    assert good.em and also_good.em
    assert says in bad.error
    assert (bad.em, bad.sr, bad.pr, bad.sd, bad.mf, bad.kept_rules) == (False, False, 0.0, None, 0.0, False)


def test_a_whole_batch_of_the_wrong_type_is_an_error_each():
    level = task()
    verdicts = verify(np.stack([level.video, level.video]).astype(np.float32), [level, level])
    assert all("float32" in verdict.error for verdict in verdicts)


def test_a_first_frame_without_player_is_an_error():
    level = task()
    empty = FAMILIES["trapfield"].render(level.level, TEXTURES["plain"], None, 32)[0]
    (verdict,) = verify(level.video[None], [replace(level, first_frame=empty)])
    assert "player" in verdict.error and level.level.level_id in verdict.error


def test_counts_must_agree_and_nothing_is_nothing():
    level = task()
    with pytest.raises(ValueError, match="2 videos but 1 tasks"):
        verify(np.stack([level.video] * 2), [level])
    assert verify(np.zeros((0, 9, 32, 32, 3), np.uint8), []) == []


def test_tolerances_are_parameters():
    level = task()
    faint = np.rint(
        0.4 * level.video + 0.6 * FAMILIES["trapfield"].render(level.level, TEXTURES["plain"], None, 32)
    ).astype(np.uint8)
    (strict,) = verify(faint[None], [level])
    (lenient,) = verify(faint[None], [level], rules=StrictRules(present=0.3, duplicate=0.3))
    assert not strict.sr and "lost" in {violation.kind for violation in strict.violations}
    assert lenient.em


def test_the_background_is_what_the_renderer_draws_without_the_player():
    for family in ("regular", "trapfield"):
        for index in range(6):
            level = task(family, index)
            drawn = FAMILIES[family].render(level.level, TEXTURES["plain"], None, 32)[0]
            scene = get_scene(level.level, level.first_frame)
            assert np.abs(scene.background.transpose(1, 2, 0) - drawn).max() <= 8
            assert not scene.unknown.any()


def test_a_batch_is_read_at_the_speed_that_training_needs(capsys):
    """At least 1,000 videos of 9 x 32 x 32 a second on one core; the bound here is loose, for machines under load."""
    levels = [task(family, index) for family in ("regular", "trapfield") for index in range(4)]
    tasks = [level for level in levels for _ in range(12)]
    videos = np.stack([t.video for t in tasks])
    verify(videos, tasks)
    best = min(_seconds(videos, tasks) for _ in range(5))
    with capsys.disabled():
        print(f"\nverification: {len(tasks) / best:.0f} videos of 9 x 32 x 32 a second")
    assert len(tasks) / best > 200


def _seconds(videos: np.ndarray, tasks: list[Task]) -> float:
    begin = time.process_time()
    verify(videos, tasks)
    return time.process_time() - begin
