"""Levels of VR-Bench's pathfinder and maze3d, made and drawn as its generators do: state files, pictures, videos."""

from __future__ import annotations

import itertools
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import Voronoi
from vr_bench_example import save

from wan_r1.tasks.video import encode_image

SIDE = 512
ROADS = {"easy": (30, 0.30, 4, 0.15), "medium": (25, 0.20, 6, 0.20), "hard": (18, 0.15, 7, 0.25)}
"""Road width in pixels, distance of seeds in sides, fewest nodes of a solution, share of further roads; for pictures of
half the benchmark's size, to be quick."""
GRIDS = {"easy": (6, 6, 5), "medium": (8, 8, 7), "hard": (10, 10, 9)}
FIGURE = 740
STRETCHED = 752


@dataclass(frozen=True, kw_only=True)
class Example:
    """A state, the places (in pixels) of its reference's player ``[F, 2]``, and how all looks.

    ``behind`` is the picture without the player, ``goalless`` the same without the goal; ``size`` that of the video.
    """

    state: dict
    way: np.ndarray
    behind: np.ndarray
    goalless: np.ndarray
    player: np.ndarray
    size: int

    def draw(self, places: np.ndarray, behind: np.ndarray | None = None, colour=None) -> np.ndarray:
        """A video of the player at some places; a player of one colour if asked for."""
        frames = []
        for x, y in places:
            frame = (self.behind if behind is None else behind).copy()
            paste(frame, self.player if colour is None else dyed(self.player, colour), x, y)
            frames.append(frame if self.size == len(frame) else cv2.resize(frame, (self.size, self.size)))
        return np.stack(frames)

    @property
    def image(self) -> np.ndarray:
        """The given image, at the size of the figure."""
        frame = self.behind.copy()
        paste(frame, self.player, *self.way[0])
        return frame

    def write(self, folder: Path, stem: str) -> None:
        """Its three files, below a folder ``<game>/<skin>/<difficulty>``."""
        save(self.draw(self.way), folder / "videos" / f"{stem}.mp4")
        for kind in ("states", "images"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{stem}.png").write_bytes(encode_image(self.image))
        (folder / "states" / f"{stem}.json").write_text(json.dumps(self.state))


def paste(image: np.ndarray, sprite: np.ndarray, x: float, y: float) -> None:
    """An RGBA sprite on a picture, its centre at whole pixels."""
    side = len(sprite)
    left, top = int(x) - side // 2, int(y) - side // 2
    part = image[max(0, top) : top + side, max(0, left) : left + side]
    cut = sprite[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
    alpha = cut[..., 3:] / 255
    part[:] = np.rint(part * (1 - alpha) + cut[..., :3] * alpha)


def dyed(sprite: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The sprite in one colour."""
    return np.concatenate([np.full_like(sprite[..., :3], colour), sprite[..., 3:]], axis=-1)


def disc(side: int, colour: tuple[int, int, int], inner: tuple[int, int, int] | None = None) -> np.ndarray:
    """A smooth disc, with another colour in its middle if asked for."""
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    away = np.hypot(x, y)
    sprite = np.zeros((side, side, 4), np.uint8)
    sprite[..., :3] = colour
    if inner is not None:
        sprite[np.hypot(x, y + 0.1 * side) < 0.22 * side, :3] = inner
    sprite[..., 3] = 255 * np.clip(side / 2 - away, 0, 1)
    return sprite


def resample(line: np.ndarray, count: int) -> np.ndarray:
    """Points at equal distances along a line."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, lengths[-1], count)
    return np.stack([np.interp(at, lengths, line[:, axis]) for axis in range(line.shape[1])], axis=1)


# Pathfinder


def bend(segment: np.ndarray, points: int = 401) -> np.ndarray:
    t = np.linspace(0, 1, points)[:, None]
    return (1 - t) ** 2 * segment[0] + 2 * t * (1 - t) * segment[1] + t**2 * segment[2]


def pathfinder(seed: int, difficulty: str = "easy", skin: str = "1") -> Example:
    rng = np.random.default_rng(seed)
    while True:
        made = _network(rng, difficulty)
        if made is not None:
            return _drawn_roads(*made, difficulty, skin)


def _network(rng: np.random.Generator, difficulty: str):
    """Segments by the nodes they join, and a way over the fewest nodes; ``None`` if it has too few."""
    road, ratio, fewest, share = ROADS[difficulty]
    spacing, margin = max(SIDE * ratio, 3 * road), 2 * road
    seeds: list[np.ndarray] = []
    for _ in range(4000):
        point = rng.uniform(0, SIDE, 2)
        if all(np.hypot(*(point - other)) >= spacing for other in seeds):
            seeds.append(point)
    around = [(-margin, -margin), (SIDE + margin, -margin), (-margin, SIDE + margin), (SIDE + margin, SIDE + margin)]
    diagram = Voronoi(np.array([*seeds, *around]))
    inside = ((diagram.vertices >= margin) & (diagram.vertices <= SIDE - margin)).all(1)
    edges = []
    for a, b in diagram.ridge_vertices:
        if min(a, b) >= 0 and inside[a] and inside[b]:
            length = float(np.hypot(*(diagram.vertices[a] - diagram.vertices[b])))
            if length <= 8 * road:
                edges.append((a, b))
    rng.shuffle(edges)
    laid, reached, spare = [], set(), [tuple(edge) for edge in edges]
    start = int(rng.choice(spare[0])) if spare else -1
    reached.add(start)
    while grown := next((edge for edge in spare if len(reached & set(edge)) == 1), None):
        laid.append(grown)
        spare.remove(grown)
        reached |= set(grown)
    spare = [edge for edge in spare if set(edge) <= reached]
    laid += spare[: int(share * len(spare))]
    before, order = {start: -1}, deque([start])
    while order:
        node = order.popleft()
        for edge in laid:
            if node in edge and (other := sum(edge) - node) not in before:
                before[other] = node
                order.append(other)
    path = [list(before)[-1]]
    while before[path[-1]] >= 0:
        path.append(before[path[-1]])
    return (rng, diagram.vertices, laid, path[::-1]) if len(path) >= fewest else None


def _road_skin(skin: str, icon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What roads are cut from ``[SIDE, SIDE, 3]``, and the sprites of player and end, ``icon`` pixels a side.

    1 is flat and white; 2 sand; 3 a golf course, as the benchmark's second; 4 dark, with sprites that are opaque
    squares; 5 a photograph, with soft sprites of many colours.
    """
    rng = np.random.default_rng(5)
    if skin == "1":
        return np.full((SIDE, SIDE, 3), 255, np.float32), disc(icon, (40, 200, 60)), disc(icon, (220, 40, 40))
    if skin == "5":
        noise = rng.normal(0, 1, (SIDE, SIDE, 3))
        smooth = cv2.GaussianBlur(noise, (0, 0), 6) / 0.047 + 0.5 * noise
        player, end = disc(icon, (235, 120, 40), (60, 40, 30)), disc(icon, (90, 40, 140), (230, 220, 120))
        for sprite in (player, end):
            sprite[..., :3] = np.clip(sprite[..., :3] + rng.normal(0, 20, (icon, icon, 3)), 0, 255)
            sprite[..., 3] = cv2.GaussianBlur(sprite[..., 3], (0, 0), 1)
        return np.array([185, 175, 165]) + 9 * smooth, player, end
    colour = {"2": (150, 120, 80), "3": (90, 160, 60), "4": (58, 60, 66)}[skin]
    grain = rng.normal(0, 12 if skin != "4" else 5, (16, 16, 1)).repeat(4, 0).repeat(4, 1)
    texture = np.array(colour, np.float32) + np.tile(grain, (SIDE // 64, SIDE // 64, 1))
    if skin == "2":
        return texture, disc(icon, (30, 90, 220), (255, 240, 120)), disc(icon, (190, 60, 200), (250, 250, 250))
    if skin == "3":
        return texture, disc(icon, (245, 245, 245), (225, 225, 228)), disc(icon, (25, 35, 20), (70, 50, 35))
    squares = []
    for outer, inner in (((0, 220, 220), (10, 40, 60)), ((250, 60, 160), (70, 10, 50))):
        sprite = np.full((icon, icon, 4), (*outer, 255), np.uint8)
        sprite[icon // 4 : -icon // 4, icon // 4 : -icon // 4, :3] = inner
        squares.append(sprite)
    return texture, squares[0], squares[1]


def _drawn_roads(rng, points, edges, path, difficulty: str, skin: str) -> Example:
    road = ROADS[difficulty][0]
    segments = {}
    for a, b in edges:
        step = points[b] - points[a]
        shift = rng.uniform(-0.04, 0.04) * np.array([-step[1], step[0]])
        segments[a, b] = np.array([points[a], (points[a] + points[b]) / 2 + shift, points[b]])
    cover = np.zeros((SIDE, SIDE), np.uint8)
    for segment in segments.values():
        cv2.polylines(cover, [bend(segment).astype(np.int32)], False, 255, road, cv2.LINE_AA)
    texture, player, end = _road_skin(skin, int(0.8 * road))
    behind = np.rint(texture * (cover[..., None] / 255)).clip(0, 255).astype(np.uint8)
    goalless = behind.copy()
    paste(behind, end, *points[path[-1]])
    line, chosen, order = [], [], list(segments)
    for a, b in itertools.pairwise(path):
        key = (a, b) if (a, b) in segments else (b, a)
        part = bend(segments[key])
        line.append(part if key == (a, b) else part[::-1])
        chosen.append(order.index(key))
    line = np.concatenate(line)
    length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())

    def entity(node: int) -> dict:
        x, y = (int(value) for value in points[node])
        return {
            "pixel_pos": {"x": x, "y": y},
            "bbox": {
                "x": x - road // 2,
                "y": y - road // 2,
                "width": road,
                "height": road,
                "center_x": x,
                "center_y": y,
            },
        }

    state = {
        "version": "1.0",
        "game_type": "pathfinder",
        "entities": {"player": entity(path[0]), "goal": entity(path[-1]), "boxes": []},
        "render": {"cell_size": road, "image_width": SIDE, "image_height": SIDE},
        "metadata": {
            "segments": [segment.tolist() for segment in segments.values()],
            "start_point": points[path[0]].tolist(),
            "end_point": points[path[-1]].tolist(),
            "solution_segments": chosen,
            "solution_path": [points[node].tolist() for node in path],
            "road_width": road,
        },
    }
    way = resample(line, max(int(24 * length / 100), 48))
    return Example(state=state, way=way, behind=behind, goalless=goalless, player=player, size=SIDE)


# 3D maze

COLOURS = {
    "1": {"start": (68, 68, 255), "goal": (255, 68, 68), "cube": (136, 136, 136), "ball": (255, 215, 0)},
    "2": {"start": (90, 160, 90), "goal": (240, 150, 60), "cube": (70, 110, 150), "ball": (170, 60, 190)},
    "3": {"start": (30, 90, 60), "goal": (120, 30, 50), "cube": (45, 45, 55), "ball": (250, 220, 80)},
    "4": {"start": (190, 225, 250), "goal": (250, 200, 220), "cube": (235, 225, 200), "ball": (30, 60, 120)},
    "5": {"start": (250, 220, 60), "goal": (60, 200, 200), "cube": (170, 90, 60), "ball": (40, 170, 60)},
    "white ball": {"start": (30, 90, 60), "goal": (120, 30, 50), "cube": (45, 45, 55), "ball": (240, 240, 245)},
}


def seen_at(points, grid) -> np.ndarray:
    """The benchmark's view (see its figures: elevation 20, azimuth 45 degrees), pixels of 740 x 740."""
    grid = np.array(grid, float)
    axes = grid / np.linalg.norm(grid) * 1.8294640721620434 * 25 / 24
    q = np.asarray(points, float) / grid * axes - axes / 2
    c20, s20, c45 = np.cos(np.pi / 9), np.sin(np.pi / 9), np.cos(np.pi / 4)
    d, r = np.array([c20 * c45, c20 * c45, s20]), np.array([-c45, c45, 0])
    k = 10 / (10 - q @ d)
    return np.stack([380.81 + 432.4 * (q @ r) * k, 359.19 - 432.4 * (q @ np.cross(d, r)) * k], axis=-1)


def maze3d(seed: int, difficulty: str = "easy", skin: str = "1") -> Example:
    rng, grid = np.random.default_rng(seed), GRIDS[difficulty]
    while True:
        made = _cubes(rng, grid)
        if made is not None:
            return _drawn_cubes(grid, *made, skin)


def _cubes(rng: np.random.Generator, grid):
    """Cubes, ladders and the pieces of the main path, by steps that go away and up; ``None`` if it is too short."""
    here = (grid[0] - 1, grid[1] - 1, 0)
    cubes, ladders, path = {here: None}, [], []

    def grow(begin, pieces: int, clear: bool) -> list:
        """A walk of some pieces; one of a branch ends where it touches nothing."""
        done = []
        for _ in range(pieces):
            x, y, z = begin
            options = []
            for step, fits in (((0, -2, 0), y > 2), ((-2, 0, 0), x > 2), ((0, 0, 3), z + 3 < grid[2])):
                end = tuple(int(value) for value in np.add(begin, step))
                middle = tuple(int(value) for value in np.add(begin, np.array(step) // 2))
                new = [end] if step[2] else [middle, end]
                touched = [c for c in cubes if c != begin and np.abs(np.subtract(c, end)).max() <= 1]
                if fits and not set(new) & set(cubes) and not (clear and touched):
                    options.append((end, new, step))
            if not options:
                break
            end, new, step = options[rng.integers(len(options))]
            cubes.update(dict.fromkeys(new))
            if step[2]:
                ladders.append({"base_pos": list(begin), "direction": [0, 0, 1], "height": 3})
            done.append({"start": list(begin), "end": list(end), "type": "ladder" if step[2] else "walk"})
            begin = end
        return done

    path = grow(here, int(rng.integers(5, 8)), False)
    if len(path) < 4 or all(piece["type"] == "walk" for piece in path):
        return None
    for piece in path[1:-1:2]:
        grow(tuple(piece["end"]), int(rng.integers(1, 3)), True)
    return list(cubes), ladders, path


def _drawn_cubes(grid, cubes, ladders, path, skin: str) -> Example:
    colours = COLOURS[skin]
    start, goal = tuple(path[0]["start"]), tuple(path[-1]["end"])
    behind, goalless = (
        _picture(grid, cubes, ladders, {start: colours["start"], goal: colours[look]}, colours["cube"])
        for look in ("goal", "cube")
    )
    corners = np.add([path[0]["start"], *(piece["end"] for piece in path)], (0.5, 0.5, 1.35))
    length = float(np.abs(np.diff(corners, axis=0)).sum())
    way = seen_at(resample(corners, max(int(24 * length / 2), 10)), grid)
    side = round(48.1 * 8 / np.mean(grid[:2]))
    player = disc(side, tuple(int(0.75 * value) for value in colours["ball"]))
    inner = disc(side - 6, colours["ball"])
    paste(player[..., :3], inner, side // 2, side // 2)

    def entity(place) -> dict:
        x, y = (int(value) for value in place)
        box = {"x": x - side // 2, "y": y - side // 2, "width": side - 1, "height": side - 1}
        return {"pixel_pos": {"x": x, "y": y}, "bbox": {**box, "center_x": x, "center_y": y}}

    state = {
        "version": "1.0",
        "game_type": "maze3d",
        "entities": {"player": entity(way[0]), "goal": entity(way[-1]), "boxes": []},
        "render": {"cell_size": side - 1, "image_width": FIGURE, "image_height": FIGURE},
        "metadata": {
            "grid_size": list(grid),
            "cubes": [list(cube) for cube in cubes],
            "start_pos": list(start),
            "goal_pos": list(goal),
            "ladders": ladders,
            "path": path,
        },
    }
    return Example(state=state, way=way, behind=behind, goalless=goalless, player=player, size=STRETCHED)


def _picture(grid, cubes, ladders, special, usual) -> np.ndarray:
    """The figure without its ball; some cubes have colours of their own."""
    image = np.full((FIGURE, FIGURE, 3), 255, np.uint8)

    def blend(corners, colour, alpha: float, edge: bool) -> None:
        outline = np.rint(seen_at(corners, grid) * 16).astype(np.int32)
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_AA, 4)
        share = alpha * mask[..., None] / 255
        image[:] = np.rint(image * (1 - share) + np.array(colour) * share)
        if edge:
            cv2.polylines(image, [outline], True, (0, 0, 0), 1, cv2.LINE_AA, 4)

    x, y, _ = grid
    blend([(0, 0, 0), (x, 0, 0), (x, y, 0), (0, y, 0)], (128, 128, 128), 0.1, False)
    eye = np.array([np.cos(np.pi / 9) * np.cos(np.pi / 4)] * 2 + [np.sin(np.pi / 9)])
    ladder_of = {tuple(ladder["base_pos"]): ladder["height"] for ladder in ladders}
    for cube in sorted(cubes, key=lambda cube: float(np.dot(np.array(cube) + 0.5, eye))):
        colour = special.get(cube, usual)
        for axis, step in ((0, (1, 0, 0)), (1, (0, 1, 0)), (2, (0, 0, 1))):
            if tuple(np.add(cube, step)) in cubes:
                continue
            a, b = (axis + 1) % 3, (axis + 2) % 3
            face = np.tile(np.array(cube, float), (4, 1))
            face[:, axis] += 1
            face[[1, 2], a] += 1
            face[[2, 3], b] += 1
            blend(face, colour, 0.85, True)
        if cube in ladder_of:
            height = ladder_of[cube]
            lines = [((0, side, 0), (0, side, height)) for side in (0, 0.2)]
            lines += [((0, 0, rung), (0, 0.2, rung)) for rung in np.linspace(0, height, 8)[1:-1]]
            for line in lines:
                ends = np.rint(seen_at(np.add(cube, (0.5, 0, 0.5)) + line, grid) * 16).astype(np.int32)
                cv2.polylines(image, [ends], False, (0, 0, 0), 2, cv2.LINE_AA, 4)
    return image


def without_ladders(made: Example, skin: str) -> np.ndarray:
    """Its picture without player and ladders."""
    given, colours = made.state["metadata"], COLOURS[skin]
    special = {tuple(given["start_pos"]): colours["start"], tuple(given["goal_pos"]): colours["goal"]}
    return _picture(given["grid_size"], [tuple(cube) for cube in given["cubes"]], [], special, colours["cube"])


MAKERS = {"pathfinder": pathfinder, "maze3d": maze3d}
