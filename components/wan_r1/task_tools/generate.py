"""A data set from a few words: what `generate_tasks` needs beside them is chosen to fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wan_r1.config import ConfigError
from wan_r1.generate_tasks import GenerateTasksConfig
from wan_r1.generate_tasks import run as generate_tasks
from wan_r1.tasks.families import get_family
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.render import MIN_CELL
from wan_r1.tasks.schema import SPLITS
from wan_r1.tasks.task import room_for_steps
from wan_r1.tasks.textures import HELD_OUT, TEXTURES

_MOST_CANVAS = 16
"""Most cells per side that are chosen for a frame: the preset's for Wan2.2 at 512 px."""
_GOOD_CELL = 16
"""Pixels a cell that are preferred, for levels with walls that can be seen well."""
_LOSSY_CELL = 32
"""Pixels a cell from which common H.264 keeps colours well enough to be read strictly again."""
_SPEEDS = (0.25, 0.5, 1.0)
"""Speeds to choose from, in cells a frame."""
_SHORT, _SLOW, _FAST = 48, 8.0, 24.0
"""Up to how many frames a video is shown slowly, and frames a second of such and of others."""

_OPTIONS = {"families": "family", "height": "size", "width": "size", "steps_per_frame": "speed"}
_OPTIONS |= {"test_textures": "textures", **{f"{split}_levels": "count" for split in SPLITS}}
_OPTIONS |= {f"{split}_difficulties": "difficulty" for split in SPLITS}
"""Options of the command by the stage's fields that they stand for, where the names differ."""


def run(output: Path, **words: Any) -> dict[str, Any]:
    """Make the data set; arguments as `choose`, output and result as `wan_r1.generate_tasks.run`.

    Raises:
        ConfigError: if a value cannot work, naming the option.
    """
    try:
        return generate_tasks(choose(**words), output=output)
    except ConfigError as error:
        raise ConfigError(_said(str(error))) from None


def choose(
    *,
    families: Sequence[str],
    difficulties: Sequence[str],
    count: int,
    seed: int,
    size: int,
    frames: int,
    split: str = "train",
    textures: Sequence[str] = (),
    canvas: int | None = None,
    speed: float | None = None,
    fps: float | None = None,
    lossless: bool | None = None,
    workers: int = 0,
    **shape: float,
) -> GenerateTasksConfig:
    """The stage's config.

    Args:
        families: one or more families.
        difficulties: one or more of easy, medium and hard, in equal parts.
        count: levels per family.
        seed: the data set's seed.
        size: height and width in pixels.
        frames: frames of a video, 4k + 1.
        split: the split that the levels belong to.
        textures: names of textures; none given takes all that the split may have.
        canvas: cells per side of the frame; by default as many as 16 with 16 px a cell, or with 8 px if need be.
        speed: cells a frame; by default the slowest of 1/4, 1/2 and 1 that leaves room for levels twice as long as
            the shortest.
        fps: frames per second of the files; by default 24, or 8 for videos of less than 49 frames.
        lossless: whether videos keep every pixel; by default those with cells of less than 32 px do.
        workers: processes; 0 is one for each core.
        shape: parameters of `wan_r1.tasks.family.Shape` by name.

    Raises:
        ConfigError: if a value cannot work.
    """
    makers = [get_family(name) for name in families]
    for difficulty in difficulties:
        if difficulty not in DIFFICULTIES:
            raise ConfigError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
    if split not in SPLITS:
        raise ConfigError(f"split={split!r} is unknown; allowed: {', '.join(SPLITS)}")
    for name, names, some in (("family", families, "regular"), ("difficulty", difficulties, "easy,hard")):
        if not names:
            raise ConfigError(f"{name}='' names none; expected one or more, such as {some}")
    for name, value, good in (("count", count, 24), ("size", size, 512)):
        if value < 1:
            raise ConfigError(f"{name}={value} is not allowed; expected a whole number from 1, such as {good}")
    cells = _canvas(size, max(maker.smallest_canvas for maker in makers)) if canvas is None else canvas
    if speed is None:
        needed = max(maker.shortest_allowed(level, cells) for maker in makers for level in difficulties)
        speed = next((one for one in _SPEEDS if room_for_steps(frames, one) >= 2 * needed), _SPEEDS[-1])
    tested = split in ("test", "harder")
    looks = tuple(textures) or tuple(name for name in TEXTURES if tested or name not in HELD_OUT)
    return GenerateTasksConfig.build(
        {
            **{f"{one}_levels": count if one == split else 0 for one in SPLITS},
            **{f"{one}_difficulties": tuple(difficulties) for one in SPLITS},
            **({"test_textures": looks} if tested else {"textures": looks}),
            "families": tuple(families),
            "seed": seed,
            "height": size,
            "width": size,
            "frames": frames,
            "canvas": cells,
            "steps_per_frame": speed,
            "fps": (_FAST if frames > _SHORT else _SLOW) if fps is None else fps,
            "lossless": size < _LOSSY_CELL * cells if lossless is None else lossless,
            "workers": workers,
            **shape,
        }
    )


def _canvas(size: int, least: int) -> int:
    """Cells per side of a frame of ``size`` pixels, ``least`` or more."""
    for pixels in (_GOOD_CELL, MIN_CELL):
        for canvas in range(_MOST_CANVAS, least - 1, -1):
            if size % canvas == 0 and size // canvas >= pixels:
                return canvas
    better = min(1024, max(MIN_CELL * least, round(size / least) * least))
    raise ConfigError(
        f"size={size} px cannot be divided into {least} to {_MOST_CANVAS} cells of {MIN_CELL} px or more; use a "
        f"multiple of {least} from {MIN_CELL * least} on, such as {better}"
    )


def _said(message: str) -> str:
    """A message of the stage in the words of the command: its options, and lists as they are given there."""

    def option(found: re.Match[str]) -> str:
        return f"--{_OPTIONS.get(found[1], found[1]).replace('_', '-')}"

    def listed(found: re.Match[str]) -> str:
        return "=" + ",".join(re.findall(r"'([^']*)'", found[1]))

    message = re.sub(r"\btasks_(\w+)", option, message)
    message = re.sub(r"^(?=(?:family|difficulty|count|size|canvas|split|seed)=)", "--", message)
    return re.sub(r"=\(('[^()]*)\)", listed, message)
