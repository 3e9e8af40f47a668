"""A recorded drive of a real robot: a path to a target that a caption names, in a world that nobody has mapped.

It stands for levels of the family `navigation` that come from elsewhere, such as Target-Bench: what can be known of it
is its path. Its places are centimetres from where the robot was at first, which looked north.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.level import Place, Solution


@dataclass(frozen=True, kw_only=True)
class RecordedLevel:
    """One recording.

    Attributes:
        family: ``navigation``.
        segment: its name in the data set that it comes from.
        caption: what the robot was to do.
        path: where it was, centimetres (east, north), in order; no place twice in a row.
    """

    family: str
    segment: str
    caption: str
    path: tuple[Place, ...]

    def __post_init__(self) -> None:
        """Refuse what is no drive."""
        if len(self.path) < 2:
            raise ValueError(f"segment {self.segment!r} has a path of {len(self.path)} places; expected 2 or more")

    @cached_property
    def level_id(self) -> str:
        """Content hash of the level, 16 hexadecimal digits."""
        text = json.dumps(self.to_state(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def layout_id(self) -> str:
        """The same: recordings share no floor that is known."""
        return self.level_id

    @property
    def canvas(self) -> int:
        """Metres per side of a square around the first place that holds the path."""
        return max(4, 2 * int(np.ceil(np.abs(np.array(self.path)).max() / 100)))

    @property
    def cell_size(self) -> float:
        """A metre as a fraction of the canvas."""
        return 1.0 / self.canvas

    @property
    def start(self) -> Place:
        """The first place."""
        return self.path[0]

    @property
    def goal(self) -> Place:
        """The last place."""
        return self.path[-1]

    @property
    def solution(self) -> Solution:
        """The recorded path: the only one that is known."""
        return Solution(path=self.path, count=1)

    def solve(self) -> Solution:
        """The same."""
        return self.solution

    def center(self, place: Place) -> tuple[float, float]:
        """A place as fractions of the canvas, whose middle is the first place."""
        return 0.5 + place[0] / 100 / self.canvas, 0.5 + place[1] / 100 / self.canvas

    def route(self, path: Sequence[Place]) -> NDArray[np.float64]:
        """Places of a path as fractions of the canvas, ``[places, 2]``."""
        return np.array([self.center(place) for place in path], np.float64).reshape(-1, 2)

    def open_between(self, a: Place, b: Place) -> bool:
        """Whether the recorded robot went from one place to another."""
        return (a, b) in zip(self.path[:-1], self.path[1:], strict=True)

    def to_state(self) -> dict[str, object]:
        """The level as plain JSON values; ``recorded`` tells it from levels of our own."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.loads(json.dumps({**values, "recorded": True}))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RecordedLevel:
        """Inverse of `to_state`.

        Raises:
            ValueError: if a field is missing or malformed, naming it.
        """
        try:
            return cls(
                family=str(state["family"]),
                segment=str(state["segment"]),
                caption=str(state["caption"]),
                path=tuple((int(x), int(y)) for x, y in state["path"]),
            )
        except KeyError as missing:
            raise ValueError(f"level state lacks the field {missing}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"level state is malformed: {error}") from None
