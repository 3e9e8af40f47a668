"""LoRA adapters through peft, saved so that stock diffusers' ``load_lora_weights`` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save

LORA_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' default file name for LoRA weights."""

ADAPTER = "wan_r1"

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Attention and feed-forward projections, VR-Bench's choice (q, k, v, o, ffn.0, ffn.2) in diffusers' names."""


def add_lora(transformer: WanTransformer3DModel, *, rank: int, alpha: float, seed: int) -> None:
    """Add a trainable adapter of ``rank`` and freeze everything else; its output is zero until trained."""
    transformer.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(TARGETS))
        transformer.add_adapter(config, adapter_name=ADAPTER)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            # The optimizer needs float32 masters: bfloat16 swallows updates below 1/256 of a weight.
            parameter.data = parameter.data.float()


def ensure_lora(transformer: WanTransformer3DModel, *, rank: int, alpha: float, seed: int) -> None:
    """Make the adapter trainable, adding one if there is none yet; rank 0 makes all weights trainable instead.

    Raises:
        ValueError: if the model already carries an adapter of another rank, naming both.
    """
    present = (getattr(transformer, "peft_config", None) or {}).get(ADAPTER)
    if present is None and rank:
        add_lora(transformer, rank=rank, alpha=alpha, seed=seed)
    elif present is not None and present.r != rank:
        raise ValueError(
            f"lora_rank={rank}, but the model's checkpoint carries an adapter of rank {present.r}; use {present.r}"
        )
    elif present is None:
        transformer.requires_grad_(True)
    else:
        for name, parameter in transformer.named_parameters():
            parameter.requires_grad_(f".{ADAPTER}." in name)


def lora_bytes(transformer: torch.nn.Module, rank: int, alpha: float) -> bytes:
    """The adapter as a safetensors file in diffusers' format, its config in the metadata."""
    state = get_peft_model_state_dict(transformer, adapter_name=ADAPTER)
    state = {f"transformer.{name}": tensor for name, tensor in state.items()}
    # Without this key diffusers takes alpha for the rank, and the adapter's effect would be scaled by rank / alpha.
    config = {"r": rank, "lora_alpha": alpha, "target_modules": list(TARGETS)}
    packed = {f"transformer.{name}": value for name, value in config.items()}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(packed), "format": "pt"}
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, metadata=metadata)


def load_lora(transformer: WanTransformer3DModel, path: Path) -> None:
    """Add the adapter of a file that `lora_bytes` wrote."""
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() or {}
        state = {name.removeprefix("transformer."): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if LORA_ADAPTER_METADATA_KEY not in metadata:
        raise ValueError(f"{path} lacks the metadata {LORA_ADAPTER_METADATA_KEY} (rank and alpha of the adapter)")
    config = json.loads(metadata[LORA_ADAPTER_METADATA_KEY])
    if ADAPTER not in (getattr(transformer, "peft_config", None) or {}):
        add_lora(transformer, rank=config["transformer.r"], alpha=config["transformer.lora_alpha"], seed=0)
    set_peft_model_state_dict(transformer, state, adapter_name=ADAPTER)
