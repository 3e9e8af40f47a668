"""What is known of a level of roads before the first generated frame is read: its look, its roads, what hides where."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from wan_r1.tasks.families import get_family
from wan_r1.tasks.level import Place
from wan_r1.tasks.road_family import RoadFamily, RoadLevel, window_side
from wan_r1.tasks.roads import Regions, sample_line
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification.appearance import Appearance, SceneError, learn_appearance
from wan_r1.verification.scene import PIXELS_PER_CELL, reading_size, reduce_frames

_SPRITE_PIXELS = 12
"""Pixels a cell at which looks that are not ours are read: a sprite that is .64 cells wide has details, which at
`PIXELS_PER_CELL` become too few pixels to match between two of them."""
SPACING = 1 / 8
"""Distance of the samples of a road, in cells."""
_TILE = 1.0
"""Side of the tiles in which regions are compared, in cells."""
_FEWEST = 9
"""Fewest pixels of a region that is compared."""
_BESIDE = 0.4
"""Distance from a ladder, in cells, within which what is behind it is seen beside it."""
COVERED = 0.98
"""Where less of the player than this is visible it counts as partly covered."""
_AROUND = 1.0
"""The player is looked for in parts at samples within this many cells of one where it is partly covered."""
_REACH = 0.06
"""How far beyond its radius the player may reach in the given image, in cells, and half a pixel more."""
_BESIDE_WAY = 0.35
"""Samples of other roads so close to the recorded way, in cells, count to it: where roads fork, tracks are not so exact
that they tell one from the other."""
_SAME_DRAWING = 1.0
"""Largest mean difference, in levels, of the given image from our own drawing of the level, for that to be used."""
HIDDEN = 0.3
"""Where less of the player than this is visible it is not looked for."""
MAY_HIDE = 0.5
"""Where less of the player than this is visible it need not be found: blurred or compressed, the rest is too little."""


@dataclass(frozen=True, kw_only=True)
class RoadScene(Appearance):
    """A level of roads as it should look at the reading resolution, and its roads in cells.

    Attributes:
        places: all places; the first index of what is by place.
        points: float [places, 2], where they are.
        start: index of the start.
        goal: index of the goal.
        between: float32 [places, places], length of the shortest way between two places.
        samples: float32 [M, 2], points along all roads, road by road.
        road_of: int [M], the road of each sample.
        along: float32 [M, 2], length from each sample to either end of its road.
        ends: int [roads, 2], the places it joins.
        to_goal: float32 [M], length of the shortest way from each sample to the goal.
        to_goal_on_way: float32 [M], what is left of the level's recorded way (`GraphLevel.way`) from each sample on it;
            infinite elsewhere. The same as `to_goal` where there is none.
        length: of the shortest way from the start, or of the recorded one.
        visible: float32 [M], share of the player that can be seen at each sample.
        veiled: int [V], samples where a part of the player is covered, and those around them.
        veils: float32 [V, side, side], how much of each pixel can be seen there.
        members: float32 csr [K, H W], 1 where a pixel belongs to a region.
        kinds: for each region the violation that a change of it is.
        region_places: int [K], the place nearest to each region.
        contrast: float32 [K, 3], mean colour of each region less that of what it borders on.
        region_leak: float32 [K, 3], mean of `leak` over each region.
    """

    places: tuple[Place, ...]
    points: np.ndarray
    start: int
    goal: int
    between: np.ndarray
    samples: np.ndarray
    road_of: np.ndarray
    along: np.ndarray
    ends: np.ndarray
    to_goal: np.ndarray
    to_goal_on_way: np.ndarray
    length: float
    visible: np.ndarray
    veiled: np.ndarray
    veils: np.ndarray
    members: csr_matrix
    kinds: tuple[str, ...]
    region_places: np.ndarray
    contrast: np.ndarray
    region_leak: np.ndarray


_kept: OrderedDict[tuple, RoadScene] = OrderedDict()
_KEPT_MOST = 64


def get_road_scene(level: RoadLevel, first_frame: np.ndarray, texture: str) -> RoadScene:
    """The scene of a level of roads, made once and kept.

    Args:
        level: its geometry and rules.
        first_frame: the given image, ``[H, W, 3]`` uint8, square.
        texture: name of the texture it may be drawn in; any other name is allowed.

    Raises:
        SceneError: if the image does not show a player on the start.
    """
    key = (level.level_id, texture, first_frame.shape, first_frame.tobytes())
    scene = _kept.get(key)
    if scene is None:
        scene = _kept[key] = _make_scene(level, first_frame, texture)
        if len(_kept) > _KEPT_MOST:
            _kept.popitem(last=False)
    else:
        _kept.move_to_end(key)
    return scene


def _make_scene(level: RoadLevel, first_frame: np.ndarray, texture: str) -> RoadScene:
    family = get_family(level.family)
    assert isinstance(family, RoadFamily)
    side = reading_size(first_frame.shape[0], level.canvas, PIXELS_PER_CELL if texture in TEXTURES else _SPRITE_PIXELS)
    cell = side / level.canvas
    image = reduce_frames(first_frame[None], side)[0].astype(np.float32)
    regions = family.regions(level, side)
    x, y = (value * side for value in level.center(level.start))
    drawn = None
    if texture in TEXTURES and isinstance(level, family.level_type) and first_frame.shape[0] % level.canvas == 0:
        frames = family.render(level, TEXTURES[texture], None, first_frame.shape[0])
        drawn = reduce_frames(frames, side)[0].astype(np.float32)
    reach = (level.player_diameter / 2 + _REACH) * cell + 0.5
    background, floor = _without_player(image, drawn, regions, (x, y), reach, cell)
    looks = learn_appearance(
        image,
        background,
        np.zeros(image.shape[:2], bool),
        floor,
        corner=(y - cell / 2, x - cell / 2),
        centre=(x, y),
        cell=cell,
        name=f"on the start {level.start} of level {level.level_id}",
    )
    roads = _roads(level)
    pixels = template_pixels(roads["samples"] * np.float32(cell), looks)
    veils = family.visibility(level, (pixels + np.array(looks.anchor)) / cell, side)
    visible = _visible_shares(veils, looks, cell)
    covered = roads["samples"][visible < COVERED]
    away = np.hypot(*(roads["samples"][:, None] - covered[None]).transpose(2, 0, 1))
    veiled = np.flatnonzero(away.min(1, initial=np.inf) <= _AROUND)
    hidden = np.zeros((side, side), bool)
    at = (roads["samples"][visible < MAY_HIDE] * cell).astype(int).clip(0, side - 1)
    hidden[at[:, 1], at[:, 0]] = True
    return RoadScene(
        **vars(replace(looks, hideouts=hidden)),
        **roads,
        visible=visible,
        veiled=veiled,
        veils=veils[veiled],
        **_compared_regions(regions, looks, background, cell, roads["points"]),
    )


def _roads(level: RoadLevel) -> dict:
    """The level's places and roads; see `RoadScene`."""
    graph = level.graph
    places = tuple(graph.points)
    number = {place: k for k, place in enumerate(places)}
    from_goal = graph.distances(level.goal)
    if level.start not in from_goal:
        raise SceneError(f"level {level.level_id} has no solution: its goal cannot be reached")
    samples, road_of, along, to_goal = [], [], [], []
    for k, ((a, b), road) in enumerate(graph.roads.items()):
        line = sample_line(road.line, SPACING)
        walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        walked *= road.length / walked[-1]
        ahead = road.length - walked
        samples.append(line)
        road_of.append(np.full(len(line), k))
        along.append(np.stack([walked, ahead], axis=1))
        to_goal.append(np.minimum(from_goal.get(a, np.inf) + walked, from_goal.get(b, np.inf) + ahead))
    between = np.full((len(places), len(places)), np.inf, np.float32)
    for place in places:
        for other, length in graph.distances(place).items():
            between[number[place], number[other]] = length
    points = np.concatenate(samples).astype(np.float32)
    shortest = np.concatenate(to_goal).astype(np.float32)
    on_way, length = _left_of_way(level, points) if level.way else (shortest, from_goal[level.start])
    return {
        "places": places,
        "points": np.array(list(graph.points.values())),
        "start": number[level.start],
        "goal": number[level.goal],
        "between": between,
        "samples": points,
        "road_of": np.concatenate(road_of),
        "along": np.concatenate(along).astype(np.float32),
        "ends": np.array([[number[a], number[b]] for a, b in graph.roads]),
        "to_goal": shortest,
        "to_goal_on_way": on_way,
        "length": length,
    }


def _left_of_way(level: RoadLevel, samples: np.ndarray) -> tuple[np.ndarray, float]:
    """What is left of the recorded way from each sample on it or close to it (see `RoadScene`), and its length."""
    line = sample_line(level.graph.line(level.way), SPACING)
    passed = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    away = np.hypot(*(samples[:, None] - line[None]).transpose(2, 0, 1))
    left = np.where(away.min(1) <= _BESIDE_WAY, (passed[-1] - passed)[away.argmin(1)], np.inf)
    return left.astype(np.float32), float(passed[-1])


def _without_player(
    image: np.ndarray,
    drawn: np.ndarray | None,
    regions: Regions,
    centre: tuple[float, float],
    reach: float,
    cell: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The given image [H, W, 3] without its player, which is within ``reach`` pixels of a point, and the mean colour of
    what the player covers.

    What the player covers is taken from our own drawing of the level, if the image shows that elsewhere. Else each
    pixel takes the median of the same place of other cells in the same region or in regions of the same kind (surfaces
    repeat from cell to cell) or, failing that, of the whole region; where regions mix it is filled in from around.
    """
    side = image.shape[0]
    rows, columns = np.mgrid[:side, :side] + 0.5
    away = np.hypot(columns - centre[0], rows - centre[1])
    covered = away < reach
    result = image.copy()
    if drawn is not None and np.abs(drawn - image)[~covered].mean() < _SAME_DRAWING:
        result[covered] = drawn[covered]
        return result, result[away < 0.3 * cell].mean(0)
    sorts = np.array([regions.kinds.index(kind) for kind in regions.kinds])
    kinds = np.where(regions.labels >= 0, sorts[regions.labels], -1)
    step = round(cell)
    unknown = covered.copy()
    for row, column in np.argwhere(covered & (regions.labels >= 0)):
        every = np.s_[:, :]
        alike = np.s_[row % step :: step, column % step :: step] if step == cell and regions.repeats else every
        for what, where, fewest in (
            (regions.labels, alike, 2),
            (kinds, alike, 3),
            (regions.labels, np.s_[:, :], _FEWEST),
            (kinds, np.s_[:, :], _FEWEST),
        ):
            same = (what[where] == what[row, column]) & ~covered[where]
            if same.sum() >= fewest:
                result[row, column] = np.median(image[where][same], axis=0)
                unknown[row, column] = False
                break
    whole = np.rint(result).clip(0, 255).astype(np.uint8)
    result[unknown] = cv2.inpaint(whole, unknown.astype(np.uint8), 3, cv2.INPAINT_TELEA)[unknown]
    return result, result[away < 0.3 * cell].mean(0)


def template_pixels(points: np.ndarray, looks: Appearance) -> np.ndarray:
    """The pixels (x, y), int [N, 2], at which the player's look matches best when it is at points [N, 2] in pixels."""
    return np.floor(points - np.array(looks.anchor) + 0.5).astype(int)


def _visible_shares(veils: np.ndarray, looks: Appearance, cell: float) -> np.ndarray:
    """Share of the player's own pixels that can be seen at each sample, float32 [M]."""
    side = window_side(cell)
    along = np.arange(side) - side // 2
    disc = (np.hypot(along[:, None], along[None]) < looks.radius - 0.5).astype(np.float32)
    return (veils * disc).sum((1, 2)) / disc.sum()


def _compared_regions(
    regions: Regions, looks: Appearance, background: np.ndarray, cell: float, points: np.ndarray
) -> dict:
    """Regions cut into tiles (but for the goal, which is small), as they are compared; see `RoadScene`."""
    side = regions.labels.shape[0]
    tile = (np.arange(side) / (_TILE * cell)).astype(int)
    tiles = tile.max() + 1
    whole = np.isin(regions.labels, [label for label, kind in enumerate(regions.kinds) if kind == "goal_changed"])
    rows, columns = (np.where(whole, 0, axis) for axis in (tile[:, None], tile[None]))
    keys = (regions.labels.astype(np.int64) * tiles + rows) * tiles + columns
    keys[regions.labels < 0] = -1
    names, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    use = (names >= 0) & (counts >= _FEWEST)
    number = np.cumsum(use) - 1
    pixel = np.flatnonzero(use[inverse.ravel()])
    region = number[inverse.ravel()[pixel]]
    count = int(use.sum())
    members = csr_matrix((np.ones(len(pixel), np.float32), (region, pixel)), shape=(count, side * side))
    total = np.asarray(members.sum(1))
    means = members @ background.reshape(-1, 3) / total
    leak = members @ looks.leak.reshape(3, -1).T / total
    kinds = tuple(regions.kinds[int(name) // tiles**2] for name in names[use])
    rows, columns = np.divmod(np.arange(side * side), side)
    centres = members @ (np.stack([columns, rows], axis=1) + 0.5).astype(np.float32) / total / cell
    nearest = ((centres[:, None] - points[None]) ** 2).sum(-1).argmin(1)
    sorts = np.array(kinds)
    outside = np.median(means[sorts == "outside_changed"], axis=0)
    inside = np.median(means[sorts == "floor_changed"], axis=0)
    rival = np.where((sorts == "floor_changed")[:, None], outside, inside)
    floor = np.isin(regions.labels, [label for label, kind in enumerate(regions.kinds) if kind == "floor_changed"])
    for ladder in np.flatnonzero(sorts == "ladder_changed"):
        # An erased ladder shows the side of the cube behind it, which is beside it too.
        own = members[ladder].toarray().reshape(side, side).astype(np.uint8)
        around = (cv2.dilate(own, np.ones((2 * round(_BESIDE * cell) + 1,) * 2, np.uint8)) > own) & floor
        if around.sum() >= _FEWEST:
            rival[ladder] = background[around].mean(0)
    return {
        "members": members,
        "kinds": kinds,
        "region_places": nearest,
        "contrast": (means - rival).astype(np.float32),
        "region_leak": leak.astype(np.float32),
    }
