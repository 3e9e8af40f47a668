"""The learned judge: it learns, it repeats, it can be stored, and it says how far it can be believed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from wan_r1.rewards.judge import VideoJudge, fit_judge
from wan_r1.tasks.dataset import make_task


@pytest.fixture(scope="module")
def clips() -> tuple[np.ndarray, np.ndarray]:
    """Videos of which half never leave the start, and whether they do."""
    tasks = [
        make_task(
            "regular",
            "easy",
            "plain",
            seed=6,
            split="test",
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index in range(64)
    ]
    videos = np.stack([task.video for task in tasks])
    labels = np.arange(len(videos)) % 2 == 0
    videos[~labels] = videos[~labels, :1]
    return videos, labels


@pytest.fixture(scope="module")
def judge(clips) -> VideoJudge:
    """A judge fitted for a few seconds."""
    return fit_judge(*clips, seed=0, steps=40)


def test_it_learns_what_is_easy_to_see(judge: VideoJudge, clips):
    videos, labels = clips
    score = judge.score(videos)
    assert score.dtype == np.float32 and ((score >= 0) & (score <= 1)).all()
    assert judge.heldout_count == 16 and judge.heldout_majority == 0.5
    assert judge.heldout_accuracy >= 0.85
    assert judge.agreement(videos, labels) >= 0.85


def test_the_same_seed_gives_the_same_judge(clips):
    videos, labels = clips
    first, again, other = (fit_judge(videos, labels, seed=seed, steps=4) for seed in (1, 1, 2))
    assert np.array_equal(first.score(videos[:8]), again.score(videos[:8]))
    assert first.heldout_accuracy == again.heldout_accuracy
    assert not np.array_equal(first.score(videos[:8]), other.score(videos[:8]))


def test_it_survives_storage(judge: VideoJudge, clips):
    stored = VideoJudge.from_bytes(judge.to_bytes())
    assert np.array_equal(stored.score(clips[0][:8]), judge.score(clips[0][:8]))
    assert stored.heldout_accuracy == judge.heldout_accuracy and stored.heldout_count == judge.heldout_count
    for content in (b"", b"nonsense that is no safetensors file"):
        with pytest.raises(ValueError, match="are no judge"):
            VideoJudge.from_bytes(content)


def test_larger_videos_and_none_are_scored(judge: VideoJudge, clips):
    large = np.repeat(np.repeat(clips[0][:4], 2, axis=2), 2, axis=3)
    assert np.allclose(judge.score(large), judge.score(clips[0][:4]), atol=1e-4)
    assert judge.score(clips[0][:0]).shape == (0,)


def test_what_cannot_be_fitted_is_refused(clips):
    videos, labels = clips
    with pytest.raises(ValueError, match="0 clips are labelled False"):
        fit_judge(videos, np.ones(len(videos), bool), seed=0)
    with pytest.raises(ValueError, match="64 videos but 3 labels"):
        fit_judge(videos, labels[:3], seed=0)
    with pytest.raises(ValueError, match="steps=0"):
        fit_judge(videos, labels, seed=0, steps=0)


def test_rewards_and_verification_do_not_import_torch():
    script = "import sys, wan_r1.rewards, wan_r1.verification; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
