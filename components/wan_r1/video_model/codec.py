"""What Wan's codec needs beside its weights: the statistics of its latents, and a faster normalisation on CPUs."""

from __future__ import annotations

import types

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm


def latent_statistics(codec: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation that latents are normalised by, `[1, channels, 1, 1, 1]` on the codec's device."""
    config = codec.config
    mean, std = (
        torch.tensor(values, device=codec.device).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, std


def speed_up_normalisation(codec: AutoencoderKLWan) -> AutoencoderKLWan:
    """Compute the codec's RMS normalisation as a product with a reciprocal root; returns the same codec.

    `torch.nn.functional.normalize` over the channels of a contiguous video reads memory with a stride and takes half of
    the decoder's time on a CPU. The value is the same but for rounding; weights and classes stay diffusers' own.
    """
    for module in codec.modules():
        if isinstance(module, WanRMS_norm):
            module.forward = types.MethodType(_normalise, module)
    return codec


def _normalise(self: WanRMS_norm, x: torch.Tensor) -> torch.Tensor:
    """``x / |x| * scale * gamma + bias`` with ``|x|`` over the channels, bounded below like `normalize`'s."""
    squares = (x * x).sum(1 if self.channel_first else -1, keepdim=True)
    return x * torch.rsqrt(squares.clamp_min(1e-24)) * (self.scale * self.gamma) + self.bias
