"""A small data set in VR-Bench's layout, drawn as its generators draw: tiles of sprites, 12 frames a cell, H.264."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from vr_bench_skins import CELL, paste, sprites

from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.video import encode_image

BOARDS = {
    "maze": [
        ["1111111", "1000101", "1010101", "1210001", "1011101", "1000031", "1111111"],
        ["1111111", "1300001", "1011111", "1000001", "1110101", "1000121", "1111111"],
    ],
    "trapfield": [
        ["20010", "01000", "00010", "10000", "00013"],
        ["00100", "03101", "00002", "01000", "00100"],
    ],
}


def level_of(board: list[str], family: str = "trapfield") -> GridLevel:
    """The board as one of our levels, to find its solution."""
    cells = {code: [(r, c) for r, row in enumerate(board) for c, v in enumerate(row) if v == code] for code in "0123"}
    return GridLevel(
        family=family,
        rows=len(board),
        columns=len(board[0]),
        canvas=len(board),
        offset=(0, 0),
        blocked=tuple(sorted(cells["1"])),
        right_walls=(),
        down_walls=(),
        start=cells["2"][0],
        goal=cells["3"][0],
    )


def draw(game: str, skin: str, board: list[str], cells: list[tuple[int, int]]) -> np.ndarray:
    """A video of the player going over ``cells`` at 12 frames a cell, places truncated to whole pixels."""
    cell, look = CELL[game], sprites(game, skin)
    height, width = len(board) * cell, len(board[0]) * cell
    behind = np.zeros((height, width, 3), np.uint8)

    for r, row in enumerate(board):
        for c, code in enumerate(row):
            paste(behind, look["floor"], r * cell, c * cell)
            if code in "13":
                paste(behind, look["blocked" if code == "1" else "goal"], r * cell, c * cell)
    places = [
        (int((a[0] + (b[0] - a[0]) * k / 12) * cell), int((a[1] + (b[1] - a[1]) * k / 12) * cell))
        for a, b in itertools.pairwise(cells)
        for k in range(12)
    ]
    frames = []
    for top, left in [*places, (cells[-1][0] * cell, cells[-1][1] * cell)]:
        image = behind.copy()
        paste(image, look["player"], top, left)
        frames.append(image)
    return np.stack(frames)


def save(video: np.ndarray, path: Path) -> None:
    """H.264 at the benchmark's quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"crf": "25", "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], "yuv420p"
        for image in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(file.getvalue())


def write_dataset(root: Path, skins: Sequence[str] = ("1", "2")) -> list[tuple[str, str, str, list[str]]]:
    """Write it below ``root``; returns (game, skin, stem, board) of every level."""
    made = []
    for game, boards in BOARDS.items():
        for skin in skins:
            for number, board in enumerate(boards, 1):
                stem, folder = f"easy_{number:04d}", root / game / skin / "easy"
                level = level_of(board)
                video = draw(game, skin, board, list(level.solve().path))
                save(video, folder / "videos" / f"{stem}_0.mp4")
                (folder / "states").mkdir(parents=True, exist_ok=True)
                (folder / "images").mkdir(exist_ok=True)
                (folder / "images" / f"{stem}.png").write_bytes(encode_image(video[0]))
                (folder / "states" / f"{stem}.json").write_text(json.dumps(state_of(game, board)))
                made.append((game, skin, stem, board))
    return made


def state_of(game: str, board: list[str]) -> dict:
    """The level's state file."""
    cell, level = CELL[game], level_of(board)

    def entity(place) -> dict:
        row, column = place
        box = {"x": column * cell, "y": row * cell, "width": cell, "height": cell}
        return {"bbox": box, "grid_pos": {"row": row, "col": column}}

    return {
        "version": "1.0",
        "game_type": game,
        "entities": {"player": entity(level.start), "goal": entity(level.goal), "boxes": []},
        "render": {"cell_size": cell, "image_width": len(board[0]) * cell, "image_height": len(board) * cell},
        "metadata": {},
        "grid": {"data": [[int(v) for v in row] for row in board], "height": len(board), "width": len(board[0])},
    }


def resized(video: np.ndarray, side: int) -> np.ndarray:
    """The video at another size, as a model that works at that size gives it."""
    return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC) for frame in video])
