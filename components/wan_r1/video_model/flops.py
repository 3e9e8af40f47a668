"""Floating-point operations of Wan's transformer, from its shapes: what model FLOPs utilisation is measured against.

A product of matrices ``[m, k] x [k, n]`` counts ``2 m k n``; norms, activations and rotations are not counted. With
width d, feed-forward width f, S video tokens and T prompt tokens, a block's forward pass is

    2 [ S (6 d^2 + 2 d f) + T 2 d^2 ]    projections: self-attention 4, cross-attention 2 on S, 2 on T, feed-forward 2
    2 [ 2 S^2 d + 2 S T d ]              attention: scores, and their product with the values

and the embeddings and the output add a little. A training step of all weights is three forward passes: the backward
pass does each product twice, for its inputs and for its weights. With a LoRA adapter the frozen weights need no
gradient of their own: projections count once in the backward pass, attention still twice, adapters twice. What gradient
checkpointing computes again does not count: it is time, not progress (PaLM's convention, arXiv 2204.02311, appendix B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

PEAK_FLOPS = {"H200": 989.4e12, "H100": 989.4e12, "A100": 312e12}
"""Dense bfloat16 operations a second by a part of the device's name, from NVIDIA's data sheets (SXM boards)."""


@dataclass(frozen=True, kw_only=True)
class VideoShape:
    """What one video is to the transformer.

    Attributes:
        tokens: video tokens, S.
        prompt_tokens: T.
        timesteps: timesteps that are embedded: S where each token has its own (``expand_timesteps``), else 1.
    """

    tokens: int
    prompt_tokens: int
    timesteps: int

    @classmethod
    def of(
        cls, transformer: Any, codec: Any, *, frames: int, height: int, width: int, prompt_tokens: int, expanded: bool
    ) -> VideoShape:
        """The shape of a video of this many frames and pixels.

        Args:
            transformer: config of the transformer.
            codec: config of the codec.
            frames: 4k + 1.
            height: in pixels.
            width: in pixels.
            prompt_tokens: tokens that prompts are padded to.
            expanded: whether each token has its own timestep.
        """
        patch_t, patch_h, patch_w = transformer["patch_size"]
        latent_frames = (frames - 1) // codec["scale_factor_temporal"] + 1
        factor = codec["scale_factor_spatial"]
        tokens = (latent_frames // patch_t) * (height // factor // patch_h) * (width // factor // patch_w)
        return cls(tokens=tokens, prompt_tokens=prompt_tokens, timesteps=tokens if expanded else 1)


def forward_flops(config: Any, shape: VideoShape) -> float:
    """Operations of one video's forward pass.

    Args:
        config: of the transformer; one without image tokens.
        shape: of the video.
    """
    return 2.0 * (_projections(config, shape) + _attention(config, shape) + _outside(config, shape))


def training_flops(config: Any, shape: VideoShape, lora_rank: int) -> float:
    """Operations of one video's forward and backward pass.

    Args:
        config: of the transformer; one without image tokens.
        shape: of the video.
        lora_rank: rank of adapters on all projections of the blocks; 0 trains all weights.
    """
    if not lora_rank:
        return 3 * forward_flops(config, shape)
    width, hidden, layers = _width(config), config["ffn_dim"], config["num_layers"]
    tokens, prompt = shape.tokens, shape.prompt_tokens
    on_video = layers * tokens * (6 * width**2 + 2 * width * hidden)
    # The first block's input and the prompt take no gradient.
    inputs = on_video - 3 * tokens * width**2
    output = tokens * width * config["out_channels"] * math.prod(config["patch_size"])
    adapters = layers * lora_rank * (tokens * (12 * width + 2 * (width + hidden)) + prompt * 4 * width)
    without_input = lora_rank * width * (3 * tokens + layers * 2 * prompt)
    backward = inputs + output + 2 * _attention(config, shape) + 2 * adapters - without_input
    return forward_flops(config, shape) + 2.0 * (adapters + backward)


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 operations a second of a device, None for one that is not known."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


def _width(config: Any) -> int:
    return config["num_attention_heads"] * config["attention_head_dim"]


def _projections(config: Any, shape: VideoShape) -> float:
    width, hidden = _width(config), config["ffn_dim"]
    on_video = shape.tokens * (6 * width**2 + 2 * width * hidden)
    return config["num_layers"] * (on_video + shape.prompt_tokens * 2 * width**2)


def _attention(config: Any, shape: VideoShape) -> float:
    return config["num_layers"] * 2 * shape.tokens * (shape.tokens + shape.prompt_tokens) * _width(config)


def _outside(config: Any, shape: VideoShape) -> float:
    width, patch = _width(config), math.prod(config["patch_size"])
    embedding = shape.tokens * width * patch * (config["in_channels"] + config["out_channels"])
    prompt = shape.prompt_tokens * (config["text_dim"] * width + width**2)
    time = shape.timesteps * (config["freq_dim"] * width + 7 * width**2)
    return embedding + prompt + time
