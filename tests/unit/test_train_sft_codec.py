"""A training whose codec loses what is to be learned is refused, with the remedy."""

from __future__ import annotations

import pytest
from tiny_training import tasks, video_model

from wan_r1.tasks.dataset import make_task, write_tasks
from wan_r1.train_sft.codec_check import require_codec
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.training.inputs import InputError
from wan_r1.video_model.reference import ModelReference
from wan_r1.video_model.tiny import shipped_codecs, tiny_pipeline


def _cubes(split, count, texture="plain"):
    return [
        make_task(
            "maze3d",
            "easy",
            texture,
            seed=0,
            split=split,
            index=index,
            frames=9,
            size=64,
            canvas=8,
            steps_per_frame=1.0,
        )
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of the tiny model with each codec that ships."""
    folder = tmp_path_factory.mktemp("models")
    tiny_pipeline(seed=0).save_pretrained(folder / "tiny")
    for name, codec in shipped_codecs().items():
        tiny_pipeline(0, codec).save_pretrained(folder / name)
    return folder


def test_codecs_keep_what_they_ship_for(models):
    require_codec(video_model(models / "tiny"), tasks("train", 8), 0.9)
    require_codec(video_model(models / "maze3d"), _cubes("train", 8), 0.9)


def test_a_codec_that_loses_a_family_is_refused_with_the_one_that_keeps_it(models):
    with pytest.raises(InputError, match=r"'maze3d' \(plain\).* of 4 demonstrations.*maze3d ships.*least_codec_em=0"):
        require_codec(video_model(models / "tiny"), [*tasks("train", 4), *_cubes("train", 4)], 0.25)


def test_the_stage_refuses_before_it_encodes_and_trains_if_it_is_told_to(models, tmp_path):
    from wan_r1.train_sft.stage import run

    dataset = tmp_path / "dataset"
    write_tasks([*_cubes("train", 6, "wood"), *_cubes("validation", 2)], dataset / "data.parquet")
    model = tmp_path / "model.json"
    ModelReference(name="base", base_uri=str(models / "maze3d"), frames=9, max_prompt_tokens=48).write(model)
    made = {
        "storage_uri": str(tmp_path / "storage"),
        "dataset": dataset,
        "certificate": None,
        "model": model,
        "output": tmp_path / "sft.json",
        "metrics": tmp_path / "log.parquet",
        "report": tmp_path / "report.html",
    }
    small = {"steps": 1, "batch_size": 4, "validation_levels": 2, "threads": 1}
    with pytest.raises(InputError, match=r"'maze3d' \(wood\).*train_wide_codec --families maze3d --textures wood"):
        run(TrainSftConfig.from_preset("tiny", small), **made)
    assert not (tmp_path / "storage").exists() or not list((tmp_path / "storage").rglob("*.safetensors"))
    summary = run(TrainSftConfig.from_preset("tiny", {**small, "least_codec_em": 0.0}), **made)
    assert summary["steps"] == 1
