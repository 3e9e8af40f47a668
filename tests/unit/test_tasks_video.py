"""Videos and images as bytes: exact where promised, and refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_r1.tasks.task import make_task
from wan_r1.tasks.video import MediaError, decode_image, decode_video, encode_image, encode_video

PLACE = {"seed": 0, "split": "train", "index": 0, "canvas": 4, "steps_per_frame": 0.5}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    frames=st.integers(1, 13),
    height=st.integers(16, 70),
    width=st.integers(16, 70),
)
def test_lossless_videos_and_images_keep_every_pixel(seed: int, frames: int, height: int, width: int) -> None:
    video = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    assert (decode_video(encode_video(video, 8.0, lossless=True)) == video).all()
    assert (decode_image(encode_image(video[0])) == video[0]).all()


def test_common_videos_look_the_same() -> None:
    video = make_task("regular", "medium", "plain", frames=21, size=256, **PLACE).video
    data = encode_video(video, 24.0, lossless=False)
    again = decode_video(data)
    assert again.shape == video.shape
    assert np.abs(again.astype(int) - video).mean() < 4
    assert len(data) < 60_000


@pytest.mark.parametrize("lossless", [True, False])
def test_equal_frames_give_equal_bytes(lossless: bool) -> None:
    video = make_task("trapfield", "easy", "night", frames=9, size=32, **PLACE).video
    data = encode_video(video, 4.0, lossless)
    noise = np.random.default_rng(0)
    for _ in range(30):
        # What an earlier encoder left in memory must not matter.
        frames, height, width = noise.integers(1, 13), 2 * noise.integers(8, 35), 2 * noise.integers(8, 35)
        encode_video(noise.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), 8.0, lossless)
        assert encode_video(video.copy(), 4.0, lossless) == data


@pytest.mark.parametrize(
    ("frames", "lossless", "message"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), True, "F > 0"),
        (np.zeros((3, 8, 8), np.uint8), True, r"\[3, 8, 8\]"),
        (np.zeros((3, 8, 8, 3), np.float32), True, "float32"),
        (np.zeros((3, 33, 32, 3), np.uint8), False, "33x32 px have an odd side.*34x32"),
    ],
)
def test_frames_that_cannot_be_encoded_are_refused(frames: np.ndarray, lossless: bool, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        encode_video(frames, 8.0, lossless)


def test_bytes_that_are_no_media_are_refused() -> None:
    whole = encode_video(np.zeros((5, 32, 32, 3), np.uint8), 8.0, lossless=True)
    for data in (b"", b"not a video", whole[: len(whole) // 2]):
        with pytest.raises(MediaError):
            decode_video(data)
    for data in (b"", b"not an image", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(MediaError, match="no readable image"):
            decode_image(data)
