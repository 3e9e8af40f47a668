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
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.flow_grpo import flow_grpo_loss, part_of
from wan_r1.train_grpo.forward_grpo import forward_grpo_loss, good_share
from wan_r1.train_grpo.rollouts import Prompts, Rollout, roll_out
from wan_r1.training.compute import ComputeClock
from wan_r1.training.randomness import numpy_generator, torch_generator
from wan_r1.training.state import TrainingDiverged, TrainingState, resume_state, save_state
from wan_r1.training.validation import Validation, validate
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.sampling import Transition, ode_sample, sde_rollout
from wan_r1.video_model.schedule import random_sigmas, sigma_grid
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import copy_weights, move_towards, trainable, using

SAMPLING = "sampling"
"""Name of forward_grpo's sampling policy in the saved state."""


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
        advantages = group_advantages(rollout.rewards, config.advantage_clip)
        entry = self._rollout_entry(rollout, advantages.zero_std_groups)
        if advantages.mixed.any():
            rows = torch.from_numpy(np.repeat(advantages.mixed, config.group_size)).nonzero()[:, 0]
            values = torch.from_numpy(advantages.values.reshape(-1)[rows.numpy()]).to(self.model.device)
            entry |= self._update(rollout, rows, values, generator)
        self._after_update()
        entry["seconds_update"] = time.perf_counter() - begin
        return entry

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

        with using(model.transformer, self.state.extra.get(SAMPLING, {})):
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

    def _update(
        self, rollout: Rollout, rows: torch.Tensor, advantages: torch.Tensor, generator: torch.Generator
    ) -> dict[str, float]:
        """The optimizer steps of one rollout; returns means of what is logged."""
        config = self.config
        logged: list[dict[str, float]] = []
        self.policy.train()
        for _ in range(config.updates):
            batches = list(self._batches(rollout, rows, advantages, generator))
            self.optimizer.zero_grad()
            for batch in batches:
                loss, values = batch()
                self.accelerator.backward(loss / len(batches))
                logged.append({**values, "loss": loss.item()})
            norm = self.accelerator.clip_grad_norm_(trainable(self.model.transformer).values(), config.max_grad_norm)
            self._check_finite(logged[-1]["loss"], float(norm), rollout)
            logged[-1]["grad_norm"] = float(norm)
            self.optimizer.step()
        names = {name for values in logged for name in values}
        means = {name: float(np.mean([values[name] for values in logged if name in values])) for name in names}
        if "ratio_mean" in logged[0]:
            means["ratio_first"] = logged[0]["ratio_mean"]
        return means

    def _batches(
        self, rollout: Rollout, rows: torch.Tensor, advantages: torch.Tensor, generator: torch.Generator
    ) -> Iterator[Callable[[], tuple[torch.Tensor, dict[str, float]]]]:
        """The forward passes of one update, each a function that gives its loss and what is logged."""
        config = self.config
        size = config.micro_batch or len(rows)
        for start in range(0, len(rows), size):
            part, weight = rows[start : start + size], advantages[start : start + size]
            if config.objective == "flow_grpo":
                for transition in rollout.transitions:
                    yield partial(self._flow_grpo, rollout, transition, part, weight)
            else:
                for _ in range(config.forward_sigmas):
                    yield partial(self._forward_grpo, rollout, part, weight, generator)

    def _flow_grpo(
        self, rollout: Rollout, transition: Transition, rows: torch.Tensor, advantages: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        config, model = self.config, self.model
        transition, condition = part_of(rollout, transition, rows)
        result = flow_grpo_loss(
            model,
            transition,
            condition,
            advantages,
            policy=self._policy_velocity,
            reference=self._reference_velocity if config.kl_beta else None,
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

    def _forward_grpo(
        self, rollout: Rollout, rows: torch.Tensor, advantages: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        config, model = self.config, self.model
        clean, condition = rollout.latents[rows], rollout.condition.take(rows)
        sigma = random_sigmas(len(rows), model.shift, generator).to(model.device)
        noise = torch.randn(clean.shape, generator=generator).to(model.device)
        level = sigma.view(-1, 1, 1, 1, 1)
        noised = (1 - level) * clean + level * noise
        with torch.no_grad(), using(model.transformer, self.state.extra[SAMPLING]):
            sampling_velocity = model.velocity(noised, sigma, condition)
        reference = self._reference_velocity(noised, sigma, condition) if config.anchor else None
        result = forward_grpo_loss(
            clean,
            noised,
            sigma,
            good_share(advantages, config.advantage_scale),
            velocity=self._policy_velocity(noised, sigma, condition),
            sampling_velocity=sampling_velocity,
            reference_velocity=reference,
            mask=model.mask(clean),
            anchor=config.anchor,
        )
        return result.loss, {"anchor": result.anchor}

    def _policy_velocity(self, x: torch.Tensor, sigma: torch.Tensor | float, condition: Condition) -> torch.Tensor:
        with self.accelerator.autocast():
            return self.model.velocity(x, sigma, condition, self.policy)

    @torch.no_grad()
    def _reference_velocity(self, x: torch.Tensor, sigma: torch.Tensor | float, condition: Condition) -> torch.Tensor:
        with using(self.model.transformer, self.reference):
            return self.model.velocity(x, sigma, condition)

    def _after_update(self) -> None:
        """Move the averaged weights, and forward_grpo's sampling policy, towards the trained ones."""
        config, transformer = self.config, self.model.transformer
        move_towards(self.state.ema, transformer, 1 - config.ema_decay)
        if config.objective == "forward_grpo":
            move_towards(self.state.extra[SAMPLING], transformer, 1 - config.forward_decay)

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
        if self.config.objective == "forward_grpo":
            self.state.extra[SAMPLING] = copy_weights(transformer)
        return ""

    def _save(self) -> str:
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
