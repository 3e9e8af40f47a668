"""The formula for operations against torch's own count of a real forward and backward pass."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from wan_r1.video_model.flops import VideoShape, forward_flops, peak_flops, training_flops
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.tiny import CODEC, TRANSFORMER

CONFIG = {**TRANSFORMER, "num_layers": 3}
PROMPT = 24


def _counted(model, shape, training):
    patch_h = patch_w = 8
    x = torch.randn(1, CONFIG["in_channels"], 3, patch_h * 2, patch_w * 2)
    timestep = torch.full((1, shape.tokens) if shape.timesteps > 1 else (1,), 500.0)
    # As products of matrices, which the counter counts; it knows nothing of the fused kernels for CPUs.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.set_grad_enabled(training):
        output = model(
            hidden_states=x,
            timestep=timestep,
            encoder_hidden_states=torch.randn(1, PROMPT, CONFIG["text_dim"]),
            return_dict=False,
        )[0]
        if training:
            output.square().mean().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("expanded", [False, True])
def test_a_forward_pass_has_exactly_these_operations(expanded):
    shape = VideoShape.of(CONFIG, CODEC, frames=9, height=64, width=64, prompt_tokens=PROMPT, expanded=expanded)
    assert shape.tokens == 3 * 64 and shape.timesteps == (shape.tokens if expanded else 1)
    counted = _counted(WanTransformer3DModel(**CONFIG), shape, training=False)
    assert counted == forward_flops(CONFIG, shape)


@pytest.mark.parametrize("rank", [4, 16])
def test_a_training_step_with_an_adapter_has_exactly_these_operations(rank):
    model = WanTransformer3DModel(**CONFIG)
    ensure_lora(model, rank=rank, alpha=8.0, seed=0)
    shape = VideoShape(tokens=192, prompt_tokens=PROMPT, timesteps=192)
    assert _counted(model, shape, training=True) == training_flops(CONFIG, shape, rank)


def test_a_training_step_of_all_weights_is_three_forward_passes():
    shape = VideoShape(tokens=192, prompt_tokens=PROMPT, timesteps=1)
    counted = _counted(WanTransformer3DModel(**CONFIG), shape, training=True)
    # What the first layers do not pass on makes the only difference.
    assert counted == pytest.approx(training_flops(CONFIG, shape, 0), rel=0.02)


def test_five_billion_parameters_at_512_pixels():
    config = {
        **TRANSFORMER,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 30,
        "ffn_dim": 14336,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": 4096,
        "freq_dim": 256,
    }
    codec = {"scale_factor_temporal": 4, "scale_factor_spatial": 16}
    shape = VideoShape.of(config, codec, frames=81, height=512, width=512, prompt_tokens=512, expanded=True)
    assert shape.tokens == 21 * 16 * 16
    # 2 x 4.3e9 weights of the blocks x 5,376 tokens is 46 of the 60; attention is 12.
    assert forward_flops(config, shape) == pytest.approx(60e12, rel=0.02)
    assert 2 < training_flops(config, shape, 32) / forward_flops(config, shape) < 2.3


def test_devices_by_their_names():
    assert peak_flops("NVIDIA H100 80GB HBM3") == peak_flops("NVIDIA H200") == 989.4e12
    assert peak_flops("cpu") is None
