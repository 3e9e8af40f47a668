"""The codec sped up for CPUs gives what diffusers' own gives, and freed memory is kept."""

from __future__ import annotations

import copy
import platform
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKLWan

from wan_r1.video_model.codec import speed_up_codec
from wan_r1.video_model.tiny import CODEC, SMALL_CODEC, tiny_codec

STATISTICS = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
CODECS = {
    "tiny": tiny_codec,
    "small": lambda: AutoencoderKLWan(**SMALL_CODEC, **STATISTICS),
    # As Wan2.1's: no residual shortcuts around the changes of resolution.
    "wan2.1": lambda: AutoencoderKLWan(
        **{**CODEC, "z_dim": 16, "dim_mult": [1, 2, 2, 2], "is_residual": False}
        | {"temperal_downsample": [False, True, True], "scale_factor_spatial": 8, **STATISTICS}
    ),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("frames", [1, 5, 13])
def test_a_codec_that_was_sped_up_gives_what_it_gave(name: str, frames: int) -> None:
    torch.manual_seed(0)
    stock = CODECS[name]().eval()
    fast = speed_up_codec(copy.deepcopy(stock))
    assert fast.decoder.conv_in.forward.__name__ != stock.decoder.conv_in.forward.__name__
    video = torch.rand(2, 3, frames, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = stock.encode(video).latent_dist.mode()
        torch.testing.assert_close(fast.encode(video).latent_dist.mode(), latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast.decode(latents).sample, stock.decode(latents).sample, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_codec_that_was_sped_up_are_the_same() -> None:
    torch.manual_seed(0)
    stock = tiny_codec()
    fast = speed_up_codec(copy.deepcopy(stock))
    latents = torch.randn(2, 4, 3, 8, 8)
    for codec in (stock, fast):
        codec.decode(latents).sample.square().mean().backward()
    for mine, its in zip(fast.decoder.parameters(), stock.decoder.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-3, atol=1e-6)


PAGES = """
import resource, sys, torch
from wan_r1.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for step in range(40):
    if step == 15:  # it does not take the freed block from the first time on
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 * 1024 * 1024)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_memory_that_was_freed_is_used_again() -> None:
    faults = {
        way: int(subprocess.run([sys.executable, "-c", PAGES, way], capture_output=True, text=True, check=True).stdout)
        for way in ("given back", "kept")
    }
    assert faults["kept"] < faults["given back"] / 4, faults
