"""VR-Bench's own files: states, given images and reference videos, as levels that verification reads.

The state files of games on a grid hold the board and the places of player and goal, but no solution; ours is found by
search, at the benchmark's speed of 12 frames a cell. For the others see `wan_r1.score.vr_bench_roads`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wan_r1.score.files import VideoFileError, read_video
from wan_r1.score.vr_bench_roads import FRAMES_PER_SECOND, GameLevel, read_maze3d, read_pathfinder, require
from wan_r1.tasks.dataset import decode_task
from wan_r1.tasks.families import get_family
from wan_r1.tasks.level import Cell, GridLevel
from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.tasks.task import Task
from wan_r1.tasks.video import MediaError, decode_image, encode_image

FRAMES_PER_CELL = 12
BLOCKED = 1
PLAYER, GOAL = 2, 3
SOKOBAN_BOX, SOKOBAN_TARGET, SOKOBAN_PLAYER = (2, 4), (3, 4, 6), (5, 6)
"""Codes of cells with a box, a target, the player: 4 is a box on a target, 6 the player on one."""

BoardLevel = GridLevel | SokobanLevel
OWN_KEY = "wan_r1"
"""Where in a state's metadata ``wan-r1 tasks export`` keeps the row of our data set, all but its media."""


def vr_bench_states(dataset: Path) -> dict[str, list[Path]]:
    """State files by the name of their level, such as ``easy_0001``."""
    found: dict[str, list[Path]] = {}
    for file in sorted(dataset.rglob("states/*.json")):
        found.setdefault(file.stem, []).append(file)
    return found


def read_references(state: Path) -> tuple[Path, ...]:
    """Reference videos of a level: ``<stem>_<k>.mp4``, or if there are none ``<stem>.mp4``."""
    folder = state.parent.parent / "videos"
    several = tuple(sorted(folder.glob(f"{state.stem}_*.mp4")))
    single = folder / f"{state.stem}.mp4"
    return several or ((single,) if single.is_file() else ())


def read_vr_bench_level(state: Path) -> Task:
    """A level with its given image.

    Raises:
        ValueError: if the state or the image is missing or malformed, or the game is not known.
    """
    try:
        values = json.loads(state.read_text())
        own = own_row(values)
        if own is not None:
            image = {"bytes": encode_image(_given_image(state)), "path": None}
            return decode_task({**own, "first_frame": image}, str(state))
        game = str(require(values, "game_type"))
        if game not in GAMES:
            raise ValueError(f"game_type={game!r} is not known; known: {', '.join(sorted(GAMES))}")
        return _task(GAMES[game](values), state, _given_image(state))
    except (KeyError, TypeError, AttributeError, OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"no state of VR-Bench: {type(error).__name__} {error}") from None


def own_row(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row of our data set that a state was made from, without its media; ``None`` in a state of the benchmark's.

    Raises:
        KeyError: if the row has no state.
    """
    row = (values.get("metadata") or {}).get(OWN_KEY)
    return None if row is None else {**row, "state": json.dumps(row["state"], separators=(",", ":"))}


def _given_image(state: Path) -> np.ndarray:
    """The image a model was given; where the data set has none, frame 0 of the reference, as the benchmark draws it."""
    file = state.parent.parent / "images" / f"{state.stem}.png"
    try:
        if file.is_file():
            return decode_image(file.read_bytes())
        references = read_references(state)
        if not references:
            raise ValueError(f"the level has neither {file} nor a reference video")
        return read_video(references[0])[0]
    except (MediaError, VideoFileError) as error:
        raise ValueError(f"the level's given image cannot be read: {error}") from None


def _task(found: GameLevel, state: Path, image: np.ndarray) -> Task:
    """The task of a state file with its given image."""
    level = found.level
    return Task(
        level_id=level.level_id,
        family=level.family,
        difficulty=state.stem.split("_")[0],
        texture=state.parent.parent.parent.name,
        split="",
        index=int(state.stem.split("_")[1]) if state.stem.split("_")[-1].isdigit() else 0,
        prompt="",
        first_frame=image,
        video=None,
        frames=len(found.trajectory),
        height=image.shape[0],
        width=image.shape[1],
        fps=FRAMES_PER_SECOND,
        level=level,
        solution=found.path,
        trajectory=found.trajectory,
    )


def _on_grid(make: Callable[[np.ndarray, Mapping[str, Any]], BoardLevel]) -> Callable[[Mapping[str, Any]], GameLevel]:
    """A reader of games on a grid; ``make`` is given the board's codes and the state's entities."""

    def read(values: Mapping[str, Any]) -> GameLevel:
        board = np.asarray(require(values, "grid.data"))
        if board.ndim != 2 or not np.issubdtype(board.dtype, np.integer):
            raise ValueError(f"grid.data is no table of whole numbers but {list(board.shape)} {board.dtype}")
        level = make(board, require(values, "entities"))
        solution = level.solve()
        frames = FRAMES_PER_CELL * solution.steps + 1
        trajectory = get_family(level.family).trajectory(level, frames, 1 / FRAMES_PER_CELL)
        return GameLevel(level=level, path=solution.path, trajectory=trajectory)

    return read


def _maze(family: str) -> Callable[[np.ndarray, Mapping[str, Any]], GridLevel]:
    """Games whose blocked cells must not be entered: walls of mazes, traps of trapfields."""

    def make(board: np.ndarray, entities: Mapping[str, Any]) -> GridLevel:
        return GridLevel(
            family=family,
            rows=board.shape[0],
            columns=board.shape[1],
            canvas=max(board.shape),
            offset=(0, 0),
            blocked=_cells(board, BLOCKED),
            right_walls=(),
            down_walls=(),
            start=_place(board, PLAYER, entities, "player"),
            goal=_place(board, GOAL, entities, "goal"),
        )

    return make


def _sokoban(board: np.ndarray, entities: Mapping[str, Any]) -> SokobanLevel:
    """Sokoban, whose boxes and player may stand on targets."""
    players = _cells(board, *SOKOBAN_PLAYER)
    if len(players) != 1:
        raise ValueError(f"the grid has {len(players)} players; expected one")
    return SokobanLevel(
        family="sokoban",
        rows=board.shape[0],
        columns=board.shape[1],
        canvas=max(board.shape),
        offset=(0, 0),
        blocked=_cells(board, BLOCKED),
        player=players[0],
        boxes=_cells(board, *SOKOBAN_BOX),
        targets=_cells(board, *SOKOBAN_TARGET),
    )


def _cells(board: np.ndarray, *codes: int) -> tuple[Cell, ...]:
    """The cells that have one of the codes, sorted."""
    return tuple((int(row), int(column)) for row, column in np.argwhere(np.isin(board, codes)))


def _place(board: np.ndarray, code: int, entities: Mapping[str, Any], who: str) -> Cell:
    """A cell by its code on the board, or else by the entity's own place."""
    cells = np.argwhere(board == code)
    if len(cells) == 1:
        return int(cells[0][0]), int(cells[0][1])
    row, column = (int(require(entities, f"{who}.grid_pos.{name}", "entities.")) for name in ("row", "col"))
    return row, column


GAMES: dict[str, Callable[[Mapping[str, Any]], GameLevel]] = {
    "maze": _on_grid(_maze("regular")),
    "trapfield": _on_grid(_maze("trapfield")),
    "sokoban": _on_grid(_sokoban),
    "pathfinder": read_pathfinder,
    "maze3d": read_maze3d,
}
"""Reader of a state's values by the benchmark's name of its game."""
