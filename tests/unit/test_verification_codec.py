"""What the tiny codec does to a video is forgiven: its round trip of a solution is still one."""

from __future__ import annotations

import numpy as np
import torch

from wan_r1.tasks.dataset import make_task
from wan_r1.verification import verify
from wan_r1.video_model.tiny import tiny_codec


def test_solutions_survive_the_tiny_codec():
    tasks = [
        make_task(
            family,
            difficulty,
            texture,
            seed=8,
            split="test",
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for family in ("regular", "trapfield")
        for difficulty in ("easy", "medium", "hard")
        for texture in ("plain", "night")
        for index in range(4)
    ]
    codec = tiny_codec().eval()
    videos = torch.from_numpy(np.stack([task.video for task in tasks]))
    with torch.no_grad():
        latents = codec.encode(videos.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).latent_dist.mode()
        decoded = codec.decode(latents).sample.clamp(-1, 1)
    decoded = ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()
    verdicts = verify(decoded, tasks)
    assert np.mean([verdict.em for verdict in verdicts]) >= 0.95
    assert np.mean([verdict.mf for verdict in verdicts]) >= 0.98
    assert min(verdict.mf for verdict in verdicts) >= 0.95
