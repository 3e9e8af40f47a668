"""Tiny folders of every kind of Wan image-to-video pipeline: diffusers' classes, small configs, random weights."""

from __future__ import annotations

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from wan_r1.video_model.tiny import CODEC, SHIFT, TRANSFORMER, tiny_pipeline

IMAGE_WIDTH = 16
CHANNELS = 2 * CODEC["z_dim"] + CODEC["scale_factor_temporal"]
"""Latents, mask and the image's latents: 36 in Wan2.1-I2V, 12 here."""


def concatenating_pipeline(seed: int, *, image_encoder: bool = False) -> WanImageToVideoPipeline:
    """Like Wan2.1-I2V: channel concatenation, with or without CLIP."""
    base = tiny_pipeline(seed)
    parts = {}
    width = TRANSFORMER["num_attention_heads"] * TRANSFORMER["attention_head_dim"]
    if image_encoder:
        torch.manual_seed(seed)
        config = CLIPVisionConfig(
            hidden_size=IMAGE_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        size = {"height": 32, "width": 32}
        parts["image_encoder"] = CLIPVisionModel(config).eval()
        parts["image_processor"] = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    extra = {"image_dim": IMAGE_WIDTH, "added_kv_proj_dim": width} if image_encoder else {}
    return WanImageToVideoPipeline(
        tokenizer=base.tokenizer,
        text_encoder=base.text_encoder,
        vae=base.vae,
        transformer=transformer(seed, **extra),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        expand_timesteps=False,
        **parts,
    )


def experts_pipeline(seed: int, boundary_ratio: float = 0.9) -> WanImageToVideoPipeline:
    """Like Wan2.2-I2V-A14B: channel concatenation, a transformer for high noise and one for low."""
    base = tiny_pipeline(seed)
    return WanImageToVideoPipeline(
        tokenizer=base.tokenizer,
        text_encoder=base.text_encoder,
        vae=base.vae,
        transformer=transformer(seed),
        transformer_2=transformer(seed + 1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        boundary_ratio=boundary_ratio,
        expand_timesteps=False,
    )


def transformer(seed: int, **changes: object) -> WanTransformer3DModel:
    """A small transformer for concatenated channels whose output is of the size of a trained one's."""
    torch.manual_seed(seed)
    model = WanTransformer3DModel(**{**TRANSFORMER, "num_layers": 2, "in_channels": CHANNELS, **changes})
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    for name, parameter in model.named_parameters():
        # Zero in a new model: what depends on the image could not be seen.
        if "image_embedder" in name and parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model
