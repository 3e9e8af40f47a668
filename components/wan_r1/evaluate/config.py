"""Parameters of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.config import ConfigError, StageConfig
from wan_r1.tasks.schema import SPLITS


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StageConfig):
    """Sampling a model on levels it has never seen, and verifying what it made."""

    STAGE: ClassVar[str] = "evaluate"
    PREFIX: ClassVar[str] = "eval_"

    samples: int = 72
    """Levels per split and family, one video each (the paper's 72: 24 a difficulty); all of them if there are fewer."""
    splits: tuple[str, ...] = ("test", "harder")
    """Splits of the data set to evaluate on."""
    steps: int = 50
    """Denoising steps of a video by the ODE (the paper's 50)."""
    batch_size: int = 64
    """Videos sampled at once; changes no video, only memory and speed."""
    reward: str = "trajectory"
    """Reward that is reported beside the metrics: a name from `wan_r1.rewards.REWARDS`, or `module:function`."""
    vr_bench: bool = False
    """Whether to measure as VR-Bench does, too (columns `vr_bench_*`)."""
    report_videos: int = 3
    """Solved and, as many again, failed videos per split and family in the report."""
    threads: int = 0
    """CPU threads; 0 uses every core."""

    def validate(self) -> None:
        """Check ranges and names."""
        for field in ("samples", "steps", "batch_size"):
            self.require(field, getattr(self, field) >= 1, "a whole number from 1")
        for field in ("report_videos", "threads"):
            self.require(field, getattr(self, field) >= 0, "a whole number from 0")
        scored = [split for split in SPLITS if split != "prompts"]
        self.require(
            "splits",
            len(self.splits) > 0 and len(set(self.splits)) == len(self.splits) and set(self.splits) <= set(scored),
            f"different ones of {', '.join(scored)}",
        )
        # Imported here: a reward's module may import torch, which a config must not cost.
        from wan_r1.rewards import get_reward

        self.require(
            "reward", self.reward != "judge", "a reward of verified facts; a judge belongs to one training run"
        )
        try:
            get_reward(self.reward)
        except ValueError as error:
            raise ConfigError(f"{self.PREFIX}{error}") from None
