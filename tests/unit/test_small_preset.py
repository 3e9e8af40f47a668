"""The preset `small`: all parameters hold, and all stages run on the CPU, with few levels and a shallow model."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from wan_r1 import evaluate, generate_tasks, prepare_model, train_grpo, train_sft
from wan_r1.compare_rewards import CompareRewardsConfig
from wan_r1.config import ConfigError, read_preset
from wan_r1.prepare_model import train_wide_codec
from wan_r1.prepare_model.train_small_codec import training_clips, unruly
from wan_r1.prepare_model.train_tiny_codec import train
from wan_r1.tasks.families import FAMILIES
from wan_r1.video_model import tiny
from wan_r1.video_model.folder import ModelFolderError
from wan_r1.video_model.loading import load_video_model
from wan_r1.video_model.reference import ModelReference

PRESET = "small"


@pytest.fixture(autouse=True)
def own_precision():
    """Accelerate keeps one precision a process; other tests have another."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_every_stages_parameters_hold_and_fit_each_other():
    tasks = generate_tasks.GenerateTasksConfig.from_preset(PRESET)
    model = prepare_model.PrepareModelConfig.from_preset(PRESET, {"codec": "somewhere"})
    sft = train_sft.TrainSftConfig.from_preset(PRESET)
    grpo = train_grpo.TrainGrpoConfig.from_preset(PRESET)
    train_grpo.TrainGrpoConfig.build({**read_preset(PRESET)["train_grpo"], **read_preset(PRESET)["ablation"]})
    evaluate.EvaluateConfig.from_preset(PRESET)
    CompareRewardsConfig.from_preset(PRESET)
    assert tasks.frames == model.frames and sft.lora_rank == grpo.lora_rank == 0
    assert tasks.height % (2 * tiny.SMALL_CODEC["scale_factor_spatial"]) == 0
    with torch.device("meta"):
        transformer = tiny.WanTransformer3DModel(**tiny.SMALL_TRANSFORMER)
    assert 30e6 < sum(parameter.numel() for parameter in transformer.parameters()) < 60e6


def test_a_codec_is_asked_for_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"model_codec='' is not allowed.*train_small_codec"):
        prepare_model.PrepareModelConfig.from_preset(PRESET)
    with pytest.raises(ConfigError, match="nothing with another source"):
        prepare_model.PrepareModelConfig(source="owner/name", codec="somewhere")
    config = prepare_model.PrepareModelConfig.from_preset(PRESET, {"codec": str(tmp_path)})
    with pytest.raises(ModelFolderError, match=r"has no config\.json; expected the folder that python -m"):
        prepare_model.run(config, storage_uri=str(tmp_path / "s"), model=tmp_path / "m.json")


def test_clips_for_the_codec_show_every_family_and_its_moving_pixels():
    clips, weights = training_clips(10, seed=0)
    assert clips.shape == (10, 33, 128, 128, 3) and clips.dtype == np.uint8
    assert weights.shape == clips.shape[:4] and weights.dtype == np.float32 and set(np.unique(weights)) == {1.0, 7.0}
    for clip, weight in zip(clips, weights, strict=True):
        changed = (np.abs(clip.astype(int) - clip[:1]).max(-1) > 24).any(0)
        assert np.array_equal(weight[5] == 7, changed)
    # The first half is unruly, yet starts as the solution does.
    again, _ = training_clips(10, seed=0)
    assert np.array_equal(clips, again)
    broken = unruly(clips[5], np.random.default_rng(3))
    assert np.array_equal(broken[0], clips[5][0]) and not np.array_equal(broken, clips[5])


def test_a_tiny_model_takes_a_wider_codec(tmp_path):
    clips, telling = train_wide_codec.training_clips(12, 0, sorted(FAMILIES), ["plain", "night"])
    assert all(clip.shape[0] == 9 and clip.shape[1] in (32, 64) for clip in clips)
    assert all(mask.shape == clip.shape[1:3] for clip, mask in zip(clips, telling, strict=True))
    # Where the camera moves no pixel counts more than another.
    moving = [sorted(FAMILIES)[index % len(FAMILIES)] == "navigation" for index in range(12)]
    assert [not mask.any() for mask in telling] == moving
    frames, weights = train_wide_codec.windows(clips, telling, 12, np.random.default_rng(0))
    assert frames.shape == (12, 3, 9, 32, 32) and -1 <= frames.min() < frames.max() <= 1
    assert weights.shape == (12, 1, 1, 32, 32) and set(weights.unique().tolist()) == {1.0, 7.0}
    folder = tmp_path / "codec"
    train_wide_codec.train(1, folder, 0, families=["regular"], textures=["plain"], batch=2, clips=4)
    config = prepare_model.PrepareModelConfig.from_preset("tiny", {"codec": str(folder)})
    prepare_model.run(config, storage_uri=str(tmp_path / "storage"), model=tmp_path / "model.json")
    model = load_video_model(ModelReference.read(tmp_path / "model.json"))
    known = np.stack([clip for clip in clips if clip.shape[1] == 32][:2])
    videos = model.sample(known[:, 0], ["go", "go"], frames=9, steps=1, seeds=[0, 1])
    assert videos.shape == (2, 9, 32, 32, 3)
    assert model.encode_videos(known).shape == (2, 8, 3, 8, 8)


def test_the_wider_codec_starts_as_the_shipped_one():
    wide, known = train_wide_codec.starting_codec(), tiny.tiny_codec()
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    with torch.no_grad():
        latents, before = (codec.encode(video).latent_dist.mode() for codec in (wide, known))
        assert latents.shape[1] == 8 and torch.equal(latents[:, :4], before)
        assert torch.equal(wide.decode(latents).sample, known.decode(before).sample)


def test_muon_makes_updates_orthogonal_whatever_the_matrix():
    generator = torch.Generator().manual_seed(0)
    for shape in ((16, 432), (64, 8)):
        values = torch.linalg.svdvals(train_wide_codec.orthogonal(torch.randn(shape, generator=generator)))
        assert 0.6 < values.min() <= values.max() < 1.3
    weight = torch.nn.Parameter(torch.zeros(4, 2, 3, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=generator)
    train_wide_codec.Muon([weight], lr=0.1).step()
    # The gradient's side of the step, and the size that the shape asks for.
    assert (weight * weight.grad).sum() < 0
    assert weight.detach().reshape(4, -1).norm() == pytest.approx(0.1 * 0.2 * 54**0.5 * 4**0.5, rel=0.25)


def test_all_stages_run_on_the_cpu(tmp_path, monkeypatch):
    """What a GPU will do in large: no stage may be the first to fail there."""
    monkeypatch.setitem(tiny.SMALL_TRANSFORMER, "num_layers", 1)
    few = {f"{split}_levels": 1 for split in ("train", "validation", "prompts", "test", "harder")}
    tasks = generate_tasks.GenerateTasksConfig.from_preset(PRESET, {**few, "families": ["regular"], "workers": 1})
    generate_tasks.run(tasks, output=tmp_path / "data")
    train(1, tmp_path / "codec", 0, batch=1, clips=1, config=tiny.SMALL_CODEC, make_clips=training_clips)
    storage, base = str(tmp_path / "storage"), tmp_path / "base.json"
    config = prepare_model.PrepareModelConfig.from_preset(PRESET, {"codec": str(tmp_path / "codec")})
    prepare_model.run(config, storage_uri=storage, model=base)

    def places(name):
        files = {"output": f"{name}.json", "metrics": f"{name}.parquet", "report": f"{name}.html"}
        return {"dataset": tmp_path / "data", "storage_uri": storage} | {k: tmp_path / v for k, v in files.items()}

    # Of a codec that was trained for one step nothing is asked.
    few = {"steps": 1, "batch_size": 1, "validation_steps": 1, "threads": 1, "least_codec_em": 0.0}
    sft = train_sft.TrainSftConfig.from_preset(PRESET, few)
    train_sft.run(sft, model=base, **places("sft"))
    few = {"iterations": 1, "group_size": 2, "prompts_per_iteration": 1, "minibatches": 1, "rollout_steps": 1}
    known = {"demonstration_batch": 1, "replay_batch": 1, "replay_levels": 1, "validate_every": 1, "threads": 1}
    grpo = train_grpo.TrainGrpoConfig.from_preset(PRESET, {**few, **known})
    train_grpo.run(grpo, model=tmp_path / "sft.json", **places("grpo"))
    trained = ModelReference.read(tmp_path / "grpo.json")
    assert trained.step == 1 and trained.checkpoint_uri
    config = evaluate.EvaluateConfig.from_preset(PRESET, {"steps": 1, "samples": 1, "report_videos": 1, "threads": 1})
    summary = evaluate.run(
        config,
        dataset=tmp_path / "data",
        model=tmp_path / "grpo.json",
        output=tmp_path / "scores",
        metrics=tmp_path / "scores.json",
        report=tmp_path / "scores.html",
    )
    assert {row["split"] for row in summary["rows"]} == {"test", "harder"}
