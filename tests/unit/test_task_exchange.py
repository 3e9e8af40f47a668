"""``wan-r1 tasks export`` and ``import``: ours in VR-Bench's folders and back, and the benchmark's own as ours."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from vr_bench_example import draw, level_of, resized, save, write_dataset

from wan_r1 import cli
from wan_r1.config import ConfigError
from wan_r1.score import run as score
from wan_r1.task_tools import vr_bench_export, vr_bench_import
from wan_r1.tasks.dataset import Task, make_task, read_tasks, write_tasks
from wan_r1.tasks.schema import DataContractError
from wan_r1.tasks.textures import TEXTURES
from wan_r1.tasks.video import encode_image
from wan_r1.validate_tasks import ValidateTasksConfig
from wan_r1.validate_tasks import run as validate
from wan_r1.verification import verify

FORM = {"frames": 41, "size": 128, "canvas": 8, "steps_per_frame": 0.5, "fps": 24.0}
GAMES = {
    "regular": "maze",
    "trapfield": "trapfield",
    "sokoban": "sokoban",
    "irregular": "pathfinder",
    "maze3d": "maze3d",
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Task]]:
    """Two levels of each family in `train`, one without demonstration and one to test with, some without loss."""
    folder = tmp_path_factory.mktemp("table")
    tasks = []
    for family in GAMES:
        parts = [("train", 0, "easy", "plain"), ("train", 1, "medium", "night")]
        parts += [("prompts", 0, "easy", "brick"), ("test", 0, "easy", "marble")]
        some = [make_task(family, d, look, seed=1, split=split, index=i, **FORM) for split, i, d, look in parts]
        # Verification refuses some trapfields with 16 px a cell after H.264 of 4:2:0.
        lossless = family in ("regular", "trapfield")
        metadata = {"wan_r1.lossless": str(lossless).lower()}
        write_tasks(some, folder / f"{family}.parquet", lossless=lossless, metadata=metadata)
        tasks += some
    return folder, tasks


@pytest.fixture(scope="module")
def exported(table: tuple[Path, list[Task]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("exported") / "vr"
    assert cli.main(["tasks", "export", str(table[0]), "--layout=vr-bench", "--output", str(output)]) == 0
    return output


def rows_of(folder: Path) -> dict[str, dict]:
    return {row["level_id"]: row for file in folder.glob("*.parquet") for row in pq.read_table(file).to_pylist()}


def states_of(folder: Path) -> dict[str, tuple[Path, dict]]:
    found = [(path, json.loads(path.read_text())) for path in folder.rglob("states/*.json")]
    return {state["metadata"]["wan_r1"]["level_id"]: (path, state) for path, state in found}


def test_export_writes_the_folders_of_the_benchmark(table: tuple[Path, list[Task]], exported: Path) -> None:
    states = states_of(exported)
    for task in table[1]:
        path, state = states[task.level_id]
        part = "eval" if task.split == "test" else "train"
        assert path == exported / part / GAMES[task.family] / task.texture / task.difficulty / "states" / path.name
        assert state["game_type"] == GAMES[task.family]
        assert path.stem.startswith(f"{task.difficulty}_0")
        assert (path.parent.parent / "images" / f"{path.stem}.png").is_file()
        assert (path.parent.parent / "videos" / f"{path.stem}.mp4").is_file() == (task.split != "prompts")
        results = json.loads((path.parent.parent / "results.json").read_text())
        assert results["generated"] == results["total"] == len(results["levels"]) == 1
        assert results["levels"][0]["level_hash"] == task.level_id
    with (exported / "metadata/train/maze_plain_easy/metadata.csv").open() as stream:
        (line,) = csv.DictReader(stream)
    assert line["prompt"] == table[1][0].prompt or "disc" in line["prompt"]
    assert (exported / line["video"]).is_file() and (exported / line["input_image"]).is_file()


def test_boxes_in_the_states_are_where_the_pictures_show_things(table: tuple[Path, list[Task]], exported: Path) -> None:
    states = states_of(exported)
    for task in table[1]:
        _, state = states[task.level_id]
        entities = state["entities"]
        assert (state["render"]["image_width"], state["render"]["image_height"]) == (128, 128)
        x, y = (entities["player"]["pixel_pos"][axis] for axis in "xy")
        assert np.abs(np.array([x, y]) - task.trajectory[0] * 128).max() <= 1
        assert np.abs(task.first_frame[y, x].astype(int) - TEXTURES[task.texture].player).max() < 30
        box = entities["goal"]["bbox"]
        if task.family != "sokoban":
            assert box["x"] <= task.trajectory[-1][0] * 128 <= box["x"] + box["width"]
            assert box["y"] <= task.trajectory[-1][1] * 128 <= box["y"] + box["height"]
        assert len(entities["boxes"]) == (len(task.level.boxes) if task.family == "sokoban" else 0)
        if "grid" in state and task.family != "regular":
            for one in [entities["player"], entities["goal"], *entities["boxes"]]:
                side = state["render"]["cell_size"]
                assert one["bbox"]["x"] == one["grid_pos"]["col"] * side
                assert one["bbox"]["y"] == one["grid_pos"]["row"] * side


def steps_in_grid(grid: list[list[int]]) -> int:
    """Fewest steps from 2 to 3 over cells that are no 1."""
    cells = {(r, c): code for r, row in enumerate(grid) for c, code in enumerate(row) if code != 1}
    (start,) = (cell for cell, code in cells.items() if code == 2)
    reached, order = {start: 0}, deque([start])
    while order:
        row, column = cell = order.popleft()
        if cells[cell] == 3:
            return reached[cell]
        for other in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if other in cells and other not in reached:
                reached[other] = reached[cell] + 1
                order.append(other)
    raise AssertionError("the goal cannot be reached")


def test_the_grid_is_the_same_puzzle(table: tuple[Path, list[Task]], exported: Path) -> None:
    """A maze's walls are cells of their own there, so that its way has twice as many steps."""
    states = states_of(exported)
    for task in table[1]:
        grid = states[task.level_id][1].get("grid")
        if task.family in ("regular", "trapfield"):
            assert steps_in_grid(grid["data"]) == task.level.solve().steps * (2 if task.family == "regular" else 1)
        assert (grid is None) == (task.family in ("irregular", "maze3d"))


def test_roads_are_curves_that_join_and_lead_to_the_goal(table: tuple[Path, list[Task]], exported: Path) -> None:
    for task in table[1]:
        if task.family == "irregular":
            metadata = states_of(exported)[task.level_id][1]["metadata"]
            path = [metadata["segments"][number] for number in metadata["solution_segments"]]
            assert metadata["solution_path"][0] == metadata["start_point"]
            assert metadata["solution_path"][-1] == metadata["end_point"]
            length = sum(np.hypot(*np.subtract(end, begin)) for begin, _, end in path)
            assert length == pytest.approx(task.level.solve().length * 128 / 8, rel=0.02)


def test_the_benchmark_s_evaluation_of_what_was_exported_is_perfect(exported: Path, tmp_path: Path) -> None:
    summary = score(videos=exported, dataset=exported, output=tmp_path, layout="vr-bench")
    assert (summary["videos"], summary["errors"]) == (15, 0)
    for row in pq.read_table(tmp_path / "scores.parquet").to_pylist():
        assert row["em"] and row["vr_bench_em"], row


def test_what_was_exported_is_imported_as_it_was(
    table: tuple[Path, list[Task]], exported: Path, tmp_path: Path
) -> None:
    result = vr_bench_import.run(source=exported, output=tmp_path / "again")
    assert result["faults"] == [] and result["rows_by_split"] == {"prompts": 5, "test": 5, "train": 10}
    assert rows_of(tmp_path / "again") == rows_of(table[0])
    config = ValidateTasksConfig(splits=("prompts", "test", "train"))
    paths = {"certificate": tmp_path / "c.json", "report": tmp_path / "r.html"}
    assert validate(config, dataset=tmp_path / "again", **paths)["rows"] == 20


def test_one_split_can_be_exported(table: tuple[Path, list[Task]], tmp_path: Path) -> None:
    assert vr_bench_export.run(dataset=table[0], output=tmp_path / "test", split="test")["levels"] == 5
    assert {path.name for path in (tmp_path / "test").iterdir()} == {"eval", "metadata"}
    with pytest.raises(DataContractError, match="has no level of the split harder"):
        vr_bench_export.run(dataset=table[0], output=tmp_path / "harder", split="harder")
    with pytest.raises(ConfigError, match="is not empty"):
        vr_bench_export.run(dataset=table[0], output=tmp_path / "test")


def test_an_exported_level_that_was_changed_is_named(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "vr"))
    changed = folder / "train/maze/plain/easy/states/easy_0001.json"
    state = json.loads(changed.read_text())
    row = state["metadata"]["wan_r1"]
    row["solution"] = row["solution"][:-1]
    changed.write_text(json.dumps(state))
    shutil.copy(
        folder / "train/maze/night/medium/videos/medium_0001.mp4", folder / "eval/maze/marble/easy/videos/easy_0001.mp4"
    )
    result = vr_bench_import.run(source=folder, output=tmp_path / "again")
    found = {(fault["file"], fault["rule"]) for fault in result["faults"]}
    assert ("train/maze/plain/easy/states/easy_0001.json", "solution_legal") in found
    assert ("eval/maze/marble/easy/states/easy_0001.json", "video_true") in found
    assert {file for file, _ in found} == {
        "train/maze/plain/easy/states/easy_0001.json",
        "eval/maze/marble/easy/states/easy_0001.json",
    }
    assert result["rows"] == 18


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The benchmark's own folders, each board in one skin: two mazes and two trapfields, of which one is ambiguous."""
    root = tmp_path / "VR-Bench"
    for game, skin, stem, _ in write_dataset(root / "eval"):
        if (skin == "1") != stem.endswith("1"):
            for folder in ("states", "images", "videos"):
                for path in (root / "eval" / game / skin / "easy" / folder).glob(f"{stem}*"):
                    path.unlink()
    return root


def test_the_benchmark_s_own_levels_become_rows_in_every_skin(published: Path, tmp_path: Path) -> None:
    described = {"game_type": "maze", "skin_id": "2", "visual_description": {"player": "black and gold token"}}
    (published / "skins/maze/2").mkdir(parents=True)
    (published / "skins/maze/2/description.json").write_text(json.dumps(described))
    (published / "metadata/eval/maze_1_easy").mkdir(parents=True)
    text = 'video,prompt,input_image\neval/maze/1/easy/videos/easy_0001_0.mp4,"Go, red disc, to the square.",x\n'
    (published / "metadata/eval/maze_1_easy/metadata.csv").write_text(text)
    words = ["tasks", "import", str(published), "--layout=vr-bench", "--ambiguous", "--size=128", "--frames=193"]
    assert cli.main([*words, "--output", str(tmp_path / "table")]) == 0
    tasks = read_tasks(tmp_path / "table")
    looks = {(task.family, task.texture) for task in tasks}
    assert looks == {(family, f"vr-bench/{skin}") for family in ("regular", "trapfield") for skin in ("1", "2")}
    assert {(task.split, task.frames, task.height, task.difficulty) for task in tasks} == {("test", 193, 128, "easy")}
    for task, verdict in zip(tasks, verify([task.video for task in tasks], tasks), strict=True):
        assert verdict.em and not verdict.violations
        assert np.abs(verdict.track - task.trajectory).max() * task.level.canvas < 0.3
        assert all(task.level.open_between(a, b) for a, b in itertools.pairwise(task.solution))
    prompts = {(task.family, task.texture): task.prompt for task in tasks}
    assert prompts["regular", "vr-bench/1"] == "Go, red disc, to the square."
    assert "black and gold token" in prompts["regular", "vr-bench/2"]
    assert "The player" in prompts["trapfield", "vr-bench/1"]


def test_ambiguous_levels_are_listed_and_left_out_and_the_rest_is_certified(published: Path, tmp_path: Path) -> None:
    words = {"source": published, "size": 128, "frames": 193}
    result = vr_bench_import.run(**words, output=tmp_path / "strict")
    ambiguous = [fault for fault in result["faults"] if fault["rule"] == "solution_unique"]
    assert ambiguous and result["rows"] == 4 - len(ambiguous) and len(result["faults"]) == len(ambiguous)
    assert all("shortest paths" in fault["found"] and "trapfield" in fault["file"] for fault in ambiguous)
    assert json.loads((tmp_path / "strict/import.json").read_text()) == result
    config = ValidateTasksConfig(splits=("test",))
    paths = {"certificate": tmp_path / "c.json", "report": tmp_path / "r.html"}
    assert validate(config, dataset=tmp_path / "strict", **paths)["rows"] == result["rows"]


def test_pictures_and_videos_stay_as_they_are_unless_a_form_is_asked_for(published: Path, tmp_path: Path) -> None:
    result = vr_bench_import.run(source=published, output=tmp_path / "table", ambiguous=True)
    whole_set = {fault["rule"] for fault in result["faults"] if not fault["file"]}
    assert whole_set == {"frames_equal", "height_equal", "width_equal"}
    rows = rows_of(tmp_path / "table").values()
    files = {path.read_bytes() for path in published.rglob("videos/*.mp4")}
    assert {row["video"]["bytes"] for row in rows} == files
    assert all(row["frames"] == 12 * row["steps"] + 1 for row in rows)
    again = vr_bench_export.run(dataset=tmp_path / "table", output=tmp_path / "vr")
    assert again["levels"] == 4
    back = vr_bench_import.run(source=tmp_path / "vr", output=tmp_path / "back", ambiguous=True)
    assert back["rows"] == 4 and rows_of(tmp_path / "back") == rows_of(tmp_path / "table")


def test_the_other_shortest_way_of_a_video_is_its_solution(published: Path, tmp_path: Path) -> None:
    board = ["20000", "01010", "00000", "01010", "00003"]
    path = list(level_of(board).solve().path)
    other = [(column, row) for row, column in path]
    assert other != path
    folder = published / "eval/trapfield/1/easy"
    state = json.loads((folder / "states/easy_0001.json").read_text())
    state["grid"]["data"] = [[int(code) for code in row] for row in board]
    (folder / "states/easy_0001.json").write_text(json.dumps(state))
    video = draw("trapfield", "1", board, other)
    save(video, folder / "videos/easy_0001_0.mp4")
    (folder / "images/easy_0001.png").write_bytes(encode_image(video[0]))
    vr_bench_import.run(source=folder, output=tmp_path / "table", ambiguous=True)
    (task,) = read_tasks(tmp_path / "table")
    assert task.solution == tuple(other)


def test_bad_data_is_listed_by_file(published: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "more")
    for game in ("maze", "trapfield"):
        shutil.copytree(tmp_path / "more" / game / "1", published / "train" / game / "9")
    maze, field = (published / "train" / game / "9/easy" for game in ("maze", "trapfield"))
    (maze / "states/easy_0001.json").write_text("{")
    state = json.loads((maze / "states/easy_0002.json").read_text())
    (maze / "states/easy_0003.json").write_text(json.dumps({**state, "game_type": "chess"}))
    (maze / "states/easy_0004.json").write_text(json.dumps(state))
    for number in (3, 4):
        shutil.copy(maze / "images/easy_0002.png", maze / f"images/easy_000{number}.png")
    (maze / "images/easy_0002.png").unlink()
    (field / "videos/easy_0001_0.mp4").write_bytes((field / "videos/easy_0001_0.mp4").read_bytes()[:900])
    (maze / "videos/easy_0099.mp4").write_bytes(b"x")
    result = vr_bench_import.run(source=published, output=tmp_path / "table", ambiguous=True)
    found = {fault["file"]: (fault["rule"], fault["found"]) for fault in result["faults"] if fault["file"]}
    expected = {
        "train/maze/9/easy/states/easy_0001.json": ("state_readable", "no state of VR-Bench: "),
        "train/maze/9/easy/states/easy_0002.json": ("first_frame_readable", "images/easy_0002.png is missing"),
        "train/maze/9/easy/states/easy_0003.json": ("state_readable", "game_type='chess' is not known"),
        "train/maze/9/easy/states/easy_0004.json": ("video_where_due", "there is no videos/easy_0004.mp4"),
        "train/maze/9/easy/videos/easy_0099.mp4": ("state_readable", "the level has no state file"),
        "train/trapfield/9/easy/states/easy_0001.json": ("video_readable", "no readable video"),
        "train/trapfield/9/easy/states/easy_0002.json": ("level_id_unique", "the same level as eval/trapfield/2"),
    }
    for file, (rule, text) in expected.items():
        assert found[file][0] == rule and text in found[file][1], (file, found[file])
    assert result["rows"] == 4


def test_a_video_that_is_no_solution_is_listed(published: Path, tmp_path: Path) -> None:
    folder = published / "eval/maze/1/easy"
    video = draw(
        "maze", "1", ["1111111", "1000101", "1010101", "1210001", "1011101", "1000031", "1111111"], [(3, 1), (2, 1)]
    )
    save(resized(video, 210), folder / "videos/easy_0001_0.mp4")
    with pytest.raises(DataContractError, match=r"none of the 1 levels.*easy_0001.json breaks the rule"):
        vr_bench_import.run(source=folder, output=tmp_path / "table")
    faults = json.loads((tmp_path / "table/import.json").read_text())["faults"]
    assert {fault["rule"] for fault in faults} >= {"video_true"}


def test_values_that_cannot_work_are_refused_first(published: Path, tmp_path: Path) -> None:
    for words, says in (
        ({"frames": 192}, "frames=192 is not allowed"),
        ({"size": 2000}, "size=2000 is not allowed"),
        ({"split": "eval"}, "split='eval' is unknown"),
    ):
        with pytest.raises(ConfigError, match=says):
            vr_bench_import.run(source=published, output=tmp_path / "table", **words)
    with pytest.raises(DataContractError, match=r"no states/<difficulty>_<id>\.json below it"):
        vr_bench_import.run(source=published / "eval/maze/1/easy/images", output=tmp_path / "table")
    assert not (tmp_path / "table").exists()
