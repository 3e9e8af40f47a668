"""The tiny Wan: the classes of Wan2.2-TI2V at a size that two CPU cores train in minutes.

Unmodified diffusers and transformers classes with small configs. Only the codec is trained beforehand (by
``python -m wan_r1.prepare_model.train_tiny_codec``) and ships as safetensors; transformer and text encoder start from
seeded random weights. The codec compresses 4 x 4 pixels and 4 frames into 4 channels, so that the transformer's 2 x 2
patches make one token of 16 values per 8 x 8 pixel cell and latent frame: stock diffusers hard-codes that patch size in
its timestep mask, and few values per token are what lets so small a width learn.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

SHIFT = 5.0
"""Time shift of the noise schedule, Wan2.2's: planning is learned at high noise, where no video shows it yet."""

PROMPT_TOKENS = 48
"""Tokens a prompt is padded to; the prompts of the families have fewer."""

CODEC: dict[str, Any] = {
    "base_dim": 8,
    "z_dim": 4,
    "dim_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_scales": [],
    "temperal_downsample": [True, True],
    "is_residual": True,
    "in_channels": 3,
    "out_channels": 3,
    "scale_factor_spatial": 4,
    "scale_factor_temporal": 4,
}
"""Config of the tiny `AutoencoderKLWan`; its latents' mean and std are measured after training."""

WIDE_CODEC: dict[str, Any] = {**CODEC, "z_dim": 8}
"""Config of a codec of other families and textures: the tiny one's with more latent channels; ``python -m
wan_r1.prepare_model.train_wide_codec`` makes its weights."""

TRANSFORMER: dict[str, Any] = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 4,
    "attention_head_dim": 24,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 32,
    "freq_dim": 64,
    "ffn_dim": 384,
    "num_layers": 4,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
}

SMALL_CODEC: dict[str, Any] = {
    **CODEC,
    "base_dim": 16,
    "z_dim": 16,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 8,
}
"""The preset `small`'s: 8 x 8 pixels and 4 frames into 16 channels, so that a token is a cell of 16 x 16 pixels. Its
weights do not ship; ``python -m wan_r1.prepare_model.train_small_codec`` makes them."""

SMALL_TRANSFORMER: dict[str, Any] = {
    **TRANSFORMER,
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "in_channels": 16,
    "out_channels": 16,
    "freq_dim": 256,
    "ffn_dim": 2048,
    "num_layers": 12,
}
"""54 million parameters."""

TEXT_ENCODER: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "feed_forward_proj": "gated-gelu",
}


def assets() -> Path:
    """Folder of the shipped codec and tokenizer."""
    return Path(str(resources.files("wan_r1") / "video_model" / "assets" / "tiny"))


def shipped_codecs() -> dict[str, Path]:
    """Folders of the other codecs that ship, by the name that `model_codec` takes."""
    names = sorted(folder.name for folder in assets().parent.iterdir() if folder.is_dir())
    return {name: assets().parent / name / "vae" for name in names if name not in (assets().name, "__pycache__")}


def tiny_codec() -> AutoencoderKLWan:
    """The shipped, trained codec."""
    codec = AutoencoderKLWan.from_pretrained(assets() / "vae")
    # Otherwise the folder of this installation would be saved with every model made from it.
    codec.register_to_config(_name_or_path="wan-r1/tiny")
    return codec


def tiny_pipeline(seed: int, codec: Path | None = None) -> WanImageToVideoPipeline:
    """A whole pipeline with an untrained transformer, on the CPU in float32.

    Args:
        seed: seed of the transformer's and the text encoder's weights.
        codec: folder of another codec than the shipped one; the transformer has as many channels as its latents.
    """
    if codec is None:
        return _pipeline(seed, TRANSFORMER, tiny_codec())
    vae = AutoencoderKLWan.from_pretrained(codec)
    name = next((name for name, folder in shipped_codecs().items() if folder == codec), None)
    if name:
        vae.register_to_config(_name_or_path=f"wan-r1/{name}")
    return _pipeline(seed, {**TRANSFORMER, "in_channels": vae.config.z_dim, "out_channels": vae.config.z_dim}, vae)


def small_pipeline(seed: int, codec: Path) -> WanImageToVideoPipeline:
    """The preset `small`'s pipeline: the tiny one's text encoder, a larger transformer, and a codec of its own.

    Args:
        seed: seed of the transformer's and the text encoder's weights.
        codec: folder of the trained codec.
    """
    return _pipeline(seed, SMALL_TRANSFORMER, AutoencoderKLWan.from_pretrained(codec))


def _pipeline(seed: int, config: dict[str, Any], codec: AutoencoderKLWan) -> WanImageToVideoPipeline:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(assets() / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = WanTransformer3DModel(**config)
        text_encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(tokenizer), pad_token_id=0, **TEXT_ENCODER))
    return WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        vae=codec,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        expand_timesteps=True,
    )
