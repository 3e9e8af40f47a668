"""Target-Bench's layout: a folder a segment, as its tools write them and its evaluation reads them.

``<segment>/<segment>_{video.mp4, first_frame.png, current_frame.png, trajectory.csv, caption.txt, metadata.json}``.
The video goes from a first frame over the current one, which a model is given, to the end. The trajectory's columns
``x`` and ``y`` are metres from the current frame's place, where the robot looks along y; ``distance_first_to_current``
in the metadata is the real distance by which the benchmark finds the scale of what a world decoder recovers.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.tasks.video import MediaError, decode_image, decode_video

HEADING = np.pi / 2
"""Heading of the current frame in a segment's coordinates."""


class SegmentError(ValueError):
    """A segment that cannot be read.

    Attributes:
        rule: the rule of the contract that it breaks.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment from its current frame on.

    Attributes:
        name: its folder's name.
        caption: what the robot is to do.
        first_frame: the picture from before, RGB ``[H, W, 3]``.
        current_frame: the picture that a model is given.
        video: frames from the current one on, ``[F, H, W, 3]``.
        path: float64 ``[N, 2]``, metres, from (0, 0), the robot looking along y at first.
        displacement: metres from where the first picture was taken to where the current one was.
    """

    name: str
    caption: str
    first_frame: NDArray[np.uint8]
    current_frame: NDArray[np.uint8]
    video: NDArray[np.uint8]
    path: NDArray[np.float64]
    displacement: float


def segment_folders(root: Path) -> list[Path]:
    """Folders below ``root`` (or itself) that have a segment's metadata or trajectory."""
    found = {path.parent for kind in ("metadata.json", "trajectory.csv") for path in root.rglob(f"*_{kind}")}
    return sorted(folder for folder in found if any(folder.glob(f"{folder.name}_*")))


def read_segment(folder: Path) -> Segment:
    """Read one folder.

    Raises:
        SegmentError: if a file is missing or cannot be read, naming it.
    """
    metadata = _metadata(folder)
    distance = metadata.get("distance_first_to_current") or {}
    try:
        displacement = float(distance["distance_meters"])
        current = int((distance.get("current_frame") or {}).get("video_index", 0))
        current -= int((distance.get("first_frame") or {}).get("video_index", 0))
    except (KeyError, TypeError, ValueError):
        raise SegmentError(
            "state_readable",
            f"{folder.name}_metadata.json has no distance_first_to_current with distance_meters and frames",
        ) from None
    caption = folder / f"{folder.name}_caption.txt"
    text = caption.read_text().strip() if caption.is_file() else str(metadata.get("user_caption") or "").strip()
    if not text:
        raise SegmentError("prompt_given", f"neither {caption.name} nor user_caption in the metadata says what to do")
    pictures = {}
    for kind in ("first", "current"):
        file = folder / f"{folder.name}_{kind}_frame.png"
        try:
            pictures[kind] = decode_image(_bytes(file, "first_frame_readable"))
        except MediaError as error:
            raise SegmentError("first_frame_readable", f"{file.name}: {error}") from None
    file = folder / f"{folder.name}_video.mp4"
    try:
        video = decode_video(_bytes(file, "video_where_due"))
    except MediaError as error:
        raise SegmentError("video_readable", f"{file.name}: {error}") from None
    if not 0 <= current < len(video) - 1:
        raise SegmentError(
            "video_readable", f"{file.name} has {len(video)} frames, the current one is number {current}"
        )
    return Segment(
        name=folder.name,
        caption=text,
        first_frame=pictures["first"],
        current_frame=pictures["current"],
        video=video[current:],
        path=_path(folder),
        displacement=displacement,
    )


def write_segment(root: Path, segment: Segment, encoded: bytes, history: int, extra: dict[str, Any]) -> None:
    """Write one folder.

    Args:
        root: the folder that receives the segment's.
        segment: what to write; its video is not looked at.
        encoded: the whole video's file, from the first frame on.
        history: frames of it before the current one.
        extra: more values for the metadata.
    """
    from wan_r1.tasks.video import encode_image

    folder = root / segment.name
    folder.mkdir(parents=True)

    def place(kind: str) -> Path:
        return folder / f"{segment.name}_{kind}"

    place("video.mp4").write_bytes(encoded)
    place("first_frame.png").write_bytes(encode_image(segment.first_frame))
    place("current_frame.png").write_bytes(encode_image(segment.current_frame))
    place("caption.txt").write_text(segment.caption)
    with place("trajectory.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("x", "y"), *segment.path.tolist()])
    x, y = segment.path.T.tolist()
    shape = {"total_points": len(x), "transformation_applied": True, "heading_aligned_to_y_axis": True}
    place("trajectory.json").write_text(json.dumps({"x_coordinates": x, "y_coordinates": y, **shape}))
    metadata = {
        "sample_name": segment.name,
        "user_caption": segment.caption,
        "total_distance_meters": float(np.hypot(*np.diff(segment.path, axis=0).T).sum()),
        "trajectory_points": len(x),
        "heading_aligned_to_y_axis": True,
        "distance_first_to_current": {
            "distance_meters": segment.displacement,
            "first_frame": {"video_index": 0, "trajectory_frame": 0},
            "current_frame": {"video_index": history, "trajectory_frame": history},
            "calculation_method": "euclidean_distance_xy_only",
        },
        **extra,
    }
    place("metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")


def _bytes(file: Path, rule: str) -> bytes:
    if not file.is_file():
        raise SegmentError(rule, f"{file.name} is missing")
    return file.read_bytes()


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / f"{folder.name}_metadata.json"
    try:
        found = json.loads(_bytes(file, "state_readable"))
    except ValueError as error:
        if isinstance(error, SegmentError):
            raise
        raise SegmentError("state_readable", f"{file.name} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise SegmentError("state_readable", f"{file.name} holds {type(found).__name__}; expected an object")
    return found


def _path(folder: Path) -> NDArray[np.float64]:
    """The trajectory from the point on that is nearest to the current frame's place, (0, 0)."""
    file = folder / f"{folder.name}_trajectory.csv"
    rows = list(csv.DictReader(_bytes(file, "trajectory_true").decode(errors="replace").splitlines()))
    try:
        points = np.array([(row["x"], row["y"]) for row in rows], np.float64).reshape(-1, 2)
    except (KeyError, TypeError, ValueError):
        raise SegmentError("trajectory_true", f"{file.name} has no columns x and y of numbers") from None
    points = points[np.isfinite(points).all(1)]
    if len(points) < 2:
        raise SegmentError("trajectory_true", f"{file.name} has {len(points)} points; expected 2 or more")
    return points[int(np.hypot(*points.T).argmin()) :]
