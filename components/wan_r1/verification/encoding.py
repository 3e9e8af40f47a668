"""Videos through H.264 as other tools encode it, many times alike: what compressed videos are compared with."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray


class Way(NamedTuple):
    """A way of encoding.

    Attributes:
        preset: one of x264's.
        between: most frames between two that only look back.
        off: steps of quality to add.
        library: what converts the colours: ``opencv`` takes those of one of four pixels, ``swscale`` (FFmpeg) a mean.
        ahead: whether x264 looks at coming frames, as it does unless told otherwise: what these refer to it keeps up to
            ten steps better than what they do not, such as the place of a player that is about to leave it.
    """

    preset: str
    between: int
    off: int
    library: str
    ahead: bool


_LIBRARIES = ("swscale", "opencv")
AHEAD = (
    *(Way("veryfast", between, 0, library, True) for between in (3, 0) for library in _LIBRARIES),
    *(Way("veryfast", 3, off, library, True) for off in (-2, 2) for library in _LIBRARIES),
)
"""x264 by its defaults: as other tools use it."""
ALONE = (
    *(Way("veryfast", between, 0, "opencv", False) for between in (0, 1, 2, 3)),
    *(Way("veryfast", between, off, "swscale", False) for between in (0, 1, 2, 3) for off in (-1, 1)),
    *(Way("veryfast", between, off, "swscale", False) for between in (0, 3) for off in (-2, 2)),
    *(Way("medium", between, 0, "swscale", False) for between in (0, 3)),
)
"""Without its look ahead: in frames of few macroblocks that reads memory that it has not set, and may do anything."""

_NO_LOOK = {"sc_threshold": "0", "rc-lookahead": "0", "weightp": "0", "mbtree": "0", "b-adapt": "0"}
_MARGIN = 32
"""Pixels by which frames are continued to the right and below where x264 looks ahead: the memory that it reads there
without having set it is that of the margin then, and the same video becomes the same each time."""


def compress(video: NDArray[np.uint8], way: Way, quality: int) -> NDArray[np.uint8]:
    """A video ``[F, H, W, 3]`` of even height and width after H.264 with half the colour resolution.

    Args:
        video: its frames.
        way: how it is encoded.
        quality: x264's constant rate factor.
    """
    _, height, width, _ = video.shape
    margin = _MARGIN if way.ahead else 0
    if margin:
        video = np.pad(video, ((0, 0), (0, margin), (0, margin), (0, 0)), mode="edge")
    options = {"preset": way.preset, "crf": str(quality + way.off), "bf": str(way.between)}
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = height + margin, width + margin
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, 24), Fraction(24)
    encoder.thread_count, encoder.options = 1, options if way.ahead else options | _NO_LOOK
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    # Each keeps the tables of one conversion; to make these anew a frame takes longer than to encode it.
    there, back = VideoReformatter(), VideoReformatter()
    packets = []
    for number, image in enumerate(video):
        if way.library == "swscale":
            frame = there.reformat(av.VideoFrame.from_ndarray(image, format="rgb24"), format="yuv420p")
        else:
            frame = av.VideoFrame.from_ndarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
        frame.pts = number
        packets += encoder.encode(frame)
    frames = [frame for packet in [*packets, *encoder.encode(), None] for frame in decoder.decode(packet)]
    if way.library == "swscale":
        found = np.stack([back.reformat(frame, format="rgb24").to_ndarray() for frame in frames])
    else:
        found = np.stack([cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420) for frame in frames])
    return found[:, :height, :width].astype(np.uint8)
