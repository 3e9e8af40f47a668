"""A level of robot navigation: a furnished floor, a robot on it, and what the robot is asked for.

Lengths are whole centimetres in the level and metres everywhere else; x goes east and y north from the floor's
south-west corner, headings are anticlockwise from east. `wan_r1.tasks.robot` says what the robot is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.furniture import COLOURS, EXPLICIT, KINDS, WANTS, quarter_turns
from wan_r1.tasks.level import Place, Solution
from wan_r1.tasks.navigation_path import plan
from wan_r1.tasks.robot import ROBOT_RADIUS

ROOM_HEIGHT = 2.6
"""Metres from floor to ceiling."""

Rectangle = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` on the floor."""


@dataclass(frozen=True, kw_only=True)
class Furniture:
    """One piece on the floor.

    Attributes:
        kind: one of `wan_r1.tasks.furniture.KINDS`.
        colour: one of `wan_r1.tasks.furniture.COLOURS`.
        x: west edge of its footprint in centimetres.
        y: south edge.
        width: centimetres across its front.
        depth: from front to back.
        height: up.
        turn: where its front looks: 0 south, 1 east, 2 north, 3 west.
    """

    kind: str
    colour: str
    x: int
    y: int
    width: int
    depth: int
    height: int
    turn: int

    def __post_init__(self) -> None:
        """Refuse what has no name, size or direction."""
        if self.kind not in KINDS or self.colour not in COLOURS:
            raise ValueError(f"furniture {self.colour!r} {self.kind!r} is unknown")
        if self.turn not in (0, 1, 2, 3) or min(self.width, self.depth, self.height) < 1:
            raise ValueError(
                f"the {self.colour} {self.kind} has turn={self.turn} and no positive size; allowed: 0 to 3"
            )

    @property
    def noun(self) -> str:
        """Its name, such as ``red cabinet``."""
        return KINDS[self.kind].noun.format(colour=self.colour)

    @property
    def footprint(self) -> Rectangle:
        """Metres on the floor."""
        across, along = (self.width, self.depth) if self.turn % 2 == 0 else (self.depth, self.width)
        return self.x / 100, self.y / 100, (self.x + across) / 100, (self.y + along) / 100

    @property
    def middle(self) -> tuple[float, float]:
        """The footprint's centre in metres."""
        x0, y0, x1, y1 = self.footprint
        return (x0 + x1) / 2, (y0 + y1) / 2

    def outward(self, side: int) -> tuple[float, float]:
        """Direction out of one of its sides, 0 being the front."""
        return quarter_turns(0.0, -1.0, self.turn + side)

    def before(self, side: int, distance: float) -> tuple[float, float]:
        """The point ``distance`` metres in front of the middle of one of its sides."""
        x0, y0, x1, y1 = self.footprint
        (x, y), (right, up) = self.middle, self.outward(side)
        return x + right * ((x1 - x0) / 2 + distance), y + up * ((y1 - y0) / 2 + distance)


@dataclass(frozen=True, kw_only=True)
class NavigationSolution(Solution):
    """A way to the target: its corners, and in ``count`` how many pieces of furniture answer the request."""


@dataclass(frozen=True, kw_only=True)
class NavigationLevel:
    """One level.

    Attributes:
        family: name of the family that made it.
        canvas: metres per side of the square that the floor fits in.
        floor: (east-west, north-south) size of the floor in centimetres.
        walls: inner walls ``(x0, y0, x1, y1)`` in centimetres, up to the ceiling.
        furniture: what stands on the floor.
        start: the robot's first place, centimetres.
        heading: where it looks first, degrees from 0 to 359.
        goal: the robot's last place, `STOP_DISTANCE` in front of the target.
        target: number of the target in ``furniture``.
        request: ``explicit`` or one of `wan_r1.tasks.furniture.WANTS`.
    """

    family: str
    canvas: int
    floor: tuple[int, int]
    walls: tuple[tuple[int, int, int, int], ...]
    furniture: tuple[Furniture, ...]
    start: Place
    heading: int
    goal: Place
    target: int
    request: str

    def __post_init__(self) -> None:
        """Refuse a target and a request that there are not, and ends that are no places."""
        if not 0 <= self.target < len(self.furniture):
            raise ValueError(f"target {self.target} is none of the {len(self.furniture)} pieces of furniture")
        if self.request != EXPLICIT and self.request not in WANTS:
            raise ValueError(f"request {self.request!r} is unknown; allowed: {EXPLICIT}, {', '.join(WANTS)}")
        if min(self.floor) < 1 or max(self.floor) > 100 * self.canvas:
            raise ValueError(f"the floor of {self.floor} cm does not fit in canvas={self.canvas} m")
        for name in ("start", "goal"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"{name} {getattr(self, name)} is no place (x, y) in centimetres")

    @cached_property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits."""
        return self._hash(())

    @cached_property
    def layout_id(self) -> str:
        """The same of the furnished floor, whatever robot drives on it to whatever target."""
        return self._hash(("canvas", "start", "heading", "goal", "target", "request"))

    def _hash(self, without: tuple[str, ...]) -> str:
        content = {name: value for name, value in self.to_state().items() if name not in without}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def cell_size(self) -> float:
        """A metre as a fraction of the canvas."""
        return 1.0 / self.canvas

    @property
    def size(self) -> tuple[float, float]:
        """The floor's size in metres."""
        return self.floor[0] / 100, self.floor[1] / 100

    @property
    def goal_object(self) -> Furniture:
        """The target."""
        return self.furniture[self.target]

    def facing(self, x: float, y: float) -> float:
        """The heading in radians from a point to the middle of the target."""
        there = self.goal_object.middle
        return float(np.arctan2(there[1] - y, there[0] - x))

    @property
    def answers(self) -> tuple[int, ...]:
        """Numbers of the pieces of furniture that answer the request."""
        target = self.goal_object
        if self.request == EXPLICIT:
            return tuple(k for k, one in enumerate(self.furniture) if one.noun == target.noun)
        want = WANTS[self.request]
        return tuple(k for k, one in enumerate(self.furniture) if one.kind in want.kinds + want.also)

    @cached_property
    def obstacles(self) -> NDArray[np.float64]:
        """Inner walls and footprints in metres, ``[N, 4]``."""
        walls = [tuple(value / 100 for value in wall) for wall in self.walls]
        return np.array([*walls, *(one.footprint for one in self.furniture)], np.float64).reshape(-1, 4)

    def clearance(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Metres from points ``[..., 2]`` to the nearest wall or furniture; negative outside of the floor, 0 inside
        of an obstacle."""
        x, y = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        width, depth = self.size
        least = np.minimum(np.minimum(x, width - x), np.minimum(y, depth - y))
        for x0, y0, x1, y1 in self.obstacles:
            away = np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0))
            least = np.minimum(least, away)
        return least

    def line_clearance(self, a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
        """The least clearance on a straight line between two points in metres, to a few millimetres."""
        steps = max(2, int(np.ceil(np.hypot(b[0] - a[0], b[1] - a[1]) / 0.02)) + 1)
        share = np.linspace(0, 1, steps)[:, None]
        return float(self.clearance(a * (1 - share) + b * share).min())

    @cached_property
    def solution(self) -> NavigationSolution | None:
        """A shortest collision-free way to the goal; ``None`` if there is none."""
        path = plan(self)
        return None if path is None else NavigationSolution(path=path, count=len(self.answers))

    def solve(self) -> NavigationSolution:
        """`solution` of a level that must have one.

        Raises:
            ValueError: if the goal cannot be reached.
        """
        if self.solution is None:
            raise ValueError(f"level {self.level_id}: the goal {self.goal} cannot be reached from {self.start}")
        return self.solution

    def center(self, place: Place) -> tuple[float, float]:
        """A place (x, y) as fractions of the canvas."""
        return place[0] / 100 / self.canvas, place[1] / 100 / self.canvas

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """Corners of a path as fractions of the canvas, ``[corners, 2]``."""
        return np.array([self.center(place) for place in path], np.float64).reshape(-1, 2)

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether the robot can drive straight from one place to another."""
        # The tolerance is for the sampling of the line.
        return self.line_clearance(np.array(a) / 100, np.array(b) / 100) >= ROBOT_RADIUS - 1e-3

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values, the ``state`` column of the data set."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.loads(json.dumps({**values, "furniture": [asdict(one) for one in self.furniture]}))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> NavigationLevel:
        """Inverse of `to_state`.

        Raises:
            ValueError: if a field is missing or malformed, naming it.
        """
        try:
            return cls(
                family=str(state["family"]),
                canvas=int(state["canvas"]),
                floor=_pair(state["floor"]),
                walls=tuple((int(a), int(b), int(c), int(d)) for a, b, c, d in state["walls"]),
                furniture=tuple(_furniture(one) for one in state["furniture"]),
                start=_pair(state["start"]),
                heading=int(state["heading"]),
                goal=_pair(state["goal"]),
                target=int(state["target"]),
                request=str(state["request"]),
            )
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None


def _pair(value: Any) -> tuple[int, int]:
    x, y = value
    return int(x), int(y)


def _furniture(value: Mapping[str, Any]) -> Furniture:
    names = ("x", "y", "width", "depth", "height", "turn")
    return Furniture(kind=str(value["kind"]), colour=str(value["colour"]), **{name: int(value[name]) for name in names})
