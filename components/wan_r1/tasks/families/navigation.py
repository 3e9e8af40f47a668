"""Robot navigation: a robot drives through a furnished room to what a sentence asks for, seen by its own camera.

The target is in view in the first picture, and exactly one piece of furniture answers the sentence. Easy levels have a
clear way straight ahead; in medium ones something stands in it; hard ones have two rooms or several corners, more
furniture and less of the target in view. A canvas is the floor's largest side in metres, and a speed is metres a frame.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.draw_room import draw_room, owners_seen, rays, texels
from wan_r1.tasks.family import DIFFICULTIES, BaseFamily
from wan_r1.tasks.furniture import EXPLICIT, KINDS, WANTS
from wan_r1.tasks.level import Place
from wan_r1.tasks.navigation_layout import Layout, furnish
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.navigation_path import MARGIN, RAMP, effort_of, motion, timed
from wan_r1.tasks.recorded_level import RecordedLevel
from wan_r1.tasks.robot import ROBOT_RADIUS, STOP_DISTANCE
from wan_r1.tasks.room_surfaces import bare_scene, room_scene
from wan_r1.tasks.textures import Texture


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a difficulty asks of a level.

    Attributes:
        efforts: least and most effort in metres, see `wan_r1.tasks.navigation_path`.
        room: metres that a video must at least have room for.
        corners: fewest corners of the way.
        aside: most degrees by which the robot first looks past its target.
        seen: least share of the target that furniture and walls leave in view.
    """

    efforts: tuple[int, int]
    room: int
    corners: int
    aside: int
    seen: float


TERMS = {
    "easy": Terms(efforts=(1, 6), room=3, corners=0, aside=12, seen=0.8),
    "medium": Terms(efforts=(2, 10), room=5, corners=1, aside=22, seen=0.6),
    "hard": Terms(efforts=(3, 14), room=7, corners=2, aside=32, seen=0.4),
}
"""The difficulties."""
_SMALL_CANVAS = 6
"""Below so many metres, hard levels need no more corners than medium ones: there is no room for them."""
_RESERVE = 0.85
"""Share of a video's room that a level may take: the rest is for standing still at the end."""
_STANDING = 16
"""Standing still takes one frame in so many, at least one."""
_LEAST_WAY = 0.9
"""Least distance in metres from the start to the goal."""
_VIEW, _LEAST_VIEW = 48, 0.012
"""Rays a side by which it is told what is in view, and the least share of the picture that the target fills."""
_LAYOUTS, _STARTS = 600, 40
"""Floors drawn before the family is declared unable to make a level, and places of the robot tried on each."""


class Navigation(BaseFamily[NavigationLevel]):
    """See the module."""

    name = "navigation"
    narrowest = 2
    level_type = NavigationLevel

    def span(self, difficulty: str, canvas: int) -> tuple[int, int]:
        """Least and largest effort of a way in metres."""
        self.shortest_allowed(difficulty, canvas)
        low, high = TERMS[difficulty].efforts
        return low, min(high, max(low + 3, 3 * canvas // 2))

    def hardest(self, difficulty: str, canvas: int) -> int:
        """A third up the span: long ways need large floors, of which there are fewer."""
        low, high = self.span(difficulty, canvas)
        return low + (high - low) // 3

    def shortest_allowed(self, difficulty: str, canvas: int) -> int:
        """Metres that a video must at least have room for; more where longer ways are asked for."""
        if difficulty not in TERMS:
            raise ConfigError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
        if canvas < self.smallest_canvas:
            raise ConfigError(f"canvas={canvas} is too small; use at least {self.smallest_canvas} metres")
        low, high = TERMS[difficulty].efforts
        least = low + round(self.shape.shortest * (min(high, max(low + 3, 3 * canvas // 2)) - low))
        return max(TERMS[difficulty].room, math.ceil((least + self.narrowest) / _RESERVE))

    def generate(
        self, rng: np.random.Generator, difficulty: str, canvas: int, max_steps: int | None = None
    ) -> NavigationLevel:
        """A level whose request exactly one piece of furniture answers, with a collision-free way to it.

        Args:
            rng: the only source of randomness; one draw is taken from it.
            difficulty: one of `DIFFICULTIES`.
            canvas: largest side of the floor in metres.
            max_steps: metres at full speed that the video has room for.

        Raises:
            ConfigError: if the difficulty is unknown, the canvas too small or ``max_steps`` below what it needs.
        """
        needed = self.shortest_allowed(difficulty, canvas)
        if max_steps is not None and max_steps < needed:
            raise ConfigError(
                f"{self.name} levels of difficulty={difficulty!r} need room for at least {needed} metres, but "
                f"max_steps={max_steps}; use at least {needed}, or an easier difficulty"
            )
        low, high = self.lengths(difficulty, canvas)
        most = high if max_steps is None else min(high, _RESERVE * max_steps)
        dice = random.Random(int(rng.integers(2**63)))
        for _ in range(_LAYOUTS):
            level = self._settle(dice, difficulty, canvas, furnish(dice, difficulty, canvas), low, most)
            if level is not None:
                return level
        raise RuntimeError(
            f"family {self.name!r} drew {_LAYOUTS} floors for difficulty={difficulty!r}, canvas={canvas}, none of "
            f"which has a way of {low} to {most:.1f} metres: its layouts and TERMS do not fit each other"
        )

    def _settle(
        self, dice: random.Random, difficulty: str, canvas: int, layout: Layout, low: float, most: float
    ) -> NavigationLevel | None:
        """A target, a request and a place of the robot on a floor; ``None`` if nothing suits."""
        if len(layout.furniture) < 3:
            return None
        empty = NavigationLevel(
            family=self.name,
            canvas=canvas,
            floor=layout.floor,
            walls=tuple(layout.walls),
            furniture=tuple(layout.furniture),
            start=(0, 0),
            heading=0,
            goal=(0, 0),
            target=0,
            request=EXPLICIT,
        )
        targets = [
            (replace(empty, target=target, request=request), places)
            for target in range(len(layout.furniture))
            for places in [_places_before(empty, target)]
            for request in _requests(empty, target)
            if places
        ]
        # In half of the levels the target is not named, where the floor has something that nothing else can stand for.
        wishes = [one for one in targets if one[0].request != EXPLICIT]
        targets = wishes if wishes and dice.random() < 0.5 else [one for one in targets if one not in wishes]
        if not targets:
            return None
        terms = TERMS[difficulty]
        corners = min(terms.corners, 1) if canvas < _SMALL_CANVAS else terms.corners
        for start in _free_places(dice, empty):
            asked, places = dice.choice(targets)
            goal = min(places, key=lambda place: math.dist(start, place))
            # Where the robot starts it must not have arrived.
            if not _LEAST_WAY <= math.dist(start, goal) / 100 <= most or (corners > 0) == asked.open_between(
                start, goal
            ):
                continue
            towards = math.degrees(asked.facing(start[0] / 100, start[1] / 100))
            aside = dice.randint(-terms.aside, terms.aside)
            level = replace(asked, start=start, goal=goal, heading=round(towards + aside) % 360)
            if not in_view(level, terms.seen):
                continue
            solution = level.solution
            if solution is None or len(solution.path) - 2 < corners:
                continue
            if solution.count == 1 and low <= effort_of(level, solution.path) <= most:
                return level
        return None

    def from_state(self, state: Mapping[str, Any]) -> Any:
        """The level that the ``state`` column describes: one of ours, or a recording from elsewhere.

        Raises:
            ValueError: if it describes none, or one of another family.
        """
        if not state.get("recorded"):
            return super().from_state(state)
        level = RecordedLevel.from_state(state)
        if level.family != self.name:
            raise ValueError(f"level state is of family {level.family!r}, not {self.name!r}")
        return level

    def render(
        self, level: NavigationLevel, texture: Texture, positions: NDArray[np.floating] | None, size: int
    ) -> NDArray[np.uint8]:
        """What the robot's camera sees.

        Args:
            level: the room.
            texture: its floor and walls.
            positions: ``[F, 3]`` poses (x, y in metres, heading in radians), or ``None`` for the first one.
            size: height and width in pixels.

        Returns:
            RGB frames, ``[F, H, W, 3]``.
        """
        poses = start_pose(level)[None] if positions is None else np.asarray(positions)
        fine = rays(size)
        return draw_room(room_scene(level, texture, texels(size * fine)), poses, size, fine)

    def prompt(self, texture: Texture) -> str:
        """What all prompts of the family have in common, without the target."""
        return (
            f"First-person view from a robot in a furnished room with a {texture.floor_noun}. The robot drives "
            "smoothly to its target without touching walls or furniture, then stands still in front of it, facing it."
        )

    def level_prompt(self, level: NavigationLevel, texture: Texture) -> str:
        """What the video model is told: the target by its name, or a wish that only the target answers."""
        begin = f"First-person view from a robot in a furnished room with a {texture.floor_noun}."
        end = "without touching walls or furniture, then stands still in front of it, facing it."
        if level.request == EXPLICIT:
            return f"{begin} It is told: go to the {level.goal_object.noun}. The robot drives there smoothly {end}"
        texts = WANTS[level.request].texts
        text = texts[int(level.level_id, 16) % len(texts)]
        return f'{begin} A person says: "{text}" The robot drives smoothly to the piece of furniture that helps, {end}'

    def trajectory(self, level: NavigationLevel, frames: int, steps_per_frame: float) -> NDArray[np.float32]:
        """Pose (x, y in metres, heading in radians) per frame, ``[F, 3]``: as slow as the frames allow, then at rest.

        Raises:
            ConfigError: if the way does not fit in the frames.
        """
        effort, poses = motion(level, level.solve().path)
        least = (float(effort[-1]) + RAMP) / steps_per_frame
        # The tolerance is for speeds such as 0.1 that no float holds exactly.
        if least > frames - 1 + 1e-6:
            raise ConfigError(
                f"a way of {float(effort[-1]) + RAMP:.1f} metres does not fit in frames={frames} at steps_per_frame="
                f"{steps_per_frame}; use at least {1 + math.ceil(least - 1e-6)} frames"
            )
        standing = max(1, (frames - 1) // _STANDING)
        return timed(effort, poses, frames, max(frames - 1 - standing, least))


def start_pose(level: NavigationLevel) -> NDArray[np.float64]:
    """The first pose (x, y, heading) in metres and radians."""
    return np.array([level.start[0] / 100, level.start[1] / 100, math.radians(level.heading)])


def _places_before(level: NavigationLevel, target: int) -> list[Place]:
    """Places at the stated distance before a piece where the robot can stand, in centimetres."""
    piece = level.furniture[target]
    found: list[Place] = []
    for side in KINDS[piece.kind].sides:
        x, y = piece.before(side, STOP_DISTANCE)
        place = round(100 * x), round(100 * y)
        if level.clearance(np.array(place) / 100) >= ROBOT_RADIUS + MARGIN:
            found.append(place)
    return found


def _requests(level: NavigationLevel, target: int) -> list[str]:
    """The requests that only this target answers."""
    kind = level.furniture[target].kind
    asked = [EXPLICIT, *(name for name, want in WANTS.items() if kind in want.kinds)]
    return [one for one in asked if len(replace(level, target=target, request=one).answers) == 1]


def _free_places(dice: random.Random, level: NavigationLevel) -> list[Place]:
    width, depth = level.floor
    drawn = [(dice.randint(30, width - 30), dice.randint(30, depth - 30)) for _ in range(_STARTS)]
    clear = level.clearance(np.array(drawn) / 100) >= ROBOT_RADIUS + MARGIN
    return [place for place, free in zip(drawn, clear, strict=True) if free]


def in_view(level: NavigationLevel, least: float) -> bool:
    """Whether the first picture shows enough of the target: of the picture, and ``least`` of what it could show of it
    if nothing stood before it."""
    scene, pose = bare_scene(level), start_pose(level)[None]
    seen = int((owners_seen(scene, pose, _VIEW) == level.target).sum())
    if seen < _LEAST_VIEW * _VIEW**2:
        return False
    mine = scene.owners == level.target
    alone = replace(
        scene, boxes=scene.boxes[mine], owners=scene.owners[mine], corners=scene.corners[[*np.flatnonzero(mine), -1]]
    )
    return seen >= least * int((owners_seen(alone, pose, _VIEW) == level.target).sum())


FAMILY = Navigation()
