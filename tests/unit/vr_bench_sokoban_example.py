"""Sokoban levels as VR-Bench has them: boards with walls around, drawn in its skins, 12 frames a move; state files."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from vr_bench_example import save
from vr_bench_skins import CELL, paste, sprites

from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.tasks.video import encode_image

WALL, BOX, TARGET, BOX_ON_TARGET, PLAYER = 1, 2, 3, 4, 5
SIDE = CELL["sokoban"]
"""Pixels a cell."""


def grid_of(level: SokobanLevel) -> np.ndarray:
    """The level's board as the benchmark has it: with walls around it."""
    grid = np.zeros((level.rows + 2, level.columns + 2), int)
    grid[[0, -1]], grid[:, [0, -1]] = WALL, WALL
    for code, cells in ((WALL, level.blocked), (TARGET, level.targets), (BOX, level.boxes), (PLAYER, [level.player])):
        for row, column in cells:
            grid[row + 1, column + 1] = code
    return grid


def moved(path: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The states of ``path`` at 12 frames a move, ``[F, 2 + 2 * boxes]``, in cells (row, column) of the level."""
    steps = [np.add(a, np.subtract(b, a) * k / 12) for a, b in itertools.pairwise(path) for k in range(12)]
    return np.array([*steps, path[-1]], float)


def draw(grid: np.ndarray, states: np.ndarray, skin: str = "1") -> np.ndarray:
    """A video of ``states`` (see `moved`): player over boxes over the board, places truncated to whole pixels."""
    look = sprites("sokoban", skin)
    behind = np.zeros((*np.multiply(grid.shape, SIDE), 3), np.uint8)
    for row, column in np.ndindex(*grid.shape):
        paste(behind, look["floor"], row * SIDE, column * SIDE)
        role = {WALL: "blocked", TARGET: "goal"}.get(grid[row, column])
        if role:
            paste(behind, look[role], row * SIDE, column * SIDE)
    frames = []
    for (top, left), *boxes in ((np.asarray(states) + 1) * SIDE).astype(int).reshape(len(states), -1, 2).tolist():
        image = behind.copy()
        for box in boxes:
            paste(image, look["box"], *box)
        paste(image, look["player"], top, left)
        frames.append(image)
    return np.stack(frames)


def write(folder: Path, stem: str, grid: np.ndarray, video: np.ndarray) -> None:
    """The level's three files, below a folder ``<game>/<skin>/<difficulty>``."""
    save(video, folder / "videos" / f"{stem}.mp4")
    for kind in ("states", "images"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "images" / f"{stem}.png").write_bytes(encode_image(video[0]))

    def entity(code: int) -> dict:
        row, column = (int(value) for value in np.argwhere(grid == code)[0])
        box = {"x": column * SIDE, "y": row * SIDE, "width": SIDE, "height": SIDE}
        return {"bbox": box, "grid_pos": {"row": row, "col": column}}

    entities = {"player": entity(PLAYER), "goal": entity(TARGET), "boxes": [entity(BOX)]}
    render = {"cell_size": SIDE, "image_width": video.shape[2], "image_height": video.shape[1]}
    state = {"version": "1.0", "game_type": "sokoban", "entities": entities, "render": render, "metadata": {}}
    state["grid"] = {"data": grid.tolist(), "height": grid.shape[0], "width": grid.shape[1]}
    (folder / "states" / f"{stem}.json").write_text(json.dumps(state))
