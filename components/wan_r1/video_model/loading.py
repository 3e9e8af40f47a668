"""Load a video model from a reference: a diffusers pipeline folder, and a checkpoint laid over its transformer."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save
from transformers.utils import logging as transformers_logging

from wan_r1.storage import checkpoints, locations
from wan_r1.video_model.codec import speed_up_normalisation
from wan_r1.video_model.lora import LORA_FILE, load_lora
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.wan import VideoModel

TRANSFORMER_FILE = "transformer.safetensors"
"""Name of full transformer weights in a checkpoint; LoRA checkpoints hold `LORA_FILE` instead."""

# A bar for each of the folder's parts would drown a stage's own lines.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
"""Folders that a Wan image-to-video pipeline has."""


class ModelFolderError(ValueError):
    """A folder is not the diffusers pipeline that it should be."""


def default_device() -> torch.device:
    """This process's GPU if there is one, else the CPU. Of several processes (`accelerate launch`) each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def check_pipeline_folder(folder: Path | str, parameter: str = "model_source") -> None:
    """Check that a local folder is a Wan image-to-video pipeline, without loading weights.

    Raises:
        ModelFolderError: naming the parameter, the folder, what is missing and what is expected.
    """
    folder = Path(folder)
    index = folder / "model_index.json"
    expected = "expected a diffusers folder of WanImageToVideoPipeline (as its save_pretrained writes it)"
    if not index.is_file():
        raise ModelFolderError(f"{parameter}={str(folder)!r} has no model_index.json; {expected}")
    try:
        content = json.loads(index.read_text())
    except ValueError as error:
        raise ModelFolderError(f"{parameter}={str(folder)!r}: model_index.json is no JSON ({error})") from None
    kind = content.get("_class_name")
    if kind not in ("WanImageToVideoPipeline", "WanPipeline"):
        raise ModelFolderError(f"{parameter}={str(folder)!r} is a {kind}; {expected}")
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise ModelFolderError(f"{parameter}={str(folder)!r} lacks {', '.join(missing)}; {expected}")


def load_pipeline_folder(
    folder: Path | str,
    *,
    max_prompt_tokens: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> VideoModel:
    """Load a local diffusers folder as a `VideoModel`.

    Args:
        folder: checked by `check_pipeline_folder`.
        max_prompt_tokens: tokens a prompt is padded to.
        dtype: of the frozen weights; the codec stays in float32 (bfloat16 decoding shows in the metrics).
        device: where to put it.

    Raises:
        ModelFolderError: if the folder is no pipeline, or one whose conditioning is not Wan2.2-TI2V's.
    """
    check_pipeline_folder(folder)
    pipeline = WanImageToVideoPipeline.from_pretrained(folder, dtype={"default": dtype, "vae": torch.float32})
    if not pipeline.config.expand_timesteps:
        raise ModelFolderError(
            f"model_source={str(folder)!r} conditions by channel concatenation (Wan2.1-I2V); this version trains "
            "models with expand_timesteps, such as Wan-AI/Wan2.2-TI2V-5B-Diffusers"
        )
    device = device or default_device()
    if device.type == "cpu":
        speed_up_normalisation(pipeline.vae)
    return VideoModel(
        transformer=pipeline.transformer.to(device),
        vae=pipeline.vae.to(device).eval().requires_grad_(False),
        text_encoder=pipeline.text_encoder.to(device).eval().requires_grad_(False),
        tokenizer=pipeline.tokenizer,
        scheduler=pipeline.scheduler,
        max_prompt_tokens=max_prompt_tokens,
        device=device,
        codec_batch=16 if device.type == "cpu" else 4,
    )


def load_video_model(
    reference: ModelReference, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> VideoModel:
    """The model that a reference names: its pipeline folder is fetched, and its checkpoint laid over it.

    Raises:
        ModelFolderError: if the folder is no Wan pipeline.
        StorageError: if something cannot be fetched, or a checkpoint's hashes do not match.
    """
    with tempfile.TemporaryDirectory(prefix="wan-r1-model-") as scratch:
        folder = Path(scratch) / "pipeline"
        fetch_pipeline(reference.base_uri, folder)
        model = load_pipeline_folder(folder, max_prompt_tokens=reference.max_prompt_tokens, dtype=dtype, device=device)
        if reference.checkpoint_uri:
            weights = Path(scratch) / "checkpoint"
            checkpoints.load(reference.checkpoint_uri, weights)
            apply_weights(model, weights)
    model.transformer.eval()
    return model


def fetch_pipeline(uri: str, folder: Path) -> None:
    """Bring a pipeline folder here: one that prepare_model stored, with its hashes checked, or any plain folder."""
    if locations.exists(locations.join(uri, checkpoints.MANIFEST)):
        checkpoints.load(uri, folder)
    else:
        locations.download_folder(uri, folder)


def apply_weights(model: VideoModel, folder: Path) -> None:
    """Lay a checkpoint's transformer weights, full or LoRA, over the model's."""
    if (folder / LORA_FILE).is_file():
        load_lora(model.transformer, folder / LORA_FILE)
    else:
        model.transformer.load_state_dict(load_file(folder / TRANSFORMER_FILE, device=str(model.device)))


def transformer_bytes(weights: dict[str, torch.Tensor]) -> bytes:
    """Full transformer weights as safetensors."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
