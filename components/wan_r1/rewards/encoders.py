"""Frozen encoders of frames through transformers, for the reward `embedding`: DINOv2, CLIP, V-JEPA 2 by name.

Torch is imported here; nothing else of this package's rewards needs it but the judges.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, BitImageProcessor, Dinov2Config, Dinov2Model
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, PILImageResampling
from transformers.utils import cached_file

TINY = "tiny"
"""Name of the encoder that ships with the package; `wan_r1.rewards.train_tiny_encoder` made it."""
TINY_FOLDER = Path(__file__).with_name("assets") / "tiny_dinov2"
TINY_SIDE = 32
"""Pixels a side of the frames it sees."""

_FRAMES_AT_ONCE = 64
_VIDEO_TYPES = ("vjepa2",)
_TEXT_AND_IMAGE_TYPES = ("clip", "siglip", "siglip2")
_VIDEO_PROCESSOR_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")


class EncoderError(ValueError):
    """An encoder cannot be loaded; the message names it and the remedy."""


class FrameEncoder:
    """Embeds every frame, in batches: the class token of a vision transformer, or CLIP's image features.

    Args:
        model: the vision model, in evaluation mode.
        processor: resizes and normalises frames for it.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    @torch.no_grad()
    def encode(self, videos: np.ndarray) -> np.ndarray:
        """Embeddings float32 [N, F, dimensions] of videos ``[N, F, H, W, 3]`` uint8."""
        count, frames = videos.shape[:2]
        flat = videos.reshape(count * frames, *videos.shape[2:])
        parts = [self._encode(flat[i : i + _FRAMES_AT_ONCE]) for i in range(0, len(flat), _FRAMES_AT_ONCE)]
        return np.concatenate(parts).reshape(count, frames, -1)

    def _encode(self, images: np.ndarray) -> np.ndarray:
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._model.device)
        if self._model.config.model_type in _TEXT_AND_IMAGE_TYPES:
            found = self._model.get_image_features(pixel_values=pixels)
            # A tensor up to transformers 4, an output object from 5 on.
            found = getattr(found, "pooler_output", found)
        else:
            found = self._model(pixel_values=pixels).last_hidden_state[:, 0]
        return found.float().cpu().numpy()


class VideoEncoder:
    """Embeds pairs of frames with a video model (V-JEPA 2): the mean over its patches of the same time.

    Args:
        model: the model, in evaluation mode.
        processor: resizes and normalises frames for it.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model = model
        self._processor = processor

    @torch.no_grad()
    def encode(self, videos: np.ndarray) -> np.ndarray:
        """Embeddings float32 [N, T, dimensions] of videos ``[N, F, H, W, 3]`` uint8, T = F / 2 rounded up."""
        tubelet = self._model.config.tubelet_size
        missing = -videos.shape[1] % tubelet
        padded = np.concatenate([videos, videos[:, -1:].repeat(missing, axis=1)], axis=1)
        found = []
        for video in padded:
            pixels = self._processor(images=list(video), return_tensors="pt")["pixel_values"].to(self._model.device)
            tokens = self._model(pixel_values_videos=pixels[None], skip_predictor=True)
            times = len(video) // tubelet
            found.append(tokens.last_hidden_state[0].reshape(times, -1, tokens.last_hidden_state.shape[-1]).mean(1))
        return torch.stack(found).float().cpu().numpy()


def load_encoder(name: str) -> FrameEncoder | VideoEncoder:
    """An encoder from the hub or a folder, frozen, on the GPU if there is one; `TINY` is the one in this package.

    Raises:
        EncoderError: if transformers cannot load it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    place = str(TINY_FOLDER) if name == TINY else name
    try:
        model = AutoModel.from_pretrained(place).to(device).eval().requires_grad_(False)
        if model.config.model_type in _VIDEO_TYPES:
            return VideoEncoder(model, _frame_processor(place))
        return FrameEncoder(model, AutoImageProcessor.from_pretrained(place, use_fast=False))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"the encoder {name!r} cannot be loaded ({str(error).splitlines()[0]}); give a folder or a hub id that "
            f"transformers' AutoModel and AutoImageProcessor know, such as facebook/dinov2-base, or {TINY!r}"
        ) from None


def _frame_processor(place: str) -> BitImageProcessor:
    """V-JEPA's video processor frame by frame: that of transformers wants torchvision, which nothing else here needs.

    As there the shorter side is made 256 / 224 times the crop's.

    Raises:
        OSError: if the model has none.
    """
    for name in _VIDEO_PROCESSOR_FILES:
        file = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            given = json.loads(Path(file).read_text())
            crop = given.get("crop_size", 256)
            side = crop["height"] if isinstance(crop, dict) else crop
            return BitImageProcessor(
                size={"shortest_edge": int(side * 256 / 224)},
                crop_size={"height": side, "width": side},
                resample=given.get("resample", PILImageResampling.BILINEAR),
                image_mean=given.get("image_mean", IMAGENET_DEFAULT_MEAN),
                image_std=given.get("image_std", IMAGENET_DEFAULT_STD),
            )
    raise OSError(f"it has none of {', '.join(_VIDEO_PROCESSOR_FILES)}")


def tiny_dinov2(seed: int) -> Dinov2Model:
    """A Dinov2Model small enough for a CPU, with seeded random weights: what `train_tiny_encoder` starts from."""
    config = Dinov2Config(
        hidden_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=TINY_SIDE,
        patch_size=8,
        use_mask_token=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dinov2Model(config).eval()
