"""The loss may weigh what moves more than what stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_training import sft

from wan_r1.config import ConfigError
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import moving_latents
from wan_r1.video_model.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained tiny model."""
    path = tmp_path_factory.mktemp("model")
    tiny_pipeline(seed=0).save_pretrained(path)
    return path


def test_what_moves_is_what_differs_from_the_first_frame():
    videos = np.zeros((2, 9, 8, 8, 3), np.uint8)
    videos[1, 0, 0, 0] = 90  # gone in all later frames
    videos[1, 6, 5, 3, 1] = 90  # in the second of the two latents of four frames each
    videos[1, 2, 7, 7] = 9  # hardly different
    moving = moving_latents(videos, (2, 16, 3, 4, 4))
    assert moving.shape == (2, 3, 4, 4) and not moving[0].any() and not moving[1, 0].any()
    assert torch.nonzero(moving[1]).tolist() == [[1, 0, 0], [2, 0, 0], [2, 2, 1]]
    assert not moving_latents(videos[:, :1], (2, 16, 1, 4, 4)).any()


def test_the_weight_counts_in_the_loss_and_in_nothing_else(folder, tmp_path):
    usual, weighted = (sft(folder, tmp_path / str(weight), steps=1, motion_weight=weight) for weight in (0.0, 1e6))
    assert usual.demonstrations.moving.any()
    for trainer in (usual, weighted):
        trainer.run()
    # Nearly all of the weighted loss is of what moves, which an untrained model predicts as badly as the rest.
    assert usual.state.log[0]["loss"] != weighted.state.log[0]["loss"]
    assert weighted.state.log[0]["loss"] == pytest.approx(usual.state.log[0]["loss"], rel=0.5)


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match="sft_motion_weight"):
        TrainSftConfig(motion_weight=-1.0).validate()
