"""Run the checks and print a line each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from wan_r1.config import read_preset
from wan_r1.doctor.findings import Finding
from wan_r1.runtime import StageClock
from wan_r1.tasks.dataset import Task, make_task
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.training.inputs import levels

LEVELS = 64
"""Demonstrations and prompts that are looked at, of each at most."""


class DoctorError(RuntimeError):
    """A check did not find what it wanted. The message names the checks."""


def run(
    config: TrainGrpoConfig,
    *,
    dataset: Path | None = None,
    model: Path | None = None,
    report: Path | None = None,
) -> dict:
    """Check what reinforcement learning rests on, with the settings of a run that is planned.

    Args:
        config: parameters of the run; its rollouts, precision and adapter are those that are checked.
        dataset: folder of Parquet shards; by default levels of the preset `tiny` are made.
        model: reference of the model that the run starts from; by default the untrained tiny one.
        report: text file that receives the lines too.

    Returns:
        The summary with every finding.

    Raises:
        DoctorError: if a check failed, naming it.
        InputError: if the data set lacks the split `train`.
        ModelFolderError: if the model is no Wan pipeline.
    """
    with StageClock("doctor") as clock:
        known, harder = _levels(config, dataset)
        from wan_r1.doctor.checks import all_checks
        from wan_r1.video_model.cores import use_cores

        video_model = _model(model)
        video_model.cores = use_cores(config.threads, video_model.device)
        findings = []
        with tempfile.TemporaryDirectory(prefix="wan-r1-doctor-") as scratch:
            for finding in all_checks(config, video_model, known, harder, Path(scratch)):
                print(finding, flush=True)
                findings.append(finding)
        summary = {**clock.summary(), "findings": [asdict(finding) for finding in findings]}
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("".join(f"{finding}\n" for finding in findings))
    if bad := [finding.check for finding in findings if not finding.good]:
        raise DoctorError(f"{len(bad)} of {len(findings)} checks failed: {'; '.join(bad)}")
    return summary


def _levels(config: TrainGrpoConfig, dataset: Path | None) -> tuple[list[Task], list[Task]]:
    """Demonstrated levels, and harder ones if the run has them."""
    if dataset is not None:
        known = levels(dataset, "train")[:LEVELS]
        harder = levels(dataset, "prompts", videos=False)[:LEVELS] if config.harder_share > 0 else []
        return known, harder
    table = read_preset("tiny")["generate_tasks"]

    def made(split: str, difficulties: tuple[str, ...]) -> Iterator[Task]:
        for index in range(LEVELS):
            yield make_task(
                table["families"][index % len(table["families"])],
                difficulties[index % len(difficulties)],
                table["textures"][index % 2],
                seed=config.seed,
                split=split,
                index=index,
                frames=table["frames"],
                size=table["height"],
                canvas=table["canvas"],
                steps_per_frame=table["steps_per_frame"],
            )

    return list(made("train", ("easy", "medium"))), list(made("prompts", ("hard",))) if config.harder_share else []


def _model(reference: Path | None):
    from wan_r1.video_model.loading import load_pipeline_folder, load_video_model
    from wan_r1.video_model.reference import ModelReference
    from wan_r1.video_model.tiny import PROMPT_TOKENS, tiny_pipeline

    if reference is not None:
        return load_video_model(ModelReference.read(reference))
    with tempfile.TemporaryDirectory(prefix="wan-r1-doctor-") as folder:
        tiny_pipeline(seed=0).save_pretrained(folder)
        return load_pipeline_folder(Path(folder), max_prompt_tokens=PROMPT_TOKENS)


__all__ = ["DoctorError", "Finding", "run"]
