"""Target-Bench's layout: our levels as its segments, its segments as our table, and what breaks the contract."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from wan_r1 import cli
from wan_r1.task_tools.target_bench import Segment, read_segment, write_segment
from wan_r1.task_tools.target_bench_import import recorded_poses
from wan_r1.tasks.dataset import Task, make_task, read_tasks, write_tasks
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.video import encode_video
from wan_r1.validate_tasks import ValidateTasksConfig
from wan_r1.validate_tasks import run as validate
from wan_r1.verification import verify
from wan_r1.verification.navigation import PathError
from wan_r1.verification.world_decoder import decoded_path, decoder_metrics, load_decoder

FORM = {"frames": 21, "size": 64, "canvas": 8, "steps_per_frame": 0.6}


def recorded(root: Path, name: str, frames: int = 30) -> Segment:
    """A segment as the benchmark's own tools write one: wide pictures, five frames from before, a path that bends."""
    rng = np.random.default_rng(len(name))
    grey = rng.integers(40, 200, (6, 10, 3)).repeat(12, 0).repeat(12, 1)
    video = np.stack([np.roll(grey, 2 * frame, axis=1) for frame in range(frames)]).astype(np.uint8)
    turn = np.linspace(0, 0.8, frames - 5)
    path = np.stack([1 - np.cos(turn), np.sin(turn)], axis=1) * 3.0
    segment = Segment(
        name=name,
        caption="Go to the vending machine beside the stairs.",
        first_frame=video[0],
        current_frame=video[5],
        video=video[5:],
        path=path,
        displacement=0.8,
    )
    write_segment(root, segment, encode_video(video, 25.0, False), 5, {"scene_name": "yard"})
    return segment


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Task]]:
    folder = tmp_path_factory.mktemp("table")
    tasks = [
        make_task("navigation", "easy", look, seed=2, split=split, index=0, **FORM)
        for look, split in (("wood", "train"), ("brick", "prompts"))
    ]
    write_tasks(tasks, folder / "a.parquet")
    return folder, tasks


def test_our_levels_are_segments_and_come_back(table: tuple[Path, list[Task]], tmp_path: Path) -> None:
    folder, tasks = table
    out = tmp_path / "segments"
    assert cli.main(["tasks", "export", str(folder), "--layout=target-bench", "--output", str(out)]) == 0
    task = tasks[0]
    name = f"sample_{task.level_id}"
    kinds = ("video.mp4", "first_frame.png", "current_frame.png", "trajectory.csv", "caption.txt", "metadata.json")
    assert {path.name for path in (out / name).iterdir()} >= {f"{name}_{kind}" for kind in kinds}
    segment = read_segment(out / name)
    assert segment.caption == task.prompt and np.array_equal(segment.current_frame, task.first_frame)
    assert len(segment.video) == task.frames and 0.29 < segment.displacement < 0.31
    assert np.allclose(segment.path[0], 0, atol=1e-5)
    driven = np.hypot(*np.diff(task.trajectory[:, :2], axis=0).T).sum()
    assert np.hypot(*np.diff(segment.path, axis=0).T).sum() == pytest.approx(driven, abs=1e-3)
    # What lies ahead of the robot lies along y.
    ahead = task.trajectory[-1, :2] - task.trajectory[0, :2]
    forward = np.array([np.cos(task.trajectory[0, 2]), np.sin(task.trajectory[0, 2])])
    assert segment.path[-1][1] == pytest.approx(float(ahead @ forward), abs=1e-3)
    metadata = json.loads((out / name / f"{name}_metadata.json").read_text())
    assert metadata["target"] == task.level.goal_object.noun

    back = tmp_path / "back"
    assert cli.main(["tasks", "import", str(out), "--layout=target-bench", "--output", str(back)]) == 0
    found = {task.level.segment: task for task in read_tasks(back)}
    assert found[name].prompt == task.prompt and found[name].frames == task.frames


def test_recorded_segments_become_a_table_that_keeps_the_contract(tmp_path: Path) -> None:
    root = tmp_path / "Benchmark"
    segments = {name: recorded(root, name) for name in ("yard_1", "yard_10")}
    words = ["--layout=target-bench", "--size=96", "--frames=9", "--split=test", "--output", str(tmp_path / "data")]
    assert cli.main(["tasks", "import", str(root), *words]) == 0
    tasks = read_tasks(tmp_path / "data")
    assert [task.level.segment for task in tasks] == sorted(segments)
    for task in tasks:
        segment = segments[task.level.segment]
        assert isinstance(task.level, RecordedLevel) and task.prompt == segment.caption
        assert task.video.shape == (9, 58, 96, 3) and task.first_frame.shape == (58, 96, 3)
        assert np.allclose(task.trajectory[-1, :2], segment.path[-1], atol=0.01)
        assert task.trajectory[0, 2] == pytest.approx(np.pi / 2, abs=0.15)
    config = ValidateTasksConfig(splits=("test",))
    checked = validate(config, dataset=tmp_path / "data", certificate=tmp_path / "c.json", report=tmp_path / "r.html")
    assert checked["rows"] == 2
    (verdict,) = verify([tasks[0].video], tasks[:1])
    assert verdict.error is not None and "world decoder" in verdict.error


def test_what_breaks_is_listed_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "Benchmark"
    for name in ("good", "no_video", "no_path", "no_distance", "bad_json", "silent"):
        recorded(root, name)
    (root / "no_video" / "no_video_video.mp4").unlink()
    (root / "no_path" / "no_path_trajectory.csv").write_text("a,b\n1,2\n")
    (root / "no_distance" / "no_distance_metadata.json").write_text('{"user_caption": "x"}')
    (root / "bad_json" / "bad_json_metadata.json").write_text("{")
    (root / "silent" / "silent_caption.txt").write_text("")
    assert cli.main(["tasks", "import", str(root), "--layout=target-bench", "--output", str(tmp_path / "d")]) == 0
    result = json.loads((tmp_path / "d" / "import.json").read_text())
    assert (result["levels"], result["rows"]) == (6, 1)
    rules = {fault["file"]: fault["rule"] for fault in result["faults"]}
    assert rules == {
        "no_video": "video_where_due",
        "no_path": "trajectory_true",
        "no_distance": "state_readable",
        "bad_json": "state_readable",
        "silent": "prompt_given",
    }
    assert "no_video: video_where_due" in capsys.readouterr().out
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli.main(["tasks", "import", str(empty), "--layout=target-bench", "--output", str(tmp_path / "e")]) != 0
    assert "give a folder in Target-Bench's layout" in capsys.readouterr().err


def test_poses_follow_a_path_and_wait_where_it_waits() -> None:
    path = np.array([[0, 0], [0, 0], [0, 1], [1, 1]], float)
    poses = recorded_poses(path, 4)
    assert np.allclose(poses[:, :2], path) and poses.shape == (4, 3)
    assert poses[0, 2] == pytest.approx(np.pi / 2) and poses[-1, 2] == pytest.approx(0, abs=0.3)


def cameras_of(poses: np.ndarray, unit: float) -> np.ndarray:
    """Extrinsics as VGGT gives them, in a world of its own: another unit, another place, turned upside down."""
    found = []
    for x, y, heading in poses:
        ahead, right = np.array([np.cos(heading), np.sin(heading), 0]), np.array([np.sin(heading), -np.cos(heading), 0])
        turn = np.stack([right, [0, 0, -1], ahead])
        strange = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
        place = strange @ (unit * np.array([x, y, 1.1]) + np.array([5, -3, 2]))
        turned = turn @ strange.T
        found.append(np.concatenate([turned, -(turned @ place)[:, None]], axis=1))
    return np.stack(found)


def test_a_world_decoder_of_one_s_own_is_one_function(table: tuple[Path, list[Task]], tmp_path: Path) -> None:
    folder, tasks = table
    assert cli.main(["tasks", "export", str(folder), "--layout=target-bench", "--output", str(tmp_path / "s")]) == 0
    task = tasks[0]
    segment = read_segment(tmp_path / "s" / f"sample_{task.level_id}")
    start = task.trajectory[0].astype(float)
    before = start - [segment.displacement * np.cos(start[2]), segment.displacement * np.sin(start[2]), 0]

    def decoder(pictures: np.ndarray) -> np.ndarray:
        assert pictures.shape == (task.frames + 1, 64, 64, 3) and np.array_equal(pictures[-1], segment.first_frame)
        return cameras_of(np.concatenate([task.trajectory, before[None]]), 0.37)

    path = decoded_path(decoder, segment.video, segment.first_frame, segment.displacement)
    assert np.allclose(path, segment.path, atol=1e-4)
    metrics = decoder_metrics(decoder, segment.video, segment.first_frame, segment.displacement, segment.path)
    assert metrics.ade < 1e-4 and metrics.score == pytest.approx(0.9, abs=1e-3)
    with pytest.raises(PathError, match=r"returned \[3\]; expected finite \[22, 3, 4\]"):
        decoded_path(lambda pictures: np.zeros(3), segment.video, segment.first_frame, 0.3)
    with pytest.raises(PathError, match="a scale needs both above 0"):
        decoded_path(decoder, segment.video, segment.first_frame, 0.0)
    assert load_decoder("numpy:asarray") is np.asarray
    with pytest.raises(ValueError, match="has no function 'fly'"):
        load_decoder("numpy:fly")
