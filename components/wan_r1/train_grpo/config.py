"""Parameters of reinforcement learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wan_r1.training.placement import PlacedConfig

OBJECTIVES = ("flow_grpo", "forward_grpo")
WINDOW_MOVES = ("fixed", "sliding", "random")
STEP_WEIGHTINGS = ("equal", "gradient_scale")
SPREADS = ("group", "global", "none")


@dataclass(frozen=True, kw_only=True)
class TrainGrpoConfig(PlacedConfig):
    """Group-relative policy optimisation with verified rewards."""

    STAGE: ClassVar[str] = "train_grpo"
    PREFIX: ClassVar[str] = "grpo_"
    DEALT: ClassVar[str] = "prompts_per_iteration"

    reward: str = "trajectory"
    """A name from `wan_r1.rewards.REWARDS`, or `module:function`."""
    objective: str = "flow_grpo"
    """`flow_grpo` (the paper: SDE rollouts, clipped ratio) or `forward_grpo` (forward process, ODE rollouts)."""
    iterations: int = 200
    """Rollout-and-update iterations."""
    group_size: int = 8
    """Videos per prompt, G (the paper's 8)."""
    prompts_per_iteration: int = 8
    """Prompts per iteration."""
    harder_share: float = 0.5
    """Share of prompts from the split `prompts`: harder levels without any demonstration."""
    curriculum_floor: float = 1.0
    """Least weight of a kind of level (family, length of its solution) when prompts are drawn, against 1 for a kind
    that is solved half of the time; 1 draws all levels alike."""
    epochs: int = 1
    """Passes over the groups of a rollout."""
    minibatches: int = 1
    """Optimizer steps per pass, each on its share of the groups."""
    learning_rate: float = 1e-4
    """AdamW's (the paper's 1e-4)."""
    max_grad_norm: float = 1.0
    """Gradient norm that is clipped to."""
    rollout_steps: int = 30
    """Denoising steps of a rollout; fewer than in evaluation (denoising reduction; the paper trains with 30)."""
    sde_window: tuple[int, ...] = (0, 1)
    """flow_grpo: steps that take noise and gradients, early ones, the same for every group."""
    sde_window_moves: str = "fixed"
    """flow_grpo: `fixed`, `sliding` (MixGRPO: on by one step every `sde_window_every` iterations) or `random`
    (Flash-GRPO: one step of the window a group)."""
    sde_window_every: int = 25
    """flow_grpo: iterations that a sliding window stays."""
    step_weighting: str = "equal"
    """flow_grpo: weight of a step: `equal`, or `gradient_scale` (Flash-GRPO: one over how strongly the step's log-prob
    depends on the velocity)."""
    shared_noise: bool = False
    """flow_grpo: whether the videos of a group start from the same noise (DanceGRPO)."""
    sde_kind: str = "flow_grpo"
    """flow_grpo: diffusion coefficient: flow_grpo, dance_grpo, wan or cps."""
    sde_noise: float = 0.5
    """flow_grpo: noise scale a (the paper's 0.5)."""
    clip_range: float = 1e-3
    """flow_grpo: the ratio is clipped to 1 +- this (log-probs are means over elements, so ratios stay near 1)."""
    guarded_ratio: bool = False
    """flow_grpo: whether the ratio is normalised as in GRPO-Guard, whose clip range is about 2e-6."""
    advantage_std: str = "group"
    """What rewards are divided by: the standard deviation of their `group`, the `global` one, or `none` (Dr.GRPO)."""
    best_and_worst: int = 0
    """Videos of a group that are learned from, half of them its best and half its worst (DanceGRPO); 0 takes all."""
    advantage_clip: float = 5.0
    """Advantages are clipped to +- this."""
    least_std: float = 0.002
    """Standard deviation of a group's rewards up to which it counts as equal and is skipped: videos that are alike but
    for their fidelity differ by about 0.001."""
    kl_beta: float = 0.04
    """flow_grpo: weight of the KL to the starting policy (the paper's 0.04)."""
    forward_sigmas: int = 2
    """forward_grpo: noise levels per video and update."""
    anchor: float = 0.1
    """forward_grpo: weight of the velocity's mean squared distance to the starting policy."""
    advantage_scale: float = 2.0
    """forward_grpo: advantage at which a video counts as wholly good or bad."""
    replay_batch: int = 0
    """forward_grpo: successes of this and earlier iterations that join each optimizer step, rarely solved levels first;
    0 replays none."""
    replay_levels: int = 0
    """forward_grpo: levels with a success before the first optimizer step; until then iterations only roll out."""
    stitches: int = 0
    """forward_grpo: rounds in which the policy goes on from the last right move of a group that has no success; joined
    videos that are successes are replayed (`wan_r1.train_grpo.stitching`); 0 makes none."""
    demonstration_batch: int = 0
    """forward_grpo: demonstrations that join each optimizer step (as pretraining data in InstructGPT's PPO-ptx)."""
    warmup_share: float = 0.0
    """forward_grpo: share of the iterations, the first ones, that learn from demonstrations alone and roll nothing out.
    A policy that replays its easiest successes before it can do anything else forgets what demonstrations teach."""
    length_balance: float = 0.0
    """How evenly a family's lengths of solutions share prompts, replays and demonstrations: 0 leaves lengths as
    frequent as they are, 1 makes all alike. Long ones are rare where they are hard, and are forgotten first."""
    views: int = 1
    """forward_grpo: pictures by which a demonstration or a success is learned from, 1 to 8: as it is, and turned or
    mirrored where that makes a level of the same family."""
    ema_decay: float = 0.98
    """Decay per optimizer step of the moving average of the weights, which is evaluated and saved; forward_grpo also
    samples from it."""
    lora_rank: int = 32
    """Rank of the LoRA adapter (the paper's 32); 0 trains all weights."""
    lora_alpha: float = 64.0
    """Scale of the adapter times its rank."""
    validate_every: int = 20
    """Iterations between validations."""
    validation_levels: int = 32
    """Validation levels per family."""
    stop_fidelity: float = 0.0
    """Maze fidelity on the validation split below which training stops; 0 never stops it."""
    stop_kl: float = 0.0
    """flow_grpo: KL to the starting policy above which training stops; 0 never stops it."""
    checkpoint_every: int = 40
    """Iterations between checkpoints."""
    micro_batch: int = 0
    """Videos that are sampled, decoded and verified, or passed forward and backward, at a time; 0 takes all at once."""
    reward_workers: int = 0
    """Processes that verify a micro-batch while the next one is sampled; 0 verifies in between."""
    judge_labels: int = 512
    """Rollouts of the starting policy that the judge learns from, when the reward is `judge`."""
    precision: str = "no"
    """Mixed precision of accelerate: no, bf16 or fp16."""

    @property
    def warmup_iterations(self) -> int:
        """Iterations that roll nothing out."""
        return int(self.warmup_share * self.iterations) if self.objective == "forward_grpo" else 0

    def validate(self) -> None:
        """Check ranges and names."""
        for field in (
            "iterations",
            "prompts_per_iteration",
            "epochs",
            "minibatches",
            "rollout_steps",
            "forward_sigmas",
            "validate_every",
            "validation_levels",
            "checkpoint_every",
            "sde_window_every",
        ):
            self.require(field, getattr(self, field) >= 1, "a whole number from 1")
        self.require("group_size", self.group_size >= 2, "at least 2: an advantage compares videos of one prompt")
        self.require("harder_share", 0 <= self.harder_share <= 1, "a share from 0 to 1")
        for field in ("learning_rate", "max_grad_norm", "clip_range", "advantage_clip", "advantage_scale", "sde_noise"):
            self.require(field, getattr(self, field) > 0, "a number above 0")
        for field in ("kl_beta", "anchor", "least_std"):
            self.require(field, getattr(self, field) >= 0, "a number from 0")
        self.require("ema_decay", 0 <= self.ema_decay < 1, "a number from 0 up to but not including 1")
        for field in ("replay_batch", "replay_levels", "stitches", "demonstration_batch"):
            self.require(field, getattr(self, field) >= 0, "a whole number from 0")
        self.require(
            "replay_levels",
            self.replay_levels == 0 or self.replay_batch > 0,
            "0 without grpo_replay_batch: nothing is kept that could be counted",
        )
        self.require(
            "stitches",
            self.stitches == 0 or self.replay_batch > 0,
            "0 without grpo_replay_batch: nothing would learn from them",
        )
        self.require(
            "warmup_share",
            self.warmup_share == 0 or (0 < self.warmup_share < 1 and self.demonstration_batch > 0),
            "a share from 0 to below 1, and 0 without grpo_demonstration_batch: nothing is there to warm up with",
        )
        self.require("length_balance", 0 <= self.length_balance <= 1, "a share from 0 to 1")
        self.require("views", 1 <= self.views <= 8, "a whole number from 1 to 8")
        self.require("lora_rank", self.lora_rank >= 0, "a whole number from 0 (0 trains all weights)")
        self.require("micro_batch", self.micro_batch >= 0, "a whole number from 0 (0 takes all videos at once)")
        self.require("reward_workers", self.reward_workers >= 0, "a whole number from 0 (0 verifies in between)")
        self.require(
            "reward_workers",
            self.reward_workers == 0 or self.micro_batch > 0,
            "0 without grpo_micro_batch: a rollout in one piece leaves nothing to do meanwhile",
        )
        self.require("judge_labels", self.judge_labels >= 64, "at least 64")
        self.require(
            "sde_window",
            len(self.sde_window) > 0 and all(0 <= step < self.rollout_steps for step in self.sde_window),
            f"steps from 0 to {self.rollout_steps - 1} (grpo_rollout_steps - 1)",
        )
        self.require(
            "sde_window_moves",
            self.sde_window_moves != "sliding" or max(self.sde_window) < self.rollout_steps - 1,
            "fixed or random, since the window already reaches the last step (its noise would stay in the video)",
        )
        self.require(
            "best_and_worst",
            self.best_and_worst % 2 == 0 and 0 <= self.best_and_worst <= self.group_size,
            f"an even number from 0 to {self.group_size} (grpo_group_size)",
        )
        self.require("curriculum_floor", 0 < self.curriculum_floor <= 1, "a number above 0 and up to 1")
        self.require("stop_fidelity", 0 <= self.stop_fidelity <= 1, "a share from 0 to 1")
        self.require("stop_kl", self.stop_kl >= 0, "a number from 0")
        self.require(
            "shared_noise",
            not (self.shared_noise and self.objective == "forward_grpo"),
            "false with forward_grpo: the ODE makes the same video of the same noise",
        )
        self.require_choice("objective", OBJECTIVES)
        self.require_choice("sde_window_moves", WINDOW_MOVES)
        self.require_choice("step_weighting", STEP_WEIGHTINGS)
        self.require_choice("advantage_std", SPREADS)
        self.require_choice("sde_kind", ("flow_grpo", "dance_grpo", "wan", "cps"))
        self.require_choice("precision", ("no", "bf16", "fp16"))
        super().validate()
        # Imported here: a reward's module may import torch, which a config must not cost.
        from wan_r1.rewards import get_reward

        try:
            get_reward(self.reward)
        except ValueError as error:
            self.require("reward", False, str(error))
