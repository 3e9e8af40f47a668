"""What verification says about a video: facts, strict metrics and, if asked for, the benchmark's metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wan_r1.tasks.level import Place
from wan_r1.verification.navigation import NavigationMetrics

TRACKED, OCCLUDED, LOST, DUPLICATED = STATES = ("tracked", "occluded", "lost", "duplicated")
"""State of the player in a frame. `occluded`: it can hide near its last place because it looks like what is there."""

VIOLATIONS = {
    "wrong_start": "frame 0 does not show the player on its start cell",
    "lost": "the player is not in the frame",
    "duplicate": "a second player is in the frame",
    "wall": "the player leaves its path through a wall",
    "obstacle": "the player is on a cell that must not be entered",
    "off_board": "the player has left the board",
    "off_path": "the player is further from the middle of the path than the tolerance",
    "jump": "the player moves further between two frames than the level's speed allows",
    "too_fast": "the player covers more than a cell in the time the level's speed needs for one",
    "goal_changed": "the goal is erased, moved or recoloured",
    "wall_changed": "a wall is erased, added or recoloured",
    "obstacle_changed": "an obstacle is erased or recoloured",
    "floor_changed": "floor is painted over",
    "outside_changed": "the surroundings of the board are painted over",
    "ladder_changed": "a ladder is erased or recoloured",
    "shows_through": "the player is drawn over what hides it where it is",
    "collision": "the robot touches a wall or furniture, or drives through it",
    "camera_lost": "the picture shows no place in the level's room",
    "world_changed": "something in the room is not as it was, from where the camera is",
    "box_lost": "a box is not in the frame",
    "box_duplicate": "one box more than the level has is in the frame",
    "box_moved": "a box is elsewhere than the player's pushes put it",
    "box_blocked": "a box is in a wall, off the board or in another box",
}
"""Every kind of violation and what it means."""


@dataclass(frozen=True, kw_only=True)
class StrictRules:
    """Tolerances of the strict reading. Lengths are in cells, colours in levels of 0..255."""

    path_tolerance: float = 0.25
    """How far the player's centre may be from the middle of the path, and from the start and the goal at either end."""
    speed_slack: float = 0.35
    """How much further than the level's speed the player may come: between two frames, and in the time of one cell."""
    present: float = 0.5
    """Least opacity at which the player counts as present (a disc of 5 px blurred by 1 px still has about .65)."""
    duplicate: float = 0.25
    """Least opacity at which a second player counts as one: it is compared with what is left of a player of this
    opacity, there, when what blur explains is taken off, as it is from the video."""
    faintest: float = 0.15
    """Least opacity that must be left of a second player then."""
    largest: float = 1.4
    """Most area of the player's colour around the player, as a share of its own; more is a second one overlapping."""
    likeness: float = 0.75
    """Least cosine between what is seen and the player's look, over the player's shape."""
    fidelity_tau: float = 32.0
    """Largest difference of a background pixel's local mean, in any channel, that counts as unchanged. The round trip
    of a solution through the tiny codec keeps 1.000 of the background at this value; an erased wall of one pixel
    changes the mean by about 70 over a width of three."""
    wall_opacity: float = 0.45
    """Least share of its contrast that a wall or an obstacle must keep in every frame."""
    goal_opacity: float = 0.65
    """The same of the goal of a grid, which is a larger patch: half of it painted over is a goal changed."""
    patch_tolerance: float = 50.0
    """Largest colour difference (Euclidean) of the mean of a patch that is not explained by a weaker contrast."""
    drift_tolerance: float = 20.0
    """The same for the mean of all patches of one sort in a frame: all walls, all floor."""
    compression: int = 28
    """Worst quality of H.264 (x264's constant rate factor) whose damage to cells below 16 px is forgiven, if a video's
    colours have half the resolution; 0 forgives none. See `wan_r1.verification.compression`."""
    rest_frames: int = 2
    """Frames at the end that must rest on the goal, unless the goal is first reached later than that."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that is broken: what (a key of `VIOLATIONS`), in which frame, where: a place of the level, such as
    the cell (row, column) of a board."""

    kind: str
    frame: int
    place: Place


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The reading of one video.

    If `error` is set the video could not be read: every metric is then False, 0 or None and means nothing.

    Attributes:
        em: exact match, strict: a success along a shortest path (any of them).
        sr: success, strict: ends at rest on the goal, kept every rule all the way, as one player.
        pr: precision: share of the moves of a shortest path made before the first mistake or violation.
        sd: extra length of the walk as a share of the shortest path's; None without success.
        mf: fidelity: mean over frames of the share of background pixels unchanged from the *given* first frame.
        first_frame: the same of frame 0 alone: how far the video starts with the given image.
        vr_bench_em: the benchmark's exact match; like the other four None unless asked for.
        vr_bench_sr: the benchmark's success: any point of the player (in Sokoban of the first box) in the goal's box.
        vr_bench_pr: the benchmark's precision: prefix within a radius of the reference, by arc length.
        vr_bench_sd: the benchmark's step deviation; None where the benchmark has none.
        vr_bench_mf: the benchmark's fidelity.
        track: float32 [frames, 2], player centre (x, y) as fractions of the frame; nan where not seen.
        boxes: float32 [frames, boxes, 2], the boxes' centres likewise, in the level's order.
        states: state of the player per frame, one of `STATES`.
        violations: every broken rule, one entry a kind and frame, in the order of time.
        walk: places, such as cells (row, column), visited before the first violation, in order.
        walk_frames: frame in which each place of the walk is entered.
        moved: whether the player ever leaves its start cell.
        end: place the player is at in the last frame; None if it is not seen there.
        poses: float32 [frames, 3], of a robot the camera's recovered (x, y in metres, heading in radians).
        navigation: of a robot the metrics of Target-Bench against the reference's path.
        error: why the video could not be read; None if it could.
    """

    em: bool = False
    sr: bool = False
    pr: float = 0.0
    sd: float | None = None
    mf: float = 0.0
    first_frame: float = 0.0
    vr_bench_em: bool | None = None
    vr_bench_sr: bool | None = None
    vr_bench_pr: float | None = None
    vr_bench_sd: float | None = None
    vr_bench_mf: float | None = None
    track: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.float32), repr=False, compare=False)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 2), np.float32), repr=False, compare=False)
    states: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    walk: tuple[Place, ...] = ()
    walk_frames: tuple[int, ...] = ()
    moved: bool = False
    end: Place | None = None
    poses: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32), repr=False, compare=False)
    navigation: NavigationMetrics | None = None
    error: str | None = None

    @property
    def kept_rules(self) -> bool:
        """Whether the video could be read and breaks no rule."""
        return self.error is None and not self.violations
