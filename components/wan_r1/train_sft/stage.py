"""The stage train_sft: read its inputs, train, and write what it leaves behind."""

from __future__ import annotations

from pathlib import Path

from wan_r1.progress import Progress
from wan_r1.runtime import StageClock
from wan_r1.storage import locations
from wan_r1.tasks.dataset import iterate_tasks, read_tasks
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.training.inputs import checked_dataset, levels
from wan_r1.video_model.reference import ModelReference


def run(
    config: TrainSftConfig,
    *,
    dataset: Path,
    model: Path,
    storage_uri: str,
    output: Path,
    metrics: Path,
    report: Path,
    certificate: Path | None = None,
    compute_of: Path | None = None,
) -> dict:
    """Fine-tune on the demonstrations of a data set.

    Args:
        config: parameters.
        dataset: folder of Parquet shards; the split `train` is learned, `validation` decides when to stop.
        model: reference of the model to start from.
        storage_uri: where checkpoints go, below ``checkpoints/train_sft/``.
        output: file for the trained model's reference.
        metrics: Parquet file for the log, one row a step.
        report: HTML file with the curves.
        certificate: of validate_tasks, for the data set.
        compute_of: reference of a model whose training compute is this training's budget, instead of steps and target:
            the comparison of more SFT with reinforcement learning.

    Returns:
        The stage's summary; of several processes (`accelerate launch`) only the first has all of it.

    Raises:
        InputError: if the data set is not the certified one or lacks a split, or the codec keeps too few solutions.
        ModelFolderError: if the model is no Wan pipeline.
        StorageError: if the storage refuses.
        TrainingDiverged: if loss or gradient is not finite.
    """
    with StageClock(config.STAGE) as clock:
        locations.check_writable(storage_uri)
        start = ModelReference.read(model)
        budget = ModelReference.read(compute_of) if compute_of else None
        sha256 = checked_dataset(dataset, certificate)
        families = {task.family for task in levels(dataset, "train", videos=False)}
        validation = levels(dataset, "validation", per_family=config.validation_levels, videos=False)
        # Imported late: wrong inputs are told before the seconds that torch and diffusers take.
        from wan_r1.train_sft.codec_check import CHECKED, require_codec
        from wan_r1.train_sft.training import Demonstrations, SftTrainer
        from wan_r1.training.report import training_report, write_log
        from wan_r1.training.state import checkpoint_prefix
        from wan_r1.video_model.cores import use_cores
        from wan_r1.video_model.loading import load_video_model

        video_model = load_video_model(start)
        video_model.cores = use_cores(config.threads, video_model.device)
        if config.least_codec_em and budget is None:
            some = read_tasks(dataset, split="train", limit=CHECKED * len(families))
            require_codec(video_model, some, config.least_codec_em)
        with Progress(config.STAGE) as progress:
            demonstrations = Demonstrations.encode(
                video_model,
                iterate_tasks(dataset, split="train"),
                progress,
                views=config.views,
                seed=config.seed,
            )
            video_model.encode_prompts([task.prompt for task in validation])
        video_model.drop_text_encoder()
        trainer = SftTrainer(
            config=config,
            model=video_model,
            demonstrations=demonstrations,
            validation=validation,
            prefix=checkpoint_prefix(
                storage_uri, config, start, sha256, str(budget.checkpoint_uri if budget else None)
            ),
            compute_budget=budget.core_seconds if budget else None,
        )
        uri = trainer.run()
        if not trainer.processes.first:
            # Of several processes one writes.
            return clock.summary()
        state = trainer.state
        write_log(state.log, metrics)
        last: dict[str, float] = next((entry for entry in reversed(state.log) if "mf" in entry), {})
        summary = {
            "steps": state.step,
            "core_seconds_trained": state.core_seconds,
            "checkpoint_uri": uri,
            "config_hash": config.hash,
            "dataset_sha256": sha256,
            "validation_em": {name.removeprefix("em/"): v for name, v in last.items() if name.startswith("em/")},
            "final_loss": state.log[-1]["loss"] if state.log else None,
        }
        training_report(
            report,
            title="Supervised fine-tuning" + (" continued" if budget else ""),
            log=state.log,
            step="step",
            plots=(
                ("Loss", "velocity error", ("loss",)),
                ("Validation", "share of levels", (*tuple(f"em/{family}" for family in trainer.families), "mf")),
                ("Gradient norm", "norm before clipping", ("grad_norm",)),
            ),
            summary=summary,
            config=config,
        )
    summary = {**clock.summary(), **summary}
    start.with_(
        name="sft_continued" if budget else "sft",
        checkpoint_uri=uri,
        step=state.step,
        core_seconds=state.core_seconds,
        trained_on=sha256,
        stage=summary,
    ).write(output)
    return summary
