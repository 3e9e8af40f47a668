"""Parameters of model preparation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.config import StageConfig


@dataclass(frozen=True, kw_only=True)
class PrepareModelConfig(StageConfig):
    """Which diffusers pipeline the run starts from."""

    STAGE: ClassVar[str] = "prepare_model"
    PREFIX: ClassVar[str] = "model_"

    source: str = "tiny"
    """`tiny`, `small` (with model_codec), a local folder, an `s3://` URI, or a hub id such as
    `Wan-AI/Wan2.2-TI2V-5B-Diffusers`."""
    codec: str = ""
    """Folder or `s3://` URI of a codec: of a `small` model (`python -m wan_r1.prepare_model.train_small_codec` makes
    it), or of a `tiny` one for other families and textures than the shipped codec knows (`train_wide_codec`); for a
    `tiny` one also `maze3d`, which ships for 3D mazes in plain and night."""
    frames: int = 81
    """Frames of the videos the model is used for, 4k + 1."""
    max_prompt_tokens: int = 512
    """Tokens a prompt is padded to."""
    adapters: tuple[str, ...] = ()
    """LoRA files to start from, in diffusers' or DiffSynth's names, one per transformer: paths or `s3://` URIs."""
    weights: str = "fp32"
    """Frozen weights as `fp32` or `bf16`; adapters and optimizer are float32 either way."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass instead of keeping activations: a third more time, little memory."""
    compile_blocks: bool = False
    """Compile the transformer's blocks: minutes before the first step, faster steps; for GPUs."""
    codec_batch: int = 0
    """Videos per codec call; 0 takes 16 on a CPU and 4 on a GPU."""
    sample_batch: int = 64
    """Videos per forward pass of validation; evaluation and rollouts have their own."""

    def validate(self) -> None:
        """Check ranges."""
        self.require("source", bool(self.source.strip()), "tiny, a local folder, an s3:// URI or a hub id (owner/name)")
        self.require(
            "codec",
            self.source == "tiny" or bool(self.codec) == (self.source == "small"),
            "the folder of a trained codec with model_source=small (python -m wan_r1.prepare_model.train_small_codec "
            "--output FOLDER makes one), one or nothing with model_source=tiny, nothing with another source",
        )
        self.require("frames", self.frames >= 1 and self.frames % 4 == 1, "4k + 1 frames, such as 9, 49 or 81")
        self.require("max_prompt_tokens", 1 <= self.max_prompt_tokens <= 512, "a whole number from 1 to 512")
        self.require_choice("weights", ("fp32", "bf16"))
        self.require("sample_batch", self.sample_batch >= 1, "a whole number from 1")
        self.require("codec_batch", self.codec_batch >= 0, "a whole number from 0 (0 leaves it to the device)")
