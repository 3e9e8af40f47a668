"""The data set as a whole: the same whatever makes it, without repeated levels, and refused early if it cannot be."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.config import ConfigError, presets
from wan_r1.generate_tasks import GenerateTasksConfig, collect, make_part, run, workers
from wan_r1.generate_tasks.plan import data_shards, plan_split
from wan_r1.tasks.dataset import data_files, dataset_sha256, read_tasks, split_of
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import make_level

FEW = {
    "train_levels": 30,
    "validation_levels": 6,
    "prompts_levels": 10,
    "test_levels": 12,
    "harder_levels": 8,
    "workers": 1,
}


LEVEL_FAMILIES = ["irregular", "maze3d", "regular", "sokoban", "trapfield"]
ROADS = {"canvas": 16, "height": 128, "width": 128, "frames": 81, "steps_per_frame": 0.5}


def tiny(**changes: Any) -> GenerateTasksConfig:
    return GenerateTasksConfig.from_preset("tiny", {**FEW, **changes})


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows = [row for file in data_files(folder) for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: (row["split"], row["family"], row["index"]))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("made") / "tasks"
    return folder, run(tiny(), output=folder)


def test_the_summary_says_what_was_made(made: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = made
    assert summary["rows"] == 132 and summary["files"] == 10 == len(data_files(folder))
    assert summary["rows_by_split"] == {"train": 60, "validation": 12, "prompts": 20, "test": 24, "harder": 16}
    assert {"seconds", "peak_memory_bytes", "git_commit", "config_hash", "dataset_sha256"} <= set(summary)
    metadata = pq.read_schema(data_files(folder)[0]).metadata
    assert metadata[b"wan_r1.git_commit"].decode() == summary["git_commit"]
    assert metadata[b"wan_r1.config_hash"].decode() == tiny().content_hash


def test_rows_are_what_the_config_asks_for(made: tuple[Path, dict[str, Any]]) -> None:
    tasks = read_tasks(made[0])
    assert Counter((task.split, task.family) for task in tasks)["train", "trapfield"] == 30
    train = Counter((task.family, task.difficulty, task.texture) for task in tasks if task.split == "train")
    assert len(train) == 8 and set(train.values()) <= {7, 8}
    assert {task.difficulty for task in tasks if task.split in ("prompts", "harder")} == {"hard"}
    assert {task.difficulty for task in tasks if task.split == "test"} == {"easy", "medium"}
    assert all((task.video is None) == (task.split == "prompts") for task in tasks)
    assert {(task.frames, task.height, task.width) for task in tasks} == {(9, 32, 32)}


def test_no_level_is_repeated_and_no_layout_is_in_two_splits(made: tuple[Path, dict[str, Any]]) -> None:
    tasks = read_tasks(made[0], videos=False)
    assert len({task.level_id for task in tasks}) == len(tasks)
    by_layout: dict[str, set[str]] = {}
    for task in tasks:
        by_layout.setdefault(task.level.layout_id, set()).add(task.split)
    assert all(len(splits) == 1 for splits in by_layout.values())
    assert all(split_of(task.level.layout_id) == task.split for task in tasks)


@pytest.mark.parametrize(("shard_rows", "processes", "small"), [(7, 1, 10**4), (5, 3, 10**4), (9, 2, 10)])
def test_any_shards_and_workers_give_the_same_rows(
    made: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shard_rows: int,
    processes: int,
    small: int,
) -> None:
    # Splits of more levels than `_SMALL` are planned by all processes together.
    monkeypatch.setattr(workers, "_SMALL", small)
    monkeypatch.setattr(workers, "_PORTION", 4)
    run(tiny(shard_rows=shard_rows, workers=processes), output=tmp_path / "tasks")
    assert rows_of(tmp_path / "tasks") == rows_of(made[0])
    assert all(pq.read_metadata(file).num_rows <= shard_rows for file in data_files(tmp_path / "tasks"))


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    shards=st.integers(1, 4),
    shape=st.sampled_from([{}, {"shortest": 0.2}, {"longest": 0.8, "loops": 0.3}, {"boxes": 1, "pushes": 3}]),
)
def test_levels_of_every_family_are_the_same_in_any_layout(
    seed: int, rows: int, shards: int, shape: dict[str, float]
) -> None:
    few = {"train_levels": 3, "validation_levels": 0, "prompts_levels": 2, "test_levels": 0, "harder_levels": 0}
    form = {**few, "families": LEVEL_FAMILIES, "canvas": 8, "height": 64, "width": 64, "frames": 41, "seed": seed}
    form |= {"train_difficulties": ["hard", "medium"], "textures": ["plain", "wood", "sand"], **shape}
    with tempfile.TemporaryDirectory() as scratch:
        one, many = Path(scratch, "one"), Path(scratch, "many")
        run(tiny(**form), output=one)
        for shard in range(shards):
            run(tiny(**form, shard_rows=rows, shards=shards, shard=shard), output=many / str(shard))
        assert rows_of(one) == rows_of(many)
        assert len(rows_of(one)) == 5 * len(LEVEL_FAMILIES)


def test_processes_and_parts_change_no_byte_of_any_family(tmp_path: Path) -> None:
    few = {"train_levels": 2, "validation_levels": 0, "prompts_levels": 0, "test_levels": 0, "harder_levels": 0}
    families = [*LEVEL_FAMILIES, "navigation"]
    form = {**few, "families": families, "canvas": 8, "height": 64, "width": 64, "frames": 41}
    made = [run(tiny(**form, workers=count), output=tmp_path / str(count)) for count in (1, 2)]
    assert made[0]["dataset_sha256"] == made[1]["dataset_sha256"] and made[0]["rows"] == 2 * len(families)
    for shard in range(2):
        run(tiny(**form, shard_rows=1, shards=2, shard=shard), output=tmp_path / "parts" / str(shard))
    assert rows_of(tmp_path / "parts") == rows_of(tmp_path / "1")


def test_workers_change_no_byte_of_any_file(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = run(tiny(workers=2), output=tmp_path / "tasks")
    assert again["dataset_sha256"] == made[1]["dataset_sha256"]


def test_the_common_video_format_is_reproducible_too(tmp_path: Path) -> None:
    few = {"train_levels": 12, "validation_levels": 0, "prompts_levels": 0, "test_levels": 0, "harder_levels": 0}
    config = tiny(**few, lossless=False)
    first, again = (run(config, output=tmp_path / name)["dataset_sha256"] for name in ("a", "b"))
    assert first == again


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), few=st.integers(1, 20), more=st.integers(0, 30), rows=st.integers(1, 9))
def test_a_shard_holds_the_same_levels_however_many_follow(seed: int, few: int, more: int, rows: int) -> None:
    small, large = tiny(seed=seed, test_levels=few), tiny(seed=seed, test_levels=few + more, shard_rows=rows)
    short, long = (plan_split(config, "trapfield", "test") for config in (small, large))
    assert long.attempts[:few] == short.attempts
    shards = [shard for shard in data_shards(large) if (shard.family, shard.split) == ("trapfield", "test")]
    assert [index for shard in shards for index in shard.places] == list(range(few + more))
    assert [shard.places.start for shard in shards] == list(range(0, few + more, rows))
    assert len({shard.name for shard in data_shards(large)}) == len(data_shards(large))


def test_half_of_the_demo_s_medium_and_hard_trapfields_go_round_traps() -> None:
    config = GenerateTasksConfig.from_preset("tiny")
    for split in ("train", "test"):
        longer = []
        for index, attempt in enumerate(plan_split(config, "trapfield", split).attempts):
            difficulty, _ = config.place(split, index)
            place = {"seed": config.seed, "split": split, "index": index, "attempt": attempt}
            level = make_level("trapfield", difficulty, canvas=config.canvas, max_steps=config.max_steps, **place)
            straight = abs(level.start[0] - level.goal[0]) + abs(level.start[1] - level.goal[1])
            if difficulty != "easy":
                longer.append(level.solve().steps > straight)
        assert sum(longer) >= len(longer) / 2, split


def test_a_folder_with_other_data_is_left_alone(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    before = dataset_sha256(made[0])
    with pytest.raises(ConfigError, match=r"output='.*' holds .*parquet, which is no file of this data set"):
        run(tiny(seed=1), output=made[0])
    assert dataset_sha256(made[0]) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds notes.txt, .* give a new or an empty folder"):
        run(tiny(), output=tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_that_was_cut_short_is_finished_without_redoing_its_files(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(made[0], tmp_path / "tasks")
    files = data_files(tmp_path / "tasks")
    for file in files[1:4]:
        file.unlink()
    (tmp_path / "tasks" / f"{files[1].name}.unfinished").write_bytes(b"half a file")
    kept = {file.name: file.stat().st_mtime_ns for file in data_files(tmp_path / "tasks")}
    again = run(tiny(), output=tmp_path / "tasks")
    assert again["kept_files"] == len(kept) == 7 and again["rows"] == made[1]["rows"]
    assert again["dataset_sha256"] == made[1]["dataset_sha256"]
    assert {name: (tmp_path / "tasks" / name).stat().st_mtime_ns for name in kept} == kept


def test_parts_made_apart_are_the_same_data_set(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    parts = [run(tiny(shards=3, shard=part), output=tmp_path / str(part)) for part in range(3)]
    (tmp_path / "all").mkdir()
    for file in data_files(tmp_path):
        file.rename(tmp_path / "all" / file.name)
    assert dataset_sha256(tmp_path / "all") == made[1]["dataset_sha256"]
    assert sum(part["rows"] for part in parts) == made[1]["rows"]
    with pytest.raises(ConfigError, match="tasks_shards=50 is more than the 10 files of the data set; use at most 10"):
        run(tiny(shards=50), output=tmp_path / "none")


def test_parts_left_in_storage_are_collected_and_what_is_missing_is_made(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    storage = str(tmp_path / "storage")
    first, again = (make_part(tiny(shards=3, shard=0), storage_uri=storage) for _ in range(2))
    assert (first["files"], first["kept_files"], again["kept_files"]) == (4, 0, 4) and "dataset_sha256" not in first
    make_part(tiny(shards=3, shard=2), storage_uri=storage)
    # Another data set and its parts lie beside this one.
    make_part(tiny(shards=3, shard=1, seed=1), storage_uri=storage)
    found = collect(tiny(shards=3), storage_uri=storage, output=tmp_path / "tasks")
    assert found["dataset_sha256"] == made[1]["dataset_sha256"] and found["rows"] == made[1]["rows"]
    assert (found["parts"], found["files"], found["kept_files"]) == (2, 10, 7)
    assert found["core_seconds"] > again["core_seconds"] and found["rows_by_split"] == made[1]["rows_by_split"]
    (place,) = Path(storage, "tasks").glob(f"{tiny().content_hash}-*")
    (place / "test-regular-00000-of-00001.parquet").write_bytes(b"half of it")
    with pytest.raises(
        ConfigError, match=r"holds test-regular-00000-of-00001\.parquet, which is no file of this data set"
    ):
        collect(tiny(shards=3), storage_uri=storage, output=tmp_path / "again")


def test_textures_alternate_within_each_difficulty() -> None:
    config = tiny()
    places = [config.place("train", index) for index in range(4)]
    assert places == [("easy", "plain"), ("medium", "plain"), ("easy", "night"), ("medium", "night")]


def test_held_out_textures_are_for_testing_alone() -> None:
    config = tiny(textures=["wood", "plain"], test_textures=["carpet", "marble", "wood"])
    textures = {split: {config.place(split, index)[1] for index in range(40)} for split in SPLITS}
    assert textures["test"] == textures["harder"] == {"carpet", "marble", "wood"}
    assert all(textures[split] == {"wood", "plain"} for split in ("train", "validation", "prompts"))
    with pytest.raises(ConfigError, match=r"tasks_textures=\('carpet',\) .*one or more of brick, meadow, night, plain"):
        tiny(textures=["carpet"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 10}, r"tasks_frames=10 is not allowed; expected 4k \+ 1 from 5 on, such as 9"),
        ({"frames": 1}, r"tasks_frames=1 is not allowed; .* such as 5"),
        (
            {"frames": 5},
            r"tasks_frames=5 is not allowed; expected at least 9 at tasks_steps_per_frame=1.0: \w+",
        ),
        ({"steps_per_frame": 0.5}, r"tasks_frames=9 is not allowed; expected at least 13"),
        ({"height": 30, "width": 30}, r"tasks_height=30 .* multiple of tasks_canvas=4 .* such as 32"),
        ({"canvas": 8}, r"tasks_height=32 .* multiple of tasks_canvas=8 with 8 px a cell .* such as 64"),
        ({"height": 2048, "width": 2048}, r"tasks_height=2048 .* up to 1024 px, such as 1024"),
        ({"width": 64}, r"tasks_width=64 is not allowed; expected the height, 32"),
        ({"canvas": 3}, r"tasks_canvas=3 is not allowed; expected a whole number from 4 to 64, such as 8 "),
        ({"families": ["regular", "pacman"]}, r"tasks_families=.*expected one or more of .*regular, .*trapfield"),
        ({"families": []}, r"tasks_families=\(\) is not allowed"),
        ({"textures": ["plain", "plain"]}, r"tasks_textures=.*expected one or more of brick, .*wood, each once"),
        ({"test_textures": ["velvet"]}, r"tasks_test_textures=.*expected one or more of brick, carpet, .*each once"),
        ({"harder_difficulties": ["extreme"]}, r"tasks_harder_difficulties=.*one or more of easy, hard, medium"),
        ({"train_levels": -1}, r"tasks_train_levels=-1 is not allowed; expected a whole number from 0"),
        ({f"{split}_levels": 0 for split in SPLITS}, r"no split has any level; .* such as tasks_train_levels=16"),
        ({"steps_per_frame": 0}, r"tasks_steps_per_frame=0.0 is not allowed; expected above 0 and up to 1"),
        ({"fps": 0}, r"tasks_fps=0.0 is not allowed"),
        ({"loops": 1.5}, r"tasks_loops=1.5 is not allowed; expected 0 to 1"),
        ({"shortest": 0.6, "longest": 0.5}, r"tasks_shortest=0.6 is not allowed; expected 0 to tasks_longest=0.5"),
        ({"loops": 0.2, "families": ["sokoban"]}, r"tasks_loops=0.2 .* 0.0 unless tasks_families has one of regular"),
        ({"boxes": 2}, r"tasks_boxes=2 is not allowed; expected 0 unless tasks_families has one of sokoban"),
        (
            {"families": ["sokoban"], "boxes": 4},
            r"tasks_boxes=4 .* 1 to 1 .* easy levels on canvas=4, .* 3 cells a side",
        ),
        ({"families": ["sokoban"], "pushes": 9}, r"tasks_pushes=9 is not allowed; expected 1 to 2 .* boxes=1"),
        ({"families": ["sokoban"], "pushes": -1}, r"tasks_pushes=-1 is not allowed; expected a whole number from 1"),
        ({"families": ["sokoban"], "shortest": 1}, r"tasks_shortest=1.0 is not allowed; expected 0 to 0.\d+ for easy"),
        ({"families": ["trapfield"], "shortest": 1}, r"tasks_shortest=1.0 .* 0 to 0.6 for medium trapfield levels on"),
        (
            {**ROADS, "families": ["maze3d"], "shortest": 0.9},
            r"tasks_shortest=0.9 is not allowed; expected 0 to 0.7\d? for easy maze3d levels on canvas=16",
        ),
        (
            {**ROADS, "families": ["irregular"], "shortest": 0.5, "longest": 0.5},
            r"tasks_longest=0.5 is not allowed; expected 0.\d+ to 1 for easy irregular levels on canvas=16 at",
        ),
        ({"shards": 0}, r"tasks_shards=0 is not allowed"),
        ({"shards": 2, "shard": 2}, r"tasks_shard=2 is not allowed; expected 0 to tasks_shards - 1 = 1"),
        ({"shard_rows": 0}, r"tasks_shard_rows=0 is not allowed"),
        ({"lossles": True}, r"tasks_lossles is no parameter .*did you mean lossless"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason_and_a_value_that_works(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_every_preset_and_the_defaults_are_valid() -> None:
    assert GenerateTasksConfig().max_steps == 48
    for preset in presets():
        config = GenerateTasksConfig.from_preset(preset)
        assert config.frames % 4 == 1 and config.max_steps >= 8
        assert GenerateTasksConfig.from_json(config.to_json()) == config
