"""The stage train_grpo: read its inputs, fit the judge if it is the reward, train, and write what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wan_r1.progress import Progress
from wan_r1.runtime import StageClock
from wan_r1.storage import locations
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.training.inputs import checked_dataset, levels
from wan_r1.video_model.reference import ModelReference

JUDGE_REWARD = "judge"


def run(
    config: TrainGrpoConfig,
    *,
    dataset: Path,
    model: Path,
    storage_uri: str,
    output: Path,
    metrics: Path,
    report: Path,
    certificate: Path | None = None,
) -> dict:
    """Improve a model by reinforcement learning with the configured reward.

    Args:
        config: parameters.
        dataset: folder of Parquet shards; prompts come from the splits `train` and `prompts`; videos are used
            only with a ``demonstration_batch``.
        model: reference of the model to start from, which is also the KL's reference.
        storage_uri: where checkpoints go, below ``checkpoints/train_grpo/``.
        output: file for the trained model's reference.
        metrics: Parquet file for the log, one row an iteration.
        report: HTML file with the curves.
        certificate: of validate_tasks, for the data set.

    Returns:
        The stage's summary; of several processes (`accelerate launch`) only the first has all of it.

    Raises:
        InputError: if the data set is not the certified one or lacks a split.
        ModelFolderError: if the model is no Wan pipeline.
        StorageError: if the storage refuses.
        TrainingDiverged: if loss or gradient is not finite.
    """
    with StageClock(config.STAGE) as clock:
        locations.check_writable(storage_uri)
        start = ModelReference.read(model)
        sha256 = checked_dataset(dataset, certificate)
        demonstrations = config.demonstration_batch > 0
        needed = demonstrations or config.harder_share < 1
        known = levels(dataset, "train", videos=demonstrations) if needed else []
        harder = levels(dataset, "prompts", videos=False) if config.harder_share > 0 else []
        validation = levels(dataset, "validation", per_family=config.validation_levels, videos=False)
        # Imported late: wrong inputs are told before the seconds that torch and diffusers take.
        from wan_r1.train_grpo.judging import fit_judge_on_policy
        from wan_r1.train_grpo.rollouts import Prompts
        from wan_r1.train_grpo.training import GrpoTrainer
        from wan_r1.training.report import training_report, write_log
        from wan_r1.training.state import checkpoint_prefix
        from wan_r1.video_model.cores import use_cores
        from wan_r1.video_model.loading import load_video_model

        video_model = load_video_model(start)
        video_model.cores = use_cores(config.threads, video_model.device)
        video_model.encode_prompts([task.prompt for task in validation])
        with Progress(config.STAGE) as progress:
            progress.note(f"encoding the first frames of {len(known) + len(harder)} levels")
            prompts = Prompts.encode(
                video_model, known, harder, videos=demonstrations, views=config.views, seed=config.seed
            )
            judge = None
            if config.reward == JUDGE_REWARD:
                progress.note(f"fitting the judge on {config.judge_labels} rollouts of the starting policy")
                judge = fit_judge_on_policy(config, video_model, prompts)
        video_model.drop_text_encoder()
        trainer = GrpoTrainer(
            config=config,
            model=video_model,
            prompts=prompts,
            validation=validation,
            prefix=checkpoint_prefix(storage_uri, config, start, sha256),
            judge=judge,
        )
        uri = trainer.run()
        if not trainer.processes.first:
            # Of several processes one writes.
            return clock.summary()
        log, iterations, trained = trainer.state.log, trainer.state.step, trainer.state.core_seconds
        write_log(log, metrics)
        summary = {
            "reward_name": config.reward,
            "objective": config.objective,
            "iterations": iterations,
            "updates": updates(log),
            "core_seconds_trained": trained,
            "checkpoint_uri": uri,
            "config_hash": config.hash,
            "dataset_sha256": sha256,
            **_ends(log, "reward"),
            **_ends(log, "verified_reward"),
            **_ends(log, "em"),
            **_ends(log, "em_harder"),
        }
        if not summary["updates"]:
            summary["warning"] = why_unchanged(config, log)
            print(f"{config.STAGE}  WARNING: {summary['warning']}", flush=True)
        if trainer.stopped:
            summary["stopped"] = trainer.stopped
        if judge is not None:
            summary["judge_heldout_accuracy"] = judge.heldout_accuracy
            # An accuracy says nothing without what the commoner label alone would get.
            summary["judge_heldout_majority"] = judge.heldout_majority
        training_report(
            report,
            title=f"Reinforcement learning with the reward {config.reward}",
            log=log,
            step="iteration",
            plots=_plots(log),
            summary=summary,
            config=config,
        )
    summary = {**clock.summary(), **summary}
    start.with_(
        name="grpo" if config.reward == "trajectory" else f"grpo:{config.reward}",
        checkpoint_uri=uri,
        step=iterations,
        core_seconds=trained,
        trained_on=sha256,
        stage=summary,
    ).write(output)
    return summary


def updates(log: list[dict]) -> int:
    """Iterations that changed the model."""
    return sum("grad_norm" in entry for entry in log)


def why_unchanged(config: TrainGrpoConfig, log: list[dict]) -> str:
    """Why no iteration made an optimizer step, and what to change, in a sentence each."""
    unchanged = "no iteration changed the model, which is the starting policy still: "
    found = log[-1].get("replay_levels", 0.0) if log else 0.0
    if config.replay_levels > found:
        return (
            f"{unchanged}successes were found on {found:.0f} levels, and grpo_replay_levels={config.replay_levels} of "
            "them are waited for; lower it (0 learns from the first iteration on), or raise grpo_iterations"
        )
    return (
        f"{unchanged}the rewards of each group were equal within grpo_least_std={config.least_std}; raise "
        "grpo_group_size, or start from a policy that solves some levels and fails others"
    )


def _ends(log: list[dict], name: str, span: int = 10) -> dict[str, float]:
    """Means of a logged value over the first and the last iterations."""
    values = [entry[name] for entry in log if name in entry]
    if not values:
        return {}
    return {f"{name}_first": float(np.mean(values[:span])), f"{name}_last": float(np.mean(values[-span:]))}


def _plots(log: list[dict]) -> tuple:
    components = tuple(sorted({name for entry in log for name in entry if name.startswith("reward_")}))
    validation = tuple(sorted({name for entry in log for name in entry if name.startswith("validation_em/")}))
    return (
        ("Reward", "mean over videos", ("reward", "verified_reward")),
        ("Exact match of rollouts", "share of videos", ("em", "em_harder")),
        ("Components of the reward", "mean over videos", components),
        ("Validation", "share of levels", (*validation, "validation_mf")),
        ("Groups without variance", "share of groups", ("zero_std_groups",)),
        ("Ratio", "probability ratio", ("ratio_mean", "ratio_first")),
        ("Clipped", "share of videos", ("clip_fraction",)),
        ("Distance to the starting policy", "KL or velocity error", ("kl", "anchor")),
        ("Failed videos gone on from", "share of groups", ("stitching_tried", "stitching_solved")),
        ("Agreement of the judge", "share of videos", ("judge_agreement",)),
        (
            "Seconds per iteration",
            "seconds",
            ("seconds_rollout", "seconds_decode", "seconds_reward", "seconds_update"),
        ),
    )
