"""Tasks: one level with its pictures, words and solution, as the data set's rows hold it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.tasks.families import get_family
from wan_r1.tasks.family import BaseFamily, Shape, TargetFamily, candidates
from wan_r1.tasks.level import Level, Place
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.textures import get_texture

SPLIT_SHARES = {"train": 0.45, "validation": 0.08, "prompts": 0.12, "test": 0.23, "harder": 0.12}
"""Share of all layouts that belongs to each split. A layout's hash alone decides its split, so splits share no level,
not even a shifted one, whichever machine makes which part of them. Changing the shares changes every data set."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the data set, decoded.

    Attributes:
        level_id: content hash of the level.
        family: its family.
        difficulty: easy, medium or hard.
        texture: name of its texture.
        split: train, validation, prompts, test or harder.
        index: place within (family, split).
        prompt: what the video model is told.
        first_frame: frame 0, RGB ``[H, W, 3]``.
        video: the solution's video ``[F, H, W, 3]``, or ``None`` where there is no demonstration or it was not read.
        frames: F.
        height: H.
        width: W.
        fps: frames per second.
        level: the level.
        solution: places from start to goal.
        trajectory: player centre (x, y) per frame, fractions of the frame, ``[F, 2]``; in the family `navigation` the
            camera's pose (x, y in metres, heading in radians), ``[F, 3]``.
    """

    level_id: str
    family: str
    difficulty: str
    texture: str
    split: str
    index: int
    prompt: str
    first_frame: NDArray[np.uint8]
    video: NDArray[np.uint8] | None
    frames: int
    height: int
    width: int
    fps: float
    level: Level
    solution: tuple[Place, ...]
    trajectory: NDArray[np.float32]


def split_of(layout_id: str) -> str:
    """The split a layout belongs to, by its hash and `SPLIT_SHARES`."""
    place = int(layout_id, 16) / 16 ** len(layout_id)
    for split, share in SPLIT_SHARES.items():
        if place < share:
            return split
        place -= share
    return split


def make_level(
    family: str,
    difficulty: str,
    *,
    seed: int,
    split: str,
    index: int,
    canvas: int,
    max_steps: int,
    attempt: int = 0,
    shape: Shape | None = None,
) -> Level:
    """The level of one place in a data set: a pure function of its arguments.

    Args:
        family: name of the family.
        difficulty: easy, medium or hard.
        seed: the data set's seed.
        split: the split; the level's layout belongs to it by `split_of`.
        index: place within (family, split).
        canvas: cells per side of the frame.
        max_steps: most moves that the video has room for.
        attempt: 0 for the place's first level, higher where lower ones repeat a level of an earlier place.
        shape: continuous parameters of the level; a family obeys those it knows.

    Raises:
        ConfigError: if a name is unknown or the difficulty impossible.
    """
    if split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    maker = get_family(family)
    names = [zlib.crc32(name.encode()) for name in (family, split)]
    rng = np.random.default_rng(np.random.SeedSequence([seed, *names, index, attempt]))
    if shape is not None and isinstance(maker, BaseFamily):
        maker = maker.shaped(shape)
    levels = candidates(maker, rng, difficulty, canvas, max_steps)
    return next(level for level in levels if split_of(level.layout_id) == split)


def make_task(
    family: str,
    difficulty: str,
    texture: str,
    *,
    seed: int,
    split: str,
    index: int,
    frames: int,
    size: int,
    canvas: int,
    steps_per_frame: float,
    fps: float = 8.0,
    attempt: int = 0,
    shape: Shape | None = None,
) -> Task:
    """One task: a pure function of its arguments.

    Args:
        family: name of the family.
        difficulty: easy, medium or hard.
        texture: name of the texture.
        seed: the data set's seed.
        split: the split; in `prompts` the task has no video.
        index: place within (family, split).
        frames: frames of the video.
        size: height and width in pixels, a multiple of ``canvas``.
        canvas: cells per side of the frame.
        steps_per_frame: speed of the player in cells a frame.
        fps: frames per second, of the video file only.
        attempt: see `make_level`.
        shape: see `make_level`.

    Raises:
        ConfigError: if a name is unknown or the numbers do not fit each other.
    """
    max_steps = room_for_steps(frames, steps_per_frame)
    level = make_level(
        family,
        difficulty,
        seed=seed,
        split=split,
        index=index,
        canvas=canvas,
        max_steps=max_steps,
        attempt=attempt,
        shape=shape,
    )
    maker, look = get_family(family), get_texture(texture)
    trajectory = maker.trajectory(level, frames, steps_per_frame)
    video = maker.render(level, look, trajectory if split != "prompts" else trajectory[:1], size)
    return Task(
        level_id=level.level_id,
        family=family,
        difficulty=difficulty,
        texture=texture,
        split=split,
        index=index,
        prompt=maker.level_prompt(level, look) if isinstance(maker, TargetFamily) else maker.prompt(look),
        first_frame=video[0],
        video=video if split != "prompts" else None,
        frames=frames,
        height=size,
        width=size,
        fps=fps,
        level=level,
        solution=level.solve().path,
        trajectory=trajectory,
    )


def room_for_steps(frames: int, steps_per_frame: float) -> int:
    """Most moves that a video of ``frames`` frames can show."""
    # The tolerance is for speeds such as 0.1 that no float holds exactly.
    return int((frames - 1) * steps_per_frame + 1e-6)
