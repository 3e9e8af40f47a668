"""LoRA files under the names of Wan's own code, as DiffSynth-Studio trains them and VR-Bench publishes them.

Both name the same matrices; DiffSynth adds ``B A`` as it is, while diffusers scales it by ``alpha / rank``. The names
of one layer's A and of another's B::

    DiffSynth   blocks.0.self_attn.q.lora_A.default.weight           blocks.0.ffn.0.lora_B.default.weight
    diffusers   transformer.blocks.0.attn1.to_q.lora_A.weight        transformer.blocks.0.ffn.net.0.proj.lora_B.weight
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from wan_r1.video_model.lora import LoraError, adapter_file, read_adapter

FORMATS = ("diffusers", "diffsynth")
"""Kinds of LoRA files."""

_LAYERS = {
    **{
        f"{theirs}.{letter}": f"{ours}.{name}"
        for theirs, ours in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for letter, name in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"))
    },
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
_BACK = {ours: theirs for theirs, ours in _LAYERS.items()}
_SIDES = {"lora_A": "lora_A", "lora_B": "lora_B", "lora_down": "lora_A", "lora_up": "lora_B"}

# Prefixes of trainers that save the whole pipeline's names, and of ComfyUI.
_THEIRS = re.compile(
    r"(?:pipe\.dit\.|diffusion_model\.)?(blocks\.\d+)\.(.+?)\.(?:(lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight|alpha)"
)
_OURS = re.compile(r"(blocks\.\d+)\.(.+)\.(lora_A|lora_B)\.weight")


def lora_format(names: Iterable[str]) -> str:
    """Which of `FORMATS` tensors with these names are in."""
    return "diffusers" if any(re.search(r"\.(attn[12]|ffn\.net)\.", name) for name in names) else "diffsynth"


def from_diffsynth(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int, float]:
    """Tensors by diffusers' names, rank and alpha.

    Args:
        state: tensors by DiffSynth's names; ``alpha`` entries, which its own files do not have, count as elsewhere:
            the product is scaled by alpha over rank.

    Raises:
        LoraError: naming the tensor, if one has no counterpart or ranks differ.
    """
    converted: dict[str, torch.Tensor] = {}
    alphas: dict[str, float] = {}
    for name, tensor in state.items():
        parts = _THEIRS.fullmatch(name)
        layer = _LAYERS.get(parts[2]) if parts else None
        if parts is None or layer is None:
            raise LoraError(
                f"{name} has no counterpart; expected LoRA weights of the layers {', '.join(_LAYERS)} of blocks.N"
            )
        if parts[3] is None:
            alphas[f"{parts[1]}.{layer}"] = float(tensor)
        else:
            converted[f"{parts[1]}.{layer}.{_SIDES[parts[3]]}.weight"] = tensor
    rank = _rank(converted)
    for layer, alpha in alphas.items():
        name = f"{layer}.lora_B.weight"
        if name not in converted:
            raise LoraError(f"{layer} has an alpha but no weights")
        converted[name] = converted[name] * (alpha / rank)
    return converted, rank, float(rank)


def to_diffsynth(state: dict[str, torch.Tensor], *, rank: int, alpha: float) -> dict[str, torch.Tensor]:
    """Tensors by DiffSynth's names, the factor ``alpha / rank`` multiplied into B, where it has its place there.

    Args:
        state: by diffusers' names, without the component's.
        rank: of the adapter.
        alpha: its scale times its rank.

    Raises:
        LoraError: naming the tensor that has no counterpart.
    """
    converted = {}
    for name, tensor in state.items():
        parts = _OURS.fullmatch(name)
        if parts is None or parts[2] not in _BACK:
            raise LoraError(f"{name} has no counterpart in DiffSynth's names; expected layers {', '.join(_BACK)}")
        scaled = tensor if parts[3] == "lora_A" or alpha == rank else tensor * (alpha / rank)
        converted[f"{parts[1]}.{_BACK[parts[2]]}.{parts[3]}.default.weight"] = scaled
    return converted


def read_lora(path: Path) -> tuple[dict[str, torch.Tensor], int, float]:
    """Tensors by diffusers' names, rank and alpha of a LoRA file of either kind.

    Raises:
        LoraError: if it is no such file.
    """
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LoraError(f"{path} is no safetensors file ({error}); expected a LoRA of diffusers or DiffSynth") from None
    if lora_format(state) == "diffusers":
        state, rank, alpha = read_adapter(path)
        if _rank(state) != rank:
            raise LoraError(f"{path} has rank {_rank(state)}, but its metadata says {rank}")
        return state, rank, alpha
    return from_diffsynth(state)


def lora_as(path: Path, to: str) -> bytes:
    """A LoRA file of either kind as a file of the kind ``to``, one of `FORMATS`.

    Raises:
        LoraError: if it is no such file.
    """
    state, rank, alpha = read_lora(path)
    if to == "diffusers":
        return adapter_file(state, rank=rank, alpha=alpha)
    tensors = to_diffsynth(state, rank=rank, alpha=alpha)
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})


def _rank(state: dict[str, torch.Tensor]) -> int:
    """The rank that all layers share, each with both of its matrices."""
    ranks = set()
    for name, tensor in state.items():
        is_a = name.endswith("lora_A.weight")
        partner = state.get(name.replace("lora_A", "lora_B") if is_a else name.replace("lora_B", "lora_A"))
        rank = tensor.shape[0] if is_a else tensor.shape[1]
        if partner is None or (partner.shape[1] if is_a else partner.shape[0]) != rank:
            raise LoraError(f"{name} has no partner of its rank {rank}")
        ranks.add(rank)
    if len(ranks) != 1:
        raise LoraError(f"ranks differ between layers or there are none ({sorted(ranks)}); expected one rank")
    return ranks.pop()
