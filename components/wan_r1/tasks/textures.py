"""Textures: the colours a level is drawn in, and the words its prompt uses for them."""

from __future__ import annotations

from dataclasses import dataclass

from wan_r1.config import ConfigError

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Texture:
    """Colours as 8-bit RGB, and noun phrases for the prompt.

    Attributes:
        name: its name in the data set.
        floor: free cells.
        odd_floor: every other free cell, where the board is checkered.
        wall: walls and the board's border.
        outside: canvas outside of the board.
        trap: body of a cell that must not be entered.
        trap_mark: the cross on such a cell.
        player: the moving disc.
        goal: the square where it should stop.
        floor_noun: noun phrase, singular.
        wall_noun: noun phrase, plural.
        trap_noun: noun phrase, plural.
        player_noun: noun phrase, singular.
        goal_noun: noun phrase, singular.
    """

    name: str
    floor: Colour
    odd_floor: Colour
    wall: Colour
    outside: Colour
    trap: Colour
    trap_mark: Colour
    player: Colour
    goal: Colour
    floor_noun: str
    wall_noun: str
    trap_noun: str
    player_noun: str
    goal_noun: str


_ALL = (
    Texture(
        name="plain",
        floor=(250, 250, 247),
        odd_floor=(238, 240, 240),
        wall=(44, 50, 66),
        outside=(196, 202, 212),
        trap=(242, 142, 28),
        trap_mark=(86, 42, 8),
        player=(217, 38, 48),
        goal=(40, 160, 84),
        floor_noun="white floor",
        wall_noun="dark walls",
        trap_noun="orange traps",
        player_noun="red disc",
        goal_noun="green square",
    ),
    Texture(
        name="night",
        floor=(28, 32, 54),
        odd_floor=(38, 43, 68),
        wall=(214, 221, 240),
        outside=(74, 82, 116),
        trap=(150, 62, 206),
        trap_mark=(238, 204, 255),
        player=(255, 212, 48),
        goal=(24, 196, 208),
        floor_noun="dark floor",
        wall_noun="bright walls",
        trap_noun="purple traps",
        player_noun="yellow disc",
        goal_noun="cyan square",
    ),
)

TEXTURES: dict[str, Texture] = {texture.name: texture for texture in _ALL}
"""Every texture by name."""


def get_texture(name: str) -> Texture:
    """The texture of that name.

    Raises:
        ConfigError: if there is none, naming the ones there are.
    """
    if name not in TEXTURES:
        raise ConfigError(f"texture={name!r} is unknown; allowed: {', '.join(sorted(TEXTURES))}")
    return TEXTURES[name]
