"""Sokoban: boxes are followed like the player, taken out of the frames, and held against what the player pushed.

Where the boxes may be follows from the player's own track (`wan_r1.tasks.sokoban.push_along`): a box that glides by
itself, follows the player, jumps or stays behind is elsewhere than its pushes put it. What is left of the frames shows
a level without boxes, which is read as any other on a grid.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from wan_r1.tasks.level import GridLevel
from wan_r1.tasks.sokoban import SokobanLevel, push_along
from wan_r1.verification.appearance import Appearance, SceneError, learn_appearance
from wan_r1.verification.matching import match_players
from wan_r1.verification.scene import BAND, GOAL, Scene, border_sorts, get_scene, reading_size, reduce_frames
from wan_r1.verification.tracking import refine_peaks
from wan_r1.verification.verdict import StrictRules

_APART, _APART_FILLING = 0.6, 0.9
"""Distance in cells within which a second answer of the matched filter is the same box: boxes are a cell apart. One
that fills its cell is like itself further away."""
_RIVAL = 0.5
"""Distance in cells from the player's centre within which an answer to a box's look may be the player."""
_LARGE = 0.6
"""Radius in cells from which a player's corners come close to those of a box that it pushes."""
_TAKEN_OUT = 0.58
"""Half side of the square that is taken out of the frames around a box, in cells: past its blur, short of a player that
pushes it."""
_REACHES = 16.0
"""Colour distance, in levels, from which a border of a box's cell shows the box: less could not be missed there."""

_kept: OrderedDict[tuple, BoxScene] = OrderedDict()
_KEPT_MOST = 1024


@dataclass(frozen=True, kw_only=True)
class BoxScene:
    """A Sokoban level as it should look, and what is known of its solution.

    Attributes:
        store: the level without its boxes, as a level on a grid.
        box: how a box looks.
        level: the level.
        path: the player's cells on the canvas along the solution.
        targets: (x, y) of the targets' centres on the canvas in cells, ``[boxes, 2]``.
        barred: bool [C + 2, C + 2], cells that no box may be in, with a rim around the canvas.
        apart: distance in cells from a box within which there is no other.
        crowded: whether the player is so large that it touches a box which it pushes.
    """

    store: Scene
    box: Appearance
    level: SokobanLevel
    path: tuple[tuple[int, int], ...]
    targets: np.ndarray
    barred: np.ndarray
    apart: float
    crowded: bool


def get_box_scene(level: SokobanLevel, first_frame: np.ndarray) -> BoxScene:
    """The scene of a level, made once and kept; arguments and errors as `wan_r1.verification.scene.get_scene`."""
    key = (level, first_frame.shape, first_frame.tobytes())
    if key not in _kept:
        _kept[key] = _make_scene(level, first_frame)
        if len(_kept) > _KEPT_MOST:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _make_scene(level: SokobanLevel, first_frame: np.ndarray) -> BoxScene:
    side = reading_size(first_frame.shape[0], level.canvas)
    cell, (top, left) = side / level.canvas, level.offset
    image = reduce_frames(first_frame[None], side)[0]
    walls = GridLevel(
        family=level.family,
        rows=level.rows,
        columns=level.columns,
        canvas=level.canvas,
        offset=level.offset,
        blocked=level.blocked,
        right_walls=(),
        down_walls=(),
        start=level.player,
        goal=level.targets[0],
    )
    empty, unknown, fills = _without_boxes(image, level, walls, cell)
    store = get_scene(walls, empty)
    kinds = store.kinds.copy()
    for row, column in level.targets:
        kinds[2 * (top + row) + 1, 2 * (left + column) + 1] = GOAL
    background = store.background.transpose(1, 2, 0)
    row, column = level.boxes[0]
    x, y = (value * side for value in level.center((row, column)))
    # Where no box reaches the border of its cell, a window up to the frame's edge would add a rim there that none has.
    inset = 0 if fills else max(1, round(BAND * cell))
    try:
        box = learn_appearance(
            image.astype(np.float32),
            background,
            np.zeros(image.shape[:2], bool),
            background[int(y), int(x)],
            corner=((top + row) * cell + inset, (left + column) * cell + inset),
            centre=(x, y),
            cell=cell - 2 * inset,
            name="",
        )
    except SceneError as error:
        raise SceneError(f"the given first frame shows no box on the cell {level.boxes[0]}: {error}") from error
    solution = level.solution
    if solution is None:
        raise SceneError(f"level {level.level_id} has no solution: its boxes cannot be pushed onto the targets")
    barred = np.ones((level.canvas + 2, level.canvas + 2), bool)
    for i, j in itertools.product(range(level.rows), range(level.columns)):
        barred[1 + top + i, 1 + left + j] = not level.is_free((i, j))
    return BoxScene(
        store=replace(store, kinds=kinds, unknown=store.unknown | unknown),
        box=box,
        level=level,
        path=tuple((top + place[0], left + place[1]) for place in solution.path),
        targets=np.array([(left + j + 0.5, top + i + 0.5) for i, j in level.targets], np.float32),
        barred=barred,
        apart=_APART_FILLING if fills else _APART,
        crowded=store.radius > _LARGE * cell,
    )


def _without_boxes(
    image: np.ndarray, level: SokobanLevel, walls: GridLevel, cell: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    """The given image with floor, as other cells show it, where its boxes are.

    As with the player, a border strip is replaced only where a box reaches into it, by what other cells show on such
    a side; if there are none, and in the corners, it stays unknown.

    Returns:
        The image, a mask [H, W] of what could not be told, and whether a box reaches a border of its cell.
    """
    n, inset = int(cell), max(1, round(BAND * cell))
    inside, low, high, every = slice(inset, n - inset), slice(0, inset), slice(n - inset, n), slice(0, n)
    strips = ((low, inside), (high, inside), (inside, low), (inside, high))
    edges = ((low, every), (high, every), (every, low), (every, high))

    def tile(place: tuple[int, int], of: np.ndarray) -> np.ndarray:
        y, x = (round((place[axis] + level.offset[axis]) * cell) for axis in (0, 1))
        return of[y : y + n, x : x + n]

    special = {level.player, *level.boxes, *level.targets}
    board = itertools.product(range(level.rows), range(level.columns))
    plain = [place for place in board if level.is_free(place) and place not in special]
    if not plain:
        raise SceneError(f"level {level.level_id} has no empty cell: its floor cannot be learned")
    tiles = np.stack([tile(place, image) for place in plain])
    sorts = [border_sorts(walls, place) for place in plain]
    floor = np.median(tiles, axis=0).round().astype(np.uint8)
    result, unknown, fills = image.copy(), np.zeros(image.shape[:2], bool), False
    for place in level.boxes:
        new, unknown_here = tile(place, result), tile(place, unknown)
        new[inside, inside] = floor[inside, inside]
        for i, sort in enumerate(border_sorts(walls, place)):
            same = [k for k, other in enumerate(sorts) if other[i] == sort]
            usual = np.median(tiles[same], axis=0) if same else floor
            shown = np.linalg.norm(tile(place, image)[strips[i]] - usual[strips[i]].astype(np.float32), axis=-1)
            if shown.max() <= _REACHES:
                continue
            fills = True
            unknown_here[edges[i]] = True
            if same:
                new[strips[i]] = usual[strips[i]].round()
                unknown_here[strips[i]] = False
    return result, unknown, fills


@dataclass(frozen=True, kw_only=True)
class BoxTracks:
    """Where the ``K`` boxes are in ``n`` videos of ``F`` frames.

    Attributes:
        position: float32 [n, F, K, 2], (x, y) in pixels of the reading resolution; nan where one is not seen.
        doubled: bool [n, F], there is one more.
        extra: float32 [n, F, 2], where that one is.
    """

    position: np.ndarray
    doubled: np.ndarray
    extra: np.ndarray


def track_boxes(
    difference: np.ndarray, scenes: Sequence[BoxScene], which: np.ndarray, rules: StrictRules, cell: float
) -> BoxTracks:
    """Find the boxes in every frame, each by its nearness to where it was.

    Args:
        difference: float32 [n, F, 3, H, W], frames less the background of their scene.
        scenes: the scenes, all of one size and number of boxes.
        which: int [n], scene of each video.
        rules: thresholds.
        cell: pixels a cell.
    """
    n, frames, _, height, width = difference.shape
    number = len(scenes[0].level.boxes)
    looks = [scene.box for scene in scenes]
    opacity, gain = match_players(difference, looks, which, rules)
    # Whatever explains more of a place than a box there would is no box: the player may have a box's colours.
    player, other = match_players(difference, [scene.store for scene in scenes], which, rules)
    answers = (other * (player > 0)).reshape(n * frames, height, width)
    reach = np.ones((2 * round(_RIVAL * cell) + 1,) * 2, np.uint8)
    rival = np.stack([cv2.dilate(frame, reach) for frame in answers])
    # A large player is a little like itself up to the box that it touches, which such answers would hide.
    crowded = np.array([scene.crowded for scene in scenes])[which].repeat(frames)
    for i in np.flatnonzero(crowded):
        rival[i] = cv2.dilate(np.where(answers[i] == rival[i], answers[i], 0), reach)
    rival = rival.reshape(gain.shape)
    # Outside of the board a box is told as a change of the surroundings.
    boards = np.stack([_board_pixels(scene, height) for scene in scenes])[which][:, None]
    left = (gain * (opacity >= rules.duplicate) * (gain > rival) * boards).reshape(n * frames, height, width)
    anchors = np.array([look.anchor for look in looks], np.float32)[which]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    every = np.arange(n * frames)
    apart = (np.array([scene.apart for scene in scenes])[which] * cell).repeat(frames)[:, None, None]
    places, strengths = [], []
    for _ in range(number + 1):
        pixel = left.reshape(len(left), -1).argmax(1)
        found = left.reshape(len(left), -1)[every, pixel] > 0
        strength = np.where(found, opacity.reshape(len(left), -1)[every, pixel], 0)
        spot = refine_peaks(gain, pixel.reshape(n, frames)) + anchors[:, None]
        places.append(spot.reshape(n, frames, 2))
        strengths.append(strength.reshape(n, frames))
        # The filter's answers go around the frame's edges.
        away_y, away_x = (
            np.abs(rows - (pixel // width)[:, None, None]),
            np.abs(columns - (pixel % width)[:, None, None]),
        )
        away_y, away_x = np.minimum(away_y, height - away_y), np.minimum(away_x, width - away_x)
        left = np.where(np.maximum(away_y, away_x) < apart, 0, left)
    spots = np.stack(places[:number], axis=2).astype(np.float32)
    spots[np.stack(strengths[:number], axis=2) < rules.present] = np.nan
    homes = np.array([[s.level.center(box) for box in s.level.boxes] for s in scenes], np.float32)[which]
    return BoxTracks(
        position=_assign(spots, homes * np.float32(width)),
        doubled=(strengths[number] >= rules.duplicate) & (strengths[number - 1] >= rules.present),
        extra=places[number].astype(np.float32),
    )


def _board_pixels(scene: BoxScene, side: int) -> np.ndarray:
    """The board as a mask of pixels [side, side]."""
    at = ((np.arange(side) + 0.5) * len(scene.store.board) / side).astype(int)
    return scene.store.board[np.ix_(at, at)]


def _assign(spots: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Spots [n, F, K, 2] in the order of the boxes, which were at ``last`` [n, K, 2] and move as little as can be."""
    orders = np.array(list(itertools.permutations(range(spots.shape[2]))))
    position = np.empty_like(spots)
    for frame in range(spots.shape[1]):
        choices = spots[:, frame][:, orders]
        # A box that is not seen costs the same wherever the others go.
        away = np.nan_to_num(np.sqrt(((choices - last[:, None]) ** 2).sum(-1)), nan=0.0)
        here = choices[np.arange(len(spots)), away.sum(2).argmin(1)]
        position[:, frame] = here
        last = np.where(np.isnan(here), last, here)
    return position


def take_out(
    frames: np.ndarray, difference: np.ndarray, position: np.ndarray, background: np.ndarray, cell: float
) -> None:
    """Put background where the boxes are, in place.

    Args:
        frames: uint8 [n, F, H, W, 3].
        difference: float32 [n, F, 3, H, W].
        position: float32 [n, F, K, 2] as in `BoxTracks`.
        background: float32 [n, 3, H, W].
        cell: pixels a cell.
    """
    height, width = frames.shape[2:4]
    reach = np.float32(_TAKEN_OUT * cell)
    for box in np.moveaxis(position, 2, 0):
        # nan compares as False: nothing is taken out for a box that is not seen
        across = np.abs(np.arange(width, dtype=np.float32) + 0.5 - box[..., 0:1]) <= reach
        down = np.abs(np.arange(height, dtype=np.float32) + 0.5 - box[..., 1:2]) <= reach
        for i, frame in np.ndindex(across.shape[:2]):
            place = np.ix_(down[i, frame], across[i, frame])
            frames[i, frame][place] = np.rint(background[i].transpose(1, 2, 0)[place])
            difference[i, frame][:, *place] = 0


def pushed(level: SokobanLevel, position: np.ndarray) -> np.ndarray:
    """Where the player's pushes put the boxes, on the canvas in cells ``[F, K, 2]``.

    Args:
        level: the level.
        position: the player's centres on the canvas in cells, ``[F, 2]``; nan where it is not known, which pushes none.
    """
    known = ~np.isnan(position[:, 0])
    last = np.maximum.accumulate(np.where(known, np.arange(len(position)), -1))
    home = np.array(level.center(level.player)) * level.canvas
    held = np.where((last >= 0)[:, None], position[np.maximum(last, 0)], home)
    return push_along(level, held / level.canvas) * level.canvas
