"""The given image of models that take it as further input channels (Wan2.1-I2V, Wan2.2-I2V-A14B).

Such a transformer sees, beside the noisy latents: a mask, 1 on the given frame; the latents of a video that starts with
the image and is grey otherwise; and, in Wan2.1, the tokens of a CLIP image encoder (diffusers' ``prepare_latents`` and
``encode_image``). All of it follows from the image alone. A condition carries the image's first latent, which names it:
the frames behind first latents are kept here, and what the transformer needs is computed when it is first asked for.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from wan_r1.video_model.codec import latent_statistics

KEPT = 64
"""Images whose encodings are kept: 6 MB each for 81 frames of 512 x 512 pixels."""


class UnknownImageError(RuntimeError):
    """A condition's first latent is of no image that this model has encoded."""


@dataclass(frozen=True, kw_only=True)
class GivenImage:
    """What the transformer gets of one or more images.

    Attributes:
        channels: mask and latents, `[..., mask + z, latent frames, height, width]`, float32.
        tokens: of the image encoder, `[..., tokens, width]`; None without one.
    """

    channels: torch.Tensor
    tokens: torch.Tensor | None


@dataclass(kw_only=True)
class GivenImages:
    """Images by their first latents.

    Attributes:
        vae: encodes the image followed by grey frames.
        image_encoder: CLIP's vision model; None where the transformer takes no image tokens.
        image_processor: its preprocessing.
    """

    vae: AutoencoderKLWan
    image_encoder: Any = None
    image_processor: Any = None
    _frames: dict[bytes, np.ndarray] = field(default_factory=dict)
    _encoded: OrderedDict[tuple[bytes, int], GivenImage] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, first_latents: torch.Tensor, first_frames: np.ndarray) -> None:
        """Remember which images first latents are of.

        Args:
            first_latents: `[batch, channels, 1, height, width]`.
            first_frames: uint8 `[batch, height, width, 3]`.
        """
        for key, frame in zip(_keys(first_latents), first_frames, strict=True):
            self._frames[key] = np.array(frame)

    def of(self, first_latents: torch.Tensor, latent_frames: int) -> GivenImage:
        """What the transformer gets for a batch of conditions.

        Args:
            first_latents: as they were kept, `[batch, channels, 1, height, width]`.
            latent_frames: of the videos that are made.

        Raises:
            UnknownImageError: if one of them was not kept.
        """
        # Threads that share a batch meet here: the codec keeps state while it works.
        with self._lock:
            images = [self._one(key, latent_frames) for key in _keys(first_latents)]
        tokens = [image.tokens for image in images if image.tokens is not None]
        return GivenImage(
            channels=torch.stack([image.channels for image in images]), tokens=torch.stack(tokens) if tokens else None
        )

    def _one(self, key: bytes, latent_frames: int) -> GivenImage:
        found = self._encoded.get((key, latent_frames))
        if found is None:
            if key not in self._frames:
                raise UnknownImageError(
                    "a condition's first latent is of no image that this model has encoded; make it by encode_videos "
                    "or condition of the same model, and leave its numbers as they are"
                )
            found = self._encoded[key, latent_frames] = self._encode(self._frames[key], latent_frames)
        self._encoded.move_to_end((key, latent_frames))
        while len(self._encoded) > KEPT:
            self._encoded.popitem(last=False)
        return found

    @torch.no_grad()
    def _encode(self, frame: np.ndarray, latent_frames: int) -> GivenImage:
        device, dtype = self.vae.device, self.vae.dtype
        factor = self.vae.config.scale_factor_temporal
        image = torch.from_numpy(frame).to(device, dtype).permute(2, 0, 1)[None, :, None] / 127.5 - 1
        grey = image.new_zeros(1, 3, (latent_frames - 1) * factor, *image.shape[3:])
        latents = self.vae.encode(torch.cat([image, grey], 2)).latent_dist.mode().float()
        mean, std = latent_statistics(self.vae)
        mask = latents.new_zeros(factor, *latents.shape[2:])
        mask[:, 0] = 1
        tokens = None
        if self.image_encoder is not None:
            pixels = self.image_processor(images=[Image.fromarray(frame)], return_tensors="pt")["pixel_values"]
            pixels = pixels.to(device, self.image_encoder.dtype)
            # The last layer but one, as the stock pipeline takes it.
            tokens = self.image_encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][0]
        return GivenImage(channels=torch.cat([mask, ((latents - mean) / std)[0]]), tokens=tokens)


def _keys(first_latents: torch.Tensor) -> list[bytes]:
    """A digest of each first latent's numbers."""
    values = first_latents.detach().float().cpu().contiguous().numpy()
    return [hashlib.blake2b(latent.tobytes(), digest_size=16).digest() for latent in values]
