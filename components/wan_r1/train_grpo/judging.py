"""Fit the judge on labelled rollouts of the policy that training starts from."""

from __future__ import annotations

import numpy as np

from wan_r1.config import ConfigError
from wan_r1.rewards.judge import LEAST_CLIPS, VideoJudge, fit_judge
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.training.randomness import derived_seed, numpy_generator
from wan_r1.verification import verify
from wan_r1.video_model.wan import VideoModel


def fit_judge_on_policy(config: TrainGrpoConfig, model: VideoModel, prompts: Prompts) -> VideoJudge:
    """Sample one video a level, label it by verified exact match, and fit the judge on the pairs.

    The judge sees videos alone, as a multimodal judge does: no grid, no track. That is the paper's ablation in small.

    Raises:
        ConfigError: if the policy solves too few levels, or too many, to learn from.
    """
    rng = numpy_generator(config.seed, config.STAGE, "judge")
    chosen = prompts.draw(min(config.judge_labels, len(prompts.tasks)), config.harder_share, rng)
    tasks = [prompts.tasks[index] for index in chosen]
    videos = model.sample(
        np.stack([task.first_frame for task in tasks]),
        [task.prompt for task in tasks],
        frames=tasks[0].frames,
        steps=config.rollout_steps,
        seeds=[derived_seed(config.seed, "judge", task.level_id) for task in tasks],
    )
    labels = np.array([verdict.em for verdict in verify(videos, tasks)], np.float32)
    solved = int(labels.sum())
    if min(solved, len(labels) - solved) < LEAST_CLIPS:
        raise ConfigError(
            f"grpo_reward=judge: of {len(labels)} videos of the starting policy {solved} solve their level, and a "
            f"judge needs at least {LEAST_CLIPS} that do and {LEAST_CLIPS} that do not; start from a policy "
            "between (raise sft_steps if none do), raise grpo_judge_labels, or leave judge out of ablation_rewards"
        )
    return fit_judge(videos, labels, seed=config.seed)
