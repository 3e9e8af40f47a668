"""Encoders of the kinds that the embedding reward takes by name, as small models of the real classes from a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    VJEPA2Config,
    VJEPA2Model,
)

from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.rewards.encoders import EncoderError, FrameEncoder, VideoEncoder, load_encoder, tiny_dinov2
from wan_r1.tasks.dataset import make_task
from wan_r1.verification import verify

SIDE = {"height": 32, "width": 32}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def dinov2(folder: Path) -> None:
    tiny_dinov2(0).save_pretrained(folder)
    BitImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE).save_pretrained(folder)


def clip(folder: Path) -> None:
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {**part, "vocab_size": 32, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        vision_config={**part, "image_size": 32, "patch_size": 16}, text_config=words, projection_dim=12
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE).save_pretrained(folder)


def vjepa(folder: Path) -> None:
    config = VJEPA2Config(
        crop_size=32,
        patch_size=16,
        frames_per_clip=10,
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=1,
        mlp_ratio=1,
        pred_hidden_size=24,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=2,
    )
    VJEPA2Model(config).save_pretrained(folder)
    processor = {"video_processor_type": "VJEPA2VideoProcessor", "size": {"shortest_edge": 36}, "crop_size": SIDE}
    words = json.dumps({**processor, "resample": 2, "image_mean": MEAN, "image_std": STD})
    (folder / "video_preprocessor_config.json").write_text(words)


@pytest.mark.parametrize(
    ("make", "kind", "times", "dimensions"),
    [(dinov2, FrameEncoder, 9, 64), (clip, FrameEncoder, 9, 12), (vjepa, VideoEncoder, 5, 24)],
)
def test_each_kind_is_loaded_by_name_and_rewards_the_reference_most(make, kind, times, dimensions, tmp_path: Path):
    torch.manual_seed(0)
    make(tmp_path)
    form = {"frames": 9, "size": 32, "canvas": 4, "steps_per_frame": 1.0}
    task = make_task("regular", "medium", "plain", seed=4, split="test", index=0, **form)
    videos = np.stack([task.video, task.video[:1].repeat(9, 0), task.video[::-1]])
    encoder = load_encoder(str(tmp_path))
    assert isinstance(encoder, kind) and encoder.encode(videos).shape == (3, times, dimensions)
    inputs = RewardInputs(videos=videos, tasks=[task] * 3, verdicts=verify(videos, [task] * 3))
    reward = get_reward(f"embedding:{tmp_path}")(inputs).reward
    assert reward[0] == pytest.approx(1, abs=1e-4) and max(reward[1:]) < 0.999


def test_frames_reach_a_video_model_as_its_own_processor_would_give_them(tmp_path: Path):
    """White at the size that the crop needs: only the mean and the deviation of the folder's file are left."""
    vjepa(tmp_path)
    encoder = load_encoder(str(tmp_path))
    pixels = encoder._processor(images=[np.full((36, 36, 3), 255, np.uint8)], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 32, 32)
    expected = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(pixels, expected[None, :, None, None].expand_as(pixels), atol=1e-5)


def test_a_video_model_without_its_processor_is_named(tmp_path: Path):
    vjepa(tmp_path)
    (tmp_path / "video_preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match=r"none of video_preprocessor_config\.json"):
        load_encoder(str(tmp_path))
