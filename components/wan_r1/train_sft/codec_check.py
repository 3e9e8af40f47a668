"""Whether solutions survive the model's codec: what it loses, no training brings back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wan_r1.tasks.dataset import Task
from wan_r1.training.inputs import InputError
from wan_r1.verification import verify
from wan_r1.video_model.wan import VideoModel

CHECKED = 8
"""Demonstrations a family."""


def require_codec(model: VideoModel, tasks: Sequence[Task], least: float) -> None:
    """Refuse to train where a codec keeps too few solutions.

    Args:
        model: its codec encodes and decodes them.
        tasks: demonstrations, with their videos.
        least: share of each family's that must still be exact matches.

    Raises:
        InputError: with the family, its share and the remedy.
    """
    for family in sorted({task.family for task in tasks}):
        own = [task for task in tasks if task.family == family]
        videos = np.stack([task.video for task in own if task.video is not None])
        kept = sum(verdict.em for verdict in verify(model.decode(model.encode_videos(videos)), own))
        if kept < least * len(own):
            textures = " ".join(sorted({task.texture for task in own}))
            raise InputError(
                f"family {family!r} ({textures}): after the model's codec {kept} of {len(own)} demonstrations are "
                f"still solutions, and sft_least_codec_em={least} asks for {least:.0%}; give model_codec one that "
                "knows them (for model_source=tiny, maze3d ships; python -m wan_r1.prepare_model.train_wide_codec "
                f"--families {family} --textures {textures} --output FOLDER makes one), take larger pictures, or "
                "train anyway with sft_least_codec_em=0"
            )
