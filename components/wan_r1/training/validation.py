"""Exact match of a policy on validation levels, by the sampler that evaluation uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wan_r1.tasks.dataset import Task
from wan_r1.training.processes import Processes
from wan_r1.training.randomness import derived_seed
from wan_r1.verification import verify
from wan_r1.video_model.wan import VideoModel


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Means over validation videos.

    Attributes:
        em: exact match by family.
        pr: precision rate by family.
        mf: maze fidelity by family.
    """

    em: dict[str, float]
    pr: dict[str, float]
    mf: dict[str, float]

    @property
    def mean_em(self) -> float:
        """Exact match, each family counted alike."""
        return float(np.mean(list(self.em.values())))

    @property
    def mean_mf(self) -> float:
        """Maze fidelity, each family counted alike."""
        return float(np.mean(list(self.mf.values())))


def validate(
    model: VideoModel, tasks: Sequence[Task], *, steps: int, seed: int, processes: Processes | None = None
) -> Validation:
    """Sample one video a task with fixed seeds and score it strictly.

    Args:
        model: the policy, with the weights to validate in place.
        tasks: validation levels of one or more families.
        steps: denoising steps.
        seed: with a level's id it gives the video's noise.
        processes: that share the tasks; all get the whole result.
    """
    mine = len(tasks)
    if processes is not None:
        places = processes.share(len(tasks)).tolist()
        # All make as many videos: of a sharded model none can be made without the others.
        most = -(-len(tasks) // processes.count)
        mine, tasks = len(places), [tasks[place] for place in [*places, 0][:most]]
    videos = model.sample(
        np.stack([task.first_frame for task in tasks]),
        [task.prompt for task in tasks],
        frames=tasks[0].frames,
        steps=steps,
        seeds=[derived_seed(seed, "validation", task.level_id) for task in tasks],
    )
    scores = [
        (task.family, {"em": float(verdict.em), "pr": float(verdict.pr), "mf": float(verdict.mf)})
        for task, verdict in zip(tasks[:mine], verify(videos[:mine], tasks[:mine]), strict=True)
    ]
    if processes is not None:
        scores = processes.everyones(scores)
    families = sorted({family for family, _ in scores})

    def by_family(name: str) -> dict[str, float]:
        return {
            family: float(np.mean([score[name] for its_family, score in scores if its_family == family]))
            for family in families
        }

    return Validation(em=by_family("em"), pr=by_family("pr"), mf=by_family("mf"))
