"""Video files of other tools: finding them in a folder, and reading one whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np

CONTAINERS = (".mp4", ".mkv", ".webm", ".mov", ".avi")
ARRAYS = (".npy",)


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
    if file.suffix.lower() in ARRAYS:
        return _read_array(file)
    frames: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(file.read_bytes()), "r") as container:
            if not container.streams.video:
                raise VideoFileError("the file has no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            declared = stream.frames
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise VideoFileError(f"frame {len(frames)} is damaged; the file is not whole")
                if frame.format.name.startswith(("gray", "mono")):
                    raise VideoFileError(f"frames have one channel ({frame.format.name}); expected colour")
                frames.append(_rgb(frame))
    except (av.FFmpegError, OSError) as error:
        raise VideoFileError(f"no readable video: {error}") from error
    if not frames:
        raise VideoFileError("the video has 0 frames")
    if declared > len(frames):
        raise VideoFileError(f"only {len(frames)} of {declared} frames can be read; the file was cut off")
    if len({frame.shape for frame in frames}) > 1:
        raise VideoFileError("frames change their size within the video")
    return np.stack(frames)


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    # As `wan_r1.tasks.video` reads its own files, so that a video scores the same wherever it lies.
    if frame.format.name == "yuv420p" and frame.width % 2 == 0 and frame.height % 2 == 0:
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420), np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _read_array(file: Path) -> np.ndarray:
    try:
        video = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise VideoFileError(f"no readable array: {error}") from error
    if np.issubdtype(video.dtype, np.floating) and not np.isfinite(video).all():
        raise VideoFileError(
            f"the array holds nan or infinite values; expected uint8 [frames, height, width, 3], got {video.dtype}"
        )
    return video
