"""Rollouts: sample groups of videos, decode them, and have them verified and rewarded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from wan_r1.rewards import Judge, RewardFn, RewardInputs, get_reward
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.curriculum import balancing_weights
from wan_r1.training.views import other_views
from wan_r1.verification import Verdict, verify
from wan_r1.video_model.sampling import Transition
from wan_r1.video_model.wan import Condition, VideoModel

Sampler = Callable[[torch.Tensor, Condition, slice], tuple[torch.Tensor, list[Transition]]]
"""From initial noise and conditions, with the place of these videos in the rollout, to clean latents and the stochastic
transitions (none for an ODE)."""


def _video(task: Task) -> np.ndarray:
    assert task.video is not None, "a demonstrated level has a video"
    return task.video


def _demonstrations(
    model: VideoModel, demonstrated: Sequence[Task], views: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of the levels' videos and of other views of them, and the level of each."""
    latents, level_of = [], []
    for start in range(0, len(demonstrated), 64):
        videos = []
        for level, task in enumerate(demonstrated[start : start + 64], start):
            shown = [_video(task), *other_views(_video(task), task.family, views - 1, seed, task.level_id)]
            videos += shown
            level_of += [level] * len(shown)
        latents.append(model.encode_videos(np.stack(videos)))
    return torch.cat(latents), torch.tensor(level_of)


@dataclass(kw_only=True)
class Prompts:
    """Levels to learn on with their encoded conditions.

    Attributes:
        tasks: the levels.
        first_latents: `[levels, channels, 1, height, width]`.
        prompt_embeds: of the distinct prompts, `[prompts, tokens, width]`: at full size 4 MB each, too much a level.
        prompt_of: row of `prompt_embeds` of each level, `[levels]`.
        demonstrated: how many of the first levels have demonstrations; the rest are the harder ones without.
        demonstrations: their latents, `[videos, channels, frames, height, width]`, if they are learned from too; other
            views of a level follow its own.
        demonstration_of: the level of each, `[videos]`.
    """

    tasks: list[Task]
    first_latents: torch.Tensor
    prompt_embeds: torch.Tensor
    prompt_of: torch.Tensor
    demonstrated: int
    demonstrations: torch.Tensor | None = None
    demonstration_of: torch.Tensor | None = None
    _balance: torch.Tensor = field(default_factory=lambda: torch.zeros(0), init=False)

    @classmethod
    def encode(
        cls,
        model: VideoModel,
        demonstrated: Sequence[Task],
        harder: Sequence[Task],
        *,
        videos: bool = False,
        views: int = 1,
        seed: int = 0,
    ) -> Prompts:
        """Encode images and prompts once; with ``videos`` the demonstrations too, each in so many ``views``."""
        tasks = [*demonstrated, *harder]
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(task.prompt for task in tasks))}
        latents = [
            model.encode_videos(np.stack([task.first_frame for task in tasks[start : start + 256]])[:, None])
            for start in range(0, len(tasks), 256)
        ]
        latents_of, levels_of = _demonstrations(model, demonstrated, views, seed) if videos else (None, None)
        return cls(
            tasks=tasks,
            first_latents=torch.cat(latents),
            prompt_embeds=model.encode_prompts(list(rows)),
            prompt_of=torch.tensor([rows[task.prompt] for task in tasks]),
            demonstrated=len(demonstrated),
            demonstrations=latents_of,
            demonstration_of=levels_of,
        )

    def condition(self, chosen: np.ndarray | torch.Tensor) -> Condition:
        """The condition of the levels with these indices."""
        index = torch.as_tensor(chosen)
        return Condition(
            first_latent=self.first_latents[index], prompt_embeds=self.prompt_embeds[self.prompt_of[index]]
        )

    def draw_demonstrations(
        self, count: int, generator: torch.Generator, balance: float = 0.0
    ) -> tuple[torch.Tensor, Condition]:
        """``count`` demonstrations with their conditions; all are as likely, or lengths alike with a ``balance`` of 1
        (see `balancing_weights`)."""
        assert self.demonstrations is not None, "encode the prompts with videos=True"
        videos = len(self.demonstrations)
        level_of = torch.arange(videos) if self.demonstration_of is None else self.demonstration_of
        if balance:
            if len(self._balance) != videos:
                shown = [self.tasks[level] for level in level_of.tolist()]
                self._balance = torch.from_numpy(balancing_weights(shown, balance))
            chosen = torch.multinomial(self._balance, count, replacement=True, generator=generator)
        else:
            chosen = torch.randint(videos, (count,), generator=generator)
        turned = (chosen > 0) & (level_of[chosen] == level_of[chosen - 1])
        return self.of_views(self.demonstrations[chosen], level_of[chosen], turned)

    def of_views(
        self, latents: torch.Tensor, levels: torch.Tensor, turned: torch.Tensor
    ) -> tuple[torch.Tensor, Condition]:
        """Videos of levels with their conditions; the image of another view is its own first one.

        Args:
            latents: `[batch, channels, frames, height, width]`.
            levels: their levels, `[batch]`.
            turned: which are other views, bool `[batch]`.
        """
        condition = self.condition(levels)
        if not turned.any():
            return latents, condition
        own = turned.view(-1, 1, 1, 1, 1).to(latents.device)
        return latents, replace(condition, first_latent=torch.where(own, latents[:, :, :1], condition.first_latent))

    def draw(
        self, count: int, harder_share: float, rng: np.random.Generator, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Indices of ``count`` different levels, a fixed share of them harder ones.

        Args:
            count: levels.
            harder_share: share of them without demonstration.
            rng: draws them.
            weights: how likely each level is within its kind, `[levels]`; by default all are alike.
        """
        harder = round(count * harder_share) if self.demonstrated < len(self.tasks) else 0
        harder = count if self.demonstrated == 0 else harder

        def choose(begin: int, end: int, wanted: int) -> np.ndarray:
            if not wanted:
                return np.array([], int)
            shares = None if weights is None else weights[begin:end] / weights[begin:end].sum()
            return begin + rng.choice(end - begin, wanted, replace=False, p=shares)

        known = choose(0, self.demonstrated, count - harder)
        return np.concatenate([known, choose(self.demonstrated, len(self.tasks), harder)]).astype(int)


@dataclass(kw_only=True)
class Rollout:
    """Groups of sampled videos; videos of one group lie next to each other.

    Attributes:
        latents: clean latents, `[prompts * group, channels, frames, height, width]`.
        condition: of the same batch.
        transitions: stochastic steps, empty for an ODE rollout.
        stochastic_steps: how many of them each video took.
        levels: index in `Prompts` of each group's level, `[prompts]`.
        videos: decoded, uint8 `[prompts * group, frames, height, width, 3]`.
        tasks: level of each video.
        verdicts: what was verified of each video.
        rewards: `[prompts, group]`.
        verified: the paper's trajectory reward of each video, whatever the training reward is, `[prompts, group]`.
        components: each of the reward's components, `[prompts * group]`.
        seconds: wall seconds by phase: rollout, decode, reward (what the next sampling did not hide of it).
    """

    latents: torch.Tensor
    condition: Condition
    transitions: list[Transition]
    stochastic_steps: int
    levels: np.ndarray
    videos: np.ndarray
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
    noise: torch.Tensor,
    sampler: Sampler,
    reward: RewardFn,
    judge: Judge | None = None,
    chunk: int = 0,
    pool: ProcessPoolExecutor | None = None,
) -> Rollout:
    """Sample ``group_size`` videos of each chosen level and reward them.

    Args:
        model: decodes latents.
        prompts: the levels.
        chosen: indices of levels, `[prompts]`.
        group_size: videos a level.
        noise: initial noise of each video, `[prompts * group, channels, frames, height, width]`.
        sampler: draws latents from the policy.
        reward: the training reward.
        judge: for the reward `judge`.
        chunk: videos that are sampled, decoded and verified at a time; 0 takes all at once.
        pool: verifies a chunk while the next one is sampled; by default this process does it in between.
    """
    condition = prompts.condition(chosen).repeat_interleave(group_size)
    tasks = [prompts.tasks[i] for i in chosen for _ in range(group_size)]
    seconds = {"rollout": 0.0, "decode": 0.0, "reward": 0.0}
    latents, transitions, videos, verdicts = [], [], [], []
    model.transformer.eval()
    for start in range(0, len(tasks), chunk or len(tasks)):
        part = slice(start, start + (chunk or len(tasks)))
        begin = time.perf_counter()
        clean, steps = sampler(noise[part].to(model.device), condition.take(part), part)
        sampled = time.perf_counter()
        frames = model.decode(clean)
        decoded = time.perf_counter()
        verdicts.append(_verify(frames, tasks[part], pool))
        latents.append(clean)
        transitions.append(steps)
        videos.append(frames)
        seconds["rollout"] += sampled - begin
        seconds["decode"] += decoded - sampled
        seconds["reward"] += time.perf_counter() - decoded
    begin = time.perf_counter()
    found = [verdict for future in verdicts for verdict in future.result()]
    inputs = RewardInputs(videos=np.concatenate(videos), tasks=tasks, verdicts=found, judge=judge)
    output = reward(inputs)
    verified = get_reward("trajectory")(inputs).reward
    seconds["reward"] += time.perf_counter() - begin
    joined = _joined(transitions, [len(one) for one in latents])
    return Rollout(
        latents=torch.cat(latents),
        condition=condition,
        transitions=joined,
        stochastic_steps=sum(len(transition.rows) for transition in joined) // len(tasks),
        levels=chosen,
        videos=inputs.videos,
        tasks=tasks,
        verdicts=found,
        rewards=output.reward.reshape(len(chosen), group_size),
        verified=verified.reshape(len(chosen), group_size),
        components=output.components,
        seconds=seconds,
    )


def _verify(videos: np.ndarray, tasks: list[Task], pool: ProcessPoolExecutor | None) -> Future[list[Verdict]]:
    """The verdicts to come; without a pool they are there at once."""
    if pool is not None:
        return pool.submit(verify, videos, tasks)
    done: Future[list[Verdict]] = Future()
    done.set_result(verify(videos, tasks))
    return done


def _joined(chunks: list[list[Transition]], sizes: list[int]) -> list[Transition]:
    """The transitions of several chunks as if they had been rolled out together."""
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    by_index: dict[int, list[Transition]] = {}
    for start, transitions in zip(starts, chunks, strict=True):
        for transition in transitions:
            moved = transition.take(slice(None), rows=transition.rows + start)
            by_index.setdefault(transition.index, []).append(moved)
    return [
        Transition(
            index=index,
            sigma=same[0].sigma,
            sigma_next=same[0].sigma_next,
            **{
                name: torch.cat([getattr(transition, name) for transition in same])
                for name in ("rows", "x", "sample", "mean", "log_prob")
            },
        )
        for index, same in sorted(by_index.items())
    ]
