"""LoRA adapters through peft, saved so that stock diffusers' ``load_lora_weights`` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save

from wan_r1.video_model.experts import components

LORA_FILE = "pytorch_lora_weights.safetensors"
"""diffusers' default file name for LoRA weights."""

ADAPTER = "wan_r1"

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
"""Attention and feed-forward projections, VR-Bench's choice (q, k, v, o, ffn.0, ffn.2) in diffusers' names."""


class LoraError(ValueError):
    """An adapter does not fit. The message names it and the remedy."""


def lora_file(component: str) -> str:
    """File name of a transformer's adapter: diffusers' default, with the folder's ending for a second transformer."""
    return LORA_FILE.replace(".", f"{component.removeprefix('transformer')}.", 1)


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
    if transformer.dtype == torch.bfloat16:
        # Autocast computes the products in bfloat16 anyway: peft's cast of every input to float32 would be for nothing.
        for module in transformer.modules():
            if isinstance(module, LoraLayer):
                module.cast_input_dtype_enabled = False


def ensure_lora(transformer: torch.nn.Module, *, rank: int, alpha: float, seed: int) -> None:
    """Make the adapter trainable, adding one if there is none yet; rank 0 makes all weights trainable instead.

    Args:
        transformer: a transformer, or experts that get an adapter each.
        rank: of the adapter, or 0.
        alpha: its scale times its rank.
        seed: of its first values.

    Raises:
        LoraError: if the model already carries an adapter of another rank or alpha, or rank is 0 and its weights are
            not float32.
    """
    for index, part in enumerate(components(transformer).values()):
        _ensure_one(part, rank=rank, alpha=alpha, seed=seed + index)


def _ensure_one(transformer: WanTransformer3DModel, *, rank: int, alpha: float, seed: int) -> None:
    present = (getattr(transformer, "peft_config", None) or {}).get(ADAPTER)
    if present is None and rank:
        add_lora(transformer, rank=rank, alpha=alpha, seed=seed)
    elif present is not None and present.r != rank:
        raise LoraError(
            f"lora_rank={rank}, but the model's checkpoint carries an adapter of rank {present.r}; use {present.r}"
        )
    elif present is not None and present.lora_alpha != alpha:
        raise LoraError(
            f"lora_alpha={alpha}, but the model's checkpoint carries an adapter of alpha {present.lora_alpha}; use "
            f"{present.lora_alpha}"
        )
    elif present is None:
        if transformer.dtype != torch.float32:
            raise LoraError(
                f"lora_rank=0 trains all weights, but they are {transformer.dtype} and small updates would be lost; "
                "give a lora_rank, or prepare the model with model_weights=fp32"
            )
        transformer.requires_grad_(True)
    else:
        for name, parameter in transformer.named_parameters():
            parameter.requires_grad_(f".{ADAPTER}." in name)


def lora_bytes(transformer: torch.nn.Module, rank: int, alpha: float) -> bytes:
    """The adapter as a safetensors file in diffusers' format, its config in the metadata."""
    return adapter_file(get_peft_model_state_dict(transformer, adapter_name=ADAPTER), rank=rank, alpha=alpha)


def adapter_file(state: dict[str, torch.Tensor], *, rank: int, alpha: float) -> bytes:
    """An adapter's tensors by name (``blocks.0.attn1.to_q.lora_A.weight``) as the file that `load_lora` reads."""
    # Without this key diffusers takes alpha for the rank, and the adapter's effect would be scaled by rank / alpha.
    config = {"r": rank, "lora_alpha": alpha, "target_modules": list(TARGETS)}
    packed = {f"transformer.{name}": value for name, value in config.items()}
    metadata = {LORA_ADAPTER_METADATA_KEY: json.dumps(packed), "format": "pt"}
    tensors = {f"transformer.{name}": tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return save(tensors, metadata=metadata)


def read_adapter(path: Path) -> tuple[dict[str, torch.Tensor], int, float]:
    """Tensors by diffusers' names, rank and alpha of a file that `adapter_file` wrote.

    Raises:
        LoraError: if its rank and alpha are not in its metadata.
    """
    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata() or {}
        state = {name.removeprefix("transformer."): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if LORA_ADAPTER_METADATA_KEY not in metadata:
        raise LoraError(f"{path} lacks the metadata {LORA_ADAPTER_METADATA_KEY} (rank and alpha of the adapter)")
    config = json.loads(metadata[LORA_ADAPTER_METADATA_KEY])
    return state, config["transformer.r"], config["transformer.lora_alpha"]


def load_lora(transformer: WanTransformer3DModel, path: Path) -> None:
    """Add the adapter of a file that `lora_bytes` wrote."""
    state, rank, alpha = read_adapter(path)
    if ADAPTER not in (getattr(transformer, "peft_config", None) or {}):
        add_lora(transformer, rank=rank, alpha=alpha, seed=0)
    result = set_peft_model_state_dict(transformer, state, adapter_name=ADAPTER)
    if result.unexpected_keys:
        raise LoraError(
            f"{path} has {len(result.unexpected_keys)} tensors that the model has no place for, such as "
            f"{result.unexpected_keys[0]}"
        )


def check_adapter(state: dict[str, torch.Tensor], config: dict[str, Any], name: str) -> None:
    """Check that an adapter fits a transformer, by the transformer's config alone.

    Args:
        state: tensors by diffusers' names.
        config: of the transformer, as its ``config.json`` has it.
        name: of the adapter in messages.

    Raises:
        LoraError: naming the first tensor that does not fit.
    """
    with init_empty_weights():
        weights = dict(WanTransformer3DModel.from_config(config).named_parameters())
    for key, tensor in state.items():
        layer, _, side = key.rpartition(".lora_")
        weight = weights.get(f"{layer}.weight")
        if weight is None:
            raise LoraError(f"{name} is for another model: the transformer has no layer {layer}")
        dimension = 1 if side.startswith("A") else 0
        if tensor.shape[dimension] != weight.shape[dimension]:
            raise LoraError(
                f"{name} is for another model: {key} has shape {tuple(tensor.shape)}, but the layer's weight has "
                f"{tuple(weight.shape)}"
            )
