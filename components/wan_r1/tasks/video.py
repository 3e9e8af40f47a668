"""Videos and images as bytes, through PyAV (H.264 in MP4) and OpenCV (PNG)."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import cast

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_NO_LOOKAHEAD = {"bf": "0", "sc_threshold": "0", "rc-lookahead": "0", "weightp": "0"}
"""x264 without its look at coming frames, which reads memory it has not set in frames of two macroblocks (32 px) and so
gives other bytes once in a hundred times; a moving disc needs no B frames, and encoding is twice as fast."""


class MediaError(ValueError):
    """Bytes that are no readable image or video, or frames that cannot be encoded; the message says why."""


def encode_video(frames: NDArray[np.uint8], fps: float, lossless: bool) -> bytes:
    """An MP4 file with H.264 video.

    Args:
        frames: RGB video, ``[F, H, W, 3]``.
        fps: frames per second.
        lossless: true keeps every pixel (RGB 4:4:4, which players other than ffmpeg's often refuse); false gives the
            common 4:2:0 at a visually lossless quality, for which height and width must be even.

    Returns:
        The file; equal input gives equal bytes for one version of PyAV, since one thread encodes.

    Raises:
        MediaError: if the frames have a shape or type that cannot be encoded.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise MediaError(f"frames are {frames.dtype} {list(frames.shape)}; expected uint8 [F, H, W, 3] with F > 0")
    _, height, width, _ = frames.shape
    if not lossless and (height % 2 or width % 2):
        raise MediaError(
            f"frames of {height}x{width} px have an odd side, which 4:2:0 cannot hold; use lossless or "
            f"{height + height % 2}x{width + width % 2}"
        )
    codec, pixels = ("libx264rgb", "rgb24") if lossless else ("libx264", "yuv420p")
    preset, quantiser = ("superfast", "0") if lossless else ("veryfast", "18")
    options = {"preset": preset, "qp": quantiser, **_NO_LOOKAHEAD}
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=options))
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.thread_count = 1
        for image in frames:
            # OpenCV converts on this thread; the encoder's own conversion starts a pool of threads for each frame.
            data = image if lossless else cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(data), format=pixels)))
        container.mux(stream.encode())
    return file.getvalue()


def decode_video(data: bytes) -> NDArray[np.uint8]:
    """All frames of a video file as RGB, ``[F, H, W, 3]``.

    Raises:
        MediaError: if the bytes are no video that can be read.
    """
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.video:
                raise MediaError(f"the {len(data)} bytes hold no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            frames = [_rgb(frame) for frame in container.decode(stream)]
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"the {len(data)} bytes are no readable video: {error}") from error
    if not frames:
        raise MediaError(f"the video of {len(data)} bytes has no frames")
    return np.stack(frames)


def _rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    # The two formats that `encode_video` writes, without the threads that a conversion by PyAV starts for each frame.
    if frame.format.name == "gbrp":
        return np.asarray(frame.to_ndarray(), np.uint8)
    if frame.format.name == "yuv420p":
        return np.asarray(cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420), np.uint8)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def encode_image(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of an RGB image ``[H, W, 3]``."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise MediaError(f"OpenCV could not write an image {list(image.shape)} as PNG")
    return data.tobytes()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """An image file as RGB, ``[H, W, 3]``.

    Raises:
        MediaError: if the bytes are no image that can be read.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        raise MediaError(f"the {len(data)} bytes are no readable image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
