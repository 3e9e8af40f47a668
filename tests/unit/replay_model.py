"""A stand-in for a video model whose results are known: it replays reference videos, some of them spoilt on purpose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from wan_r1.tasks.dataset import Task, make_task, write_tasks

FRAMES, SIZE, CANVAS = 9, 32, 4


class ReplayModel:
    """Answers with the reference video of the level whose first frame it is given.

    Args:
        tasks: the levels it knows, with their videos.
        failing: ids of the levels on which the player never moves.
        noisy: ids of the levels whose floor fades although the player solves them.
    """

    def __init__(self, tasks: Iterable[Task], failing: Collection[str] = (), noisy: Collection[str] = ()) -> None:
        self.calls: list[dict] = []
        self._videos = {}
        for task in tasks:
            video = np.array(task.video)
            if task.level_id in failing:
                video[:] = video[0]
            if task.level_id in noisy:
                # All of the frames fade to grey, far beyond what fidelity tolerates.
                video[1:] = (0.4 * video[1:] + 0.6 * 128).astype(np.uint8)
            self._videos[task.first_frame.tobytes(), task.prompt] = video

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
        """Videos uint8 [batch, frames, height, width, 3]."""
        assert first_frames.dtype == np.uint8 and len(first_frames) == len(prompts) == len(seeds) <= batch_size
        self.calls.append({"frames": frames, "steps": steps, "seeds": list(seeds)})
        return np.stack(
            [self._videos[frame.tobytes(), prompt] for frame, prompt in zip(first_frames, prompts, strict=True)]
        )


def make_tasks(split: str, count: int, families: Sequence[str] = ("regular", "trapfield")) -> list[Task]:
    """``count`` small levels of each family, all different."""
    difficulties = ("hard",) if split == "harder" else ("easy", "medium")
    tasks: dict[str, Task] = {}
    for wanted, family in enumerate(families, start=1):
        index = 0
        while len(tasks) < wanted * count:
            task = make_task(
                family,
                difficulties[index % len(difficulties)],
                ("plain", "night")[index % 2],
                seed=7,
                split=split,
                index=index,
                frames=FRAMES,
                size=SIZE,
                canvas=CANVAS,
                steps_per_frame=1.0,
            )
            tasks.setdefault(task.level_id, task)
            index += 1
    return list(tasks.values())


def write_dataset(folder: Path, tasks: Sequence[Task]) -> Path:
    """A data set of one file a split."""
    for split in sorted({task.split for task in tasks}):
        write_tasks([task for task in tasks if task.split == split], folder / f"{split}-00000.parquet")
    return folder
