"""Where a camera was in an unknown world, by a world decoder that the user brings, such as VGGT.

A decoder is one function, named as ``module:function``. It takes the frames of a video and one picture that was taken
before it, and returns where each camera was, in any unit and in any place: the scale comes from the known distance
between the picture before and the first frame, the place and the direction from the first frame's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from wan_r1.verification.navigation import PAPER, NavigationMetrics, NavigationRules, PathError, navigation_metrics

WorldDecoder: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""From pictures uint8 ``[N, H, W, 3]``, the one from before last, to the cameras' extrinsics ``[N, 3, 4]``.

An extrinsic is rotation and translation from the world to a camera whose axes are x right, y down and z ahead, as in
OpenCV and VGGT.
"""


def load_decoder(name: str) -> WorldDecoder:
    """The function that ``module:function`` names.

    Raises:
        ValueError: if there is no such module or function.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(f"world decoder {name!r} names no function; expected module:function")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"world decoder {name!r}: cannot import {module!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"world decoder {name!r}: {module!r} has no function {function!r}")
    return found


def decoded_path(
    decoder: WorldDecoder, video: NDArray[np.uint8], before: NDArray[np.uint8], displacement: float
) -> NDArray[np.float64]:
    """The camera's path on the floor in metres, ``[F, 2]``, from (0, 0), looking along y in the first frame.

    Args:
        decoder: recovers the cameras.
        video: ``[F, H, W, 3]``.
        before: a picture ``[H, W, 3]`` from before the video.
        displacement: metres from where it was taken to where the first frame was.

    Raises:
        PathError: if the decoder returns another shape or no numbers, or sees no distance to take the scale from.
    """
    cameras = np.asarray(decoder(np.concatenate([video, before[None]])), np.float64)
    if cameras.shape != (len(video) + 1, 3, 4) or not np.isfinite(cameras).all():
        raise PathError(f"the world decoder returned {list(cameras.shape)}; expected finite [{len(video) + 1}, 3, 4]")
    turn, shift = cameras[:, :, :3], cameras[:, :, 3]
    places = -np.einsum("nij,ni->nj", turn, shift)
    seen = float(np.linalg.norm(places[-1] - places[0]))
    if seen <= 1e-9 or displacement <= 0:
        raise PathError(
            f"the picture from before is {seen:.2g} units and {displacement:.2g} m from the first frame; a scale needs "
            "both above 0"
        )
    ahead = (places[:-1] - places[0]) @ turn[0].T * (displacement / seen)
    return np.stack([ahead[:, 0], ahead[:, 2]], axis=1)


def decoder_metrics(
    decoder: WorldDecoder,
    video: NDArray[np.uint8],
    before: NDArray[np.uint8],
    displacement: float,
    recorded: NDArray[np.floating],
    rules: NavigationRules = PAPER,
) -> NavigationMetrics:
    """Metrics of a video against the recorded path ``[N, 2]`` in the first frame's coordinates; see `decoded_path`."""
    return navigation_metrics(decoded_path(decoder, video, before, displacement), np.asarray(recorded), rules)
