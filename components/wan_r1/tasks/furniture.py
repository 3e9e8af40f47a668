"""Furniture: what it is called and good for, how large it is, and the boxes it is built of.

A piece stands on its own axes: x across its front, y from the front (0) to the back, z up, in whole centimetres. Every
part is a box with a paint; what a paint looks like is said in `wan_r1.tasks.room_surfaces`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (204, 42, 44),
    "orange": (240, 132, 30),
    "yellow": (244, 208, 50),
    "green": (52, 150, 72),
    "blue": (44, 92, 206),
    "purple": (128, 62, 170),
    "white": (244, 244, 240),
    "black": (46, 46, 52),
}
"""Named colours of furniture: far enough from each other to be named the same by everyone in any of the lights."""

Part = tuple[int, int, int, int, int, int, str]
"""A box ``(x0, y0, z0, x1, y1, z1)`` and its paint."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A sort of furniture.

    Attributes:
        noun: its name with ``{colour}`` where the colour stands.
        width: least and most centimetres across its front.
        depth: the same from front to back.
        height: the same up.
        at_wall: whether its back stands at a wall.
        sides: sides from which it can be come to, 0 (front) to 3, counted anticlockwise from above.
        parts: its boxes for a width, a depth and a height.
    """

    noun: str
    width: tuple[int, int]
    depth: tuple[int, int]
    height: tuple[int, int]
    at_wall: bool
    sides: tuple[int, ...]
    parts: Callable[[int, int, int], list[Part]]


def _legs(width: int, depth: int, top: int, thick: int) -> list[Part]:
    return [(x, y, 0, x + thick, y + thick, top, "dark") for x in (0, width - thick) for y in (0, depth - thick)]


def _plain(paint: str) -> Callable[[int, int, int], list[Part]]:
    return lambda w, d, h: [(0, 0, 0, w, d, h, paint)]


def _chair(w: int, d: int, h: int) -> list[Part]:
    return [*_legs(w, d, 40, 5), (0, 0, 40, w, d, 48, "body"), (0, d - 7, 48, w, d, h, "body")]


def _sofa(w: int, d: int, h: int) -> list[Part]:
    arms: list[Part] = [(x, 0, 42, x + 18, d - 22, 60, "dark") for x in (0, w - 18)]
    return [(0, 0, 0, w, d - 22, 42, "cushions"), (0, d - 22, 0, w, d, h, "body"), *arms]


def _table(w: int, d: int, h: int) -> list[Part]:
    return [*_legs(w, d, h - 7, 8), (0, 0, h - 7, w, d, h, "body")]


def _bed(w: int, d: int, h: int) -> list[Part]:
    pillow: Part = (w // 8, d - 52, 48, w - w // 8, d - 12, 60, "linen")
    return [(0, 0, 0, w, d - 8, 48, "body"), pillow, (0, d - 8, 0, w, d, h, "dark")]


def _lamp(w: int, d: int, h: int) -> list[Part]:
    x, y = w // 2, d // 2
    return [
        (x - 12, y - 12, 0, x + 12, y + 12, 4, "dark"),
        (x - 3, y - 3, 4, x + 3, y + 3, h - 40, "dark"),
        (0, 0, h - 40, w, d, h, "glow"),
    ]


def _plant(w: int, d: int, h: int) -> list[Part]:
    x, y = w // 2, d // 2
    return [
        (x - 18, y - 18, 0, x + 18, y + 18, 38, "body"),
        (x - 3, y - 3, 38, x + 3, y + 3, 48, "wood"),
        (0, 0, 48, w, d, h - 22, "leaves"),
        (8, 8, h - 22, w - 8, d - 8, h, "leaves"),
    ]


_FRONT, _ROUND = (0,), (0, 1, 2, 3)

KINDS: dict[str, Kind] = {
    "cabinet": Kind(
        noun="{colour} cabinet",
        width=(80, 120),
        depth=(45, 50),
        height=(120, 165),
        at_wall=True,
        sides=_FRONT,
        parts=_plain("doors"),
    ),
    "bookshelf": Kind(
        noun="{colour} bookshelf",
        width=(80, 110),
        depth=(30, 35),
        height=(160, 190),
        at_wall=True,
        sides=_FRONT,
        parts=_plain("books"),
    ),
    "fridge": Kind(
        noun="{colour} fridge",
        width=(60, 70),
        depth=(60, 65),
        height=(165, 185),
        at_wall=True,
        sides=_FRONT,
        parts=_plain("fridge"),
    ),
    "door": Kind(
        noun="{colour} door",
        width=(85, 95),
        depth=(10, 10),
        height=(200, 210),
        at_wall=True,
        sides=_FRONT,
        parts=_plain("door"),
    ),
    "bed": Kind(
        noun="{colour} bed",
        width=(100, 150),
        depth=(195, 200),
        height=(90, 100),
        at_wall=True,
        sides=(0, 1, 3),
        parts=_bed,
    ),
    "sofa": Kind(
        noun="{colour} sofa",
        width=(140, 190),
        depth=(80, 85),
        height=(78, 84),
        at_wall=False,
        sides=_FRONT,
        parts=_sofa,
    ),
    "chair": Kind(
        noun="{colour} chair",
        width=(45, 50),
        depth=(45, 50),
        height=(86, 94),
        at_wall=False,
        sides=_FRONT,
        parts=_chair,
    ),
    "table": Kind(
        noun="{colour} table",
        width=(90, 140),
        depth=(60, 80),
        height=(70, 75),
        at_wall=False,
        sides=_ROUND,
        parts=_table,
    ),
    "lamp": Kind(
        noun="{colour} floor lamp",
        width=(40, 46),
        depth=(40, 46),
        height=(150, 170),
        at_wall=True,
        sides=_ROUND,
        parts=_lamp,
    ),
    "plant": Kind(
        noun="plant in the {colour} pot",
        width=(46, 56),
        depth=(46, 56),
        height=(100, 130),
        at_wall=True,
        sides=_ROUND,
        parts=_plant,
    ),
}
"""Every sort of furniture by its name."""


@dataclass(frozen=True, kw_only=True)
class Want:
    """A wish that one sort of furniture answers.

    Attributes:
        kinds: sorts that answer it.
        also: sorts that might pass for an answer: a level has none of them beside its target.
        texts: ways to say it.
    """

    kinds: tuple[str, ...]
    also: tuple[str, ...] = ()
    texts: tuple[str, ...]


WANTS: dict[str, Want] = {
    "sit": Want(
        kinds=("chair", "sofa"), also=("bed",), texts=("I want to sit down.", "My legs are tired, I need a seat.")
    ),
    "sleep": Want(
        kinds=("bed",), also=("sofa",), texts=("I am sleepy and want to lie down.", "It is late, time for the night.")
    ),
    "drink": Want(kinds=("fridge",), texts=("I would like something cold to drink.", "The milk has to be kept cold.")),
    "light": Want(kinds=("lamp",), texts=("It is too dark to read, I need light.", "Let us have more light in here.")),
    "water": Want(
        kinds=("plant",), texts=("Something in here needs water to grow.", "I have come to do the watering.")
    ),
    "leave": Want(kinds=("door",), texts=("I want to leave.", "Show me the way out.")),
    "dine": Want(
        kinds=("table",), texts=("I need a place to put down my dinner.", "Where can I spread out my board game?")
    ),
    "clothes": Want(
        kinds=("cabinet",), also=("bookshelf",), texts=("I have clean clothes to put away.", "I need a fresh shirt.")
    ),
    "read": Want(kinds=("bookshelf",), texts=("I am looking for a novel.", "I would like to choose a book.")),
}
"""Wishes by name, for prompts that do not name their target."""

EXPLICIT = "explicit"
"""The request that names its target."""


def quarter_turns(x: float, y: float, turn: int) -> tuple[float, float]:
    """A direction turned anticlockwise by quarters."""
    for _ in range(turn % 4):
        x, y = -y, x
    return x, y
