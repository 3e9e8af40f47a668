"""Facts about each row, recomputed from its state and its media: nothing that a row says about itself is trusted.

A fact is a column of truth values; it is null where it cannot be told because an earlier one fails (a level that cannot
be read has no solution to check), so that a broken row is reported for its cause and not for all that follows from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.dataset import decode_level, decode_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.level import Level, Place
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.render import PLAYER_DIAMETER
from wan_r1.tasks.roads import GraphLevel
from wan_r1.tasks.sokoban import SokobanLevel, SokobanSolution, place_cells
from wan_r1.tasks.textures import FOREIGN, TEXTURES
from wan_r1.tasks.video import MediaError, decode_image, decode_video
from wan_r1.validate_tasks.navigation_facts import NAVIGATION_FACTS, poses_of, tell_navigation, tell_recorded
from wan_r1.verification import verify

FACTS: dict[str, str] = {
    "state_readable": "the state describes a level of the row's family",
    "level_id_true": "level_id is the hash of the level in the state",
    "goal_reachable": "a path leads from start to goal",
    "solution_unique": "exactly one path is the shortest (robots: one target answers the prompt), by our count "
    "and by the row's",
    "solution_legal": "the solution goes from start to goal by legal steps",
    "solution_shortest": "the solution and the stated steps are as short as the shortest path",
    "pushes_fewest": "the solution makes as few pushes as any (where there are boxes to push)",
    "trajectory_true": "the trajectory has a point for each frame and follows the solution from start to goal",
    "first_frame_readable": "the first frame is an image of the stated size",
    "first_frame_true": "the first frame shows the level, the player on its start",
    "video_where_due": "there is a video, except in the split prompts",
    "video_readable": "the video can be decoded and has the stated frames and size",
    "video_begins_true": "frame 0 of the video is the first frame",
    "video_true": "every frame of the video shows the level with the player where the trajectory says (in a skin from "
    "elsewhere, as verification reads it)",
    **NAVIGATION_FACTS,
}
"""Each recomputed fact, in words."""

_TOLERANCE = {True: 1.0, False: 60.0}
"""Largest mean difference (8-bit steps) from our own rendering over a window of the player's size, for lossless videos
and for others (at 8 px a cell, common H.264 smears walls by up to 45). A missing or misplaced player makes 87."""

_ON_PATH = 0.02
"""How far, in cells, a trajectory may be from the solution's line: room for rounding."""

_SAME_LENGTH = 1e-6
"""Largest difference of two ways over roads that are equally long."""

_SEEN = 0.35
"""How far, in cells, the player may be seen from its trajectory in a skin that we cannot draw."""


class _Row:
    """The facts of one row as they are found, and what was wrong."""

    def __init__(self) -> None:
        self.facts: dict[str, bool | None] = dict.fromkeys(FACTS)
        self.notes: list[str] = []

    def tell(self, fact: str, holds: bool, otherwise: str) -> bool:
        self.facts[fact] = bool(holds)
        if not holds:
            self.notes.append(otherwise)
        return bool(holds)


def row_facts(values: Mapping[str, Any], *, lossless: bool) -> dict[str, Any]:
    """The facts of a row.

    Args:
        values: the row by column.
        lossless: whether the file says that its videos keep every pixel.

    Returns:
        A value for each of `FACTS`, ``layout_id`` (null if unknown) and ``notes``, which says what is wrong.
    """
    row = _Row()
    level = _level(row, values)
    if level is not None and _solved(row, values, level):
        if isinstance(level, NavigationLevel):
            tell_navigation(row, values, level, _places(values["solution"], len(level.start)))
        elif isinstance(level, RecordedLevel):
            tell_recorded(row, values, level)
        else:
            _trajectory(row, values, level)
    _media(row, values, level, lossless)
    return {**row.facts, "layout_id": level.layout_id if level else None, "notes": "; ".join(row.notes)}


def _level(row: _Row, values: Mapping[str, Any]) -> Level | None:
    try:
        level = decode_level(values["family"], values["state"])
    except (ValueError, TypeError) as error:
        row.tell("state_readable", False, str(error))
        return None
    row.tell("state_readable", True, "")
    row.tell("level_id_true", level.level_id == values["level_id"], f"the state has level_id {level.level_id}")
    return level


def _solved(row: _Row, values: Mapping[str, Any], level: Level) -> bool:
    """Whether the level has a solution and the row's is one."""
    shortest = level.solution
    if not row.tell("goal_reachable", shortest is not None, f"no path from {level.start} to {level.goal}"):
        return False
    assert shortest is not None
    row.tell(
        "solution_unique",
        shortest.count == 1 and values["shortest_solutions"] == 1,
        f"{shortest.count} shortest paths, the row says {values['shortest_solutions']}",
    )
    path = _places(values["solution"], len(level.start))
    fault = _illegal(level, path)
    if not row.tell("solution_legal", fault is None, fault or ""):
        return False
    _tell_length(row, values, level, path)
    if isinstance(shortest, SokobanSolution):
        pushes = sum(here[2:] != there[2:] for here, there in itertools.pairwise(path))
        few = pushes == shortest.fewest_pushes
        row.tell("pushes_fewest", few, f"{pushes} pushes, though {shortest.fewest_pushes} are enough")
    return True


def _tell_length(row: _Row, values: Mapping[str, Any], level: Level, path: list[Place]) -> None:
    """Whether the solution is as short as the shortest path; over roads that is no question of their number."""
    steps, shortest = len(path) - 1, level.solve()
    if isinstance(level, GraphLevel):
        length, least = (level.length_of(some) for some in (path, shortest.path))
        row.tell(
            "solution_shortest",
            steps == values["steps"] and length <= least + _SAME_LENGTH,
            f"the solution is {length:.2f} long and has {steps} moves, the row says {values['steps']}, the shortest "
            f"path is {least:.2f} long",
        )
        return
    row.tell(
        "solution_shortest",
        steps == shortest.steps == values["steps"],
        f"the solution has {steps} moves, the row says {values['steps']}, the shortest path {shortest.steps}",
    )


def _places(solution: Sequence[Sequence[int]] | None, length: int) -> list[Place]:
    """The solution's places; one that has not ``length`` numbers becomes one that no level has."""
    return [tuple(place) if place is not None and len(place) == length else (-1,) * length for place in solution or ()]


def _illegal(level: Level, path: list[Place]) -> str | None:
    """What is wrong with a path, or ``None``."""
    if len(path) < 2 or path[0] != level.start or not _solves(level, path[-1]):
        ends = f"from {path[0]} to {path[-1]}" if path else "nowhere"
        return f"the solution goes {ends}, not from {level.start} to {level.goal}"
    for here, there in itertools.pairwise(path):
        if not level.open_between(here, there):
            return f"the step from {here} to {there} is not legal"
    return None


def _solves(level: Level, place: Place) -> bool:
    """Whether a place is the goal; of Sokoban's states each is that has the boxes on the targets."""
    if isinstance(level, SokobanLevel):
        return sorted(place_cells(place)[1:]) == sorted(level.targets)
    return place == level.goal


def _points(values: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The trajectory as ``[F, 2]``, or ``None`` if it has another shape or holds no numbers."""
    try:
        points = np.array(values["trajectory"], np.float64)
    except (ValueError, TypeError):
        return None
    return points if points.shape == (values["frames"], 2) and np.isfinite(points).all() else None


def _trajectory(row: _Row, values: Mapping[str, Any], level: Level) -> None:
    points = _points(values)
    if points is None:
        row.tell("trajectory_true", False, f"the trajectory is not {values['frames']} points (x, y)")
        return
    route = level.route(_places(values["solution"], len(level.start))) / level.cell_size
    place, distance = _along(points / level.cell_size, route)
    end = float(np.linalg.norm(np.diff(route, axis=0), axis=1).sum())
    row.tell(
        "trajectory_true",
        distance.max() <= _ON_PATH
        and bool(np.all(np.diff(place) >= -_ON_PATH))
        and abs(place[0]) <= _ON_PATH
        and abs(place[-1] - end) <= _ON_PATH,
        f"the trajectory goes from {place[0]:.2f} to {place[-1]:.2f} of {end:.6g} cells along the solution, at most "
        f"{distance.max():.2f} cells off it",
    )


def _along(points: NDArray[np.float64], route: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each point the nearest place on a line: cells from the line's start, and cells off it.

    Args:
        points: ``[F, 2]`` in cells.
        route: corners of the line, ``[corners, 2]`` in cells; it may come by a place more than once.
    """
    begin, step = route[:-1], np.diff(route, axis=0)
    lengths = np.linalg.norm(step, axis=1)
    offset = points[:, None] - begin[None]
    share = np.clip((offset * step).sum(-1) / np.maximum(lengths**2, 1e-12), 0, 1)
    away = np.linalg.norm(offset - share[..., None] * step, axis=-1)
    place = np.concatenate([[0.0], np.cumsum(lengths)])[:-1] + share * lengths
    found, last = np.zeros(len(points), int), 0.0
    for frame, near in enumerate(away <= away.min(1, keepdims=True) + _ON_PATH):
        # A way that comes by the same place again is followed in its order.
        onward = np.flatnonzero(near & (place[frame] >= last - _ON_PATH))
        found[frame] = onward[place[frame][onward].argmin()] if len(onward) else away[frame].argmin()
        last = place[frame, found[frame]]
    rows = np.arange(len(points))
    return place[rows, found], away[rows, found]


def _media(row: _Row, values: Mapping[str, Any], level: Level | None, lossless: bool) -> None:
    size = (values["height"], values["width"])
    drawn = _drawn(values, level)
    first = _first_frame(row, values, size)
    if first is not None and drawn is not None:
        difference = _difference(first[None], drawn[:1], _window(level, size))
        row.tell("first_frame_true", difference <= _TOLERANCE[True], _differs("the first frame", difference))

    media = values["video"]
    due = values["split"] != "prompts"
    held = media is not None and bool(media["bytes"])
    if not row.tell("video_where_due", held == due, "there is no video" if due else "there is a video") or not held:
        return
    try:
        video = decode_video(media["bytes"])
    except MediaError as error:
        row.tell("video_readable", False, str(error))
        return
    stated = (values["frames"], *size, 3)
    if not row.tell("video_readable", video.shape == stated, f"the video is {video.shape}, not {stated}"):
        return
    tolerance = _TOLERANCE[lossless]
    if first is not None:
        difference = _difference(video[:1], first[None], _window(level, size))
        row.tell("video_begins_true", difference <= tolerance, _differs("frame 0", difference))
    if drawn is not None and len(drawn) == len(video):
        difference = _difference(video, drawn, _window(level, size))
        row.tell("video_true", difference <= tolerance, _differs("the video", difference))
    elif level is not None and first is not None and str(values["texture"]).startswith(FOREIGN):
        points = _points(values)
        if points is not None and level.solution is not None:
            fault = _fault_of_foreign(values, points, video)
            row.tell("video_true", fault is None, fault or "")


def _fault_of_foreign(values: Mapping[str, Any], points: NDArray[np.float64], video: NDArray[np.uint8]) -> str | None:
    """What is wrong with a video in a skin that we cannot draw, or ``None``."""
    task = decode_task({**values, "video": None}, "the row")
    (verdict,) = verify([video], [task])
    if verdict.error is not None:
        return f"the video cannot be verified: {verdict.error}"
    # Whether it is as short as can be is asked of the solution, which the video must follow.
    if not verdict.sr:
        kinds = dict.fromkeys(f"{found.kind} in frame {found.frame}" for found in verdict.violations)
        return f"the video is no solution: {', '.join(list(kinds)[:3]) or f'the player ends at {verdict.end}'}"
    away = np.linalg.norm(verdict.track - points, axis=1) * task.level.canvas
    furthest = float(np.nanmax(away, initial=0.0))
    return None if furthest <= _SEEN else f"the player is up to {furthest:.2f} cells from where the trajectory says"


def _first_frame(row: _Row, values: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.uint8] | None:
    media = values["first_frame"]
    try:
        image = decode_image((media or {}).get("bytes") or b"")
    except MediaError as error:
        row.tell("first_frame_readable", False, str(error))
        return None
    stated = (*size, 3)
    if row.tell("first_frame_readable", image.shape == stated, f"the first frame is {image.shape}, not {stated}"):
        return image
    return None


def _drawn(values: Mapping[str, Any], level: Level | None) -> NDArray[np.uint8] | None:
    """The video as we draw it; only its first frame if the trajectory is not usable; ``None`` if we cannot draw it."""
    size = values["height"]
    if level is None or values["texture"] not in TEXTURES or values["width"] != size:
        return None
    if isinstance(level, NavigationLevel):
        return FAMILIES[level.family].render(level, TEXTURES[values["texture"]], poses_of(values), size)
    if size % level.canvas:
        return None
    points = _points(values)
    usable = points is not None and bool(np.all((points >= 0) & (points <= 1)))
    positions = points if usable and points is not None else np.array([level.center(level.start)])
    return FAMILIES[level.family].render(level, TEXTURES[values["texture"]], positions, size)


def _window(level: Level | None, size: tuple[int, int]) -> int:
    """Side of the window for comparisons, in pixels: the player's."""
    return max(1, round(PLAYER_DIAMETER * size[0] * (level.cell_size if level else 0.1)))


def _difference(video: NDArray[np.uint8], other: NDArray[np.uint8], window: int) -> float:
    """Largest mean absolute difference over a square window anywhere in the frames ``[F, H, W, 3]``."""
    mean = np.full((1, 3), 1 / 3, np.float32)
    return max(
        float(cv2.blur(cv2.transform(cv2.absdiff(a, b), mean), (window, window)).max())
        for a, b in zip(video, other, strict=True)
    )


def _differs(what: str, difference: float) -> str:
    return f"{what} differs by up to {difference:.0f} of 255 (mean over a window of the player's size)"
