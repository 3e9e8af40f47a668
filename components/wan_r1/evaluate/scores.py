"""Rows of the table of scores, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wan_r1.reports.scores import FACTS, SCORES_SCHEMA
from wan_r1.tasks.dataset import Task
from wan_r1.tasks.video import encode_video
from wan_r1.verification import Verdict

LOSSLESS_PIXELS = 128 * 128
"""Frames up to this size are stored without loss: a compressed 32 px frame would not be what was scored."""


def score_row(
    *,
    model: str,
    task: Task,
    seed: int,
    video: np.ndarray,
    reference: dict[str, Any] | None,
    verdict: Verdict,
    reward: float,
    components: dict[str, float],
) -> dict[str, Any]:
    """One row of `SCORES_SCHEMA`.

    Args:
        model: the model's name.
        task: what was to be solved.
        seed: of the video's noise.
        video: uint8 [frames, height, width, 3].
        reference: the ``video`` entry of the task's row.
        verdict: what verification says.
        reward: the video's.
        components: the reward's parts by name.
    """
    lossless = video.shape[1] * video.shape[2] <= LOSSLESS_PIXELS
    readable = verdict.error is None
    # The contract of a verdict with an error is that its facts mean nothing; here such a video counts as failed.
    facts = {name: getattr(verdict, name) for name in FACTS}
    if not readable:
        facts |= {"em": False, "sr": False, "pr": 0.0, "sd": None, "mf": 0.0}
    return {
        "model": model,
        "family": task.family,
        "difficulty": task.difficulty,
        "texture": task.texture,
        "split": task.split,
        "level_id": task.level_id,
        "seed": seed,
        "prompt": task.prompt,
        "video": {"bytes": encode_video(video, task.fps, lossless), "path": f"{task.split}/{task.level_id}.mp4"},
        "reference": reference,
        **facts,
        "reward": reward if readable else 0.0,
        "reward_components": [{"name": name, "value": value} for name, value in sorted(components.items())],
        "violations": [
            {"kind": entry.kind, "frame": entry.frame, "place": list(entry.place)} for entry in verdict.violations
        ],
        "error": verdict.error,
    }


class ScoresWriter:
    """Writes rows of `SCORES_SCHEMA` in groups as they come, so that memory holds one batch of videos."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows as one row group."""
        self._writer.write_table(pa.Table.from_pylist(list(rows), schema=SCORES_SCHEMA))


@contextmanager
def writing_scores(path: Path) -> Iterator[ScoresWriter]:
    """A writer whose file appears under its name only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with pq.ParquetWriter(partial, SCORES_SCHEMA, compression="zstd") as writer:
            yield ScoresWriter(writer)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
