"""The loop of reinforcement learning: roll out groups, verify them, compare within each group, update.

Top-down: `GrpoTrainer.run` is the loop, `_iterate` one iteration; the two objectives are `flow_grpo.py` and
`forward_grpo.py`. Randomness derives from (seed, iteration): a resumed run draws what the stopped one would have.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator

from wan_r1.progress import Progress
from wan_r1.rewards import get_reward
from wan_r1.rewards.judge import VideoJudge
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.advantages import Advantages, group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.flow_grpo import flow_grpo_loss, rows_of
from wan_r1.train_grpo.forward_grpo import forward_grpo_loss, good_share
from wan_r1.train_grpo.replay import Replay
from wan_r1.train_grpo.rollouts import Prompts, Rollout, roll_out
from wan_r1.training.backward import backward
from wan_r1.training.compute import ComputeClock
from wan_r1.training.randomness import numpy_generator, torch_generator
from wan_r1.training.state import TrainingDiverged, TrainingState, resume_state, save_state
from wan_r1.training.validation import Validation, validate
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.sampling import Transition, ode_sample, sde_rollout
from wan_r1.video_model.schedule import random_sigmas, sigma_grid
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import Weights, copy_weights, move_towards, trainable, using

Batch = tuple[int, Callable[[slice], tuple[torch.Tensor, dict[str, float]]]]
"""Videos of a batch, and the loss of a part of it with what is logged."""

REPLAY = "replay"
"""Name of the replayed successes in the saved state."""


@dataclass(kw_only=True)
class GrpoTrainer:
    """One run of reinforcement learning.

    Attributes:
        config: parameters.
        model: starts from its weights; holds the averaged weights at the end.
        prompts: levels to learn on.
        validation: levels for validation.
        prefix: URI prefix of the run's checkpoints.
        judge: fitted judge, when the reward is `judge`.
    """

    config: TrainGrpoConfig
    model: VideoModel
    prompts: Prompts
    validation: Sequence[Task]
    prefix: str
    judge: VideoJudge | None = None
    state: TrainingState = field(default_factory=TrainingState)

    def run(self, on_validation: Callable[[int, Validation], None] = lambda step, result: None) -> str:
        """Train to the end and return the URI of the last checkpoint."""
        config, model = self.config, self.model
        ensure_lora(model.transformer, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
        self.reward = get_reward(config.reward)
        self.grid = sigma_grid(config.rollout_steps, model.shift)
        # The starting policy, before a resumed state is laid over it. With LoRA this copies the adapter alone.
        self.reference = copy_weights(model.transformer)
        self.accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision=config.precision)
        optimizer = torch.optim.AdamW(
            trainable(model.transformer).values(), lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.99)
        )
        self.policy, self.optimizer = self.accelerator.prepare(model.transformer, optimizer)
        self.last_good = self._resume_or_start()
        self.replay = Replay.from_state(self.state.extra.get(REPLAY, {}))
        compute = ComputeClock(model.device, self.state.core_seconds)
        # The reward is named, since the arms of a comparison run beside each other.
        with Progress(f"{config.STAGE}:{config.reward}", total=config.iterations, start=self.state.step) as progress:
            while self.state.step < config.iterations:
                with compute.running():
                    entry = self._iterate()
                self.state.step += 1
                self.state.core_seconds = compute.seconds
                entry |= {"iteration": self.state.step, "core_seconds": compute.seconds}
                if self.state.step % config.validate_every == 0:
                    with using(model.transformer, self.state.ema):
                        steps = config.rollout_steps
                        result = validate(model, self.validation, steps=steps, seed=config.seed)
                    entry |= {f"validation_em/{family}": value for family, value in result.em.items()}
                    entry["validation_mf"] = result.mean_mf
                    on_validation(self.state.step, result)
                self.state.log.append(entry)
                shown = ("reward", "verified_reward", "em", "em_harder")
                progress.update(self.state.step, **{name: entry[name] for name in shown if name in entry})
                if self.state.step % config.checkpoint_every == 0 or self.state.step == config.iterations:
                    self.last_good = self._save()
        for name, parameter in trainable(model.transformer).items():
            parameter.data.copy_(self.state.ema[name])
        return self.last_good

    def _iterate(self) -> dict[str, float]:
        """One rollout with its updates; returns what is logged."""
        config, step = self.config, self.state.step
        accelerator = self.accelerator
        rng = numpy_generator(config.seed, config.STAGE, "prompts", step)
        chosen = self.prompts.draw(config.prompts_per_iteration, config.harder_share, rng)
        # Whole groups go to a process: an advantage never needs another process' rewards.
        chosen = chosen[accelerator.process_index :: accelerator.num_processes]
        generator = torch_generator(config.seed, config.STAGE, "rollout", step, accelerator.process_index)
        rollout = self._roll_out(chosen, generator)
        begin = time.perf_counter()
        advantages = group_advantages(rollout.rewards, config.advantage_clip, config.least_std)
        entry = self._rollout_entry(rollout, advantages.zero_std_groups)
        if config.replay_batch:
            self.replay.keep(rollout)
            entry["replay_levels"] = float(len(self.replay))
        # Fewer successes than `replay_levels` would be learned by heart: until then, only look for more.
        if self._has_known_solutions or (advantages.mixed.any() and not config.replay_levels):
            entry |= self._update(rollout, advantages, generator)
        entry["seconds_update"] = time.perf_counter() - begin
        return entry

    @property
    def _sampling_policy(self) -> Weights:
        """The weights that roll out: forward_grpo's are the moving average, flow_grpo's the trained ones themselves."""
        return self.state.ema if self.config.objective == "forward_grpo" else {}

    def _roll_out(self, chosen: np.ndarray, generator: torch.Generator) -> Rollout:
        config, model = self.config, self.model

        def draw(noise: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, list[Transition]]:
            if config.objective == "forward_grpo":
                return ode_sample(model, noise, condition, self.grid), []
            return sde_rollout(
                model,
                noise,
                condition,
                self.grid,
                window=config.sde_window,
                kind=config.sde_kind,
                noise_scale=config.sde_noise,
                generator=generator,
            )

        def sampler(noise: torch.Tensor, condition: Condition) -> tuple[torch.Tensor, list[Transition]]:
            size = config.micro_batch or len(noise)
            parts = [
                draw(noise[start : start + size], condition.take(slice(start, start + size)))
                for start in range(0, len(noise), size)
            ]
            return torch.cat([latents for latents, _ in parts]), _joined([transitions for _, transitions in parts])

        with using(model.transformer, self._sampling_policy):
            return roll_out(
                model,
                self.prompts,
                chosen,
                group_size=config.group_size,
                generator=generator,
                sampler=sampler,
                reward=self.reward,
                judge=self.judge,
            )

    def _update(self, rollout: Rollout, advantages: Advantages, generator: torch.Generator) -> dict[str, float]:
        """The optimizer steps of one rollout; returns means of what is logged."""
        logged: list[dict[str, float]] = []
        self.policy.train()
        for rows in self._minibatches(advantages, generator):
            values = torch.from_numpy(advantages.values.reshape(-1)[rows.numpy()]).to(self.model.device)
            batches = list(self._batches(rollout, rows, values, generator))
            parameters = trainable(self.model.transformer).values()
            self.optimizer.zero_grad()
            for batch in batches:
                size, loss = batch()
                scale = 1 / len(batches)
                logged.append(backward(self.accelerator, self.model.cores, loss, size, parameters, scale=scale))
            norm = self.accelerator.clip_grad_norm_(parameters, self.config.max_grad_norm)
            self._check_finite(logged[-1]["loss"], float(norm), rollout)
            logged[-1]["grad_norm"] = float(norm)
            self.optimizer.step()
            move_towards(self.state.ema, self.model.transformer, 1 - self.config.ema_decay)
        names = {name for values in logged for name in values}
        means = {name: float(np.mean([values[name] for values in logged if name in values])) for name in names}
        if "ratio_mean" in logged[0]:
            means["ratio_first"] = logged[0]["ratio_mean"]
        return means

    def _minibatches(self, advantages: Advantages, generator: torch.Generator) -> Iterator[torch.Tensor]:
        """Rows of each optimizer step: whole mixed groups, dealt anew in every epoch.

        Steps that known solutions join are as many in every iteration, even where no group is left for one.
        """
        config = self.config
        mixed = torch.from_numpy(advantages.mixed).nonzero()[:, 0]
        offsets = torch.arange(config.group_size)
        for _ in range(config.epochs):
            order = mixed[torch.randperm(len(mixed), generator=generator)] if config.minibatches > 1 else mixed
            for groups in order.tensor_split(
                config.minibatches if self._has_known_solutions else min(config.minibatches, len(mixed))
            ):
                yield (groups[:, None] * config.group_size + offsets).reshape(-1)

    def _batches(
        self, rollout: Rollout, rows: torch.Tensor, advantages: torch.Tensor, generator: torch.Generator
    ) -> Iterator[Callable[[], Batch]]:
        """The forward passes of one optimizer step, each to be prepared when its turn has come."""
        config = self.config
        # There may be no row: a step of known solutions alone.
        size = config.micro_batch or max(1, len(rows))
        for start in range(0, max(1, len(rows)), size):
            part, weight = rows[start : start + size], advantages[start : start + size]
            if config.objective == "flow_grpo":
                for transition in rollout.transitions:
                    yield partial(self._flow_grpo, rollout, transition, part, weight)
            else:
                for _ in range(config.forward_sigmas):
                    yield partial(self._forward_grpo, rollout, part, weight, generator)

    def _flow_grpo(self, rollout: Rollout, whole: Transition, rows: torch.Tensor, advantages: torch.Tensor) -> Batch:
        config, model = self.config, self.model
        transition, condition = rows_of(whole, rows), rollout.condition.take(rows)
        reference = self._reference_velocity(transition.x, transition.sigma, condition) if config.kl_beta else None

        def loss(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            mine = rows_of(transition, part)
            result = flow_grpo_loss(
                model,
                mine,
                advantages[part],
                velocity=model.velocity(mine.x, mine.sigma, condition.take(part), self.policy),
                reference_velocity=None if reference is None else reference[part],
                sigma_first=float(self.grid[1]),
                kind=config.sde_kind,
                noise=config.sde_noise,
                clip_range=config.clip_range,
                kl_beta=config.kl_beta,
            )
            return result.loss, {
                "ratio_mean": result.ratio.mean().item(),
                "ratio_std": result.ratio.std().item(),
                "clip_fraction": result.clip_fraction,
                "kl": result.kl,
            }

        return len(rows), loss

    def _forward_grpo(
        self, rollout: Rollout, rows: torch.Tensor, advantages: torch.Tensor, generator: torch.Generator
    ) -> Batch:
        config, model = self.config, self.model
        clean, condition = rollout.latents[rows], rollout.condition.take(rows)
        good = good_share(advantages, config.advantage_scale)
        for more, its_condition in self._known_solutions(generator):
            clean, condition = torch.cat([clean, more]), condition.join(its_condition)
            good = torch.cat([good, torch.ones(len(more), device=good.device)])
        sigma = random_sigmas(len(clean), model.shift, generator).to(model.device)
        noise = torch.randn(clean.shape, generator=generator).to(model.device)
        level = sigma.view(-1, 1, 1, 1, 1)
        noised = (1 - level) * clean + level * noise
        # A video that is wholly good takes nothing from the sampling policy's velocity.
        partly = (good < 1).nonzero()[:, 0]
        sampling_velocity = torch.zeros_like(clean)
        with torch.no_grad(), using(model.transformer, self._sampling_policy):
            if len(partly):
                sampling_velocity[partly] = model.velocity(noised[partly], sigma[partly], condition.take(partly))
        reference = self._reference_velocity(noised, sigma, condition) if config.anchor else None

        def loss(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            result = forward_grpo_loss(
                clean[part],
                noised[part],
                sigma[part],
                good[part],
                velocity=model.velocity(noised[part], sigma[part], condition.take(part), self.policy),
                sampling_velocity=sampling_velocity[part],
                reference_velocity=None if reference is None else reference[part],
                mask=model.mask(clean),
                anchor=config.anchor,
            )
            return result.loss, {"anchor": result.anchor}

        return len(clean), loss

    @property
    def _replays(self) -> bool:
        """Whether successes join the optimizer steps by now."""
        return self.config.replay_batch > 0 and len(self.replay) >= max(1, self.config.replay_levels)

    @property
    def _has_known_solutions(self) -> bool:
        return self._replays or self.config.demonstration_batch > 0

    def _known_solutions(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, Condition]]:
        """Videos that are wholly good and join a minibatch: replayed successes and demonstrations."""
        config = self.config
        if self._replays:
            yield self.replay.draw(config.replay_batch, self.prompts, generator)
        if config.demonstration_batch:
            yield self.prompts.draw_demonstrations(config.demonstration_batch, generator)

    @torch.no_grad()
    def _reference_velocity(self, x: torch.Tensor, sigma: torch.Tensor | float, condition: Condition) -> torch.Tensor:
        with using(self.model.transformer, self.reference):
            return self.model.velocity(x, sigma, condition)

    def _rollout_entry(self, rollout: Rollout, zero_std_groups: float) -> dict[str, float]:
        em = np.array([verdict.em for verdict in rollout.verdicts], float)
        harder = np.array([task.split == "prompts" for task in rollout.tasks])
        entry = {
            "reward": float(rollout.rewards.mean()),
            "verified_reward": float(rollout.verified.mean()),
            "em": float(em.mean()),
            "mf": float(np.mean([verdict.mf for verdict in rollout.verdicts])),
            "zero_std_groups": zero_std_groups,
            **{f"reward_{name}": float(values.mean()) for name, values in rollout.components.items()},
            **{f"seconds_{name}": value for name, value in rollout.seconds.items()},
        }
        if harder.any():
            entry["em_harder"] = float(em[harder].mean())
        if self.judge is not None:
            entry["judge_agreement"] = float(((rollout.rewards.reshape(-1) > 0.5) == (em > 0.5)).mean())
        return entry

    def _check_finite(self, loss: float, norm: float, rollout: Rollout) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            levels = ", ".join(dict.fromkeys(task.level_id for task in rollout.tasks))
            raise TrainingDiverged(
                f"iteration {self.state.step + 1}: loss {loss}, gradient norm {norm} (levels {levels}); last good "
                f"checkpoint: {self.last_good or 'none'}; try a lower grpo_learning_rate"
            )

    def _resume_or_start(self) -> str:
        transformer = self.model.transformer
        resumed = resume_state(self.prefix, transformer, self.optimizer)
        if resumed is not None:
            self.state, uri = resumed
            print(f"{self.config.STAGE}  resumed at iteration {self.state.step} from {uri}", flush=True)
            return uri
        self.state.ema = copy_weights(transformer)
        return ""

    def _save(self) -> str:
        if self.config.replay_batch:
            self.state.extra[REPLAY] = self.replay.state()
        return save_state(
            self.prefix,
            self.state,
            self.model.transformer,
            self.optimizer,
            lora_rank=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
        )


def _joined(parts: list[list[Transition]]) -> list[Transition]:
    """The transitions of several chunks as if they had been rolled out together."""
    return [
        Transition(
            sigma=same[0].sigma,
            sigma_next=same[0].sigma_next,
            x=torch.cat([t.x for t in same]),
            sample=torch.cat([t.sample for t in same]),
            mean=torch.cat([t.mean for t in same]),
            log_prob=torch.cat([t.log_prob for t in same]),
        )
        for same in zip(*parts, strict=True)
    ]
