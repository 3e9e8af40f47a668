"""Codecs that ship beside the tiny one: the files are those that were measured, and keep what they are for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from wan_r1 import prepare_model
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify
from wan_r1.video_model.loading import load_video_model
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.tiny import assets, shipped_codecs
from wan_r1.video_model.wan import VideoModel

SHIPPED = {
    "grids": "3e66f307746c0b0b65e4fe2c28f89141f6ecbd6a6093d02d8a824c25acc10901",
    "maze3d": "e20699f1c734a9ae8199bd6dc25ee637d5bed554558396d88f41668b9a32e002",
}
"""SHA-256 of the weights, by name."""
TINY = "c3416fd559d9e66be0497a78bd77fb99e12ed2691cc166cf74b09408fdebb529"
WEIGHTS = "diffusion_pytorch_model.safetensors"


FOR = {
    "grids": (("regular", "trapfield"), sorted(TEXTURES), {"size": 32, "canvas": 4}),
    "maze3d": (("maze3d",), ("plain", "night"), {"size": 64, "canvas": 8}),
}
"""Families, textures and size that each is for."""


@pytest.fixture(scope="module", params=sorted(FOR))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str, tmp_path_factory: pytest.TempPathFactory) -> VideoModel:
    """The tiny model with the codec, prepared as a run does."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    config = prepare_model.PrepareModelConfig.from_preset("tiny", {"codec": name})
    prepare_model.run(config, storage_uri=str(folder / "storage"), model=folder / "model.json")
    return load_video_model(ModelReference.read(folder / "model.json"))


def test_the_weights_are_those_that_were_measured():
    found = {name: _hash(folder) for name, folder in shipped_codecs().items()}
    assert found == SHIPPED
    # The demo's numbers were measured with these.
    assert _hash(assets() / "vae") == TINY


@pytest.fixture(scope="module")
def tasks(name: str) -> list[Task]:
    """Levels of every difficulty in the textures that the codec is for."""
    families, textures, form = FOR[name]
    return [
        make_task(family, difficulty, texture, seed=8, split="test", index=index, frames=9, steps_per_frame=1.0, **form)
        for family in families
        for difficulty in ("easy", "medium", "hard")
        for texture in textures
        for index in range(3 if len(textures) == 2 else 1)
    ]


def test_solutions_survive(model, tasks):
    videos = np.stack([task.video for task in tasks])
    verdicts = verify(model.decode(model.encode_videos(videos)), tasks)
    assert sum(verdict.em for verdict in verdicts) >= len(tasks) - 1
    assert min(verdict.mf for verdict in verdicts) >= 0.98


def test_latents_are_normalised_and_the_transformer_takes_them(model, tasks):
    latents = model.encode_videos(np.stack([task.video for task in tasks]))
    assert latents.shape[1] == model.transformer.config.in_channels
    # The config's mean and deviation are those of other levels in the same textures.
    assert latents.mean((0, 2, 3, 4)).abs().max() < 0.5
    assert latents.std((0, 2, 3, 4)).sub(1).abs().max() < 0.5


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path):
    config = prepare_model.PrepareModelConfig.from_preset("tiny", {"codec": "maze4d"})
    with pytest.raises(
        prepare_model.stage.ModelFolderError, match=r"model_codec='maze4d'.*one that ships: grids, maze3d"
    ):
        prepare_model.run(config, storage_uri=str(tmp_path / "s"), model=tmp_path / "m.json")


def _hash(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
