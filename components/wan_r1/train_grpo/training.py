"""The loop of reinforcement learning: roll out groups, verify them, compare within each group, update.

Top-down: `GrpoTrainer.run` is the loop, `_iterate` one iteration; the two objectives are `flow_grpo.py` and
`forward_grpo.py`. Randomness derives from (seed, iteration): a resumed run draws what the stopped one would have.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator

from wan_r1.progress import Progress
from wan_r1.rewards import get_reward
from wan_r1.rewards.judge import VideoJudge
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.curriculum import Curriculum, balancing_weights, kind_of
from wan_r1.train_grpo.flow_grpo import FlowGrpo
from wan_r1.train_grpo.forward_grpo import ForwardGrpo
from wan_r1.train_grpo.logged import logged_of
from wan_r1.train_grpo.minibatches import Batch, idle_on, minibatches
from wan_r1.train_grpo.replay import Replay, successes_of, with_views
from wan_r1.train_grpo.rollouts import Prompts, Rollout, roll_out
from wan_r1.train_grpo.stitching import Stitched, stitch
from wan_r1.training.backward import backward
from wan_r1.training.compute import ComputeClock
from wan_r1.training.eviction import Evicted, Eviction
from wan_r1.training.processes import Processes
from wan_r1.training.randomness import numpy_generator, torch_generator
from wan_r1.training.sharding import shard
from wan_r1.training.state import TrainingDiverged, TrainingState, resume_state, save_state
from wan_r1.training.validation import Validation, validate
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.sampling import Transition, ode_sample
from wan_r1.video_model.schedule import sigma_grid
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import copy_weights, move_towards, trainable, using

REPLAY, CURRICULUM = "replay", "curriculum"
"""Names of the replayed successes and of the success rates in the saved state."""


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
        stopped: why training stopped before its last iteration, empty if it did not.
    """

    config: TrainGrpoConfig
    model: VideoModel
    prompts: Prompts
    validation: Sequence[Task]
    prefix: str
    judge: VideoJudge | None = None
    state: TrainingState = field(default_factory=TrainingState)
    stopped: str = ""
    pool: ProcessPoolExecutor | None = field(default=None, init=False)

    def run(self, on_validation: Callable[[int, Validation], None] = lambda step, result: None) -> str:
        """Train to the end and return the URI of the last checkpoint.

        Raises:
            ConfigError: if the prompts do not divide among the processes.
            TrainingDiverged: if loss or gradient is not finite.
            Evicted: after SIGTERM, with what was learned saved.
        """
        config, model = self.config, self.model
        self.prepare()
        compute = ComputeClock(model.device, self.state.core_seconds if self.processes.first else 0.0)
        saved_step = self.state.step
        # The reward is named, since the arms of a comparison run beside each other.
        with (
            Eviction(self.processes) as eviction,
            self._reward_pool() as self.pool,
            Progress(
                f"{config.STAGE}:{config.reward}",
                total=config.iterations,
                start=self.state.step,
                quiet=not self.processes.first,
            ) as progress,
        ):
            try:
                # For a run that ended between an iteration and its validation.
                self._validate_if_due(on_validation)
                while self.state.step < config.iterations and not self.stopped:
                    entry = self._one(compute, eviction, on_validation)
                    shown = ("reward", "verified_reward", "em", "em_harder")
                    progress.update(self.state.step, **{name: entry[name] for name in shown if name in entry})
                    done = self.state.step == config.iterations or bool(self.stopped)
                    if self.state.step % config.checkpoint_every == 0 or done:
                        self.last_good, saved_step = self._save(), self.state.step
            except Evicted:
                if saved_step != self.state.step:
                    self.last_good = self._save()
                progress.note(
                    f"ended by SIGTERM after iteration {self.state.step}; saved: {self.last_good or 'nothing yet'}"
                )
                raise
        for name, parameter in trainable(model.transformer).items():
            parameter.data.copy_(self.state.ema[name])
        return self.last_good

    def prepare(self) -> None:
        """Adapter, optimizer and objective, with the state of a run that stopped laid over them; `run` begins with it.

        Raises:
            ConfigError: if the prompts do not divide among the processes.
        """
        config, model = self.config, self.model
        self.accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision=config.precision)
        self.processes = Processes(self.accelerator)
        self.processes.require_share("grpo_prompts_per_iteration", config.prompts_per_iteration)
        self.reward = get_reward(config.reward)
        ensure_lora(model.transformer, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
        if config.data_parallel == "fsdp2":
            shard(model, self.processes)
        self.grid = sigma_grid(config.rollout_steps, model.shift)
        # The starting policy, before a resumed state is laid over it. With LoRA this copies the adapter alone.
        self.reference = copy_weights(model.transformer)
        optimizer = torch.optim.AdamW(
            trainable(model.transformer).values(), lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.99)
        )
        # Gradients are added up by `Processes`, so that a batch may be spread over cores in each of them.
        self.policy = self.accelerator.prepare_model(model.transformer, evaluation_mode=True)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.last_good = self._resume_or_start()
        self.replay = Replay.from_state(self.state.extra.get(REPLAY, {}))
        self.curriculum = Curriculum(floor=config.curriculum_floor)
        self.curriculum.load(self.state.extra.get(CURRICULUM, {}))
        self.balance = np.ones(len(self.prompts.tasks))
        if config.length_balance:
            self.balance = balancing_weights(self.prompts.tasks, config.length_balance)
        common = {
            "config": config,
            "model": model,
            "policy": self.policy,
            "reference": self.reference,
            "grid": self.grid,
            "processes": self.processes,
            "idle": idle_on(self.prompts, model, self.policy, self.processes),
        }
        self.objective: FlowGrpo | ForwardGrpo = (
            FlowGrpo(**common)
            if config.objective == "flow_grpo"
            else ForwardGrpo(**common, state=self.state, prompts=self.prompts, replay=self.replay)
        )

    def _one(
        self, compute: ComputeClock, eviction: Eviction, on_validation: Callable[[int, Validation], None]
    ) -> dict[str, float]:
        """One iteration with its bookkeeping and, when it is due, its validation; returns what is logged."""
        config, state = self.config, self.state
        rollout, stitched = None, None
        with compute.running():
            chosen, generator = self.draw_prompts()
            if state.step >= config.warmup_iterations:
                rollout = self.roll_out(chosen, generator)
                if config.stitches and isinstance(self.objective, ForwardGrpo):
                    stitched = self.stitch(rollout, generator)
        with eviction.deferred():
            with compute.running():
                entry = self.warm_up(generator) if rollout is None else self.learn(rollout, generator, stitched)
            state.step += 1
            state.core_seconds = self.processes.total(compute.seconds)
            entry |= {"iteration": state.step, "core_seconds": state.core_seconds}
            state.log.append(entry)
        self._validate_if_due(on_validation)
        if config.stop_kl and entry.get("kl", 0.0) > config.stop_kl:
            self.stopped = f"KL {entry['kl']:.4g} rose above grpo_stop_kl"
        return entry

    def _validate_if_due(self, on_validation: Callable[[int, Validation], None]) -> None:
        """Validate the averaged weights if it is time, and log it with the last iteration."""
        config, state = self.config, self.state
        if not state.log or state.step % config.validate_every or "validation_mf" in state.log[-1]:
            return
        with using(self.model.transformer, state.ema):
            result = validate(
                self.model, self.validation, steps=config.rollout_steps, seed=config.seed, processes=self.processes
            )
        entry = {f"validation_em/{family}": value for family, value in result.em.items()}
        state.log[-1] |= entry | {"validation_mf": result.mean_mf}
        on_validation(state.step, result)
        if result.mean_mf < config.stop_fidelity:
            self.stopped = f"validation fidelity {result.mean_mf:.4f} fell below grpo_stop_fidelity"

    def draw_prompts(self) -> tuple[np.ndarray, torch.Generator]:
        """Levels of this iteration, of all processes, and the generator of all else that it draws."""
        config, step = self.config, self.state.step
        rng = numpy_generator(config.seed, config.STAGE, "prompts", step)
        weights = None
        if config.curriculum_floor < 1 or config.length_balance:
            weights = self.balance * self.curriculum.weights(self.prompts.tasks)
        chosen = self.prompts.draw(config.prompts_per_iteration, config.harder_share, rng, weights)
        return chosen, torch_generator(config.seed, config.STAGE, "rollout", step, 0)

    def roll_out(self, chosen: np.ndarray, generator: torch.Generator) -> Rollout:
        """This process's groups. Whole groups go to a process, and every one draws the noise of all."""
        config, model, objective = self.config, self.model, self.objective
        latent = self.prompts.first_latents.shape
        frames = model.latent_frames(self.prompts.tasks[0].frames)
        starts = len(chosen) * (1 if config.shared_noise else config.group_size)
        noise = torch.randn(starts, latent[1], frames, *latent[3:], generator=generator)
        if config.shared_noise:
            noise = noise.repeat_interleave(config.group_size, 0)
        stochastic, z = objective.draw(len(chosen), noise.shape, self.state.step, generator)
        groups = self.processes.share(len(chosen))
        rows = (groups[:, None] * config.group_size + torch.arange(config.group_size)).reshape(-1)
        stochastic, z = stochastic[groups].repeat_interleave(config.group_size, 0), z[:, rows]

        def sampler(noise: torch.Tensor, condition: Condition, part: slice) -> tuple[torch.Tensor, list[Transition]]:
            with self.accelerator.autocast():
                return objective.sample(noise, condition, stochastic[part], z[:, part])

        with using(model.transformer, objective.sampling_weights):
            return roll_out(
                model,
                self.prompts,
                chosen[groups.numpy()],
                group_size=config.group_size,
                noise=noise[rows],
                sampler=sampler,
                reward=self.reward,
                judge=self.judge,
                chunk=config.micro_batch,
                pool=self.pool,
            )

    def warm_up(self, generator: torch.Generator) -> dict[str, float]:
        """The updates of an iteration without a rollout; returns what is logged."""
        assert isinstance(self.objective, ForwardGrpo), "only forward_grpo learns from demonstrations"
        begin, objective = time.perf_counter(), self.objective
        steps = (objective.demonstrations(generator) for _ in range(self.config.minibatches))
        entry = self._update(steps, [])
        return self.processes.means(entry | {"seconds_update": time.perf_counter() - begin})

    def stitch(self, rollout: Rollout, generator: torch.Generator) -> Stitched:
        """Go on from where this process's groups fail; every process draws the noise of all."""
        config, model = self.config, self.model
        groups, latent = self.processes.share(config.prompts_per_iteration), rollout.latents.shape[1:]
        noise = torch.randn(config.stitches, config.prompts_per_iteration, *latent, generator=generator)[:, groups]

        def sampler(noise: torch.Tensor, condition: Condition) -> torch.Tensor:
            with self.accelerator.autocast():
                return ode_sample(model, noise, condition, self.grid)

        with using(model.transformer, self.objective.sampling_weights):
            return stitch(
                model,
                self.prompts,
                rollout,
                noise=noise,
                sampler=sampler,
                reward=self.reward,
                processes=self.processes,
                judge=self.judge,
                chunk=config.micro_batch,
            )

    def learn(self, rollout: Rollout, generator: torch.Generator, stitched: Stitched | None = None) -> dict[str, float]:
        """The updates of one rollout; returns what is logged, over all processes."""
        config, begin = self.config, time.perf_counter()
        advantages = group_advantages(
            self.gathered(rollout.rewards),
            config.advantage_clip,
            config.least_std,
            spread=config.advantage_std,
            best_and_worst=config.best_and_worst,
        )
        entry = logged_of(rollout, stitched)
        if config.curriculum_floor < 1:
            outcomes = [(kind_of(task), float(v.em)) for task, v in zip(rollout.tasks, rollout.verdicts, strict=True)]
            self.curriculum.learn(self.processes.everyones(outcomes))
        least = 0
        learning = bool(advantages.mixed.any())
        if isinstance(self.objective, ForwardGrpo):
            if config.replay_batch:
                seeds = (config.seed, config.STAGE, self.state.step)
                found = successes_of(rollout) + (stitched.successes if stitched else [])
                successes = with_views(found, config.views, self.model, self.prompts, *seeds)
                self.replay.keep(self.processes.everyones(successes))
                entry["replay_levels"] = float(len(self.replay))
            # Fewer successes than `replay_levels` would be learned by heart: until then, only look for more.
            least = config.minibatches if self.objective.has_known_solutions else 0
            learning = bool(least) or (learning and not config.replay_levels)
        if learning:
            dealt = minibatches(
                config, advantages, self.processes, generator=generator, device=self.model.device, least=least
            )
            steps = (self.objective.batches(rollout, minibatch, generator) for minibatch in dealt)
            entry |= self._update(steps, rollout.tasks)
        entry["seconds_update"] = time.perf_counter() - begin
        return self.processes.means(entry) | {"zero_std_groups": advantages.zero_std_groups}

    def gathered(self, rewards: np.ndarray) -> np.ndarray:
        """The rewards of all processes' groups in the order in which the groups were drawn."""
        parts = self.processes.everyones([rewards])
        whole = np.empty((sum(len(part) for part in parts), rewards.shape[1]), rewards.dtype)
        for rank, part in enumerate(parts):
            whole[rank :: len(parts)] = part
        return whole

    def _update(self, steps: Iterable[Iterable[Callable[[], Batch]]], tasks: Sequence[Task]) -> dict[str, float]:
        """Optimizer steps, each of its batches; returns means of what is logged."""
        config = self.config
        parameters = list(trainable(self.model.transformer).values())
        logged: list[dict[str, float]] = []
        self.policy.train()
        for batches in steps:
            self.optimizer.zero_grad()
            for prepare in batches:
                batch = prepare()
                logged.append(
                    backward(
                        self.accelerator,
                        self.model.cores,
                        batch.loss,
                        batch.size,
                        parameters,
                        scale=batch.weight,
                        micro_batch=config.micro_batch,
                        idle=batch.idle,
                    )
                )
            self.processes.add_gradients(parameters)
            norm = self.processes.clip_gradients(parameters, config.max_grad_norm)
            self._check_finite(logged[-1].get("loss", 0.0), norm, tasks)
            logged.append({"grad_norm": norm})
            self.optimizer.step()
            move_towards(self.state.ema, self.model.transformer, 1 - config.ema_decay)
        names = {name for values in logged for name in values}
        means = {name: float(np.mean([values[name] for values in logged if name in values])) for name in names}
        if logged and "ratio_mean" in logged[0]:
            means["ratio_first"] = logged[0]["ratio_mean"]
        return means

    def _check_finite(self, loss: float, norm: float, tasks: Sequence[Task]) -> None:
        if not (math.isfinite(loss) and math.isfinite(norm)):
            levels = ", ".join(dict.fromkeys(task.level_id for task in tasks)) or "of demonstrations"
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
        self.state.extra[REPLAY] = self.replay.state()
        self.state.extra[CURRICULUM] = self.curriculum.state()
        return save_state(
            self.prefix,
            self.state,
            self.model.transformer,
            self.optimizer,
            lora_rank=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            processes=self.processes,
        )

    @contextmanager
    def _reward_pool(self) -> Iterator[ProcessPoolExecutor | None]:
        """The processes that verify; started afresh, since a fork would copy torch's threads and its GPU."""
        if not self.config.reward_workers:
            yield None
            return
        with ProcessPoolExecutor(self.config.reward_workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
