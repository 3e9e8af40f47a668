"""Parameters of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.training.placement import PlacedConfig


@dataclass(frozen=True, kw_only=True)
class TrainSftConfig(PlacedConfig):
    """Flow-matching fine-tuning on solution videos."""

    STAGE: ClassVar[str] = "train_sft"
    PREFIX: ClassVar[str] = "sft_"
    DEALT: ClassVar[str] = "batch_size"

    steps: int = 2000
    """Optimizer steps at most."""
    batch_size: int = 64
    """Videos per step."""
    views: int = 1
    """Pictures by which a demonstration is learned from, 1 to 8: as it is, and turned or mirrored where that makes a
    level of the same family."""
    learning_rate: float = 1e-4
    """AdamW's, after a linear warm-up of 20 steps."""
    weight_decay: float = 0.01
    """AdamW's."""
    max_grad_norm: float = 1.0
    """Gradient norm that is clipped to."""
    ema_decay: float = 0.995
    """Decay of the moving average of the weights that is validated and saved."""
    lora_rank: int = 32
    """Rank of the LoRA adapter (the paper's 32); 0 trains all weights."""
    lora_alpha: float = 64.0
    """Scale of the adapter times its rank."""
    target_em: float = 1.0
    """Exact match on the validation split at which training stops, the least of all families; 1 means never."""
    validate_every: int = 50
    """Steps between validations."""
    validation_levels: int = 64
    """Validation levels per family."""
    validation_steps: int = 4
    """Denoising steps of a validation video."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    motion_weight: float = 0.0
    """Weight, in addition to 1, of the loss where a demonstration differs from its first frame. Of a small player that
    walks through a large picture little is learned otherwise: almost all of the loss is of what stays as it is."""
    least_codec_em: float = 0.25
    """Share of the first demonstrations of each family that must be solutions after the codec; 0 trains anyway. What a
    codec loses no training brings back."""
    precision: str = "no"
    """Mixed precision of accelerate: no, bf16 or fp16."""

    def validate(self) -> None:
        """Check ranges."""
        for field in ("steps", "batch_size", "validate_every", "validation_levels", "checkpoint_every"):
            self.require(field, getattr(self, field) >= 1, "a whole number from 1")
        self.require("views", 1 <= self.views <= 8, "a whole number from 1 to 8")
        self.require("validation_steps", self.validation_steps >= 1, "a whole number from 1")
        self.require("learning_rate", self.learning_rate > 0, "a number above 0")
        self.require("weight_decay", self.weight_decay >= 0, "a number from 0")
        self.require("max_grad_norm", self.max_grad_norm > 0, "a number above 0")
        self.require("ema_decay", 0 <= self.ema_decay < 1, "a number from 0 up to but not including 1")
        self.require("lora_rank", self.lora_rank >= 0, "a whole number from 0 (0 trains all weights)")
        self.require("target_em", 0 < self.target_em <= 1, "a share above 0 and up to 1")
        self.require("motion_weight", self.motion_weight >= 0, "a number from 0")
        self.require("least_codec_em", 0 <= self.least_codec_em <= 1, "a share from 0 to 1")
        self.require_choice("precision", ("no", "bf16", "fp16"))
        super().validate()
