"""What a Model artifact holds: where a model's weights are, not the weights themselves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self


class ModelReferenceError(ValueError):
    """A file is no model reference. The message names it and what it should be."""


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A small JSON file that names a diffusers pipeline folder and the checkpoint to lay over it.

    Attributes:
        name: `base`, `sft`, `sft_continued`, `grpo` or `grpo:<reward>`.
        base_uri: URI of the diffusers pipeline folder.
        checkpoint_uri: URI of a complete checkpoint (see `wan_r1.storage.checkpoints`), None for the base model.
        step: optimizer steps (SFT) or iterations (GRPO) behind the checkpoint.
        core_seconds: CPU seconds (GPU: device seconds) that training this stage used, without validation.
        frames: frames of the videos it was trained on, 4k + 1.
        max_prompt_tokens: tokens a prompt is padded to.
        weights: data type of the frozen weights, `fp32` or `bf16`; what is trained is float32.
        gradient_checkpointing: compute blocks again in the backward pass instead of keeping their activations.
        compile_blocks: compile the transformer's blocks.
        codec_batch: videos per codec call; 0 leaves it to the device.
        sample_batch: videos per forward pass of validation.
        trained_on: SHA-256 of the data set that it was trained on.
        stage: the summary of the stage that wrote it (seconds, memory, machine, git commit).
    """

    name: str
    base_uri: str
    checkpoint_uri: str | None = None
    step: int = 0
    core_seconds: float = 0.0
    frames: int = 0
    max_prompt_tokens: int = 512
    weights: str = "fp32"
    gradient_checkpointing: bool = False
    compile_blocks: bool = False
    codec_batch: int = 0
    sample_batch: int = 64
    trained_on: str = ""
    stage: dict | None = None

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a reference.

        Raises:
            ModelReferenceError: if the file is no model reference, naming it and what it should be.
        """
        try:
            content = json.loads(Path(path).read_text())
            return cls(**content)
        except (OSError, ValueError, TypeError) as error:
            raise ModelReferenceError(
                f"{path} is no model reference ({error}); expected the JSON file that prepare_model, train_sft or "
                "train_grpo writes"
            ) from error

    def write(self, path: Path | str) -> None:
        """Write it as JSON, making the folder if there is none."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)
