"""Rollouts: sample groups of videos, decode them, and have them verified and rewarded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wan_r1.rewards import Judge, RewardFn, RewardInputs, get_reward
from wan_r1.tasks.dataset import Task
from wan_r1.verification import Verdict, verify
from wan_r1.video_model.sampling import Transition
from wan_r1.video_model.wan import Condition, VideoModel

Sampler = Callable[[torch.Tensor, Condition], tuple[torch.Tensor, list[Transition]]]
"""From initial noise and conditions to clean latents and the stochastic transitions (none for an ODE)."""


def _video(task: Task) -> np.ndarray:
    assert task.video is not None, "a demonstrated level has a video"
    return task.video


@dataclass(kw_only=True)
class Prompts:
    """Levels to learn on with their encoded conditions.

    Attributes:
        tasks: the levels.
        first_latents: `[levels, channels, 1, height, width]`.
        prompt_embeds: `[levels, tokens, width]`.
        demonstrated: how many of the first levels have demonstrations; the rest are the harder ones without.
        demonstrations: their latents, `[demonstrated, channels, frames, height, width]`, if they are learned from too.
    """

    tasks: list[Task]
    first_latents: torch.Tensor
    prompt_embeds: torch.Tensor
    demonstrated: int
    demonstrations: torch.Tensor | None = None

    @classmethod
    def encode(
        cls, model: VideoModel, demonstrated: Sequence[Task], harder: Sequence[Task], *, videos: bool = False
    ) -> Prompts:
        """Encode images and prompts once; with ``videos`` the demonstrations too."""
        tasks = [*demonstrated, *harder]
        latents = [
            model.encode_videos(np.stack([task.first_frame for task in tasks[start : start + 256]])[:, None])
            for start in range(0, len(tasks), 256)
        ]
        return cls(
            tasks=tasks,
            first_latents=torch.cat(latents),
            prompt_embeds=model.encode_prompts([task.prompt for task in tasks]),
            demonstrated=len(demonstrated),
            demonstrations=torch.cat(
                [
                    model.encode_videos(np.stack([_video(task) for task in demonstrated[start : start + 64]]))
                    for start in range(0, len(demonstrated), 64)
                ]
            )
            if videos
            else None,
        )

    def draw_demonstrations(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, Condition]:
        """``count`` demonstrations with their conditions, every one as likely."""
        assert self.demonstrations is not None, "encode the prompts with videos=True"
        chosen = torch.randint(self.demonstrated, (count,), generator=generator)
        condition = Condition(first_latent=self.first_latents[chosen], prompt_embeds=self.prompt_embeds[chosen])
        return self.demonstrations[chosen], condition

    def draw(self, count: int, harder_share: float, rng: np.random.Generator) -> np.ndarray:
        """Indices of ``count`` different levels, a fixed share of them harder ones."""
        harder = round(count * harder_share) if self.demonstrated < len(self.tasks) else 0
        harder = count if self.demonstrated == 0 else harder
        known = rng.choice(self.demonstrated, count - harder, replace=False) if count > harder else np.array([], int)
        unknown = (
            rng.choice(len(self.tasks) - self.demonstrated, harder, replace=False) if harder else np.array([], int)
        )
        return np.concatenate([known, unknown + self.demonstrated]).astype(int)


@dataclass(kw_only=True)
class Rollout:
    """Groups of sampled videos; videos of one group lie next to each other.

    Attributes:
        latents: clean latents, `[prompts * group, channels, frames, height, width]`.
        condition: of the same batch.
        transitions: stochastic steps, empty for an ODE rollout.
        levels: index in `Prompts` of each group's level, `[prompts]`.
        tasks: level of each video.
        verdicts: what was verified of each video.
        rewards: `[prompts, group]`.
        verified: the paper's trajectory reward of each video, whatever the training reward is, `[prompts, group]`.
        components: each of the reward's components, `[prompts * group]`.
        seconds: wall seconds by phase: rollout, decode, reward.
    """

    latents: torch.Tensor
    condition: Condition
    transitions: list[Transition]
    levels: np.ndarray
    tasks: list[Task]
    verdicts: list[Verdict]
    rewards: np.ndarray
    verified: np.ndarray
    components: dict[str, np.ndarray]
    seconds: dict[str, float]


def roll_out(
    model: VideoModel,
    prompts: Prompts,
    chosen: np.ndarray,
    *,
    group_size: int,
    generator: torch.Generator,
    sampler: Sampler,
    reward: RewardFn,
    judge: Judge | None = None,
) -> Rollout:
    """Sample ``group_size`` videos of each chosen level and reward them.

    Args:
        model: decodes latents.
        prompts: the levels.
        chosen: indices of levels, `[prompts]`.
        group_size: videos a level.
        generator: of the initial noise; each video of a group starts from its own.
        sampler: draws latents from the policy.
        reward: the training reward.
        judge: for the reward `judge`.
    """
    begin = time.perf_counter()
    index = torch.as_tensor(chosen)
    condition = Condition(
        first_latent=prompts.first_latents[index], prompt_embeds=prompts.prompt_embeds[index]
    ).repeat_interleave(group_size)
    tasks = [prompts.tasks[i] for i in chosen for _ in range(group_size)]
    shape = (len(tasks), *prompts.first_latents.shape[1:2], model.latent_frames(tasks[0].frames))
    noise = torch.randn(*shape, *prompts.first_latents.shape[3:], generator=generator).to(model.device)
    model.transformer.eval()
    latents, transitions = sampler(noise, condition)
    sampled = time.perf_counter()
    videos = model.decode(latents)
    decoded = time.perf_counter()
    verdicts = verify(videos, tasks)
    inputs = RewardInputs(videos=videos, tasks=tasks, verdicts=verdicts, judge=judge)
    output = reward(inputs)
    verified = get_reward("trajectory")(inputs).reward
    done = time.perf_counter()
    return Rollout(
        latents=latents,
        condition=condition,
        transitions=transitions,
        levels=chosen,
        tasks=tasks,
        verdicts=verdicts,
        rewards=output.reward.reshape(len(chosen), group_size),
        verified=verified.reshape(len(chosen), group_size),
        components=output.components,
        seconds={"rollout": sampled - begin, "decode": decoded - sampled, "reward": done - decoded},
    )
