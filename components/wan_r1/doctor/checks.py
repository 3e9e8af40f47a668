"""The checks: the field's list for telling a fault from bad tuning, each with the number that it saw.

The list is what users of the peers are told again and again (Flow-GRPO #226, DanceGRPO #57): the ratio is 1 before an
update, no noise gives the ODE, a trivial reward rises.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wan_r1.doctor.findings import Finding
from wan_r1.rewards import RewardInputs, RewardOutput, get_reward
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.advantages import group_advantages
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_grpo.flow_grpo import FlowGrpo
from wan_r1.train_grpo.minibatches import minibatches
from wan_r1.train_grpo.rollouts import Prompts, Rollout
from wan_r1.train_grpo.training import GrpoTrainer
from wan_r1.training.backward import backward
from wan_r1.training.randomness import torch_generator
from wan_r1.verification import verify
from wan_r1.video_model.sampling import ode_sample, sde_rollout
from wan_r1.video_model.wan import VideoModel
from wan_r1.video_model.weights import copy_weights, trainable, using

ITERATIONS = 20
"""Of the trivial reward."""


def brightness(inputs: RewardInputs) -> RewardOutput:
    """Mean brightness of the generated frames, 0 to 1: a reward that any policy can raise."""
    mean = inputs.videos[:, 1:].reshape(len(inputs.videos), -1).mean(1) / 255
    return RewardOutput(reward=mean.astype(np.float32), components={})


def all_checks(
    config: TrainGrpoConfig, model: VideoModel, known: Sequence[Task], harder: Sequence[Task], scratch: Path
) -> Iterator[Finding]:
    """Every check in turn, the cheap ones first.

    Args:
        config: of the planned run.
        model: that it starts from; the last checks train it.
        known: demonstrated levels.
        harder: levels without demonstrations.
        scratch: folder for checkpoints.
    """
    yield codec_keeps_references(model, known)
    demonstrations = config.demonstration_batch > 0
    prompts = Prompts.encode(model, known, harder, videos=demonstrations, views=config.views, seed=config.seed)
    count = min(config.prompts_per_iteration, len(harder) if config.harder_share == 1 else len(known))
    # Validation would tell nothing here.
    # The checks share one model, which can be sharded only once.
    config = replace(
        config, prompts_per_iteration=count, validate_every=10**9, checkpoint_every=10**9, data_parallel="ddp"
    )

    def trainer(name: str, **changes: Any) -> GrpoTrainer:
        made = GrpoTrainer(
            config=replace(config, **changes), model=model, prompts=prompts, validation=[], prefix=str(scratch / name)
        )
        made.prepare()
        return made

    planned = trainer("planned")
    rollout = planned.roll_out(*_drawn(planned))
    yield groups_are_mixed(planned, rollout)
    # What the SDE rests on; the forward process has no log-prob that could be wrong.
    stochastic = trainer("stochastic", objective="flow_grpo", reward=BRIGHTNESS, least_std=0.0, minibatches=1)
    yield no_noise_is_the_ode(stochastic)
    yield from replay_is_the_rollout(stochastic)
    yield gradients_arrive(stochastic)
    trivial = _TRIVIAL | _telling_groups(config, stochastic.processes.count)
    yield a_trivial_reward_rises(trainer("trivial", reward=BRIGHTNESS, least_std=0.0, **trivial))
    yield processes_agree(stochastic)


BRIGHTNESS = f"{__name__}:brightness"

_TRIVIAL: dict[str, Any] = {
    "iterations": ITERATIONS,
    "replay_batch": 0,
    "replay_levels": 0,
    "stitches": 0,
    "warmup_share": 0.0,
    "demonstration_batch": 0,
    "kl_beta": 0.0,
    "anchor": 0.0,
    "stop_fidelity": 0.0,
    "stop_kl": 0.0,
}


GROUP = 8
"""Videos a prompt from which a trivial reward is learned. Two of them, as the preset `tiny` has, tell little more than
noise in so few iterations."""


def _telling_groups(config: TrainGrpoConfig, processes: int) -> dict[str, int]:
    """About as many videos as planned, in groups of 8 at least, so many that they divide among the processes."""
    size = max(GROUP, config.group_size)
    groups = round(config.prompts_per_iteration * config.group_size / size / processes)
    return {"group_size": size, "prompts_per_iteration": max(1, groups) * processes}


def _drawn(trainer: GrpoTrainer) -> tuple[np.ndarray, torch.Generator]:
    return trainer.draw_prompts()


def codec_keeps_references(model: VideoModel, known: Sequence[Task]) -> Finding:
    """Reference videos earn the paper's reward after encoding and decoding."""
    tasks = [task for task in known if task.video is not None]
    videos = model.decode(model.encode_videos(np.stack([task.video for task in tasks if task.video is not None])))
    inputs = RewardInputs(videos=videos, tasks=tasks, verdicts=verify(videos, tasks))
    rewards = get_reward("trajectory")(inputs).reward
    share = float((rewards >= 0.99).mean())
    return Finding(
        check="reference videos through the codec",
        seen=f"{share:.3f} of {len(tasks)} get a reward of .99 or more, the worst {rewards.min():.3f}",
        wanted="at least .99",
        good=share >= 0.99,
        remedy="the codec loses what is verified: a larger picture, a finer codec, or larger cells",
    )


def groups_are_mixed(trainer: GrpoTrainer, rollout: Rollout) -> Finding:
    """Some videos of a group earn more than others; where none does, there is nothing to learn."""
    config = trainer.config
    share = 1 - group_advantages(rollout.rewards, config.advantage_clip, config.least_std).zero_std_groups
    return Finding(
        check=f"groups with different rewards ({config.reward})",
        seen=f"{share:.2f} of {len(rollout.rewards)}, mean reward {rollout.rewards.mean():.3f}",
        wanted="at least .10",
        good=share >= 0.1,
        remedy=f"start from SFT with exact match .3 to .5 (here: {np.mean([v.em for v in rollout.verdicts]):.2f}), "
        "raise grpo_group_size, lower grpo_harder_share, or, with flow_grpo, raise grpo_sde_noise",
    )


def no_noise_is_the_ode(trainer: GrpoTrainer) -> Finding:
    """The stochastic sampler without noise gives the videos of the deterministic one."""
    model, config = trainer.model, trainer.config
    chosen, generator = _drawn(trainer)
    condition = trainer.prompts.condition(chosen)
    latent = trainer.prompts.first_latents.shape
    frames = model.latent_frames(trainer.prompts.tasks[0].frames)
    noise = torch.randn(len(chosen), latent[1], frames, *latent[3:], generator=generator).to(model.device)
    steps = torch.tensor(config.sde_window).expand(len(chosen), -1)
    z = torch.randn(steps.shape[1], *noise.shape, generator=generator)
    with trainer.accelerator.autocast():
        plain = ode_sample(model, noise, condition, trainer.grid)
        noiseless, _ = sde_rollout(
            model, noise, condition, trainer.grid, stochastic=steps, z=z, kind="flow_grpo", noise_scale=0.0
        )
    # Against the spread of the latents: their unit is the codec's.
    difference = float((plain - noiseless).abs().max() / plain.std())
    return Finding(
        check="the SDE without noise is the ODE",
        seen=f"largest difference {difference:.1e} of the latents' spread",
        wanted="at most 1e-4",
        good=difference <= 1e-4,
        remedy="the step's mean is wrong, or its arithmetic is not float32",
    )


def replay_is_the_rollout(trainer: GrpoTrainer) -> Iterator[Finding]:
    """Log-probs computed again for the update equal those of the rollout, so that the ratio is 1 before any update."""
    config, rollout = trainer.config, trainer.roll_out(*_drawn(trainer))
    logged = _backward(trainer, rollout)
    ratio, spread = logged["ratio_mean"], logged["ratio_std"]
    off = abs(ratio - 1) + spread
    yield Finding(
        check="the ratio is 1 before the first update",
        seen=f"mean {ratio:.6f}, spread {spread:.1e}, {logged['clip_fraction']:.2f} of the videos clipped",
        wanted=f"1 within a tenth of grpo_clip_range ({config.clip_range / 10:.1e}), none clipped",
        good=off <= config.clip_range / 10 and logged["clip_fraction"] == 0,
        remedy="rollout and update differ in dtype, batch, autocast or attention: grpo_precision=no, or the same "
        "grpo_micro_batch in both, or a wider grpo_clip_range",
    )


def gradients_arrive(trainer: GrpoTrainer) -> Finding:
    """Every trainable weight gets a gradient."""
    parameters = trainable(trainer.model.transformer)
    reached = {name for name, p in parameters.items() if p.grad is not None and bool(p.grad.abs().max() > 0)}
    # The first matrix of a fresh adapter has none while the second is zero.
    waiting = {name for name in parameters if "lora_A" in name and name.replace("lora_A", "lora_B") in reached}
    missing = sorted(parameters.keys() - reached - waiting)
    trainer.model.transformer.zero_grad(set_to_none=True)
    return Finding(
        check="gradients reach the trained weights",
        seen=f"{len(reached)} of {len(parameters)} tensors; {len(waiting - reached)} wait for the adapter's other half",
        wanted="all",
        good=not missing,
        remedy=f"no gradient in {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}: frozen, or cut off by "
        "no_grad or checkpointing",
    )


def a_trivial_reward_rises(trainer: GrpoTrainer) -> Finding:
    """Brightness, which any policy can raise, rises in a few iterations of the planned run's settings.

    The same levels from the same noise are compared before and after, since levels differ more than policies do.
    """
    transformer, before = trainer.model.transformer, copy_weights(trainer.model.transformer)
    first = trainer.roll_out(*_drawn(trainer)).rewards.reshape(-1)
    trainer.run()
    trainer.state.step = 0
    with using(transformer, trainer.state.ema):
        gain = trainer.roll_out(*_drawn(trainer)).rewards.reshape(-1) - first
    for name, parameter in trainable(transformer).items():
        parameter.data.copy_(before[name])
    error = float(gain.std() / np.sqrt(len(gain)))
    return Finding(
        check=f"a trivial reward (brightness) rises within {ITERATIONS} iterations",
        seen=f"by {gain.mean():+.4f} from {first.mean():.4f}, standard error {error:.1e} ({len(gain)} videos)",
        wanted="at least three standard errors",
        good=bool(gain.mean() >= 3 * error > 0),
        remedy="raise grpo_learning_rate or grpo_prompts_per_iteration, lower grpo_ema_decay; if it falls, the sign of "
        "the advantage or of the velocity is wrong",
    )


def processes_agree(trainer: GrpoTrainer) -> Finding:
    """After an update all processes have the same weights."""
    rollout = trainer.roll_out(*_drawn(trainer))
    _backward(trainer, rollout)
    trainer.optimizer.step()
    digest = hashlib.sha256()
    for tensor in copy_weights(trainer.model.transformer).values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    found = trainer.processes.everyones([digest.hexdigest()[:12]])
    return Finding(
        check="processes have the same weights after an update",
        seen=f"{len(set(found))} different among {len(found)}" if len(found) > 1 else "one process",
        wanted="no difference",
        good=len(set(found)) == 1,
        remedy="gradients are not added up: start all processes with one `accelerate launch`, on like devices",
    )


def _backward(trainer: GrpoTrainer, rollout: Rollout) -> dict[str, float]:
    """The gradient of one update without taking it; means of what is logged."""
    config, objective = trainer.config, trainer.objective
    assert isinstance(objective, FlowGrpo)
    advantages = group_advantages(trainer.gathered(rollout.rewards), config.advantage_clip, config.least_std)
    generator = torch_generator(config.seed, "doctor")
    parameters = list(trainable(trainer.model.transformer).values())
    logged: list[dict[str, float]] = []
    trainer.policy.train()
    trainer.optimizer.zero_grad()
    minibatch = next(
        minibatches(config, advantages, trainer.processes, generator=generator, device=trainer.model.device, least=1)
    )
    for prepare in objective.batches(rollout, minibatch, generator):
        batch = prepare()
        logged.append(
            backward(
                trainer.accelerator,
                trainer.model.cores,
                batch.loss,
                batch.size,
                parameters,
                scale=batch.weight,
                micro_batch=config.micro_batch,
            )
        )
    trainer.processes.add_gradients(parameters)
    return {name: float(np.mean([one[name] for one in logged])) for name in logged[0]}
