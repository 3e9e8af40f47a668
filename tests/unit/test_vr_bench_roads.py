"""VR-Bench's own pathfinder and maze3d: read, scored and imported in any skin; cheats on them earn nothing."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from vr_bench_roads_example import MAKERS, SIDE, Example, maze3d, paste, pathfinder, resample, without_ladders
from vr_bench_skins import SKINS

from wan_r1 import score
from wan_r1.score.levels import at_size
from wan_r1.score.vr_bench_layout import read_vr_bench_level
from wan_r1.score.vr_bench_roads import read_maze3d, read_pathfinder
from wan_r1.task_tools import vr_bench_export, vr_bench_import
from wan_r1.tasks.dataset import decode_level, read_tasks
from wan_r1.tasks.irregular_level import IrregularLevel
from wan_r1.tasks.perspective_level import PerspectiveLevel, project
from wan_r1.tasks.roads import place_along
from wan_r1.tasks.schema import DataContractError
from wan_r1.tasks.task import Task
from wan_r1.verification import Verdict, verify

LONGER = 2
"""Seed of a medium pathfinder whose way over the fewest junctions is not the shortest."""
READERS = {"pathfinder": read_pathfinder, "maze3d": read_maze3d}


@lru_cache
def example(game: str, skin: str) -> Example:
    return MAKERS[game](2 + int(skin), "easy", skin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    for game in MAKERS:
        for skin in "12":
            example(game, skin).write(root / "eval" / game / skin / "easy", "easy_0001")
    return root


def task_of(folder: Path, game: str, skin: str) -> Task:
    return read_vr_bench_level(folder / f"eval/{game}/{skin}/easy/states/easy_0001.json")


def judged(folder: Path, game: str, skin: str, video: np.ndarray) -> Verdict:
    (verdict,) = verify([video], [at_size(task_of(folder, game, skin), video)], any_length=True)
    assert verdict.error is None
    return verdict


def test_references_score_as_solutions_in_every_skin(folder: Path, tmp_path: Path) -> None:
    summary = score.run(videos=folder, dataset=folder, output=tmp_path, layout="vr-bench")
    assert (summary["videos"], summary["errors"], summary["levels_without_video"]) == (4, 0, 0)
    for row in pq.read_table(tmp_path / "scores.parquet").to_pylist():
        assert row["em"] and row["sr"] and row["pr"] == 1 and row["sd"] == 0 and row["mf"] >= 0.99, row
        assert row["vr_bench_em"] and row["vr_bench_sr"] and row["vr_bench_pr"] == 1 and row["vr_bench_mf"] > 0.97, row
        assert row["violations"] == [] and row["family"] in ("irregular", "maze3d")
    page = (tmp_path / "scores.html").read_text()
    assert page.count("exact match") >= 8 and page.count("No rule broken") == 4


INVISIBLE = pytest.mark.xfail(
    strict=True,
    reason="before the white around the cubes only the ball's rim shows, which tracking takes for two players or none",
)


@pytest.mark.parametrize(
    ("game", "skin"),
    [*itertools.product(MAKERS, SKINS), pytest.param("maze3d", "white ball", marks=INVISIBLE)],
)
def test_references_score_as_solutions_in_any_skin(game: str, skin: str, tmp_path: Path) -> None:
    for number, seed in enumerate((1, 7), 1):
        MAKERS[game](seed, "easy", skin).write(tmp_path / "data" / game / skin / "easy", f"easy_{number:04d}")
    score.run(videos=tmp_path / "data", dataset=tmp_path / "data", output=tmp_path / "out", layout="vr-bench")
    rows = pq.read_table(tmp_path / "out/scores.parquet").to_pylist()
    assert len(rows) == 2
    for row in rows:
        assert row["status"] == "ok", row["error"]
        assert row["em"] and row["sr"] and row["pr"] == 1 and row["sd"] == 0 and row["mf"] >= 0.99, row
        assert row["vr_bench_em"] and row["vr_bench_sr"] and row["vr_bench_pr"] == 1 and row["vr_bench_mf"] > 0.97, row


def straight(made: Example) -> np.ndarray:
    return resample(made.way[[0, -1]], len(made.way[::4]))


def second_player(made: Example) -> np.ndarray:
    frames = made.draw(made.way[::4])
    scale = made.size / len(made.behind)
    for frame, place in zip(frames[1:], straight(made)[1:], strict=True):
        paste(frame, made.player, *(place * scale))
    return frames


def goal_erased(made: Example) -> np.ndarray:
    return np.concatenate([made.draw(made.way[:1]), made.draw(made.way[4::4], made.goalless)])


def teleport(made: Example) -> np.ndarray:
    way = made.way[::4].copy()
    way[len(way) // 2 :] = made.way[-1]
    return made.draw(way)


def runs_beside(made: Example) -> np.ndarray:
    """Off the middle of its road by so much that a part of it is beside."""
    away = np.minimum(np.arange(len(made.way[::4])) / 4, 1)[:, None] * (0.6, 0.45) * len(made.player)
    return made.draw(made.way[::4] + away)


def other_colour(made: Example) -> np.ndarray:
    frames = made.draw(made.way[::4])
    half = len(frames) // 2
    frames[half:] = made.draw(made.way[::4][half:], colour=(20, 220, 60))
    return frames


def vanishes(made: Example) -> np.ndarray:
    frames = made.draw(made.way[::4])
    frames[9:12] = made.draw(np.full((3, 2), -9999.0))
    return frames


CHEATS: dict[str, Callable[[Example], np.ndarray]] = {
    "off_path": lambda made: made.draw(straight(made)),
    "duplicate": second_player,
    "goal_changed": goal_erased,
    "jump": teleport,
    "off_path ": runs_beside,
    "lost": other_colour,
    "lost ": vanishes,
}


@pytest.mark.parametrize("game", MAKERS)
@pytest.mark.parametrize("breaks", CHEATS)
def test_a_cheat_is_no_solution(folder: Path, game: str, breaks: str) -> None:
    skin = "12"[list(CHEATS).index(breaks) % 2]
    verdict = judged(folder, game, skin, CHEATS[breaks](example(game, skin)))
    assert not verdict.em and not verdict.sr
    assert breaks.strip() in {found.kind for found in verdict.violations}, verdict.violations[:3]


@pytest.mark.parametrize("game", MAKERS)
def test_an_honest_half_breaks_no_rule(folder: Path, game: str) -> None:
    made = example(game, "2")
    verdict = judged(folder, game, "2", made.draw(made.way[: len(made.way) // 2 : 2]))
    assert not verdict.sr and not verdict.violations and 0.4 < verdict.pr < 0.6


def test_ladders_that_vanish_are_seen(folder: Path) -> None:
    made = example("maze3d", "1")
    video = np.concatenate([made.draw(made.way[:1]), made.draw(made.way[4::4], without_ladders(made, "1"))])
    verdict = judged(folder, "maze3d", "1", video)
    assert not verdict.sr and "ladder_changed" in {found.kind for found in verdict.violations}


def test_the_picture_is_as_the_level_says() -> None:
    """Roads and cubes are where the level's own geometry has them, by pictures drawn without it."""
    made = pathfinder(1, "hard")
    found = read_pathfinder(made.state)
    assert isinstance(found.level, IrregularLevel)
    points = np.concatenate(found.level.graph.lines) / found.level.canvas * SIDE
    assert (made.goalless[points[:, 1].astype(int), points[:, 0].astype(int)] == 255).all()
    assert abs(len(found.trajectory) - len(made.way)) <= 1
    same = place_along(found.trajectory * SIDE, np.linspace(0, 1e9, 2))[:1]
    assert np.abs(same - made.way[0]).max() < 2
    made = maze3d(1, "hard")
    found = read_maze3d(made.state)
    assert isinstance(found.level, PerspectiveLevel) and len(found.trajectory) == len(made.way)
    assert np.abs(found.trajectory * 740 - made.way).max() < 0.01
    # The corners that the closed form was checked with against matplotlib are those of the middle of the grid.
    assert np.allclose(project(np.array([[5.0, 5.0, 4.5]]), (10, 10, 9)) * 740, [380.81, 359.19])


def test_a_longer_way_of_the_benchmark_s_is_exact_and_so_is_the_shortest(tmp_path: Path) -> None:
    made = pathfinder(LONGER, "medium")
    found = read_pathfinder(made.state)
    level = found.level
    assert isinstance(level, IrregularLevel) and level.way == found.path != level.solve().path
    assert level.length_of(level.way) > 1.1 * level.solve().length
    assert decode_level("irregular", json.dumps(level.to_state())) == level
    place = tmp_path / "bench/pathfinder/1/medium"
    made.write(place, "medium_0001")
    task = read_vr_bench_level(place / "states/medium_0001.json")
    shortest = resample(level.route(level.solve().path) * SIDE, 120)
    detour = [*level.way[:4], *level.way[2::-1], *level.way[1:]]
    videos = [
        made.draw(way) for way in (made.way[::4], shortest, resample(level.route(detour) * SIDE, len(made.way[::4])))
    ]
    recorded, shorter, longer = verify(videos, [task] * 3, any_length=True)
    assert recorded.em and recorded.pr == 1 and recorded.sd == 0 and recorded.walk == level.way
    assert shorter.em and shorter.walk == level.solve().path
    assert longer.sr and not longer.em and longer.sd > 0
    kept = vr_bench_import.run(
        source=tmp_path / "bench", output=tmp_path / "kept", size=256, frames=193, ambiguous=True
    )
    (fault,) = kept["faults"]
    assert kept["rows"] == 1 and (Path(fault["file"]).name, fault["rule"]) == ("medium_0001.json", "solution_shortest")
    (task,) = read_tasks(tmp_path / "kept", videos=False)
    assert task.level == level and task.solution == level.way


def test_levels_are_imported_exported_and_imported_again(folder: Path, tmp_path: Path) -> None:
    (folder / "skins/pathfinder/2").mkdir(parents=True)
    described = {"visual_description": {"start": "blue marble", "end": "purple gem", "road": "sandy road"}}
    (folder / "skins/pathfinder/2/description.json").write_text(json.dumps(described))
    found = vr_bench_import.run(source=folder, output=tmp_path / "data", size=256, frames=133)
    assert found["faults"] == [] and found["rows_by_split"] == {"test": 4}
    tasks = {(task.family, task.texture[-1]): task for task in read_tasks(tmp_path / "data")}
    for task in tasks.values():
        assert task.video.shape == (133, 256, 256, 3)
        assert np.abs(task.trajectory[-1] - task.level.center(task.level.goal)).max() < 1e-6
    prompt = tasks["irregular", "2"].prompt
    assert "blue marble" in prompt and "sandy road" in prompt and prompt.endswith("the purple gem.")
    assert "The ball rolls" in tasks["maze3d", "1"].prompt
    assert vr_bench_export.run(dataset=tmp_path / "data", output=tmp_path / "vr")["levels"] == 4
    for state in (tmp_path / "vr").rglob("states/*.json"):
        # What was exported is the benchmark's own again, also without the row that it keeps.
        values = json.loads(state.read_text())
        family = "irregular" if values["game_type"] == "pathfinder" else "maze3d"
        task = tasks[family, state.parts[-4]]
        del values["metadata"]["wan_r1"]
        again = READERS[values["game_type"]](values)
        assert abs(again.level.solve().length - task.level.solve().length) < 0.1
        assert np.abs(again.trajectory[[0, -1]] - task.trajectory[[0, -1]]).max() < 0.01
    back = vr_bench_import.run(source=tmp_path / "vr", output=tmp_path / "back")
    assert back["faults"] == []
    again = {task.level_id: task for task in read_tasks(tmp_path / "back", videos=False)}
    assert all(again[task.level_id].level == task.level for task in tasks.values())


MISSING = {
    "pathfinder": (
        "render.image_width",
        "metadata.segments",
        "metadata.road_width",
        "metadata.start_point",
        "metadata.end_point",
        "metadata.solution_segments",
    ),
    "maze3d": (
        "metadata.grid_size",
        "metadata.cubes",
        "metadata.ladders",
        "metadata.start_pos",
        "metadata.goal_pos",
        "metadata.path",
        "entities.player.bbox.x",
        "entities.goal.bbox.width",
    ),
}


@pytest.mark.parametrize("game", MAKERS)
def test_a_state_that_lacks_something_says_what(game: str, folder: Path, tmp_path: Path) -> None:
    for key in MISSING[game]:
        state = copy.deepcopy(example(game, "1").state)
        *parents, name = key.split(".")
        inside = state
        for parent in parents:
            inside = inside[parent]
        del inside[name]
        with pytest.raises(ValueError, match=f"the state lacks {key}"):
            READERS[game](state)
    place = tmp_path / "bench" / game / "1/easy"
    example(game, "1").write(place, "easy_0001")
    (place / "states/easy_0001.json").write_text(json.dumps(state))
    with pytest.raises(DataContractError, match=rf"{game}/1/easy/states/easy_0001\.json .*the state lacks {key}"):
        vr_bench_import.run(source=tmp_path / "bench", output=tmp_path / "data")
    score.run(videos=tmp_path / "bench", dataset=tmp_path / "bench", output=tmp_path / "out", layout="vr-bench")
    (row,) = pq.read_table(tmp_path / "out/scores.parquet").to_pylist()
    assert row["status"] == "error" and "easy_0001.json" in row["error"] and f"lacks {key}" in row["error"]


WRONG = (
    ("pathfinder", ("metadata", "road_width"), 0, "metadata.road_width is 0 px"),
    ("pathfinder", ("metadata", "segments"), [[[1, 2], [3, 4]]], "expected n x 3 x 2 numbers"),
    ("pathfinder", ("metadata", "start_point"), [1.0, 2.0], "where no segment of metadata.segments ends"),
    ("pathfinder", ("metadata", "solution_segments"), [0, 99], "metadata.solution_segments is"),
    ("maze3d", ("metadata", "goal_pos"), [0, 0, 0], "goal .* is none of the cubes"),
    ("maze3d", ("metadata", "path"), [], "metadata.path ends at"),
    ("maze3d", ("metadata", "grid_size"), [9, 9, 9], "another view is not known"),
    ("maze3d", ("metadata", "ladders"), [], "between which metadata.cubes and metadata.ladders have no way"),
    ("maze3d", ("render", "image_height"), 400, "expected a square"),
)


@pytest.mark.parametrize(("game", "key", "value", "says"), WRONG)
def test_a_state_that_is_wrong_says_where(game: str, key: tuple[str, str], value: object, says: str) -> None:
    state = copy.deepcopy(example(game, "1").state)
    state[key[0]][key[1]] = value
    with pytest.raises(ValueError, match=says):
        READERS[game](state)


def test_a_way_that_no_road_makes_is_refused() -> None:
    level = read_pathfinder(pathfinder(LONGER, "medium").state).level
    with pytest.raises(ValueError, match="way: no road joins"):
        decode_level("irregular", json.dumps({**level.to_state(), "way": [level.start, level.goal]}))
