"""A second, slow reading of videos on a grid, written apart from `wan_r1.verification` to check its verdicts.

It knows the renderer and the texture, where the fast reader learns both from the given image, and it searches: every
place of a fine lattice for the player (and a second one), at every opacity; every state of every cell and of every
border between two cells. No Fourier transforms, no tracking over time, no forgiveness for blur. It shares with the
fast reader nothing but the rules' numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from wan_r1.tasks.dataset import Task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.level import Cell, GridLevel
from wan_r1.tasks.textures import TEXTURES

LATTICE = 8
"""Places a cell at which the player is looked for, on each axis."""
OPACITIES = np.linspace(0, 1, 101)
PRESENT, SECOND = 0.5, 0.25
TOLERANCE, SLACK, REST = 0.25, 0.35, 2
APART = 0.9
"""Least distance of a second player, in cells."""
LOOKS_LIKE = 0.75
OTHER_COLOUR = 50.0
"""Distance of the mean colour of a cell or border from its own, in levels, from which it is none of its states."""
LEAST_SEEN = 0.1
"""Share of the difference between two states that must show beside the player for them to be told apart."""
REACH = 0.3
"""Radius of the player, in cells."""


@dataclass(frozen=True)
class Reading:
    """What the slow reader says: exact match, success, cells visited, and the first broken rule with its frame."""

    em: bool
    sr: bool
    walk: tuple[Cell, ...]
    broken: str | None = None
    frame: int | None = None


def read(video: np.ndarray, task: Task) -> Reading:
    """Read one video ``[F, H, W, 3]``."""
    places, templates = _players(task)
    energy, shapes = (templates**2).sum(1), (templates != 0).astype(np.float64)
    states = _states(task)
    background = _draw(task, task.level)
    points: list[np.ndarray] = []
    broken: tuple[str, int] | None = None
    for number, frame in enumerate(video):
        difference = (frame.astype(np.float64) - background).ravel()
        found = _search(difference, templates, energy, shapes, places)
        problem = None
        if found is None:
            problem, point = "lost", (points[-1] if points else np.array([-9.0, -9.0]))
        else:
            point, second = found
            problem = "second player" if second else None
        points.append(point)
        problem = problem or _changed(frame, point, states, task) or _broken(points, task)
        if problem and broken is None:
            broken = (problem, number)
    walk = _walk(points, task, broken[1] if broken else len(points))
    goal = np.array(task.level.center(task.level.goal)) * task.level.canvas
    near = [bool(np.hypot(*(point - goal)) <= TOLERANCE) for point in points]
    first = near.index(True) if True in near else len(near)
    rests = near[-1] and all(near[-min(REST, len(near) - first) :])
    success = rests and broken is None and bool(walk) and walk[0] == task.level.start
    exact = success and len(walk) - 1 == task.level.solve().steps
    return Reading(exact, success, walk, *(broken or (None, None)))


def _draw(task: Task, level: GridLevel, points: np.ndarray | None = None) -> np.ndarray:
    video = FAMILIES[task.family].render(level, TEXTURES[task.texture], points, task.height).astype(np.float64)
    return video[0] if points is None else video


def _players(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Places [P, 2] in cells, and what the player adds to the background at each, [P, pixels]."""
    canvas = task.level.canvas
    steps = np.arange(LATTICE // 4, canvas * LATTICE - LATTICE // 4 + 1) / LATTICE
    places = np.array(list(itertools.product(steps, steps)))
    drawn = _draw(task, task.level, places / canvas) - _draw(task, task.level)
    return places, drawn.reshape(len(places), -1)


def _search(
    difference: np.ndarray, templates: np.ndarray, energy: np.ndarray, shapes: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, bool] | None:
    """The player's place in cells and whether there is a second one; `None` if there is none."""

    def best(rest: np.ndarray, allowed: np.ndarray) -> tuple[int, float]:
        match = templates @ rest
        # Squared error of every place at every opacity, less that of no player.
        error = OPACITIES[:, None] ** 2 * energy - 2 * OPACITIES[:, None] * match
        inside = (shapes @ rest**2).clip(1)
        error[:, (match <= 0) | (match**2 < LOOKS_LIKE**2 * energy * inside) | ~allowed] = 0
        opacity, place = np.unravel_index(error.argmin(), error.shape)
        return int(place), float(OPACITIES[opacity])

    first, opacity = best(difference, np.ones(len(places), bool))
    if opacity < PRESENT:
        return None
    far = np.hypot(*(places - places[first]).T) >= APART
    _, other = best(difference - opacity * templates[first], far)
    return places[first], other >= SECOND


def _states(task: Task) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Every cell and border with the states it may have: (name, middle, pixels, pictures [2, pixels, 3], level).

    The first picture is the true state, the other that of the level.
    """
    level, found = task.level, []
    true = _draw(task, level)
    goals = replace(level, goal=level.start, start=level.goal)
    for row, column in itertools.product(range(level.rows), range(level.columns)):
        cell = (row, column)
        others = [replace(level, right_walls=_toggle(level.right_walls, cell))] if column + 1 < level.columns else []
        if others:
            found.append(("right border", cell, (0.5, 1.0), true, others))
        others = [replace(level, down_walls=_toggle(level.down_walls, cell))] if row + 1 < level.rows else []
        if others:
            found.append(("lower border", cell, (1.0, 0.5), true, others))
        if cell == level.start:
            continue
        if cell == level.goal:
            found.append(("goal", cell, (0.5, 0.5), true, [goals]))
        else:
            found.append(("cell", cell, (0.5, 0.5), true, [replace(level, blocked=_toggle(level.blocked, cell))]))
            free = tuple(c for c in level.blocked if c != cell)
            found.append(("cell", cell, (0.5, 0.5), true, [replace(level, blocked=free, goal=cell)]))
    states = []
    for name, (row, column), (down, right), truth, levels in found:
        for other in levels:
            picture = _draw(task, other)
            mask = np.zeros(picture.shape[:2], bool)
            mask[_inside(task, row, column)] = True
            mask &= np.abs(picture - truth).max(-1) > 0
            centre = np.array([level.offset[1] + column + right, level.offset[0] + row + down])
            if mask.any():
                states.append((name, centre, mask, np.stack([truth[mask], picture[mask]]), other))
    return states


def _inside(task: Task, row: int, column: int) -> tuple[slice, slice]:
    """Pixels of a cell with the borders to its right and below."""
    cell = task.height // task.level.canvas
    top, left = (row + task.level.offset[0]) * cell, (column + task.level.offset[1]) * cell
    return slice(top, top + cell + 1), slice(left, left + cell + 1)


def _toggle(cells: tuple[Cell, ...], cell: Cell) -> tuple[Cell, ...]:
    return tuple(sorted(set(cells) ^ {cell}))


def _changed(frame: np.ndarray, point: np.ndarray, states, task: Task) -> str | None:
    """The first cell or border that looks more like another of its states or, away from the player, like none."""
    for name, centre, mask, pictures, other in states:
        if np.abs(centre - point).max() < REACH + 0.65:
            # Both states with the player in front of them: what it hides says nothing about either.
            near = [_draw(task, level, point[None] / level.canvas)[0][mask] for level in (task.level, other)]
            apart = np.linalg.norm(near[1] - near[0])
            if apart**2 >= LEAST_SEEN * ((pictures[1] - pictures[0]) ** 2).sum():
                gone = ((frame[mask] - near[0]) * (near[1] - near[0])).sum() / apart**2
                if gone > 0.5:
                    return f"{name} at {tuple(centre)} changed beside the player"
            continue
        errors = ((frame[mask].astype(np.float64) - pictures) ** 2).sum((1, 2))
        colour = (frame[mask].astype(np.float64) - pictures[0]).mean(0)
        if errors.argmin() > 0 or np.linalg.norm(colour) > OTHER_COLOUR:
            return f"{name} at {tuple(centre)} changed"
    return None


def _broken(points: list[np.ndarray], task: Task) -> str | None:
    """What the way to the last point breaks."""
    level, point = task.level, points[-1]
    if len(points) == 1:
        start = np.array(level.center(level.start)) * level.canvas
        return "wrong start" if np.hypot(*(point - start)) > TOLERANCE else None
    before = points[-2]
    speed = float(np.hypot(*np.diff(task.trajectory, axis=0).T).max()) * level.canvas
    if np.hypot(*(point - before)) > speed + SLACK:
        return "jump"
    for share in np.linspace(0, 1, 17)[1:]:
        x, y = before + share * (point - before)
        cell = (int(np.floor(y)) - level.offset[0], int(np.floor(x)) - level.offset[1])
        if not level.contains(cell) or cell in level.blocked:
            return "off the board or on a trap"
        right, down = x % 1 - 0.5, y % 1 - 0.5
        ways = [np.hypot(down, right)]
        for step_down, step_right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            ahead = down * step_down + right * step_right
            if ahead >= 0 and level.open_between(cell, (cell[0] + step_down, cell[1] + step_right)):
                ways.append(abs(right if step_down else down))
        if min(ways) > TOLERANCE:
            return "off the path"
    return None


def _walk(points: list[np.ndarray], task: Task, end: int) -> tuple[Cell, ...]:
    """Cells whose middle the player comes near before frame ``end``."""
    level = task.level
    cells: list[Cell] = []
    way = [points[0], *(a + s * (b - a) for a, b in itertools.pairwise(points[:end]) for s in np.linspace(0, 1, 9)[1:])]
    for x, y in way if end else []:
        if max(abs(x % 1 - 0.5), abs(y % 1 - 0.5)) <= 0.35:
            cell = (int(np.floor(y)) - level.offset[0], int(np.floor(x)) - level.offset[1])
            if not cells or cells[-1] != cell:
                cells.append(cell)
    return tuple(cells)
