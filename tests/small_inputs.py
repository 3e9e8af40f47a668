"""Inputs of a training that takes seconds: a few levels with their certificate, and the tiny Wan in storage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from wan_r1 import generate_tasks, prepare_model
from wan_r1.storage import locations
from wan_r1.tasks.dataset import dataset_sha256
from wan_r1.video_model.reference import ModelReference

SFT = {"steps": 4, "batch_size": 8, "checkpoint_every": 2, "validate_every": 100, "validation_levels": 2}
"""Fields of `TrainSftConfig` for a training of seconds, over those of the preset `tiny`."""


def small_inputs(folder: Path, storage_uri: str) -> dict[str, Path]:
    """Make ``dataset``, ``certificate`` and ``model`` in a folder, with the model's weights in the storage."""
    few = {f"{split}_levels": 2 for split in ("validation", "prompts", "test", "harder")}
    levels = {"families": ["regular"], "train_levels": 8, **few}
    places = {name: folder / name for name in ("dataset", "certificate", "model")}
    generate_tasks.run(generate_tasks.GenerateTasksConfig.from_preset("tiny", levels), output=places["dataset"])
    places["certificate"].write_text(json.dumps({"dataset_sha256": dataset_sha256(places["dataset"])}))
    config = prepare_model.PrepareModelConfig.from_preset("tiny")
    prepare_model.run(config, storage_uri=storage_uri, model=places["model"])
    return places


def trained_weights(reference: Path, folder: Path) -> dict[str, Any]:
    """Tensors by name of the checkpoint that a model reference stands for."""
    uri = ModelReference.read(reference).checkpoint_uri
    assert uri is not None
    locations.download_folder(uri, folder)
    (file,) = folder.rglob("*.safetensors")
    return load_file(file)
