"""``wan-r1 tasks generate`` and ``preview``: a data set from a few words that keeps the contract, and how it looks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from wan_r1 import cli
from wan_r1.task_tools import preview
from wan_r1.task_tools.generate import choose
from wan_r1.tasks.dataset import dataset_sha256, read_tasks
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.textures import HELD_OUT, TEXTURES
from wan_r1.validate_tasks import ValidateTasksConfig
from wan_r1.validate_tasks import run as validate

WORDS = ["--seed=3", "--frames=41", "--workers=1"]


def generate(output: Path, *words: str) -> int:
    return cli.main(["tasks", "generate", *WORDS, *words, "--output", str(output)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three easy and hard levels of every family at 128 px."""
    folder = tmp_path_factory.mktemp("made") / "data"
    words = [f"--family={','.join(FAMILIES)}", "--difficulty=easy,hard", "--count=3", "--size=128"]
    assert generate(folder, *words, "--textures=plain,brick") == 0
    return folder


def test_a_few_words_make_a_data_set_that_keeps_the_contract(made: Path, tmp_path: Path) -> None:
    tasks = read_tasks(made, videos=False)
    assert {task.family for task in tasks} == set(FAMILIES) and len(tasks) == 3 * len(FAMILIES)
    assert {(task.split, task.height, task.frames, task.level.canvas) for task in tasks} == {("train", 128, 41, 8)}
    assert {task.texture for task in tasks} == {"plain", "brick"}
    config = ValidateTasksConfig(splits=("train",))
    checked = validate(config, dataset=made, certificate=tmp_path / "c.json", report=tmp_path / "r.html")
    assert checked["rows"] == len(tasks)


def test_the_same_words_make_the_same_data_set(tmp_path: Path) -> None:
    words = ["--family=regular", "--difficulty=medium", "--count=4", "--size=64"]
    for name, workers in (("a", "1"), ("b", "2")):
        assert generate(tmp_path / name, *words, f"--workers={workers}") == 0
    assert dataset_sha256(tmp_path / "a") == dataset_sha256(tmp_path / "b")
    assert generate(tmp_path / "c", *words, "--seed=4") == 0
    assert dataset_sha256(tmp_path / "c") != dataset_sha256(tmp_path / "a")


def test_levels_can_be_shaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--family=sokoban", "--difficulty=hard", "--count=2", "--size=64", "--frames=41"]
    assert generate(tmp_path / "a", *words, "--boxes=1", "--pushes=4") == 0
    levels = [task.level for task in read_tasks(tmp_path / "a", videos=False)]
    assert all(len(level.boxes) == 1 and level.solve().pushes >= 4 for level in levels)
    assert generate(tmp_path / "b", *words, "--boxes=9") != 0
    assert re.search(r"boxes=9 is not allowed; expected 1 to \d", capsys.readouterr().err)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("size", "frames"), [(32, 9), (64, 33), (128, 41), (300, 81), (512, 81), (1024, 193)])
def test_canvas_speed_and_the_rest_are_chosen_to_fit(family: str, size: int, frames: int) -> None:
    words = {"families": [family], "count": 1, "seed": 0, "size": size, "frames": frames}
    if size < 8 * FAMILIES[family].smallest_canvas:
        with pytest.raises(ValueError, match=r"size=32 px cannot be divided into 8 to 16 cells.*such as 64"):
            choose(**words, difficulties=["easy"])
        return
    for difficulty in DIFFICULTIES:
        if family == "sokoban" and size == 32:
            continue
        config = choose(**words, difficulties=[difficulty])
        cell = size / config.canvas
        assert cell >= 8 and config.lossless == (cell < 32)
        assert config.max_steps >= FAMILIES[family].shortest_allowed(difficulty, config.canvas)


def test_splits_get_the_textures_that_they_may_have() -> None:
    words = {"families": ["regular"], "difficulties": ["easy"], "count": 1, "seed": 0, "size": 64, "frames": 33}
    assert set(choose(**words).textures) == set(TEXTURES) - set(HELD_OUT)
    assert set(choose(**words, split="harder").test_textures) == set(TEXTURES)
    assert choose(**words, split="test", textures=["carpet"]).test_textures == ("carpet",)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--family=maze", "--difficulty=easy", "--count=1", "--size=64"],
            "--family='maze' is unknown; allowed: irregular",
        ),
        (["--family=regular", "--difficulty=mild", "--count=1", "--size=64"], "difficulty='mild' is unknown"),
        (["--family=regular", "--difficulty=easy", "--count=0", "--size=64"], "--count=0 is not allowed; expected a"),
        (
            ["--family=regular", "--difficulty=easy", "--count=1", "--size=37"],
            "size=37 px cannot be divided into 4 to 16",
        ),
        (["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--frames=40"], "--frames=40 is not"),
        (
            ["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--canvas=3"],
            "canvas=3 is too small",
        ),
        (
            ["--family=regular", "--difficulty=hard", "--count=1", "--size=512", "--frames=9"],
            "--frames=9 is not allowed",
        ),
        (
            ["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--textures=carpet"],
            "--textures=carpet is not allowed; expected one or more of brick, meadow, night, plain, sand, wood, each "
            "once; carpet and marble are held out for tests",
        ),
        (["--family=regular", "--difficulty=", "--count=1", "--size=64"], "--difficulty='' names none; expected one"),
        (["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--fps=0"], "--fps=0.0 is not allowed"),
        (["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--canvas=0"], "--canvas=0 is too small"),
        (
            ["--family=regular", "--difficulty=easy", "--count=1", "--size=64", "--speed=2"],
            "--speed=2.0 is not allowed",
        ),
    ],
)
def test_what_is_wrong_is_one_message_with_the_option(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and "tasks_" not in error


def test_a_preview_shows_every_sort_of_level(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "preview", str(made), "--output", str(tmp_path)]) == 0
    summary = json.loads(capsys.readouterr().out.partition("\n{")[2].join(("{", "")))
    sorts = {(task.family, task.difficulty, task.texture) for task in read_tasks(made, videos=False)}
    assert (summary["rows"], summary["shown"], summary["left_out"]) == (3 * len(FAMILIES), len(sorts), 0)
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / preview.SHEET_FILE)), cv2.COLOR_BGR2RGB)
    lines = len({sort[:2] for sort in sorts})
    assert sheet.shape[0] > lines * 168 and sheet.shape[1] > 2 * 168
    page = (tmp_path / preview.PAGE_FILE).read_text()
    assert page.count("<video") == lines and page.count('id="play-pause"') == 1
    assert all(f'<h2 id="{family}">{family}</h2>' in page for family in FAMILIES)
    assert 'src="http' not in page and "no demonstration" not in page


def test_a_sheet_has_each_level_in_its_place(made: Path) -> None:
    counts, places = preview._choose(made, 2)
    assert sum(rows for rows, _ in counts.values()) == 3 * len(FAMILIES)
    assert [place.difficulty for place in places if place.family == "regular"] == ["easy", "easy", "hard"]
    tiles = [(place, np.full((168, 168, 3), number, np.uint8)) for number, place in enumerate(places)]
    sheet = preview.contact_sheet(tiles)
    assert all((sheet == number).all(-1).sum() >= 168 * 168 for number in range(len(tiles)))


def test_levels_without_a_demonstration_are_shown_as_pictures(tmp_path: Path) -> None:
    words = ["--family=trapfield", "--difficulty=easy", "--count=2", "--size=64", "--split=prompts"]
    assert generate(tmp_path / "data", *words, "--textures=plain") == 0
    shown = preview.run(dataset=tmp_path / "data", output=tmp_path / "out", levels=2)
    assert shown["shown"] == 2 and "no demonstration" in (tmp_path / "out" / preview.PAGE_FILE).read_text()


def test_what_is_no_data_set_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "preview", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "has no Parquet file" in capsys.readouterr().err
    assert cli.main(["tasks", "preview", str(tmp_path), "--levels=0", "--output", str(tmp_path / "out")]) == 2
    assert "levels=0 is not allowed" in capsys.readouterr().err
