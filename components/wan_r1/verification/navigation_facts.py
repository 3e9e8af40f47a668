"""From the recovered poses of a robot's camera to facts, violations and strict metrics.

A success ends at rest, near its target and facing it, and kept every rule: it set out from the given place, touched
nothing, moved no faster than a robot can, and showed the level's own room from where it was in every frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.families.navigation import start_pose
from wan_r1.tasks.furniture import KINDS
from wan_r1.tasks.level import Place
from wan_r1.tasks.navigation_level import NavigationLevel
from wan_r1.tasks.robot import ROBOT_RADIUS, STOP_DISTANCE
from wan_r1.tasks.task import Task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification.camera_pose import SIDE, CameraTrack, reduced, track_camera
from wan_r1.verification.navigation import PathError, navigation_metrics
from wan_r1.verification.verdict import LOST, TRACKED, Verdict, Violation


@dataclass(frozen=True, kw_only=True)
class RobotRules:
    """Tolerances of the strict reading. Lengths are in metres, angles in degrees, colours in levels of 0..255."""

    start_distance: float = 0.2
    """How far from the start the first frame may be seen from."""
    start_angle: float = 8.0
    """The same of its heading."""
    touch: float = 0.08
    """How much nearer to an obstacle than its radius the robot may seem: several times the usual error of a pose."""
    through: float = 0.05
    """Clearance below which a straight line between two frames goes through an obstacle: a fast robot cuts corners."""
    pace: float = 2.0
    """How many times as far as the reference's furthest step the robot may come in a frame."""
    pace_slack: float = 0.2
    """Metres in addition."""
    turn: float = 2.0
    """How many times as far as the reference's largest turn the robot may turn in a frame."""
    turn_slack: float = 15.0
    """Degrees in addition."""
    nowhere: float = 16.0
    """Mean difference of a frame from the room as it is seen from the pose that fits best, from which it shows no place
    in the room."""
    changed: float = 48.0
    """The same of a window of `window` pixels, from which something in it is not as it was."""
    window: int = 5
    """Side of the window in pixels of the size at which frames are compared."""
    arrival: float = 0.35
    """How far from a place at the stated distance before its target the robot may stop."""
    facing: float = 25.0
    """How far past the target's middle it may look then."""
    rest: float = 0.08
    """Metres by which it may seem to move between its last two frames."""
    rest_angle: float = 4.0
    """Degrees by which it may seem to turn."""
    corridor: float = 0.5
    """How far from the reference's way progress still counts."""
    detour: float = 1.2
    """Share of the reference's length up to which a way is an exact match."""


def read_navigation(video: NDArray[np.uint8], task: Task, rules: RobotRules | None = None) -> Verdict:
    """The verdict on one readable video of a level of navigation."""
    rules = rules or RobotRules()
    level = task.level
    assert isinstance(level, NavigationLevel)
    if task.texture not in TEXTURES:
        return Verdict(error=f"texture={task.texture!r} cannot be drawn by us, so that no camera pose can be recovered")
    track = track_camera(video, level, task.texture)
    violations = _violations(track, task, level, rules)
    poses = track.poses
    first = min((one.frame for one in violations), default=len(video))
    rests = _rests(poses, level, rules)
    success = rests and not violations
    reference = task.trajectory.astype(np.float64)
    driven, planned = _length(poses), _length(reference)
    given = np.abs(reduced(task.first_frame[None], SIDE)[0] - reduced(video[:1], SIDE)[0]).mean(-1)
    try:
        metrics = navigation_metrics(poses[:, :2], reference[:, :2])
    except PathError as error:
        return Verdict(error=str(error))
    states = tuple(LOST if fit > rules.nowhere else TRACKED for fit in track.fit)
    place = _place(poses[-1])
    return Verdict(
        em=success and driven <= rules.detour * planned + rules.rest,
        sr=success,
        pr=1.0 if success else _progress(poses[:first], reference, rules),
        sd=max(0.0, driven / planned - 1) if success and planned > 0 else None,
        mf=float((track.difference <= rules.changed).mean()),
        first_frame=float((given <= rules.changed).mean()),
        track=np.full((len(video), 2), np.nan, np.float32),
        states=states,
        violations=violations,
        walk=tuple(_place(pose) for pose in poses[:first]),
        walk_frames=tuple(range(first)),
        moved=bool(np.hypot(*(poses[:, :2] - poses[0, :2]).T).max() > rules.start_distance),
        end=place if states[-1] == TRACKED else None,
        poses=poses.astype(np.float32),
        navigation=metrics,
    )


def _length(poses: NDArray[np.float64]) -> float:
    """Metres driven, by the median of each three places, so that one stray pose is no detour."""
    places = poses[:, :2].copy()
    places[1:-1] = np.median(np.stack([places[:-2], places[1:-1], places[2:]]), axis=0)
    return float(np.hypot(*np.diff(places, axis=0).T).sum())


def _place(pose: NDArray[np.float64]) -> Place:
    return round(100 * float(pose[0])), round(100 * float(pose[1]))


def _violations(track: CameraTrack, task: Task, level: NavigationLevel, rules: RobotRules) -> tuple[Violation, ...]:
    """Every broken rule, one a kind and frame, in the order of time."""
    poses, frames = track.poses, len(track.poses)
    reference = task.trajectory.astype(np.float64)
    scale = max(1.0, (task.frames - 1) / (frames - 1))
    steps = np.hypot(*np.diff(poses[:, :2], axis=0).T)
    turns = np.degrees(np.abs(np.diff(poses[:, 2])))
    usual = np.hypot(*np.diff(reference[:, :2], axis=0).T).max(initial=0.0) * scale
    usual_turn = np.degrees(np.abs(np.diff(np.unwrap(reference[:, 2])))).max(initial=0.0) * scale
    found: dict[str, NDArray[np.bool_]] = {}
    away = np.abs(poses[0] - start_pose(level))
    away[2] = abs((away[2] + np.pi) % (2 * np.pi) - np.pi)
    wrong = np.zeros(frames, bool)
    wrong[0] = np.hypot(*away[:2]) > rules.start_distance or np.degrees(away[2]) > rules.start_angle
    found["wrong_start"] = wrong
    found["camera_lost"] = track.fit > rules.nowhere
    window = (rules.window, rules.window)
    local = np.array([cv2.blur(one, window, borderType=cv2.BORDER_REFLECT).max() for one in track.difference])
    found["world_changed"] = (local > rules.changed) & ~found["camera_lost"]
    jump = np.zeros(frames, bool)
    jump[1:] = (steps > rules.pace * usual + rules.pace_slack) | (turns > rules.turn * usual_turn + rules.turn_slack)
    found["jump"] = jump
    touched = level.clearance(poses[:, :2]) < ROBOT_RADIUS - rules.touch
    between = [level.line_clearance(a, b) < rules.through for a, b in zip(poses[:-1, :2], poses[1:, :2], strict=True)]
    touched[1:] |= np.array(between, bool)
    found["collision"] = touched
    listed = [(frame, kind) for kind, flags in found.items() for frame in np.flatnonzero(flags).tolist()]
    return tuple(Violation(kind=kind, frame=frame, place=_place(poses[frame])) for frame, kind in sorted(listed))


def _rests(poses: NDArray[np.float64], level: NavigationLevel, rules: RobotRules) -> bool:
    """Whether the video ends at rest near the target, facing it."""
    x, y, heading = (float(value) for value in poses[-1])
    target = level.goal_object
    places = [target.before(side, STOP_DISTANCE) for side in KINDS[target.kind].sides]
    away = min(float(np.hypot(place[0] - x, place[1] - y)) for place in places)
    past = np.degrees(abs((heading - level.facing(x, y) + np.pi) % (2 * np.pi) - np.pi))
    moved = float(np.hypot(*(poses[-1, :2] - poses[-2, :2])))
    turned = float(np.degrees(abs(poses[-1, 2] - poses[-2, 2])))
    near = away <= rules.arrival and past <= rules.facing
    return bool(near and moved <= rules.rest and turned <= rules.rest_angle)


def _progress(poses: NDArray[np.float64], reference: NDArray[np.float64], rules: RobotRules) -> float:
    """Share of the reference's way that was followed in its order, before the first violation."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(reference[:, :2], axis=0).T))])
    if lengths[-1] <= 0:
        return 0.0
    fine = np.linspace(0, lengths[-1], max(2, int(lengths[-1] / 0.05)))
    line = np.stack([np.interp(fine, lengths, reference[:, axis]) for axis in (0, 1)], axis=1)
    reached = 0
    for pose in poses:
        away = np.hypot(*(line - pose[:2]).T)
        if away.min() > rules.corridor:
            break
        reached = max(reached, int(away.argmin()))
    return float(fine[reached] / lengths[-1])
