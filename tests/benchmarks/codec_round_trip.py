"""What the tiny codec keeps of solutions, and of clips whose player waits, turns back and crosses walls.

    python tests/benchmarks/codec_round_trip.py

Both go through encoder and decoder and are verified before and after; levels of the split `test`, seed 0.
"""

from __future__ import annotations

import numpy as np
import torch

from wan_r1.prepare_model.train_tiny_codec import CANVAS, CODEC_FAMILIES, CODEC_TEXTURES, FRAMES, SIZE, _wander
from wan_r1.tasks.dataset import make_task
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.verification import verify
from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline
from wan_r1.video_model.wan import VideoModel

LEVELS = 32
"""Levels by family, difficulty and texture."""


def main() -> None:
    """Print both tables' numbers."""
    torch.set_num_threads(1)
    pipeline = tiny_pipeline(seed=0)
    model = VideoModel(
        transformer=pipeline.transformer,
        vae=pipeline.vae.eval(),
        text_encoder=None,
        tokenizer=None,
        scheduler=pipeline.scheduler,
        max_prompt_tokens=PROMPT_TOKENS,
    )
    tasks = [
        make_task(
            family,
            difficulty,
            texture,
            seed=0,
            split="test",
            index=index,
            frames=FRAMES,
            size=SIZE,
            canvas=CANVAS,
            steps_per_frame=1.0,
        )
        for family in CODEC_FAMILIES
        for difficulty in ("easy", "medium", "hard")
        for texture in CODEC_TEXTURES
        for index in range(LEVELS)
    ]
    solutions = np.stack([task.video for task in tasks if task.video is not None])
    after = verify(model.decode(model.encode_videos(solutions)), tasks)
    print(f"solutions  {sum(v.em for v in after)} of {len(tasks)} exact, fidelity {np.mean([v.mf for v in after]):.4f}")
    rng = np.random.default_rng(3)
    wandering = np.stack(
        [
            FAMILIES[task.family].render(task.level, TEXTURES[task.texture], _wander(task.level, rng), SIZE)
            for task in tasks
        ]
    )
    before = verify(wandering, tasks)
    after = verify(model.decode(model.encode_videos(wandering)), tasks)
    same = [a.walk == b.walk and a.walk_frames == b.walk_frames for a, b in zip(before, after, strict=True)]
    unclear = ["lost" in v.states or "duplicated" in v.states for v in after]
    print(f"wandering  {len(tasks)} clips: same walk {np.mean(same):.3f}, lost or doubled {np.mean(unclear):.3f}")


if __name__ == "__main__":
    main()
