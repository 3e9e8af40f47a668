"""Load a video model from a reference: a diffusers pipeline folder, and a checkpoint laid over its transformers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save
from transformers.utils import logging as transformers_logging

from wan_r1.storage import checkpoints, locations
from wan_r1.video_model.codec import speed_up_codec
from wan_r1.video_model.experts import WanExperts, components
from wan_r1.video_model.folder import check_pipeline_folder
from wan_r1.video_model.given import GivenImages
from wan_r1.video_model.lora import load_lora, lora_bytes, lora_file
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.wan import VideoModel
from wan_r1.video_model.weights import whole

WEIGHTS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Data types of frozen weights by the names that `ModelReference` uses."""

# A bar for each of the folder's parts would drown a stage's own lines.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()


def default_device() -> torch.device:
    """This process's GPU if there is one, else the CPU. Of several processes (`accelerate launch`) each has its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def transformer_file(component: str) -> str:
    """Name of a transformer's full weights in a checkpoint; LoRA checkpoints hold `lora_file` instead."""
    return f"{component}.safetensors"


def load_pipeline_folder(
    folder: Path | str,
    *,
    max_prompt_tokens: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    gradient_checkpointing: bool = False,
    codec_batch: int = 0,
    sample_batch: int = 64,
) -> VideoModel:
    """Load a local diffusers folder as a `VideoModel`.

    Args:
        folder: checked by `check_pipeline_folder`.
        max_prompt_tokens: tokens a prompt is padded to.
        dtype: of transformers and text encoder; codec and image encoder stay in float32 (bfloat16 decoding shows in the
            metrics). In bfloat16 the parts that diffusers keeps in float32 stay so (norms, time embedding, tables).
        device: where to put it. The text encoder waits in main memory and comes to a GPU only to encode.
        gradient_checkpointing: compute each block again in the backward pass instead of keeping its activations.
        codec_batch: videos per codec call; 0 takes 16 on a CPU and 4 on a GPU.
        sample_batch: videos per forward pass of validation.

    Raises:
        ModelFolderError: if the folder is no pipeline that can be trained.
    """
    check_pipeline_folder(folder, max_prompt_tokens=max_prompt_tokens)
    in_float32 = {"vae": torch.float32, "image_encoder": torch.float32}
    pipeline = WanImageToVideoPipeline.from_pretrained(folder, dtype={"default": dtype, **in_float32})
    return from_pipeline(
        pipeline,
        max_prompt_tokens=max_prompt_tokens,
        device=device or default_device(),
        gradient_checkpointing=gradient_checkpointing,
        codec_batch=codec_batch,
        sample_batch=sample_batch,
    )


def from_pipeline(
    pipeline: WanImageToVideoPipeline,
    *,
    max_prompt_tokens: int,
    device: torch.device,
    gradient_checkpointing: bool = False,
    codec_batch: int = 0,
    sample_batch: int = 64,
) -> VideoModel:
    """A pipeline in memory as a `VideoModel`; see `load_pipeline_folder` for the arguments."""
    if device.type == "cpu":
        speed_up_codec(pipeline.vae)
    vae = pipeline.vae.to(device).eval().requires_grad_(False)
    given = None
    if not pipeline.config.expand_timesteps:
        image_encoder = pipeline.image_encoder if pipeline.transformer.config.image_dim is not None else None
        if image_encoder is not None:
            image_encoder = image_encoder.to(device).eval().requires_grad_(False)
        given = GivenImages(vae=vae, image_encoder=image_encoder, image_processor=pipeline.image_processor)
    transformer: WanTransformer3DModel | WanExperts = pipeline.transformer
    if pipeline.config.boundary_ratio is not None:
        transformer = WanExperts(pipeline.transformer, pipeline.transformer_2, pipeline.config.boundary_ratio)
    for component in components(transformer).values():
        if gradient_checkpointing:
            component.enable_gradient_checkpointing()
        if component.dtype == torch.bfloat16:
            embed_time_in_float32(component)
    return VideoModel(
        transformer=transformer.to(device),
        vae=vae,
        text_encoder=pipeline.text_encoder.eval().requires_grad_(False),
        tokenizer=pipeline.tokenizer,
        scheduler=pipeline.scheduler,
        max_prompt_tokens=max_prompt_tokens,
        device=device,
        codec_batch=codec_batch or (16 if device.type == "cpu" else 4),
        sample_batch=sample_batch,
        given=given,
    )


def load_video_model(reference: ModelReference, *, device: torch.device | None = None) -> VideoModel:
    """The model that a reference names: its pipeline folder is fetched, and its checkpoint laid over it.

    Raises:
        ModelFolderError: if the folder is no Wan pipeline.
        StorageError: if something cannot be fetched, or a checkpoint's hashes do not match.
    """
    with tempfile.TemporaryDirectory(prefix="wan-r1-model-") as scratch:
        folder = Path(scratch) / "pipeline"
        fetch_pipeline(reference.base_uri, folder)
        model = load_pipeline_folder(
            folder,
            max_prompt_tokens=reference.max_prompt_tokens,
            dtype=WEIGHTS[reference.weights],
            device=device,
            gradient_checkpointing=reference.gradient_checkpointing,
            codec_batch=reference.codec_batch,
            sample_batch=reference.sample_batch,
        )
        if reference.checkpoint_uri:
            weights = Path(scratch) / "checkpoint"
            checkpoints.load(reference.checkpoint_uri, weights)
            apply_weights(model, weights)
    model.transformer.eval()
    if reference.compile_blocks:
        compile_blocks(model)
    return model


def embed_time_in_float32(transformer: WanTransformer3DModel) -> None:
    """Keep autocast out of the time embedding: Wan computes it in float32, and bfloat16 cannot tell 999 from 1000."""
    embedder = transformer.condition_embedder.time_embedder
    forward = embedder.forward

    def exact(sample: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        with torch.autocast(sample.device.type, enabled=False):
            return forward(sample, condition)

    embedder.forward = exact


def compile_blocks(model: VideoModel, backend: str = "inductor") -> None:
    """Compile each transformer block, the same code for all; adapters may still be added before the first forward pass.

    Blocks, not whole models: compiling takes a fraction of the time, and gradient checkpointing works block by block.

    Args:
        model: its blocks are compiled at their next use.
        backend: of `torch.compile`.
    """
    for component in components(model.transformer).values():
        component.compile_repeated_blocks(fullgraph=True, backend=backend)


def fetch_pipeline(uri: str, folder: Path) -> None:
    """Bring a pipeline folder here: one that prepare_model stored, with its hashes checked, or any plain folder."""
    if locations.exists(locations.join(uri, checkpoints.MANIFEST)):
        checkpoints.load(uri, folder)
    else:
        locations.download_folder(uri, folder)


def apply_weights(model: VideoModel, folder: Path) -> None:
    """Lay a checkpoint's transformer weights, full or LoRA, over the model's."""
    for name, transformer in components(model.transformer).items():
        if (folder / lora_file(name)).is_file():
            load_lora(transformer, folder / lora_file(name))
        else:
            transformer.load_state_dict(load_file(folder / transformer_file(name), device=str(model.device)))


def weight_files(transformer: torch.nn.Module, *, lora_rank: int, lora_alpha: float) -> dict[str, bytes]:
    """The files of a checkpoint that hold a model's weights: one a transformer, full (rank 0) or LoRA.

    Each LoRA file is in diffusers' format; ``load_lora_weights`` reads the second transformer's with
    ``load_into_transformer_2=True``.
    """
    if lora_rank:
        return {
            lora_file(name): lora_bytes(part, lora_rank, lora_alpha) for name, part in components(transformer).items()
        }
    return {
        transformer_file(name): transformer_bytes(part.state_dict()) for name, part in components(transformer).items()
    }


def transformer_bytes(weights: dict[str, torch.Tensor]) -> bytes:
    """Full transformer weights as safetensors; those of a sharded model are gathered, by all processes together."""
    return save({name: whole(tensor).detach().cpu().contiguous() for name, tensor in weights.items()})
