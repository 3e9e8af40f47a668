"""The data set on disk: what is written is read back, other programs can read it, and faults are named."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wan_r1.config import ConfigError
from wan_r1.tasks import families
from wan_r1.tasks.dataset import Task, data_files, dataset_sha256, make_task, read_tasks, write_tasks
from wan_r1.tasks.schema import TASK_SCHEMA, DataContractError
from wan_r1.tasks.video import decode_video


def tasks_of(family: str, split: str, count: int) -> list[Task]:
    return [
        make_task(
            family,
            "easy",
            "night" if index % 2 else "plain",
            seed=3,
            split=split,
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Task]]:
    folder = tmp_path_factory.mktemp("tasks")
    tasks = []
    for family in ("regular", "trapfield"):
        part = tasks_of(family, "train", 10) + tasks_of(family, "prompts", 5)
        assert write_tasks(iter(part), folder / f"{family}.parquet", row_group=4, metadata={"wan_r1.note": "x"}) == 15
        tasks += part
    return folder, tasks


def same(a: Task, b: Task) -> bool:
    plain = ("level_id", "family", "difficulty", "texture", "split", "index", "prompt", "frames", "height", "width")
    return (
        all(getattr(a, name) == getattr(b, name) for name in (*plain, "fps", "level", "solution"))
        and (a.first_frame == b.first_frame).all()
        and (a.trajectory == b.trajectory).all()
        and (a.video is None) == (b.video is None)
        and (a.video is None or b.video is None or bool((a.video == b.video).all()))
    )


def test_what_is_written_is_read_back(written: tuple[Path, list[Task]]) -> None:
    folder, tasks = written
    back = read_tasks(folder)
    tasks = sorted(tasks, key=lambda task: (task.index, task.family, task.split))
    assert len(back) == 30 and all(same(a, b) for a, b in zip(tasks, back, strict=True))
    assert back[-1].trajectory.dtype == np.float32 and back[-1].video.dtype == np.uint8


def test_reading_chooses_rows(written: tuple[Path, list[Task]]) -> None:
    folder, _ = written
    few = read_tasks(folder, split="train", limit=6)
    assert [(task.index, task.family) for task in few] == [
        (0, "regular"),
        (0, "trapfield"),
        (1, "regular"),
        (1, "trapfield"),
        (2, "regular"),
        (2, "trapfield"),
    ]
    assert [task.index for task in read_tasks(folder, split="prompts", family="trapfield")] == [0, 1, 2, 3, 4]
    assert all(task.video is None for task in read_tasks(folder, split="train", videos=False))
    assert read_tasks(folder, split="test") == []
    assert len(read_tasks(folder / "regular.parquet")) == 15
    with pytest.raises(ConfigError, match="split='dev' is unknown; allowed: train, validation, prompts, test, harder"):
        read_tasks(folder, split="dev")
    with pytest.raises(ConfigError, match=r"family='maze' is unknown; allowed: .*regular, .*trapfield"):
        read_tasks(folder, family="maze")


def test_files_have_the_schema_their_row_groups_and_metadata(written: tuple[Path, list[Task]]) -> None:
    file = pq.ParquetFile(written[0] / "regular.parquet")
    assert file.schema_arrow.equals(TASK_SCHEMA)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [4, 4, 4, 3]
    assert file.schema_arrow.metadata[b"wan_r1.schema_version"] == b"1"
    assert file.schema_arrow.metadata[b"wan_r1.note"] == b"x"
    assert all(field.metadata[b"doc"] for field in file.schema_arrow)


def test_an_interrupted_write_leaves_no_file_that_counts(tmp_path: Path) -> None:
    def broken():
        yield from tasks_of("regular", "train", 2)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_tasks(broken(), tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataContractError, match="has no Parquet file"):
        data_files(tmp_path)


def test_hugging_face_datasets_reads_images_and_videos(
    written: tuple[Path, list[Task]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    files = [str(file) for file in data_files(written[0])]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert isinstance(loaded.features["first_frame"], datasets.Image)
    assert isinstance(loaded.features["video"], datasets.Video)
    # Its own decoding of videos needs torchcodec, which is no dependency of ours: their bytes are decoded here.
    raw = loaded.cast_column("video", datasets.Video(decode=False))
    by_id = {task.level_id: task for task in written[1]}
    assert len(raw) == len(by_id) == 30
    for row in raw:
        task = by_id[row["level_id"]]
        assert (np.asarray(row["first_frame"]) == task.first_frame).all()
        if task.video is None:
            assert row["video"] is None and row["split"] == "prompts"
        else:
            assert (decode_video(row["video"]["bytes"]) == task.video).all()
        assert row["solution"] == [list(cell) for cell in task.solution]
        assert (np.array(row["trajectory"], np.float32) == task.trajectory).all()


def test_the_hash_is_of_names_and_contents(written: tuple[Path, list[Task]], tmp_path: Path) -> None:
    folder, tasks = written
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert dataset_sha256(copy) == dataset_sha256(folder)
    (copy / "notes.txt").write_text("not data")
    assert dataset_sha256(copy) == dataset_sha256(folder)
    write_tasks(tasks[:14], copy / "regular.parquet")
    assert dataset_sha256(copy) != dataset_sha256(folder)


def test_files_that_are_no_data_set_are_named(written: tuple[Path, list[Task]], tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match="missing has no Parquet file"):
        read_tasks(tmp_path / "missing")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataContractError, match=r"bad\.parquet is no readable Parquet file"):
        read_tasks(tmp_path)
    table = pq.read_table(written[0] / "regular.parquet")
    other = table.replace_schema_metadata({**table.schema.metadata, b"wan_r1.schema_version": b"7"})
    pq.write_table(other, tmp_path / "bad.parquet")
    with pytest.raises(DataContractError, match=r"bad\.parquet: .*version 7; expected tasks, version 1"):
        read_tasks(tmp_path)
    pq.write_table(table.drop_columns(["state"]), tmp_path / "bad.parquet")
    with pytest.raises(DataContractError, match=r"bad\.parquet: the column 'state' is missing"):
        read_tasks(tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("state", "{}", "lacks the field 'family'"),
        ("state", "[1]", "level state is list; expected an object"),
        ("state", "{", "Expecting"),
        ("family", "maze", "family='maze' is unknown; allowed: .*regular, .*trapfield"),
        ("video", {"bytes": b"nothing", "path": None}, "no readable video"),
        ("first_frame", {"bytes": b"nothing", "path": None}, "no readable image"),
        ("first_frame", None, "NoneType"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(
    written: tuple[Path, list[Task]], tmp_path: Path, column: str, value: object, message: str
) -> None:
    table = pq.read_table(written[0] / "regular.parquet")
    rows = table.to_pylist()
    rows[3][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "a.parquet")
    with pytest.raises(DataContractError, match=rf"a\.parquet, row 3, level {rows[3]['level_id']}: .*{message}"):
        read_tasks(tmp_path)


CORRIDOR = textwrap.dedent('''
    """Corridor: one straight line, blocked on all sides."""

    from wan_r1.tasks.family import Board, GridFamily


    class Corridor(GridFamily):
        name = "corridor"

        def steps(self, difficulty, side):
            return 2, side - 1

        def draw(self, dice, difficulty, side, low, high):
            row, length = dice.randrange(side), dice.randint(low, high)
            others = [(r, c) for r in range(side) for c in range(side) if r != row]
            ends = [(row, 0), (row, length)]
            dice.shuffle(ends)
            return Board(start=ends[0], goal=ends[1], blocked=tuple(others))

        def prompt(self, texture):
            return f"The {texture.player_noun} moves along the corridor to the {texture.goal_noun}."


    FAMILY = Corridor()
''')


def test_a_new_family_is_one_short_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corridor.py").write_text(CORRIDOR)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    found = families._discover()
    monkeypatch.delitem(sys.modules, "wan_r1.tasks.families.corridor")
    assert len(CORRIDOR.splitlines()) < 40
    assert {"corridor", "regular", "trapfield"} <= set(found)
    monkeypatch.setitem(families.FAMILIES, "corridor", found["corridor"])
    tasks = tasks_of("corridor", "train", 4)
    write_tasks(tasks, tmp_path / "data" / "a.parquet")
    assert all(same(a, b) for a, b in zip(tasks, read_tasks(tmp_path / "data"), strict=True))
