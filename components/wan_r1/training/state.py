"""What a training run must save to go on as if it had not stopped, and where it saves it."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from wan_r1.config import StageConfig
from wan_r1.source import source_hash
from wan_r1.storage import checkpoints, locations
from wan_r1.training.processes import Processes
from wan_r1.video_model.loading import weight_files
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.weights import Weights, placed_like, trainable, using, whole

STATE_FILE = "training_state.pt"
PLACEMENT = ("threads", "processes", "nodes", "data_parallel")
"""Fields of a config that change where a training runs, but not what is learned."""


class TrainingDiverged(RuntimeError):
    """The loss or a gradient is not finite. Names the step, the levels of its batch and the last good checkpoint."""


@dataclass(kw_only=True)
class TrainingState:
    """Everything that changes while training.

    Attributes:
        step: optimizer steps or iterations done.
        core_seconds: CPU seconds of training so far, without validation.
        ema: the averaged weights, which are validated and exported.
        log: one dict a logged step.
        extra: further tensors, such as the successes that are replayed.
    """

    step: int = 0
    core_seconds: float = 0.0
    ema: Weights = field(default_factory=dict)
    log: list[dict] = field(default_factory=list)
    extra: dict[str, Weights] = field(default_factory=dict)


def checkpoint_prefix(storage_uri: str, config: StageConfig, model: ModelReference, *inputs: str) -> str:
    """Prefix of a stage's checkpoints: the same for the same config, inputs and code, so that a retry finds its own.

    Args:
        storage_uri: where the run's checkpoints live.
        config: the stage's; how many threads, processes and nodes share a training does not count, so that it can go on
            with fewer of them.
        model: the model that training starts from.
        inputs: hashes of further inputs, such as the data set's.
    """
    fields = {name: value for name, value in json.loads(config.to_json()).items() if name not in PLACEMENT}
    content = json.dumps([fields, model.base_uri, model.checkpoint_uri, model.weights, *inputs, source_hash()])
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    return locations.join(storage_uri, "checkpoints", config.STAGE, key)


def save_state(
    prefix: str,
    state: TrainingState,
    transformer: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    lora_rank: int,
    lora_alpha: float,
    processes: Processes,
) -> str:
    """Save a checkpoint and return its URI: the averaged weights in diffusers' format, and the rest to resume from.

    All processes call it together and the first one writes. What is saved is whole, however it is shared among them, so
    that any number of processes goes on from it.
    """
    files: dict[str, bytes] = {}
    if processes.first or processes.sharded:
        content = {
            "step": state.step,
            "core_seconds": state.core_seconds,
            "ema": state.ema,
            "log": state.log,
            "extra": state.extra,
            "weights": {name: parameter.data for name, parameter in trainable(transformer).items()},
            "optimizer": optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(whole(content), buffer)
        with using(transformer, state.ema):
            weights = weight_files(transformer, lora_rank=lora_rank, lora_alpha=lora_alpha)
        files = {**weights, STATE_FILE: buffer.getvalue()}
    info = {"step": state.step, "core_seconds": state.core_seconds}
    return processes.by_first(lambda: checkpoints.save(prefix, step=state.step, files=files, info=info))


def resume_state(
    prefix: str, transformer: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[TrainingState, str] | None:
    """Put the newest complete checkpoint's state back; returns it with the checkpoint's URI, None if there is none."""
    newest = checkpoints.latest(prefix)
    if newest is None:
        return None
    with tempfile.TemporaryDirectory(prefix="wan-r1-resume-") as folder:
        checkpoints.load(newest.uri, Path(folder))
        saved = torch.load(Path(folder) / STATE_FILE, map_location="cpu", weights_only=True)
    parameters = trainable(transformer)
    for index, (name, parameter) in enumerate(parameters.items()):
        parameter.data.copy_(placed_like(parameter, saved["weights"][name]))
        # AdamW's moments have the shape of their weight; its count of steps has none.
        moments = saved["optimizer"]["state"].get(index, {})
        moments |= {key: placed_like(parameter, value) for key, value in moments.items() if value.ndim}
    optimizer.load_state_dict(saved["optimizer"])
    device = next(transformer.parameters()).device

    state = TrainingState(
        step=saved["step"],
        core_seconds=saved["core_seconds"],
        ema={name: placed_like(parameters[name], tensor) for name, tensor in saved["ema"].items()},
        log=saved["log"],
        extra={
            name: {key: tensor.to(device) for key, tensor in weights.items()}
            for name, weights in saved["extra"].items()
        },
    )
    return state, newest.uri
