"""What Wan's codec needs beside its weights: the statistics of its latents, and less work for memory on CPUs."""

from __future__ import annotations

import types

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch.nn import functional


def latent_statistics(codec: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation that latents are normalised by, `[1, channels, 1, 1, 1]` on the codec's device."""
    config = codec.config
    mean, std = (
        torch.tensor(values, device=codec.device).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return mean, std


def speed_up_codec(codec: AutoencoderKLWan) -> AutoencoderKLWan:
    """Compute the codec's normalisations and convolutions with fewer passes over memory; returns the same codec.

    On a CPU `torch.nn.functional.normalize` over the channels of a contiguous video reads memory with a stride and
    takes half of the decoder's time; the convolutions copy their input into a padded one each time. The values are the
    same but for rounding; weights and classes stay diffusers' own.
    """
    for module in codec.modules():
        if isinstance(module, WanRMS_norm):
            module.forward = types.MethodType(_normalise, module)
        elif isinstance(module, WanCausalConv3d):
            module.forward = types.MethodType(_convolve, module)
    return codec


def _normalise(self: WanRMS_norm, x: torch.Tensor) -> torch.Tensor:
    """``x / |x| * scale * gamma + bias`` with ``|x|`` over the channels, bounded below like `normalize`'s."""
    squares = (x * x).sum(1 if self.channel_first else -1, keepdim=True)
    return x * torch.rsqrt(squares.clamp_min(1e-24)) * (self.scale * self.gamma) + self.bias


def _convolve(self: WanCausalConv3d, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
    """The causal convolution of a video and the frames before it; what is missing of these is zero."""
    width, _, height, _, before, _ = self._padding
    weight = self.weight
    if cache_x is not None and before:
        x = torch.cat([cache_x.to(x.device), x], dim=2)
        before = max(0, before - cache_x.shape[2])
    if before and x.shape[2] == 1 and before == weight.shape[2] - 1:
        weight = weight[:, :, -1:]  # the others would meet nothing but zeros
    elif before:
        x = functional.pad(x, (0, 0, 0, 0, before, 0))
    return functional.conv3d(x, weight, self.bias, self.stride, (0, height, width), self.dilation, self.groups)
