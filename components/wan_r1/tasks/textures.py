"""Textures: the colours and materials a level is drawn in, and the words its prompt uses for them.

Six are for training; the two of `HELD_OUT` are kept for testing, so that a test can tell a model that has learned to
solve mazes from one that has learned what its mazes look like.
"""

from __future__ import annotations

from dataclasses import dataclass

from wan_r1.config import ConfigError
from wan_r1.tasks.patterns import PATTERNS

Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Material:
    """A surface of two colours: ``pattern`` (see `wan_r1.tasks.patterns`) says where its own turns into ``grain``."""

    pattern: str
    grain: Colour

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ConfigError(f"pattern={self.pattern!r} is unknown; allowed: {', '.join(sorted(PATTERNS))}")


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
        box: what is pushed.
        box_mark: frame and cross on it.
        floor_noun: noun phrase, singular.
        wall_noun: noun phrase, plural.
        trap_noun: noun phrase, plural.
        player_noun: noun phrase, singular.
        goal_noun: noun phrase, singular.
        box_noun: noun phrase, singular.
        floor_material: what the floor is made of; ``None`` is one flat colour, as for the others.
        wall_material: what walls are made of.
        outside_material: what lies around the board.
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
    box: Colour
    box_mark: Colour
    floor_noun: str
    wall_noun: str
    trap_noun: str
    player_noun: str
    goal_noun: str
    box_noun: str
    floor_material: Material | None = None
    wall_material: Material | None = None
    outside_material: Material | None = None


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
        box=(72, 120, 212),
        box_mark=(49, 82, 144),
        floor_noun="white floor",
        wall_noun="dark walls",
        trap_noun="orange traps",
        player_noun="red disc",
        goal_noun="green square",
        box_noun="blue box",
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
        box=(236, 112, 62),
        box_mark=(160, 76, 42),
        floor_noun="dark floor",
        wall_noun="bright walls",
        trap_noun="purple traps",
        player_noun="yellow disc",
        goal_noun="cyan square",
        box_noun="orange box",
    ),
    Texture(
        name="meadow",
        floor=(126, 184, 88),
        odd_floor=(106, 166, 72),
        floor_material=Material(pattern="grass", grain=(100, 160, 68)),
        wall=(112, 74, 44),
        wall_material=Material(pattern="planks", grain=(86, 54, 30)),
        outside=(150, 200, 224),
        outside_material=Material(pattern="speckle", grain=(178, 216, 234)),
        trap=(40, 36, 56),
        trap_mark=(164, 158, 172),
        player=(252, 252, 255),
        goal=(214, 40, 60),
        box=(246, 176, 40),
        box_mark=(167, 120, 27),
        floor_noun="grass floor",
        wall_noun="brown wooden walls",
        trap_noun="black pits",
        player_noun="white disc",
        goal_noun="red square",
        box_noun="yellow box",
    ),
    Texture(
        name="wood",
        floor=(222, 184, 134),
        odd_floor=(210, 172, 122),
        floor_material=Material(pattern="planks", grain=(190, 148, 98)),
        wall=(70, 40, 26),
        outside=(124, 104, 92),
        outside_material=Material(pattern="weave", grain=(140, 120, 106)),
        trap=(172, 26, 46),
        trap_mark=(255, 204, 196),
        player=(32, 80, 206),
        goal=(34, 152, 98),
        box=(130, 68, 176),
        box_mark=(88, 46, 120),
        floor_noun="wooden floor",
        wall_noun="dark brown walls",
        trap_noun="dark red traps",
        player_noun="blue disc",
        goal_noun="green square",
        box_noun="purple box",
    ),
    Texture(
        name="brick",
        floor=(230, 218, 190),
        odd_floor=(214, 202, 174),
        floor_material=Material(pattern="speckle", grain=(206, 190, 158)),
        wall=(150, 54, 42),
        wall_material=Material(pattern="brick", grain=(198, 142, 122)),
        outside=(112, 126, 120),
        outside_material=Material(pattern="grass", grain=(94, 108, 102)),
        trap=(66, 66, 80),
        trap_mark=(190, 190, 204),
        player=(16, 116, 160),
        goal=(240, 190, 24),
        box=(120, 176, 60),
        box_mark=(82, 120, 41),
        floor_noun="sandstone floor",
        wall_noun="red brick walls",
        trap_noun="dark grey traps",
        player_noun="teal disc",
        goal_noun="golden square",
        box_noun="green box",
    ),
    Texture(
        name="sand",
        floor=(240, 214, 158),
        odd_floor=(228, 202, 146),
        floor_material=Material(pattern="stripes", grain=(228, 200, 142)),
        wall=(66, 50, 40),
        wall_material=Material(pattern="stripes", grain=(92, 72, 58)),
        outside=(164, 204, 200),
        outside_material=Material(pattern="stripes", grain=(152, 192, 190)),
        trap=(38, 96, 118),
        trap_mark=(196, 232, 242),
        player=(92, 38, 156),
        goal=(232, 78, 58),
        box=(250, 250, 252),
        box_mark=(170, 170, 171),
        floor_noun="sand floor",
        wall_noun="striped brown walls",
        trap_noun="teal traps",
        player_noun="violet disc",
        goal_noun="red square",
        box_noun="white box",
    ),
    Texture(
        name="marble",
        floor=(228, 230, 236),
        odd_floor=(214, 217, 224),
        floor_material=Material(pattern="marble", grain=(202, 207, 218)),
        wall=(34, 34, 44),
        wall_material=Material(pattern="speckle", grain=(62, 62, 76)),
        outside=(136, 144, 152),
        outside_material=Material(pattern="marble", grain=(116, 124, 134)),
        trap=(206, 84, 160),
        trap_mark=(92, 10, 62),
        player=(192, 34, 24),
        goal=(56, 86, 212),
        box=(104, 176, 66),
        box_mark=(71, 120, 45),
        floor_noun="marble floor",
        wall_noun="black stone walls",
        trap_noun="pink traps",
        player_noun="dark red disc",
        goal_noun="blue square",
        box_noun="green box",
    ),
    Texture(
        name="carpet",
        floor=(104, 42, 54),
        odd_floor=(87, 29, 40),
        floor_material=Material(pattern="weave", grain=(124, 58, 68)),
        wall=(240, 226, 204),
        outside=(40, 40, 92),
        outside_material=Material(pattern="speckle", grain=(54, 54, 110)),
        trap=(176, 166, 190),
        trap_mark=(60, 50, 74),
        player=(120, 236, 255),
        goal=(244, 164, 34),
        box=(124, 160, 90),
        box_mark=(84, 109, 61),
        floor_noun="burgundy carpet",
        wall_noun="cream walls",
        trap_noun="grey traps",
        player_noun="light cyan disc",
        goal_noun="orange square",
        box_noun="green box",
    ),
)

TEXTURES: dict[str, Texture] = {texture.name: texture for texture in _ALL}
"""Every texture by name."""

HELD_OUT = ("carpet", "marble")
"""Textures kept for testing: no split that a model or a judge learns from may have them."""

RECORDED = "target-bench/recorded"
"""In place of a texture: the pictures are of a real place."""

FOREIGN = "vr-bench/"
"""Before the name of a skin that came with pictures from elsewhere: it is in the data, but we cannot draw it."""


def get_texture(name: str) -> Texture:
    """The texture of that name.

    Raises:
        ConfigError: if there is none, naming the ones there are.
    """
    if name not in TEXTURES:
        raise ConfigError(f"texture={name!r} is unknown; allowed: {', '.join(sorted(TEXTURES))}")
    return TEXTURES[name]
