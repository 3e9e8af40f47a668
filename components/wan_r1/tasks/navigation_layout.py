"""Furnished floors, drawn at random: rooms, what stands at their walls, and what stands in the way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from wan_r1.tasks.furniture import COLOURS, KINDS, quarter_turns
from wan_r1.tasks.navigation_level import Furniture

_SIDES = {"easy": 500, "medium": 700, "hard": 1000}
"""Largest side of a floor by difficulty, in centimetres; the canvas may allow less."""
_PIECES = {"easy": (3, 5), "medium": (5, 8), "hard": (7, 11)}
"""Fewest and most pieces of furniture, by difficulty, where the floor has room for them."""
_ISLANDS = {"easy": (0, 1), "medium": (1, 2), "hard": (2, 3)}
"""How many of them stand in the middle, where they are in the way but can be looked over."""
_ISLAND_KINDS = ("table", "table", "sofa", "chair", "chair")
_AREA = 2.2
"""Square metres of floor for each piece, at least."""
_INNER_WALL = {"easy": (10_000, 0.0), "medium": (600, 0.5), "hard": (600, 0.9)}
"""Longest side in centimetres from which a floor may be two rooms, and how often it is."""
_DOORWAY = (120, 160)
"""Width of the opening in an inner wall, in centimetres."""
_THICK = 10
_FRONT = 90
"""Centimetres that stay free in front of what stands at a wall, so that the robot can come to it."""
_APART = 12
"""Centimetres between pieces."""
_AGAIN = 0.45
"""How often a piece is of a kind that is there already, in another colour."""

_Box = tuple[int, int, int, int]


@dataclass(kw_only=True)
class Layout:
    """A floor as it is furnished; fields as in `NavigationLevel`, and what must stay free."""

    floor: tuple[int, int]
    walls: list[_Box] = field(default_factory=list)
    furniture: list[Furniture] = field(default_factory=list)
    free: list[_Box] = field(default_factory=list)


def furnish(dice: random.Random, difficulty: str, canvas: int) -> Layout:
    """A random floor of at most ``canvas`` metres a side."""
    most = min(100 * canvas, _SIDES[difficulty])
    sides = [10 * dice.randint(max(360, int(0.7 * most)) // 10, most // 10) for _ in range(2)]
    layout = Layout(floor=(sides[0], sides[1]))
    longest, often = _INNER_WALL[difficulty]
    if max(sides) >= longest and dice.random() < often:
        _divide(dice, layout)
    low, high = _PIECES[difficulty]
    room = int(sides[0] * sides[1] / 1e4 / _AREA)
    wanted = min(dice.randint(low, high), max(3, room))
    islands = min(dice.randint(*_ISLANDS[difficulty]), wanted - 2)
    for number in range(wanted):
        for _ in range(12):
            piece = _draw_piece(dice, layout, island=number < islands)
            if piece is not None and _fits(layout, piece):
                layout.furniture.append(piece)
                if KINDS[piece.kind].sides == (0,) or KINDS[piece.kind].at_wall:
                    layout.free.append(_in_front(piece))
                break
    return layout


def _divide(dice: random.Random, layout: Layout) -> None:
    """An inner wall across the longer side with one opening."""
    along = 0 if layout.floor[0] >= layout.floor[1] else 1
    at = round(layout.floor[along] * (0.38 + 0.24 * dice.random()))
    across = layout.floor[1 - along]
    wide = dice.randint(*_DOORWAY)
    begin = dice.randint(40, across - 40 - wide)
    for low, high in ((0, begin), (begin + wide, across)):
        wall = (at, low, at + _THICK, high)
        layout.walls.append(wall if along == 0 else (low, at, high, at + _THICK))
    gap = (at - 80, begin, at + _THICK + 80, begin + wide)
    layout.free.append(gap if along == 0 else (gap[1], gap[0], gap[3], gap[2]))


def _draw_piece(dice: random.Random, layout: Layout, *, island: bool) -> Furniture | None:
    there = [one.kind for one in layout.furniture]
    if island:
        kind = dice.choice(_ISLAND_KINDS)
    elif there and dice.random() < _AGAIN:
        kind = dice.choice(there)
    else:
        kind = dice.choice(list(KINDS))
    taken = {one.colour for one in layout.furniture if one.kind == kind}
    colours = [colour for colour in COLOURS if colour not in taken]
    if not colours:
        return None
    sort = KINDS[kind]
    width, depth, height = (dice.randint(*span) for span in (sort.width, sort.depth, sort.height))
    turn = dice.randrange(4)
    across, along = (width, depth) if turn % 2 == 0 else (depth, width)
    span_x, span_y = layout.floor[0] - across, layout.floor[1] - along
    if min(span_x, span_y) < 4:
        return None
    if island:
        x, y = (round(span * (0.22 + 0.56 * dice.random())) for span in (span_x, span_y))
    else:
        # The back stands at the wall that the front looks away from.
        gap = 0 if kind == "door" else 2
        x, y = dice.randint(2, span_x - 2), dice.randint(2, span_y - 2)
        back = quarter_turns(0, 1, turn)
        if back[0]:
            x = span_x - gap if back[0] > 0 else gap
        else:
            y = span_y - gap if back[1] > 0 else gap
    return Furniture(
        kind=kind,
        colour=dice.choice(colours),
        x=x,
        y=y,
        width=width,
        depth=depth,
        height=height,
        turn=turn,
    )


def _fits(layout: Layout, piece: Furniture) -> bool:
    """Whether a piece stands free, its front can be reached, and it is in front of no other."""
    x0, y0, x1, y1 = (round(100 * value) for value in piece.footprint)
    around = (x0 - _APART, y0 - _APART, x1 + _APART, y1 + _APART)
    solid = layout.walls + [_cm(one) for one in layout.furniture]
    if any(_overlap(around, other) for other in solid) or any(_overlap((x0, y0, x1, y1), one) for one in layout.free):
        return False
    if KINDS[piece.kind].sides == (0,) or KINDS[piece.kind].at_wall:
        front = _in_front(piece)
        inside = front[0] >= 0 and front[1] >= 0 and front[2] <= layout.floor[0] and front[3] <= layout.floor[1]
        return inside and not any(_overlap(front, other) for other in solid)
    return True


def _cm(piece: Furniture) -> _Box:
    x0, y0, x1, y1 = (round(100 * value) for value in piece.footprint)
    return x0, y0, x1, y1


def _in_front(piece: Furniture) -> _Box:
    """The part of the floor before a piece, at least as wide as the robot."""
    x0, y0, x1, y1 = _cm(piece)
    right, up = piece.outward(0)
    if right:
        middle, half = (y0 + y1) / 2, max((y1 - y0) / 2, 35)
        low, high = round(middle - half), round(middle + half)
        return (x1, low, x1 + _FRONT, high) if right > 0 else (x0 - _FRONT, low, x0, high)
    middle, half = (x0 + x1) / 2, max((x1 - x0) / 2, 35)
    low, high = round(middle - half), round(middle + half)
    return (low, y1, high, y1 + _FRONT) if up > 0 else (low, y0 - _FRONT, high, y0)


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
