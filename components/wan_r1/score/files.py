"""Video files of other tools: finding them in a folder, and reading one whole or not at all."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from wan_r1.score.whole import missing_bytes

CONTAINERS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
ARRAYS = (".npy",)
_MOST_FRAMES_SHORT = Fraction(3, 2)
"""Frames of average length by which the time that a file declares may exceed that of its frames."""
_ROUNDING = Fraction(2, 1000)
"""Seconds by which rounded times differ: Matroska counts in thousandths."""


class VideoFileError(ValueError):
    """A file is no whole video in colour; the message says what is wrong with it."""


def find_videos(path: Path) -> list[Path]:
    """The video files below a folder in the order of their names, or the file itself."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in CONTAINERS + ARRAYS and file.is_file())


def read_video(file: Path) -> np.ndarray:
    """All frames of a video, RGB ``[F, H, W, 3]`` uint8; an array file as it is, whatever it holds.

    A file that was cut off is refused even if some of its frames can be decoded: half a video is no video that fails.

    Raises:
        VideoFileError: if it cannot be read, has no frames, fewer than it declares, damaged ones, or no colour.
    """
    try:
        return _read_array(file) if file.suffix.lower() in ARRAYS else _read_container(file)
    except MemoryError as error:
        size = file.stat().st_size
        raise VideoFileError(f"the video of {size} bytes does not fit in memory; make it smaller") from error


def _read_container(file: Path) -> np.ndarray:
    frames: list[np.ndarray] = []
    # In seconds: until when frames are shown, and anything else in the file, such as sound, lasts.
    end = Fraction(0)
    to_show = 0
    try:
        data = file.read_bytes()
        missing = missing_bytes(data)
        # Titles in another encoding are no fault of the video.
        with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoFileError("the file has no video stream")
            stream = container.streams.video[0]
            # None where the file does not say which codec it is of, as one that was cut off in its index may.
            if stream.codec_context is None:
                raise VideoFileError("no readable video: the stream's codec is not known; was the file cut off?")
            stream.codec_context.thread_count = 1
            # An AVI file counts a frame for every tick of its clock, shown or not.
            declared = 0 if container.format.name == "avi" else stream.frames
            lasts = Fraction(container.duration or 0, av.time_base)
            for packet in container.demux():
                end = max(end, _end(packet))
                if packet.stream != stream:
                    continue
                to_show += bool(packet.size) and not packet.is_discard
                for frame in packet.decode():
                    assert isinstance(frame, av.VideoFrame), "a video stream has pictures"
                    if frame.is_corrupt:
                        raise VideoFileError(f"frame {len(frames)} is damaged; the file is not whole")
                    if frame.format.name.startswith(("gray", "mono")):
                        raise VideoFileError(f"frames have one channel ({frame.format.name}); expected colour")
                    end = max(end, _end(frame))
                    frames.append(_rgb(frame))
    except VideoFileError:
        raise
    # Damaged headers lead to names that are no text, sizes that no picture has: PyAV says so with a ValueError.
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoFileError(f"no readable video: {error}") from error
    if not frames:
        raise VideoFileError("the video has 0 frames")
    # By some writers the last frame has no end, and all round.
    short = bool(end) and lasts > end + _MOST_FRAMES_SHORT * end / len(frames) + _ROUNDING
    # A video that was trimmed without encoding it anew keeps frames that are not to be shown.
    if declared > len(frames) and (missing or short or to_show > len(frames)):
        raise VideoFileError(f"only {len(frames)} of {declared} frames can be read; the file was cut off")
    if missing:
        raise VideoFileError(
            f"the file has {len(data)} bytes of {len(data) + missing}; it was cut off after {len(frames)} frames"
        )
    if short and not declared:
        raise VideoFileError(
            f"the file declares {float(lasts):.3f} s, but its {len(frames)} frames last {float(end):.3f} s; it was "
            "cut off"
        )
    if len({frame.shape for frame in frames}) > 1:
        raise VideoFileError("frames change their size within the video")
    return np.stack(frames)


def _end(part: av.Packet | av.VideoFrame) -> Fraction:
    """When a packet or a frame ends, in seconds; 0 if it does not say when it begins."""
    if part.pts is None or part.time_base is None:
        return Fraction(0)
    return (part.pts + (part.duration or 0)) * part.time_base


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    # As `wan_r1.tasks.video` reads its own files, so that a video scores the same wherever it lies.
    if frame.format.name == "yuv420p" and frame.width % 2 == 0 and frame.height % 2 == 0:
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420), np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _read_array(file: Path) -> np.ndarray:
    try:
        _check_length(file)
        video = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise VideoFileError(f"no readable array: {error}") from error
    if np.issubdtype(video.dtype, np.floating) and not np.isfinite(video).all():
        raise VideoFileError(
            f"the array holds nan or infinite values; expected uint8 [frames, height, width, 3], got {video.dtype}"
        )
    return video


def _check_length(file: Path) -> None:
    """`ValueError` if an array's header claims more than the file has: numpy would ask for that much memory first."""
    with file.open("rb") as opened:
        version = np.lib.format.read_magic(opened)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            return
        shape, _, dtype = read(opened)
        claimed, there = math.prod(shape) * dtype.itemsize, file.stat().st_size - opened.tell()
    if claimed > there:
        raise ValueError(
            f"its header claims {dtype} {list(shape)}, {claimed} bytes, but {there} follow; the file was cut off"
        )
