"""Trainings of the tiny model that take a second: a few levels, a few steps."""

from __future__ import annotations

import numpy as np
import torch

from wan_r1.progress import Progress
from wan_r1.rewards import RewardOutput
from wan_r1.tasks.dataset import make_task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.rollouts import Prompts
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.train_sft.training import Demonstrations, SftTrainer
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.tiny import PROMPT_TOKENS

EASY = f"{__name__}:half_are_good"
BRIGHT = f"{__name__}:brightness"
DARK = f"{__name__}:darkness"


def half_are_good(inputs):
    """A reward that an untrained policy gets: 1 for every other video."""
    return RewardOutput(reward=(np.arange(len(inputs.tasks)) % 2).astype(np.float32), components={})


def brightness(inputs):
    """A reward that every video gets most of, the brighter the more: 0.9 to 1."""
    mean = inputs.videos.reshape(len(inputs.videos), -1).mean(1)
    return RewardOutput(reward=(0.9 + 0.1 * mean / 255).astype(np.float32), components={})


def darkness(inputs):
    """A reward that is a success (0.9) for dark videos alone, of which an untrained policy makes some."""
    mean = inputs.videos.reshape(len(inputs.videos), -1).mean(1)
    reward = 0.9 + 2 * (0.741 - mean / 255)
    return RewardOutput(reward=reward.clip(0, 1).astype(np.float32), components={})


def video_model(folder):
    return load_pipeline_folder(folder, max_prompt_tokens=PROMPT_TOKENS, device=torch.device("cpu"))


def tasks(split, count, difficulty="easy"):
    return [
        make_task(
            ("regular", "trapfield")[index % 2],
            difficulty,
            "plain",
            seed=0,
            split=split,
            index=index,
            frames=9,
            size=32,
            canvas=4,
            steps_per_frame=1.0,
        )
        for index in range(count)
    ]


def sft(folder, prefix, **changes):
    settings = {
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "lora_rank": 0,
        "validate_every": 4,
        "checkpoint_every": 3,
        "threads": 1,
    }
    model = video_model(folder)
    with Progress("test") as progress:
        demonstrations = Demonstrations.encode(model, tasks("train", 8), progress)
    return SftTrainer(
        config=TrainSftConfig(**(settings | changes)),
        model=model,
        demonstrations=demonstrations,
        validation=tasks("validation", 2),
        prefix=str(prefix),
    )


def grpo(folder, prefix, **changes):
    settings = {
        "iterations": 4,
        "group_size": 3,
        "prompts_per_iteration": 2,
        "rollout_steps": 3,
        "sde_window": (0, 1),
        "lora_rank": 0,
        "checkpoint_every": 2,
        "validate_every": 3,
        "threads": 1,
    }
    model = video_model(folder)
    return GrpoTrainer(
        config=TrainGrpoConfig(**(settings | changes)),
        model=model,
        prompts=Prompts.encode(model, tasks("train", 4), tasks("prompts", 4, "hard")),
        validation=tasks("validation", 2),
        prefix=str(prefix),
    )
