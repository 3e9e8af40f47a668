"""VR-Bench's own Sokoban levels: read, scored and imported in a skin that is not ours."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from vr_bench_example import save

from wan_r1.score.vr_bench_layout import read_vr_bench_level
from wan_r1.task_tools import vr_bench_import
from wan_r1.tasks.dataset import read_tasks
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.schema import DataContractError
from wan_r1.tasks.sokoban import SokobanLevel, place_cells
from wan_r1.tasks.textures import FOREIGN
from wan_r1.tasks.video import encode_image
from wan_r1.verification import verify

CELL = 64
WALL, BOX, TARGET, BOX_ON_TARGET, PLAYER = 1, 2, 3, 4, 5


def grid_of(level: SokobanLevel) -> np.ndarray:
    """The level's board as the benchmark has it: with walls around it."""
    grid = np.zeros((level.rows + 2, level.columns + 2), int)
    grid[[0, -1]], grid[:, [0, -1]] = WALL, WALL
    for code, cells in ((WALL, level.blocked), (TARGET, level.targets), (BOX, level.boxes), (PLAYER, [level.player])):
        for row, column in cells:
            grid[row + 1, column + 1] = code
    return grid


def draw(grid: np.ndarray, path: list[tuple[int, ...]]) -> np.ndarray:
    """A video in flat sprites at 12 frames a move, places truncated to whole pixels."""
    y, x = np.mgrid[:CELL, :CELL] + 0.5 - CELL / 2
    disc, square = np.hypot(x, y) < 0.36 * CELL, np.maximum(np.abs(x), np.abs(y)) < 0.34 * CELL
    behind = np.full((*np.multiply(grid.shape, CELL), 3), (250, 250, 250), np.uint8)

    def paste(image: np.ndarray, colour: tuple[int, int, int], mask: np.ndarray, top: int, left: int) -> None:
        image[top : top + CELL, left : left + CELL][mask] = colour

    for row, column in np.argwhere(grid > 0):
        if grid[row, column] in (WALL, TARGET):
            colour = (120, 120, 125) if grid[row, column] == WALL else (250, 150, 190)
            paste(behind, colour, np.ones_like(disc), row * CELL, column * CELL)
    frames = []
    for a, b, k in [(a, b, k) for a, b in itertools.pairwise(path) for k in range(12)] + [(path[-1], path[-1], 0)]:
        image = behind.copy()
        now = (np.array(a) + (np.array(b) - np.array(a)) * k / 12 + 1) * CELL
        (top, left), *boxes = now.astype(int).reshape(-1, 2).tolist()
        for box in boxes:
            paste(image, (240, 200, 40), square, *box)
        paste(image, (40, 80, 220), disc, top, left)
        frames.append(image)
    return np.stack(frames)


def write(folder: Path, stem: str, grid: np.ndarray, video: np.ndarray) -> None:
    save(video, folder / "videos" / f"{stem}.mp4")
    for kind in ("states", "images"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "images" / f"{stem}.png").write_bytes(encode_image(video[0]))

    def entity(code: int) -> dict:
        row, column = (int(value) for value in np.argwhere(grid == code)[0])
        box = {"x": column * CELL, "y": row * CELL, "width": CELL, "height": CELL}
        return {"bbox": box, "grid_pos": {"row": row, "col": column}}

    entities = {"player": entity(PLAYER), "goal": entity(TARGET), "boxes": [entity(BOX)]}
    render = {"cell_size": CELL, "image_width": video.shape[2], "image_height": video.shape[1]}
    state = {"version": "1.0", "game_type": "sokoban", "entities": entities, "render": render, "metadata": {}}
    state["grid"] = {"data": grid.tolist(), "height": grid.shape[0], "width": grid.shape[1]}
    (folder / "states" / f"{stem}.json").write_text(json.dumps(state))


@pytest.fixture(scope="module")
def levels() -> list[SokobanLevel]:
    return [FAMILIES["sokoban"].generate(np.random.default_rng(seed), "easy", 4) for seed in (1, 2)]


@pytest.fixture(scope="module")
def folder(levels: list[SokobanLevel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    for number, level in enumerate(levels, 1):
        grid = grid_of(level)
        write(root / "eval/sokoban/7/easy", f"easy_{number:04d}", grid, draw(grid, list(level.solve().path)))
    return root


def test_a_state_is_read_with_its_solution_and_its_reference_is_one(folder: Path, levels: list[SokobanLevel]) -> None:
    for state, level in zip(sorted(folder.rglob("states/*.json")), levels, strict=True):
        task = read_vr_bench_level(state)
        assert (task.level.rows, task.level.canvas) == (level.rows + 2, level.rows + 2)
        assert [tuple(np.subtract(place, 1)) for place in task.solution] == list(level.solve().path)
        video = draw(grid_of(level), list(level.solve().path))
        boxless = draw(grid_of(level), [(*place[:2], *level.start[2:]) for place in level.solve().path])
        solved, not_pushed = verify([video, boxless], [task, task], any_length=True)
        assert solved.em and not solved.violations and not not_pushed.em


def test_levels_are_imported_in_their_own_skin(folder: Path, levels: list[SokobanLevel], tmp_path: Path) -> None:
    found = vr_bench_import.run(source=folder, output=tmp_path / "data", size=256, frames=109)
    assert found["faults"] == [] and found["rows"] == 2
    for task, level in zip(read_tasks(tmp_path / "data"), levels, strict=True):
        assert task.texture == f"{FOREIGN}7" and task.family == "sokoban" and task.split == "test"
        assert task.video.shape == (109, 256, 256, 3) and len(task.solution) == level.solve().steps + 1
        assert np.abs(task.trajectory[-1] - task.level.center(place_cells(task.solution[-1])[0])).max() < 1e-6


def test_what_is_no_level_is_named(folder: Path, levels: list[SokobanLevel], tmp_path: Path) -> None:
    grid = grid_of(levels[0])
    video = draw(grid, list(levels[0].solve().path))
    place = tmp_path / "bench/sokoban/7/easy"
    write(place, "easy_0001", grid, video)
    grid[grid == TARGET] = BOX_ON_TARGET
    state = json.loads((place / "states/easy_0001.json").read_text())
    state["grid"]["data"] = grid.tolist()
    (place / "states/easy_0001.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"easy_0001\.json breaks the rule 'state_readable': 2 boxes need as many"):
        vr_bench_import.run(source=tmp_path / "bench", output=tmp_path / "data")


def test_a_reference_with_more_moves_than_needed_is_named_and_kept_for_scoring(tmp_path: Path) -> None:
    """The benchmark's solver counts pushes alone: pushing down first is as good to it as pushing right first."""
    level = SokobanLevel(
        family="sokoban",
        rows=4,
        columns=4,
        canvas=4,
        offset=(0, 0),
        blocked=(),
        player=(1, 0),
        boxes=((1, 1),),
        targets=((2, 2),),
    )
    player = [(1, 0), (0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]
    path = [(*cell, *box) for cell, box in zip(player, [(1, 1)] * 3 + [(2, 1)] * 3 + [(2, 2)], strict=True)]
    assert level.solve().steps == 4 and level.solve().count == 1
    write(tmp_path / "bench/sokoban/7/easy", "easy_0001", grid_of(level), draw(grid_of(level), path))
    says = r"easy_0001\.json breaks the rule 'solution_shortest': the solution has 6 moves.* the shortest path 4"
    with pytest.raises(DataContractError, match=says):
        vr_bench_import.run(source=tmp_path / "bench", output=tmp_path / "strict")
    found = vr_bench_import.run(source=tmp_path / "bench", output=tmp_path / "kept", ambiguous=True)
    assert [(fault["file"], fault["rule"]) for fault in found["faults"]] == [
        ("sokoban/7/easy/states/easy_0001.json", "solution_shortest")
    ]
    (task,) = read_tasks(tmp_path / "kept")
    assert len(task.solution) == 7 and task.level.solve().steps == 4
    (verdict,) = verify([task.video], [task])
    assert verdict.sr and not verdict.em and verdict.sd == pytest.approx(0.5) and not verdict.violations
