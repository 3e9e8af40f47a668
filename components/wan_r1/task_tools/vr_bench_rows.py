"""One level of VR-Bench's folders as a row of our table: its picture and video as they are, its solution from them."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from wan_r1.score.files import VideoFileError
from wan_r1.score.levels import at_size
from wan_r1.score.vr_bench_layout import own_row, read_references, read_vr_bench_level
from wan_r1.tasks.families import get_family
from wan_r1.tasks.level import Place
from wan_r1.tasks.roads import GraphLevel, sample_line
from wan_r1.tasks.sokoban import SokobanLevel
from wan_r1.tasks.task import Task
from wan_r1.tasks.textures import FOREIGN, get_texture
from wan_r1.tasks.video import MediaError, decode_image, decode_video, encode_image, encode_video
from wan_r1.verification import verify

_FINE = 48
"""Places per cell at which a tracked walk is laid on the line of the solution."""
_AHEAD = 2
"""Cells by which the player may get ahead from one frame to the next."""
_REST = 0.2
"""Within so many cells of an end of the solution the player rests there."""

_NOUNS = {"player": "player", "goal": "goal", "wall": "walls", "trap": "traps", "floor": "floor", "box": "box"}
"""Words of a prompt, by the benchmark's role, where the data set describes its skins nowhere."""
_OWN_ROLES = {"start": "player", "end": "goal", "road": "floor"}
"""Roles that pathfinder has names of its own for."""
_STRETCHED = "maze3d"
"""The game whose videos the benchmark makes larger than its pictures: to a multiple of 16 pixels."""


class RowError(ValueError):
    """A level that cannot become a row; the message says why.

    Attributes:
        rule: the rule of the contract that it breaks.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, kw_only=True)
class Form:
    """The pictures' form: pixels per side and frames; ``None`` leaves them as they are."""

    size: int | None = None
    frames: int | None = None


def read_row(state: Path, root: Path, form: Form, split: str | None, prompts: Mapping[str, str]) -> dict[str, Any]:
    """The row's values by column, ``index`` the one it was exported from or ``None``; and in ``lossless`` whether its
    video keeps every pixel.

    Args:
        state: the level's state file.
        root: the folder that is imported.
        form: size and frames to bring picture and video to.
        split: the row's split; ``None`` takes the one it was exported from, else `train` below a folder ``train``, else
            `test`.
        prompts: prompts by their video's path relative to the root.

    Raises:
        RowError: if a file is missing or cannot be read, or the level has no solution.
    """
    picture = state.parent.parent / "images" / f"{state.stem}.png"
    if not picture.is_file():
        raise RowError("first_frame_readable", f"{picture.relative_to(root)} is missing")
    try:
        # First, since it says what is wrong with a state that is none.
        task = read_vr_bench_level(state)
        values = json.loads(state.read_text())
        own = own_row(values)
    except ValueError as error:
        raise RowError("state_readable", str(error)) from None
    references = read_references(state)
    if own is None and not references:
        raise RowError("video_where_due", f"there is no videos/{state.stem}.mp4 nor videos/{state.stem}_<k>.mp4")
    try:
        video = references[0].read_bytes() if references else None
        if own is not None:
            row = {**own, "first_frame": _media(picture.read_bytes()), "video": _media(video)}
        else:
            assert video is not None
            row = _foreign_row(values, state, root, task, picture.read_bytes(), video)
            row["prompt"] = prompts.get(references[0].relative_to(root).as_posix()) or row["prompt"]
        row["split"] = split or row["split"]
        row["lossless"] = video is not None and _is_lossless(video)
        return row if form == Form() else _formed(row, form)
    except (MediaError, VideoFileError, OSError, av.FFmpegError) as error:
        raise RowError("video_readable", str(error)) from None


def read_prompts(root: Path) -> dict[str, str]:
    """Prompts of a data set by the path of their video: of all tables ``metadata/**/metadata.csv`` that it has."""
    found: dict[str, str] = {}
    for file in sorted(root.glob("metadata/**/metadata.csv")):
        with file.open(newline="", encoding="utf-8", errors="replace") as stream:
            for line in csv.DictReader(stream):
                if line.get("video") and line.get("prompt"):
                    found[Path(line["video"]).as_posix()] = line["prompt"]
    return found


def _media(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else {"bytes": data, "path": None}


def _foreign_row(
    values: Mapping[str, Any], state: Path, root: Path, task: Task, picture: bytes, data: bytes
) -> dict[str, Any]:
    """The row of a level that the benchmark's own generators have made."""
    video = decode_video(data)
    skin = state.parent.parent.parent.name
    if values["game_type"] == _STRETCHED and task.first_frame.shape != video.shape[1:]:
        task = at_size(task, video)
        picture = encode_image(task.first_frame)
    if video.shape[1:] != task.first_frame.shape:
        raise RowError(
            "first_frame_readable",
            f"the picture is {list(task.first_frame.shape)}, but frames of the video are {list(video.shape[1:])}",
        )
    (verdict,) = verify([video], [replace(task, frames=len(video))], any_length=True)
    if verdict.error is not None:
        raise RowError("video_true", f"the video cannot be verified: {verdict.error}")
    solution = task.level.solve()
    path: tuple[Place, ...] = task.solution
    if (solution.count > 1 or not verdict.em) and verdict.sr and not isinstance(task.level, GraphLevel):
        # The video shows one of the shortest ways, which need not be the one that we would find first, or a longer one:
        # the benchmark's Sokoban makes the fewest pushes, not the fewest moves.
        path = _states(task.level, verdict.walk) if isinstance(task.level, SokobanLevel) else verdict.walk
    route = task.level.route(path) * task.level.canvas
    trajectory = _laid_on(route, verdict.track.astype(np.float64) * task.level.canvas) / task.level.canvas
    return {
        "level_id": task.level_id,
        "family": task.family,
        "difficulty": task.difficulty,
        "texture": FOREIGN + skin,
        "split": "train" if "train" in state.relative_to(root).parts else "test",
        "index": None,
        "prompt": get_family(task.family).prompt(replace(get_texture("plain"), **_nouns(values, skin, root))),
        "first_frame": _media(picture),
        "video": _media(data),
        "frames": len(video),
        "height": video.shape[1],
        "width": video.shape[2],
        "fps": task.fps,
        "state": json.dumps(task.level.to_state(), separators=(",", ":")),
        "solution": [list(place) for place in path],
        "steps": len(path) - 1,
        "shortest_solutions": solution.count,
        "trajectory": trajectory.astype(np.float32).tolist(),
    }


def _states(level: SokobanLevel, walk: Sequence[Place]) -> tuple[Place, ...]:
    """The states of a level that the player's cells lead through."""
    path = [level.start]
    for here, there in itertools.pairwise(walk):
        after = level.after(path[-1], (there[0] - here[0], there[1] - here[1]))
        if after is None:
            raise RowError("solution_legal", f"the player's move from {here} to {there} is against the rules")
        path.append(after)
    return tuple(path)


def _laid_on(route: NDArray[np.float64], track: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tracked walk as places on the line of the solution, never going back along it.

    Args:
        route: the solution's line, ``[points, 2]`` in cells.
        track: the player's centre per frame, ``[F, 2]`` in cells; nan where it is not seen, which repeats the last.

    Returns:
        ``[F, 2]``; that the walk follows the line and ends on its end is for the contract to say.
    """
    line = sample_line(route, 1 / _FINE)
    last, found = 0, np.zeros(len(track), int)
    for frame, point in enumerate(track):
        if np.isfinite(point).all():
            window = line[last : last + _AHEAD * _FINE + 1]
            last += int(((window - point) ** 2).sum(1).argmin())
        found[frame] = last
    rest = int(_REST * _FINE)
    found[found <= rest], found[found >= len(line) - 1 - rest] = 0, len(line) - 1
    return line[found]


def _nouns(values: Mapping[str, Any], skin: str, root: Path) -> dict[str, Any]:
    """Words for the prompt: the skin's own, from ``skins/<game>/<skin>/description.json`` where the folder has one."""
    words = {**_NOUNS, "player": "ball"} if values["game_type"] == _STRETCHED else dict(_NOUNS)
    file = root / "skins" / str(values["game_type"]) / skin / "description.json"
    if file.is_file():
        try:
            described = json.loads(file.read_text())["visual_description"]
            described = {_OWN_ROLES.get(role, role): text for role, text in described.items()}
            words |= {role: str(described[role]) for role in words if described.get(role)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RowError("prompt_given", f"{file.relative_to(root)} describes no skin: {error!r}") from None
    return {f"{role}_noun": text for role, text in words.items()}


def _is_lossless(video: bytes) -> bool:
    """Whether the frames are stored as RGB, as `encode_video` does where it keeps every pixel."""
    with av.open(io.BytesIO(video), "r") as container:
        return bool(container.streams.video) and container.streams.video[0].codec_context.pix_fmt == "gbrp"


def _formed(row: dict[str, Any], form: Form) -> dict[str, Any]:
    """The row with picture and video brought to another size and number of frames."""
    size, frames = form.size or row["height"], form.frames or row["frames"]
    if (size, size, frames) == (row["height"], row["width"], row["frames"]):
        return row
    kept = _retimed(row["frames"], frames)
    video = row["video"]
    if video is not None:
        decoded = decode_video(video["bytes"])
        if len(decoded) != row["frames"]:
            raise RowError("video_readable", f"the video has {len(decoded)} frames, not {row['frames']}")
        resized = np.stack([_resized(decoded[frame], size) for frame in kept])
        video = _media(encode_video(resized, row["fps"], row["lossless"]))
    picture = _resized(decode_image(row["first_frame"]["bytes"]), size)
    return {
        **row,
        "first_frame": _media(encode_image(picture)),
        "video": video,
        "frames": frames,
        "height": size,
        "width": size,
        "trajectory": [row["trajectory"][frame] for frame in kept],
    }


def _retimed(frames: int, wanted: int) -> list[int]:
    """Numbers of the frames to keep: all and then rest on the last, or as many at equal distances."""
    if wanted >= frames:
        return [*range(frames), *itertools.repeat(frames - 1, wanted - frames)]
    return np.linspace(0, frames - 1, wanted).round().astype(int).tolist()


def _resized(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    method = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=method), np.uint8)
