"""Our levels as VR-Bench's state files: the boxes of what can be seen, and the puzzle in the game's own terms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.irregular_level import ROAD_WIDTH, UNIT, IrregularLevel, bezier
from wan_r1.tasks.level import Cell, GridLevel, Level, Place
from wan_r1.tasks.maze3d_level import Maze3DLevel
from wan_r1.tasks.perspective_level import PerspectiveLevel
from wan_r1.tasks.sokoban import SokobanLevel, place_cells

_SYMBOLS = {"empty": 0, "wall": 1, "box": 2, "target": 3, "box_on_target": 4, "player": 5, "player_on_target": 6}


def game_state(level: Level, height: int, width: int) -> dict[str, Any]:
    """The state of a level.

    Args:
        level: the level.
        height: of its pictures, in pixels.
        width: likewise.

    Raises:
        ValueError: if VR-Bench has no game like this level.
    """
    if isinstance(level, SokobanLevel):
        return _sokoban(level, height, width)
    if isinstance(level, GridLevel):
        return _grid(level, height, width)
    if isinstance(level, IrregularLevel):
        return _roads(level, height, width)
    if isinstance(level, Maze3DLevel | PerspectiveLevel):
        return _cubes(level, height, width)
    raise ValueError(f"VR-Bench has no game like the family {level.family!r}")


def _state(
    game: str,
    size: tuple[int, int],
    cell: float,
    entities: tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]],
    metadata: dict[str, Any],
    grid: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    height, width = size
    player, goal, boxes = entities
    state: dict[str, Any] = {
        "version": "1.0",
        "game_type": game,
        "entities": {"player": player, "goal": goal, "boxes": boxes},
        "render": {"cell_size": round(cell), "image_width": width, "image_height": height},
        "metadata": metadata,
    }
    if grid is not None:
        state["grid"] = {"data": grid.tolist(), "height": grid.shape[0], "width": grid.shape[1]}
    return state


def _entity(
    centre: tuple[float, float], side: float, size: tuple[int, int], cell: Cell | None = None
) -> dict[str, Any]:
    """A thing by its centre (x, y) as fractions of the frame and its side in pixels."""
    height, width = size
    whole = max(1, round(side))
    x, y = (round(part * length - side / 2) for part, length in zip(centre, (width, height), strict=True))
    middle = {"x": x + whole // 2, "y": y + whole // 2}
    box = {"x": x, "y": y, "width": whole, "height": whole, "center_x": middle["x"], "center_y": middle["y"]}
    place = {} if cell is None else {"grid_pos": {"row": cell[0], "col": cell[1]}}
    return {"pixel_pos": middle, "bbox": box, **place}


def _grid(level: GridLevel, height: int, width: int) -> dict[str, Any]:
    """Mazes and trapfields: boards of cells cover the frame; boards with walls between cells become twice as fine."""
    size = height, width
    if level.right_walls or level.down_walls:
        board = np.ones((2 * level.rows + 1, 2 * level.columns + 1), np.int64)
        cells = list(itertools.product(range(level.rows), range(level.columns)))
        for row, column in cells:
            board[2 * row + 1, 2 * column + 1] = (row, column) in level.blocked
            board[2 * row + 1, 2 * column + 2] = not level.open_between((row, column), (row, column + 1))
            board[2 * row + 2, 2 * column + 1] = not level.open_between((row, column), (row + 1, column))

        def place(cell: Place) -> Cell:
            return 2 * cell[0] + 1, 2 * cell[1] + 1
    else:
        board = np.ones((level.canvas, level.canvas), np.int64)
        top, left = level.offset
        board[top : top + level.rows, left : left + level.columns] = 0
        for row, column in level.blocked:
            board[top + row, left + column] = 1

        def place(cell: Place) -> Cell:
            return cell[0] + top, cell[1] + left

    board[place(level.start)], board[place(level.goal)] = 2, 3
    cell = width * level.cell_size
    ends = [_entity(level.center(end), cell, size, place(end)) for end in (level.start, level.goal)]
    game = {"regular": "maze", "trapfield": "trapfield"}.get(level.family)
    if game is None:
        raise ValueError(f"VR-Bench has no game like the family {level.family!r}")
    return _state(game, size, cell, (ends[0], ends[1], []), {}, board)


def _sokoban(level: SokobanLevel, height: int, width: int) -> dict[str, Any]:
    """The goal is where the first box ends, which is the one that the benchmark follows."""
    size, (top, left) = (height, width), level.offset
    board = np.ones((level.canvas, level.canvas), np.int64)
    board[top : top + level.rows, left : left + level.columns] = 0
    for row, column in level.blocked:
        board[top + row, left + column] = 1
    for code, cells in ((3, level.targets), (2, level.boxes), (5, (level.player,))):
        for row, column in cells:
            on_target = board[top + row, left + column] == 3
            board[top + row, left + column] = {2: 4, 5: 6}.get(code, code) if on_target else code
    cell = width * level.cell_size

    def entity(place: Cell) -> dict[str, Any]:
        return _entity(level.center(place), cell, size, (place[0] + top, place[1] + left))

    goal = place_cells(level.solve().path[-1])[1]
    boxes = [entity(box) for box in level.boxes]
    return _state(
        "sokoban", size, cell, (entity(level.player), entity(goal), boxes), {"symbols": dict(_SYMBOLS)}, board
    )


def _roads(level: IrregularLevel, height: int, width: int) -> dict[str, Any]:
    """Curved roads: each cubic curve as several quadratic ones, in pixels."""
    size, scale = (height, width), width / level.canvas
    segments: list[list[list[float]]] = []
    numbers: dict[frozenset[int], list[int]] = {}
    points = np.array(level.junctions) / UNIT
    for a, b, *controls in level.roads:
        corners = np.array([points[a], np.array(controls[:2]) / UNIT, np.array(controls[2:]) / UNIT, points[b]])
        line = bezier(corners) * scale
        numbers[frozenset((a, b))] = list(range(len(segments), len(segments) + len(line) // 2))
        for begin, middle, end in zip(line[0:-1:2], line[1::2], line[2::2], strict=True):
            # The curve passes its middle where its control point is mirrored from the chord.
            segments.append(np.round([begin, 2 * middle - (begin + end) / 2, end], 2).tolist())
    path = [place[0] for place in level.way or level.solve().path]
    on_path = [number for pair in itertools.pairwise(path) for number in numbers[frozenset(pair)]]

    def pixel(junction: int) -> list[float]:
        return np.round(points[junction] * scale, 2).tolist()

    metadata = {
        "segments": segments,
        "start_point": pixel(level.start[0]),
        "end_point": pixel(level.goal[0]),
        "solution_segments": on_path,
        "solution_path": [pixel(junction) for junction in path],
        "road_width": round(ROAD_WIDTH * scale),
    }
    ends = [_entity(level.center(end), ROAD_WIDTH * scale, size) for end in (level.start, level.goal)]
    return _state("pathfinder", size, ROAD_WIDTH * scale, (ends[0], ends[1], []), metadata)


def _cubes(level: Maze3DLevel | PerspectiveLevel, height: int, width: int) -> dict[str, Any]:
    """Cubes and ladders; player and goal are where the ball rests in the picture."""
    size, ball = (height, width), level.player_diameter * width * level.cell_size
    if isinstance(level, PerspectiveLevel):
        sides = list(level.grid)
    else:
        sides = [1 + max(cube[axis] for cube in level.cubes) for axis in range(3)]
    metadata = {
        "grid_size": sides,
        "cubes": [list(cube) for cube in level.cubes],
        "start_pos": list(level.start),
        "goal_pos": list(level.goal),
        "ladders": [
            {"base_pos": list(ladder[:3]), "direction": list(ladder[3:-1]) or [0, 0], "height": ladder[-1]}
            for ladder in level.ladders
        ],
        "path": [
            {"start": list(a), "end": list(b), "type": "walk" if a[2] == b[2] else "ladder"}
            for a, b in itertools.pairwise(level.way or level.solve().path)
        ],
    }
    ends = [_entity(level.center(end), ball, size) for end in (level.start, level.goal)]
    return _state("maze3d", size, ball, (ends[0], ends[1], []), metadata)
