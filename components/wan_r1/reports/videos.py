"""Videos that play inside a page: reference and generated frames side by side in one small looping clip.

All panes of a figure are one H.264 stream, so they always show the same frame number; browsers also limit how many
videos a page may have (Chromium: 75 players), which one stream per figure keeps far away.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter

from wan_r1.reports.html import Html, escape, note

_LEAST_SIDE = 128
_MOST_SIDE = 256
_GAP = 8
_GAP_COLOUR = 136
_BT709 = 1
_LIMITED_RANGE = 1


@dataclass(frozen=True, kw_only=True)
class Pane:
    """One video of a figure.

    Attributes:
        label: what it is, such as reference.
        frames: uint8 [frames, height, width, 3]; None draws a grey pane.
        lines: what to say below the label.
        good: colours the first line: True good, False bad, None neither.
    """

    label: str
    frames: np.ndarray | None
    lines: Sequence[str] = ()
    good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Panes that play together, with a heading of their own and what is said below them."""

    title: str
    panes: Sequence[Pane]
    below: Html | None = None


def video_grid(clips: Sequence[Clip], *, most_bytes: int = 3_000_000) -> Html:
    """Figures with looping videos, and a button that pauses them all.

    Clips that would make the page larger than ``most_bytes`` of markup are left out, and the page says how many.
    """
    figures: list[Html] = []
    used = 0
    for clip in clips:
        made = figure(clip)
        if figures and used + len(made) > most_bytes:
            break
        figures.append(made)
        used += len(made)
    return figure_grid(figures, len(clips) - len(figures))


def figure_grid(figures: Sequence[Html], left_out: int = 0, *, button: bool = True) -> Html:
    """Figures beside each other; ``left_out`` more are mentioned. One grid of a page has the button for all."""
    if not figures:
        return note("No videos to show.")
    rest = note(f"{left_out} more videos were left out to keep the page small.") if left_out else ""
    shown = '<p><button id="play-pause" type="button" hidden>Pause all videos</button></p>' if button else ""
    return Html(f'{shown}<div class="videos">{"".join(figures)}</div>{rest}')


def encode_playable(frames: np.ndarray, *, frames_per_second: float | None = None) -> bytes:
    """Frames as an MP4 that every browser plays: H.264, yuv420p, BT.709, at least 128 px a side.

    Args:
        frames: uint8 [frames, height, width, 3], RGB.
        frames_per_second: speed; default: 4, or faster where the clip would last longer than 8 seconds.

    Raises:
        ValueError: if the frames have another shape or type.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames of shape {frames.shape} and type {frames.dtype} are not allowed; "
            "expected uint8 [frames, height, width, 3]"
        )
    shown = np.stack([_resized(frame) for frame in frames])
    # 4:2:0 stores colour for blocks of 2 x 2 pixels, so both sides must be even.
    shown = shown[:, : shown.shape[1] // 2 * 2, : shown.shape[2] // 2 * 2]
    speed = frames_per_second or max(4.0, len(frames) / 8.0)
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(speed).limit_denominator(1000))
        stream.height, stream.width = shown.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryslow", "threads": "1"}
        # Untagged streams are guessed to be BT.601 or BT.709 by size, which shifts the colours.
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        # One converter for all frames: setting one up takes longer than using it.
        converter = VideoReformatter()
        for image in shown:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(converter.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode(None))
    return target.getvalue()


def data_uri(video: bytes) -> str:
    """An MP4 as a URI that contains it."""
    return "data:video/mp4;base64," + base64.b64encode(video).decode("ascii")


def strip(videos: Sequence[np.ndarray | None]) -> np.ndarray:
    """Videos beside each other with a gap, each at the size that a page shows.

    Args:
        videos: uint8 [frames, height, width, 3] each; shorter ones rest on their last frame, None is a grey pane.

    Returns:
        uint8 [frames, height, total width, 3].
    """
    known = [video for video in videos if video is not None]
    frames = max([len(video) for video in known], default=1)
    panes: list[np.ndarray | None] = []
    for video in videos:
        if video is None:
            panes.append(None)
            continue
        scaled = np.stack([_resized(frame) for frame in video])
        panes.append(np.concatenate([scaled, np.repeat(scaled[-1:], frames - len(scaled), axis=0)]))
    height = max([pane.shape[1] for pane in panes if pane is not None], default=_LEAST_SIDE)
    width = max([pane.shape[2] for pane in panes if pane is not None], default=_LEAST_SIDE)
    canvas = np.full((frames, height, len(panes) * (width + _GAP) - _GAP, 3), _GAP_COLOUR, np.uint8)
    for place, pane in enumerate(panes):
        if pane is not None:
            left = place * (width + _GAP)
            canvas[:, : pane.shape[1], left : left + pane.shape[2]] = pane
    return canvas


def figure(clip: Clip) -> Html:
    """One looping video with its captions, for `figure_grid`."""
    frames = strip([pane.frames for pane in clip.panes])
    uri = data_uri(encode_playable(frames))
    captions = "".join(_caption(pane) for pane in clip.panes)
    spoken = "; ".join(f"{pane.label}: {', '.join(pane.lines) or 'no remarks'}" for pane in clip.panes)
    return Html(
        f'<figure class="clip" style="--panes: {len(clip.panes)}"><p>{escape(clip.title)}</p><div class="strip">'
        f'<video src="{uri}" width="{frames.shape[2]}" height="{frames.shape[1]}" loop muted autoplay playsinline '
        f'aria-label="{escape(clip.title + ". " + spoken)}"></video>{_covers(len(clip.panes), frames.shape[2])}</div>'
        f'<figcaption class="captions">{captions}</figcaption>{clip.below or ""}</figure>'
    )


def _covers(panes: int, width: int) -> str:
    """Strips in the page's own colour over the gaps between panes, which a video cannot know."""
    pane = (width + _GAP) / panes - _GAP
    return "".join(
        f'<i style="left: calc({100 * (place * (pane + _GAP) - _GAP) / width:.3f}% - 1px); '
        f'width: calc({100 * _GAP / width:.3f}% + 2px)"></i>'
        for place in range(1, panes)
    )


def _caption(pane: Pane) -> str:
    tone = {True: ' class="yes"', False: ' class="no"', None: ""}[pane.good]
    lines = "".join(f"<span{tone if not n else ''}>{escape(line)}</span>" for n, line in enumerate(pane.lines))
    return f"<div><b>{escape(pane.label)}</b>{lines}</div>"


def _resized(frame: np.ndarray) -> np.ndarray:
    """A frame with its smaller side in [128, 256] px: pixels repeated when enlarged, averaged when made smaller."""
    side = min(frame.shape[:2])
    if side < _LEAST_SIDE:
        factor = math.ceil(_LEAST_SIDE / side)
        return frame.repeat(factor, axis=0).repeat(factor, axis=1)
    if side > _MOST_SIDE:
        height, width = (max(2, round(length * _MOST_SIDE / side)) for length in frame.shape[:2])
        return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return frame
