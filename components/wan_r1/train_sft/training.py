"""Supervised fine-tuning: regress the velocity on solution videos, the first latent frame clean.

Loss: mean over generated latents of ``|v_theta(x_sigma, sigma, c) - (noise - x0)|^2`` with
``x_sigma = (1 - sigma) x0 + sigma noise`` (flow matching; Wan-R1, arXiv 2603.27866, Eq. 1-3). With `motion_weight` the
mean is a weighted one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator

from wan_r1.progress import Progress
from wan_r1.tasks.dataset import Task
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.training.backward import backward
from wan_r1.training.compute import ComputeClock
from wan_r1.training.eviction import Evicted, Eviction
from wan_r1.training.processes import Processes
from wan_r1.training.randomness import torch_generator
from wan_r1.training.sharding import shard
from wan_r1.training.state import TrainingDiverged, TrainingState, resume_state, save_state
from wan_r1.training.validation import Validation, validate
from wan_r1.training.views import other_views
from wan_r1.video_model.lora import ensure_lora
from wan_r1.video_model.schedule import random_sigmas
from wan_r1.video_model.sde import masked_mean
from wan_r1.video_model.wan import Condition, VideoModel
from wan_r1.video_model.weights import copy_weights, move_towards, trainable, using

WARMUP_STEPS = 20
_CHANGED = 16
"""Levels of 0..255 by which a channel of a pixel must differ from the first frame to have changed."""


@dataclass(kw_only=True)
class Demonstrations:
    """Encoded solution videos.

    Attributes:
        latents: `[videos, channels, frames, height, width]`, normalised.
        moving: what differs from the first frame, bool `[videos, frames, height, width]` of the latents.
        prompt_embeds: `[prompts, tokens, width]`, the distinct ones.
        prompt_of: row of `prompt_embeds` of each video, `[videos]`.
        families: family of each video.
        level_ids: level of each video.
    """

    latents: torch.Tensor
    moving: torch.Tensor
    prompt_embeds: torch.Tensor
    prompt_of: torch.Tensor
    families: np.ndarray
    level_ids: list[str]

    @classmethod
    def encode(
        cls, model: VideoModel, tasks: Iterable[Task], progress: Progress, *, views: int = 1, seed: int = 0
    ) -> Demonstrations:
        """Encode every video once: the codec and the text encoder are frozen.

        Args:
            model: encodes.
            tasks: levels with their videos; of an iterator no more than 64 are held at a time, since a video of 81
                frames at 512 x 512 is 64 MB.
            progress: told how many are done.
            views: pictures of each level, see `wan_r1.training.views`.
            seed: of which views are taken.
        """
        remaining, latents, moving, facts = iter(tasks), [], [], []
        while part := list(itertools.islice(remaining, 64)):
            videos = []
            for task in part:
                shown = [_video(task), *other_views(_video(task), task.family, views - 1, seed, task.level_id)]
                videos += shown
                facts += [(task.prompt, task.family, task.level_id)] * len(shown)
            latents.append(model.encode_videos(np.stack(videos)).cpu())
            moving.append(moving_latents(np.stack(videos), latents[-1].shape))
            progress.note(f"encoding demonstrations: {len(facts)} done")
        prompts = sorted({prompt for prompt, _, _ in facts})
        return cls(
            latents=torch.cat(latents),
            moving=torch.cat(moving),
            prompt_embeds=model.encode_prompts(prompts),
            prompt_of=torch.tensor([prompts.index(prompt) for prompt, _, _ in facts]),
            families=np.array([family for _, family, _ in facts]),
            level_ids=[level_id for _, _, level_id in facts],
        )


def moving_latents(videos: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Which places of latents `[videos, channels, frames, height, width]` show what is not as in the first frame.

    Args:
        videos: frames uint8 `[videos, frames, height, width, 3]`; a latent after the first is of several frames.
        shape: of the latents.

    Returns:
        bool `[videos, frames, height, width]` of the latents, false in all of the first frame.
    """
    count, frames, height, width, _ = videos.shape
    _, _, latent_frames, rows, columns = shape
    changed = np.abs(videos.astype(np.int16) - videos[:, :1]).max(-1) > _CHANGED
    found = np.zeros((count, latent_frames, rows, columns), bool)
    if latent_frames > 1:
        later = changed[:, 1:].reshape(
            count,
            latent_frames - 1,
            (frames - 1) // (latent_frames - 1),
            rows,
            height // rows,
            columns,
            width // columns,
        )
        found[:, 1:] = later.any((2, 4, 6))
    return torch.from_numpy(found)


def _video(task: Task) -> np.ndarray:
    if task.video is None:
        raise ValueError(f"level {task.level_id} of split {task.split!r} has no video; demonstrations come from train")
    return task.video


@dataclass(kw_only=True)
class SftTrainer:
    """One run of supervised fine-tuning.

    Attributes:
        config: parameters.
        model: starts from its weights; holds the averaged weights at the end.
        demonstrations: what is learned.
        validation: levels whose exact match decides when to stop.
        prefix: URI prefix of the run's checkpoints.
        compute_budget: CPU seconds to train for instead of `config.steps` and `config.target_em`.
    """

    config: TrainSftConfig
    model: VideoModel
    demonstrations: Demonstrations
    validation: Sequence[Task]
    prefix: str
    compute_budget: float | None = None
    state: TrainingState = field(default_factory=TrainingState)

    def run(self, on_validation: Callable[[int, Validation], None] = lambda step, result: None) -> str:
        """Train to the end and return the URI of the last checkpoint.

        Raises:
            ConfigError: if the batch does not divide among the processes.
            TrainingDiverged: if loss or gradient is not finite.
            Evicted: after SIGTERM, with what was learned saved.
        """
        config, model = self.config, self.model
        accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision=config.precision)
        self.processes = Processes(accelerator)
        self.processes.require_share("sft_batch_size", config.batch_size)
        ensure_lora(model.transformer, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
        if config.data_parallel == "fsdp2":
            shard(model, self.processes)
        optimizer = torch.optim.AdamW(
            trainable(model.transformer).values(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.95),
        )
        # Gradients are added up by `Processes`, so that a batch may be spread over cores in each of them.
        transformer = accelerator.prepare_model(model.transformer, evaluation_mode=True)
        optimizer = accelerator.prepare(optimizer)
        uri = self._resume_or_start(model.transformer, optimizer)
        saved_step = self.state.step if uri else -1
        compute = ComputeClock(model.device, self.state.core_seconds if self.processes.first else 0.0)
        with (
            Eviction(self.processes) as eviction,
            Progress(
                config.STAGE, total=config.steps, start=self._done_steps(), quiet=not self.processes.first
            ) as progress,
        ):
            try:
                # A run that ended between a step and its validation makes up for it, or it would draw other videos.
                self._validate_if_due(on_validation)
                em, shares = min(self._last_em().values(), default=0.0), self._family_shares()
                while not self._finished(em):
                    state = self.state
                    with eviction.deferred():
                        with compute.running():
                            loss, norm = self._step(accelerator, transformer, optimizer, shares, uri)
                        state.step += 1
                        state.core_seconds = self.processes.total(compute.seconds)
                        entry = {"step": state.step, "loss": loss, "grad_norm": norm}
                        entry["core_seconds"] = state.core_seconds
                        state.log.append(entry)
                    self._validate_if_due(on_validation)
                    em, shares = min(self._last_em().values(), default=0.0), self._family_shares()
                    progress.update(self._done_steps(), loss=loss, em=em)
                    if state.step % config.checkpoint_every == 0:
                        uri, saved_step = self._save(model.transformer, optimizer), state.step
            except Evicted:
                if self.state.step and saved_step != self.state.step:
                    uri = self._save(model.transformer, optimizer)
                progress.note(f"ended by SIGTERM after step {self.state.step}; saved: {uri or 'nothing yet'}")
                raise
        if saved_step != self.state.step:
            uri = self._save(model.transformer, optimizer)
        for name, parameter in trainable(model.transformer).items():
            parameter.data.copy_(self.state.ema[name])
        return uri

    def _validate_if_due(self, on_validation: Callable[[int, Validation], None]) -> None:
        """Validate the averaged weights if it is time, and log it with the last step."""
        state, config = self.state, self.config
        if not state.log or state.step % self._validate_every or "mf" in state.log[-1]:
            return
        with using(self.model.transformer, state.ema):
            result = validate(
                self.model, self.validation, steps=config.validation_steps, seed=config.seed, processes=self.processes
            )
        state.log[-1] |= {f"em/{family}": value for family, value in result.em.items()} | {"mf": result.mean_mf}
        on_validation(state.step, result)

    @property
    def families(self) -> list[str]:
        """Families with demonstrations, sorted."""
        return sorted(set(self.demonstrations.families.tolist()))

    def _step(self, accelerator, transformer, optimizer, shares, last_good: str) -> tuple[float, float]:
        """One optimizer step; returns loss and gradient norm."""
        config, model, data = self.config, self.model, self.demonstrations
        generator = torch_generator(config.seed, config.STAGE, self.state.step)
        weights = torch.tensor([shares[family] for family in data.families], dtype=torch.float64)
        chosen = torch.multinomial(weights, config.batch_size, replacement=True, generator=generator)
        sigma = random_sigmas(config.batch_size, model.shift, generator)
        clean = data.latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        mine = self.processes.share(config.batch_size)
        clean, noise, sigma = (tensor[mine].to(model.device) for tensor in (clean, noise, sigma))
        condition = Condition(
            first_latent=clean[:, :, :1], prompt_embeds=data.prompt_embeds[data.prompt_of[chosen[mine]]]
        )
        level = sigma.view(-1, 1, 1, 1, 1)
        transformer.train()
        noised, mask = (1 - level) * clean + level * noise, model.mask(clean)
        # Weights where the mask is 1, so that their weighted mean is the loss.
        weight = mask * (1 + config.motion_weight * data.moving[chosen[mine]].to(mask)[:, None])

        def error(part: slice) -> tuple[torch.Tensor, dict[str, float]]:
            velocity = model.velocity(noised[part], sigma[part], condition.take(part), transformer)
            return masked_mean((velocity - (noise - clean)[part]) ** 2, weight[part]).mean(), {}

        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (self.state.step + 1) / WARMUP_STEPS)
        optimizer.zero_grad()
        parameters = list(trainable(model.transformer).values())
        loss = backward(accelerator, model.cores, error, len(clean), parameters, scale=len(clean) / config.batch_size)[
            "loss"
        ]
        loss = self.processes.means({"loss": loss})["loss"]
        self.processes.add_gradients(parameters)
        norm = self.processes.clip_gradients(parameters, config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            levels = ", ".join(data.level_ids[index] for index in chosen[:8].tolist())
            raise TrainingDiverged(
                f"step {self.state.step + 1}: loss {loss}, gradient norm {norm} (levels {levels}, ...); "
                f"last good checkpoint: {last_good or 'none'}; try a lower sft_learning_rate"
            )
        optimizer.step()
        move_towards(
            self.state.ema, model.transformer, 1 - min(config.ema_decay, (1 + self.state.step) / (10 + self.state.step))
        )
        return loss, norm

    def _family_shares(self) -> dict[str, float]:
        """Weight of each family's videos: the nearer a family is to the target, the fewer, so that all arrive together.

        Without a target, or under a compute budget, families count alike.
        """
        families, counts = np.unique(self.demonstrations.families, return_counts=True)
        target = self.config.target_em
        em = self._last_em()
        if not em or target == 1 or self.compute_budget is not None:
            return {family: 1.0 / count for family, count in zip(families, counts, strict=True)}
        missing = {family: max(0.0, 1 - em.get(family, 0.0) / target) for family in families}
        if not any(missing.values()):
            missing = dict.fromkeys(missing, 1.0)
        # Squared: families teach each other, so that a leading one goes on rising on few videos of its own. One that
        # has arrived waits; should it be forgotten meanwhile, its share comes back at the next validation.
        return {family: missing[family] ** 2 / count for family, count in zip(families, counts, strict=True)}

    @property
    def _validate_every(self) -> int:
        """Steps between validations: under a compute budget a curve alone depends on them, so a fifth as many."""
        return self.config.validate_every * (1 if self.compute_budget is None else 5)

    def _finished(self, em: float) -> bool:
        if self.compute_budget is not None:
            return self.state.core_seconds >= self.compute_budget
        reached = self.config.target_em < 1 and em >= self.config.target_em
        return reached or self.state.step >= self.config.steps

    def _done_steps(self) -> int:
        """Progress as steps: under a compute budget the share of the budget that is spent."""
        if self.compute_budget is None:
            return self.state.step
        return min(self.config.steps, int(self.config.steps * self.state.core_seconds / self.compute_budget))

    def _last_em(self) -> dict[str, float]:
        """Exact match by family at the last validation; read from the log, so that a resumed training knows it too."""
        for entry in reversed(self.state.log):
            em = {name.removeprefix("em/"): value for name, value in entry.items() if name.startswith("em/")}
            if em:
                return em
        return {}

    def _resume_or_start(self, transformer, optimizer) -> str:
        resumed = resume_state(self.prefix, transformer, optimizer)
        if resumed is None:
            self.state.ema = copy_weights(transformer)
            return ""
        self.state, uri = resumed
        print(f"{self.config.STAGE}  resumed at step {self.state.step} from {uri}", flush=True)
        return uri

    def _save(self, transformer, optimizer) -> str:
        return save_state(
            self.prefix,
            self.state,
            transformer,
            optimizer,
            lora_rank=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            processes=self.processes,
        )
