"""The contract: a good data set is certified, and every kind of broken row is found and named."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wan_r1.config import ConfigError
from wan_r1.generate_tasks import GenerateTasksConfig
from wan_r1.generate_tasks import run as generate
from wan_r1.tasks.dataset import dataset_sha256
from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.video import decode_image, decode_video, encode_image, encode_video
from wan_r1.validate_tasks import DataContractError, ValidateTasksConfig, run
from wan_r1.validate_tasks.contract import Outcome, check_rows
from wan_r1.validate_tasks.facts import FACTS, row_facts
from wan_r1.validate_tasks.stage import _row_table

TRAIN = "train-trapfield-00000-of-00001.parquet"
PROMPTS = "prompts-regular-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "tasks"
    few = {"train_levels": 16, "validation_levels": 2, "prompts_levels": 4, "test_levels": 4, "harder_levels": 2}
    generate(GenerateTasksConfig.from_preset("tiny", {**few, "workers": 1}), output=folder)
    return folder


@pytest.fixture
def tamper(good: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the good data set in which some rows of some files are changed."""

    def make(changes: dict[str, Callable[[list[dict[str, Any]]], None]]) -> Path:
        folder = tmp_path / "tampered"
        folder.mkdir(exist_ok=True)
        for file in sorted(good.iterdir()):
            table = pq.read_table(file)
            rows = table.to_pylist()
            if file.name in changes:
                changes[file.name](rows)
                # A careless program keeps the types, not that a column may not be null.
                fields = [field.with_nullable(True) for field in table.schema]
                table = pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata=table.schema.metadata))
            pq.write_table(table, folder / file.name)
        return folder

    return make


def check(dataset: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    config = ValidateTasksConfig.from_preset("tiny", changes)
    return run(config, dataset=dataset, certificate=folder / "out" / "certificate.json", report=folder / "report.html")


def rows_outcome(folder: Path) -> Outcome:
    config = ValidateTasksConfig()
    table, _ = _row_table(config, sorted(folder.iterdir()), folder)
    return check_rows(table, config)


def test_a_good_data_set_is_certified(good: Path, tmp_path: Path) -> None:
    summary = check(good, tmp_path)
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate == {
        "dataset_sha256": dataset_sha256(good),
        "rows": 56,
        "schema_version": "1",
        "rows_by_split": {"train": 32, "validation": 4, "prompts": 8, "test": 8, "harder": 4},
    }
    assert summary["rows"] == 56 and summary["rules"] > 40 and summary["seconds"] > 0

    page = (tmp_path / "report.html").read_text()
    assert "rules hold" in page and "Success Percent" in page, "Data Docs are in the report"
    assert all(text in page for text in FACTS.values())
    assert page.count("<video") == 12, "a level of each family, difficulty and texture"
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched from anywhere"
    assert "<script src" not in page and "@import" not in page


def test_common_video_files_pass_as_well(tmp_path: Path) -> None:
    few = {"train_levels": 8, "validation_levels": 0, "prompts_levels": 0, "test_levels": 4, "harder_levels": 0}
    config = GenerateTasksConfig.from_preset("tiny", {**few, "lossless": False, "workers": 1})
    generate(config, output=tmp_path / "tasks")
    assert check(tmp_path / "tasks", tmp_path, splits=["train", "test"])["rows"] == 24
    with pytest.raises(DataContractError, match="the rule 'splits_present': there are levels in train, harder; found"):
        check(tmp_path / "tasks", tmp_path, splits=["train", "harder"])


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(row: dict[str, Any]) -> None:
        row[name] = value(row[name]) if callable(value) else value

    return change


def change_state(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Another level in the state, its id made to fit, so that only what follows from it is wrong."""

    def change(row: dict[str, Any]) -> None:
        state = {**json.loads(row["state"]), **changes}
        row["state"] = json.dumps(state)
        row["level_id"] = GridLevel.from_state(state).level_id

    return change


def enclose_goal(row: dict[str, Any]) -> None:
    state = json.loads(row["state"])
    free = {tuple(state["start"]), tuple(state["goal"])}
    cells = [[r, c] for r in range(state["rows"]) for c in range(state["columns"]) if (r, c) not in free]
    change_state(blocked=cells)(row)


def repaint(row: dict[str, Any]) -> None:
    """The video with the player missing from its last frame."""
    video = decode_video(row["video"]["bytes"])
    video[-1] = video[0]
    row["video"]["bytes"] = encode_video(video, 4.0, lossless=True)


def shift_first_frame(row: dict[str, Any]) -> None:
    image = decode_image(row["first_frame"]["bytes"])
    row["first_frame"]["bytes"] = encode_image(np.roll(image, 3, axis=0))


def shorten_video(row: dict[str, Any]) -> None:
    row["video"]["bytes"] = encode_video(decode_video(row["video"]["bytes"])[:5], 4.0, lossless=True)


FAULTS: list[tuple[str, Callable[[dict[str, Any]], None]]] = [
    ("state_readable", put("state", "{}")),
    ("state_readable", put("family", "regular")),
    ("level_id_true", put("level_id", "0123456789abcdef")),
    ("level_id_form", put("level_id", "not a hash")),
    ("level_id_given", put("level_id", None)),
    ("goal_reachable", enclose_goal),
    ("solution_unique", put("shortest_solutions", 2)),
    ("solution_legal", put("solution", lambda path: path[:-1])),
    ("solution_legal", put("solution", lambda path: [path[0], path[-1]])),
    ("solution_legal", put("solution", [])),
    ("solution_shortest", put("steps", lambda steps: steps + 1)),
    ("solution_shortest", put("solution", lambda path: [path[0], path[1], *path])),
    ("trajectory_true", put("trajectory", lambda points: points[:-1])),
    ("trajectory_true", put("trajectory", lambda points: [*points[:-1], points[0]])),
    ("trajectory_true", put("trajectory", lambda points: [[x, y + 0.05] for x, y in points])),
    ("first_frame_readable", put("first_frame", {"bytes": b"nothing", "path": None})),
    ("first_frame_readable", put("first_frame", None)),
    ("first_frame_true", shift_first_frame),
    ("video_where_due", put("video", None)),
    ("video_readable", put("video", {"bytes": b"nothing", "path": None})),
    ("video_readable", shorten_video),
    ("video_true", repaint),
    ("texture_known", put("texture", "velvet")),
    ("difficulty_known", put("difficulty", "extreme")),
    ("frames_of_codec", put("frames", 10)),
    ("height_in_range", put("height", 16)),
    ("steps_in_range", put("steps", 0)),
    ("fps_in_range", put("fps", 0.0)),
    ("prompt_given", put("prompt", None)),
    ("prompt_length", put("prompt", "go")),
]


def test_every_kind_of_broken_row_is_found_at_its_place(tamper: Callable[..., Path]) -> None:
    changed = [(rule, change, index % 15) for index, (rule, change) in enumerate(FAULTS)]
    for half in (changed[:15], changed[15:]):

        def change_rows(rows: list[dict[str, Any]], half: list = half) -> None:
            for _, change, row in half:
                change(rows[row])

        broken = {rule.name: rule for rule in rows_outcome(tamper({TRAIN: change_rows})).broken}
        for rule, _, row in half:
            places = [(place["file"], place["row"]) for place in broken[rule].broken]
            assert (TRAIN, row) in places, f"{rule} was not found in row {row}"
        untouched = {row for rule in broken.values() for row in [p["row"] for p in rule.broken]} - set(range(15))
        assert not untouched, "only the rows that were changed are reported"


def test_a_row_with_one_fault_breaks_only_the_rule_it_is_about(good: Path) -> None:
    table = pq.read_table(good / TRAIN)
    facts = [rule for rule, _ in FAULTS if rule in FACTS]
    # Those of Sokoban and of robots are tried on levels that have them.
    robots = {"path_clear", "target_in_view", "target_named", "target_reached"}
    assert set(facts) >= set(FACTS) - {"video_begins_true", "pushes_fewest", *robots}
    for rule, change in FAULTS:
        if rule in ("solution_unique", "solution_legal", "solution_shortest", "video_true", "video_where_due"):
            row = table.slice(2, 1).to_pylist()[0]
            change(row)
            found = row_facts(row, lossless=True)
            assert [name for name in FACTS if found[name] is False] == [rule]
            assert found["notes"]


def test_more_than_one_shortest_path_is_found_by_counting(good: Path) -> None:
    rows = pq.read_table(good / TRAIN).to_pylist()
    row = rows[0]
    state = json.loads(row["state"])
    state.update(blocked=[], start=[0, 0], goal=[1, 1])
    level = GridLevel.from_state(state)
    row.update(state=json.dumps(state), level_id=level.level_id, solution=[[0, 0], [0, 1], [1, 1]], steps=2)
    found = row_facts(row, lossless=True)
    assert found["solution_unique"] is False and found["solution_legal"] and found["solution_shortest"]
    assert "2 shortest paths, the row says 1" in found["notes"]


def test_a_repeated_or_shared_level_is_found(tamper: Callable[..., Path]) -> None:
    taken: list[dict[str, Any]] = []

    def shift_board(row: dict[str, Any]) -> None:
        level = GridLevel.from_state(json.loads(row["state"]))
        limit = level.canvas - level.rows
        offset = next(o for o in ((0, 0), (limit, limit)) if o != level.offset)
        moved = dataclasses.replace(level, offset=offset)
        row.update(state=json.dumps(moved.to_state()), level_id=moved.level_id)

    def take(rows: list[dict[str, Any]]) -> None:
        taken.extend([dict(rows[0]), dict(rows[2])])

    def repeat(rows: list[dict[str, Any]]) -> None:
        rows[0] = taken[0]
        shift_board(taken[1])
        rows[1] = {**taken[1], "split": "validation", "index": 1}

    folder = tamper({"test-regular-00000-of-00001.parquet": take, "validation-regular-00000-of-00001.parquet": repeat})
    broken = {rule.name: rule for rule in rows_outcome(folder).broken}
    assert {place["file"][:4] for place in broken["level_id_unique"].broken} == {"test", "vali"}
    assert "place_unique" in broken
    shared = {(place["file"][:4], place["row"]) for place in broken["layout_in_one_split"].broken}
    assert shared == {("test", 2), ("vali", 1)}, "a board moved on the canvas is still the same layout"


def test_a_class_with_too_few_levels_is_found(tamper: Callable[..., Path], good: Path) -> None:
    names = {name: pq.read_table(good / TRAIN)[name].to_pylist() for name in ("difficulty", "texture")}
    assert names["difficulty"].count("easy") == names["texture"].count("night") == 8

    def one_left(rows: list[dict[str, Any]]) -> None:
        # 13 to 3 are more than twice as many and three; 12 to 4 would not have been.
        for row in [row for row in rows if row["texture"] == "night"][3:]:
            row["texture"] = "plain"

    folder = tamper({TRAIN: one_left})
    rule = next(rule for rule in rows_outcome(folder).broken if rule.name == "class_balanced")
    assert [(place["file"], place["row"]) for place in rule.broken] == [(TRAIN, names["texture"].index("night"))]
    assert "3 levels of texture night in train, trapfield, but 13 of another texture" in rule.broken[0]["notes"]
    (folder / TRAIN).unlink()
    few = {rule.name: rule for rule in rows_outcome(folder).rules}
    assert few["class_balanced"].holds and few["class_balanced"].checked > 0
    table, _ = _row_table(ValidateTasksConfig(), sorted(folder.iterdir()), folder)
    assert "class_balanced" not in [rule.name for rule in check_rows(table, ValidateTasksConfig(balance=0)).rules]


def test_a_video_in_the_prompts_split_is_found(tamper: Callable[..., Path], good: Path) -> None:
    video = pq.read_table(good / TRAIN).to_pylist()[0]["video"]
    folder = tamper({PROMPTS: lambda rows: rows[1].update(video=video)})
    broken = {rule.name: rule.broken for rule in rows_outcome(folder).broken}
    assert list(broken) == ["video_where_due"]
    assert [(place["file"], place["row"]) for place in broken["video_where_due"]] == [(PROMPTS, 1)]


def test_a_broken_row_stops_the_stage_and_is_named(tamper: Callable[..., Path], good: Path, tmp_path: Path) -> None:
    level_id = pq.read_table(good / TRAIN)["level_id"][5].as_py()
    folder = tamper({TRAIN: lambda rows: rows[5].update(steps=rows[5]["steps"] + 1)})
    message = rf"{TRAIN}, row 5, level {level_id} breaks the rule 'solution_shortest' .*the row says \d+, the shortest"
    with pytest.raises(DataContractError, match=message):
        check(folder, tmp_path)
    assert not (tmp_path / "out" / "certificate.json").exists()
    page = (tmp_path / "report.html").read_text()
    assert "Broken rows" in page and level_id in page and "1 of" in page


def test_a_file_of_another_schema_is_named(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    table = pq.read_table(good / TRAIN)
    pq.write_table(table.drop_columns(["prompt"]), folder / "a.parquet")
    (folder / "b.parquet").write_bytes(b"not Parquet")
    with pytest.raises(DataContractError, match=r"a\.parquet breaks the rule 'schema_true'.*'prompt' is missing"):
        check(folder, tmp_path)
    assert "b.parquet" in (tmp_path / "report.html").read_text()
    with pytest.raises(DataContractError, match="has no Parquet file"):
        check(tmp_path / "nothing", tmp_path)


def test_a_video_that_does_not_begin_with_the_first_frame_is_found(good: Path) -> None:
    first, second = pq.read_table(good / TRAIN).slice(0, 2).to_pylist()
    found = row_facts({**first, "video": second["video"]}, lossless=True)
    assert found["video_begins_true"] is False and found["video_true"] is False and found["first_frame_true"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"splits": ["train", "dev"]}, r"validate_splits=\('train', 'dev'\) is not allowed; expected some of train"),
        ({"balance": 0.5}, "validate_balance=0.5 is not allowed; expected 1 or more, such as 2, or 0 for any balance"),
        ({"shown_rows": 0}, "validate_shown_rows=0 is not allowed; expected a whole number from 1 to 1000"),
    ],
)
def test_bad_parameters_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ValidateTasksConfig.from_preset("tiny", changes)
