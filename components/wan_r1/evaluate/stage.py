"""Evaluation: sample each level once with a fixed seed, verify the video, score it, and sum up with intervals."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from wan_r1.evaluate.config import EvaluateConfig
from wan_r1.evaluate.report import write_report
from wan_r1.evaluate.scores import ScoresWriter, score_row, writing_scores
from wan_r1.evaluate.summary import detail_rows, summary_rows
from wan_r1.progress import Progress
from wan_r1.reports.scores import SCORES_FILE, SUMMARY_FILE
from wan_r1.rewards import RewardInputs, get_reward
from wan_r1.runtime import StageClock
from wan_r1.tasks.dataset import Task, data_files, read_tasks
from wan_r1.verification import verify
from wan_r1.video_model.reference import ModelReference


class EvaluationError(ValueError):
    """What is to be evaluated does not fit the data set. The message names both and the remedy."""


class Sampler(Protocol):
    """What evaluation needs of a model: `wan_r1.video_model.VideoModel` has it."""

    def sample(
        self,
        first_frames: np.ndarray,
        prompts: Sequence[str],
        *,
        frames: int,
        steps: int,
        seeds: Sequence[int],
        batch_size: int,
    ) -> np.ndarray:
        """Videos uint8 [batch, frames, height, width, 3], deterministic by seed."""


def run(
    config: EvaluateConfig,
    *,
    dataset: Path,
    model: Path,
    output: Path,
    metrics: Path,
    report: Path,
    certificate: Path | None = None,
    load: Callable[[ModelReference], Sampler] | None = None,
) -> dict[str, Any]:
    """Evaluate a model on levels it has never seen.

    Args:
        config: parameters.
        dataset: folder of the task data set.
        model: model reference, a JSON file.
        output: folder that receives ``scores.parquet`` (one row a video, with the video) and ``summary.json``.
        metrics: file that receives the summary, too.
        report: HTML file with tables and videos.
        certificate: what validate_tasks wrote for this data set; checked if given.
        load: how a reference becomes a model; default `wan_r1.video_model.load_video_model`.

    Returns:
        The summary: ``model``, ``rows`` (one per split and family), ``details`` (by difficulty and by texture), and
        what `StageClock` measured.

    Raises:
        EvaluationError: if the data set lacks a split.
        InputError: if the data set is not the certified one.
        DataContractError: if the data set is damaged or of another schema or version.
        ModelFolderError, StorageError: if the model cannot be loaded.
    """
    # Imported late: these import torch, which those who only build a config should not wait for.
    from wan_r1.training.inputs import checked_dataset

    reference = ModelReference.read(model)
    dataset_sha256 = checked_dataset(dataset, certificate)
    tasks = choose_tasks(config, dataset)
    with StageClock(config.STAGE) as clock, Progress(config.STAGE, len(tasks), unit="video") as progress:
        progress.note(f"{reference.name}: loading the model")
        sampler = (load or partial(_load, threads=config.threads))(reference)
        scores = evaluate(config, sampler, reference.name, tasks, dataset, output / SCORES_FILE, progress)
    summary = {
        **clock.summary(),
        "model": reference.name,
        "training_reward": (reference.stage or {}).get("reward_name"),
        "dataset_sha256": dataset_sha256,
        "checkpoint_uri": reference.checkpoint_uri,
        "training_step": reference.step,
        "training_core_seconds": reference.core_seconds,
        "config": json.loads(config.to_json()),
        "config_hash": config.hash,
        "rows": summary_rows(scores),
        "details": detail_rows(scores),
    }
    for path in (output / SUMMARY_FILE, metrics):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=2) + "\n")
    write_report(report, summary, output / SCORES_FILE, videos=config.report_videos)
    return summary


def _load(reference: ModelReference, *, threads: int) -> Sampler:
    # Imported late: torch and diffusers take seconds, and wrong inputs are told before.
    from wan_r1.video_model.cores import use_cores
    from wan_r1.video_model.loading import load_video_model

    model = load_video_model(reference)
    model.cores = use_cores(threads, model.device)
    return model


def choose_tasks(config: EvaluateConfig, dataset: Path) -> list[Task]:
    """The levels to evaluate on: up to `config.samples` per split and family, by the order of their ids.

    An id is a hash, so this is a random choice that depends on nothing else; every model gets the same levels.

    Raises:
        EvaluationError: if the data set has no level of a split.
    """
    chosen: list[Task] = []
    for split in config.splits:
        tasks = read_tasks(dataset, split=split, videos=False)
        if not tasks:
            raise EvaluationError(
                f"eval_splits={','.join(config.splits)}: the data set {dataset} has no level of the split {split!r}; "
                "leave it out or generate it"
            )
        for family in sorted({task.family for task in tasks}):
            members = sorted((task for task in tasks if task.family == family), key=lambda task: task.level_id)
            if len(members) < config.samples:
                print(
                    f"evaluate  {split} has {len(members)} {family} levels, eval_samples={config.samples}: all are used"
                )
            chosen += members[: config.samples]
    return chosen


def evaluate(
    config: EvaluateConfig,
    sampler: Sampler,
    name: str,
    tasks: Sequence[Task],
    dataset: Path,
    path: Path,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Sample, verify and score ``tasks``; write the scores with their videos.

    Args:
        config: parameters.
        sampler: the model.
        name: its name in the table.
        tasks: what to solve; their reference videos are not needed.
        dataset: folder of the data set, from which the table takes the reference videos.
        path: the table to write.
        progress: told the number of videos done.

    Returns:
        The rows without their videos, in the order of ``tasks``.
    """
    references = reference_videos(dataset, {task.level_id for task in tasks})
    scores: list[dict[str, Any]] = []
    with writing_scores(path) as writer:
        for batch in _batches(tasks, config.batch_size):
            rows = _score_batch(config, sampler, name, batch, references, writer)
            scores += rows
            solved = sum(row["em"] for row in scores) / len(scores)
            reward = float(np.mean([row["reward"] for row in scores]))
            progress.update(len(scores), model=name, em=solved, reward=reward)
    return scores


def video_seed(seed: int, level_id: str) -> int:
    """Seed of a level's noise, in [0, 2^63): the same for every model, independent of batches and of other levels."""
    digest = hashlib.sha256(f"evaluate/{seed}/{level_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def reference_videos(dataset: Path, level_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The ``video`` entries of some levels as they are in the data set, by level id."""
    chosen = [("level_id", "in", list(level_ids))]
    table = pq.read_table(data_files(dataset), columns=["level_id", "video"], filters=chosen, partitioning=None)
    return {row["level_id"]: row["video"] for row in table.to_pylist() if row["video"] is not None}


def _score_batch(
    config: EvaluateConfig,
    sampler: Sampler,
    name: str,
    tasks: Sequence[Task],
    references: dict[str, dict[str, Any]],
    writer: ScoresWriter,
) -> list[dict[str, Any]]:
    seeds = [video_seed(config.seed, task.level_id) for task in tasks]
    videos = sampler.sample(
        np.stack([task.first_frame for task in tasks]),
        [task.prompt for task in tasks],
        frames=tasks[0].frames,
        steps=config.steps,
        seeds=seeds,
        batch_size=config.batch_size,
    )
    verdicts = verify(videos, tasks, vr_bench=config.vr_bench)
    scored = get_reward(config.reward)(RewardInputs(videos=videos, tasks=tasks, verdicts=verdicts))
    rows = [
        score_row(
            model=name,
            task=task,
            seed=seeds[place],
            video=videos[place],
            reference=references.get(task.level_id),
            verdict=verdicts[place],
            reward=float(scored.reward[place]),
            components={key: float(values[place]) for key, values in scored.components.items()},
        )
        for place, task in enumerate(tasks)
    ]
    writer.write(rows)
    return [{key: value for key, value in row.items() if key not in ("video", "reference")} for row in rows]


def _batches(tasks: Sequence[Task], size: int) -> Iterator[list[Task]]:
    """Runs of at most ``size`` tasks whose videos have one shape."""
    for _, alike in itertools.groupby(tasks, key=lambda task: (task.frames, task.height, task.width)):
        members = list(alike)
        for start in range(0, len(members), size):
            yield members[start : start + size]
