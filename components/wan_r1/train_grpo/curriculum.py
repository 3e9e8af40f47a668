"""Which prompts teach most: kinds of level that are solved now and then.

A group whose videos all fail, or all succeed, has no advantage. Levels are many and each is seen once or twice, so a
success rate is kept by kind of level, its family and the length of its solution, and prompts are drawn in proportion to

    w = floor + (1 - floor) 4 p (1 - p)

which is 1 for a kind that is solved half of the time and ``floor`` for one that is always or never solved: such a kind
must still be tried, or nobody would notice when it becomes solvable.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from wan_r1.tasks.dataset import Task
from wan_r1.video_model.weights import Weights

MEMORY = 0.9
"""Share of the old success rate that an iteration leaves."""


def kind_of(task: Task) -> str:
    """A level's kind: family and places of its solution."""
    return f"{task.family}:{len(task.solution)}"


def balancing_weights(tasks: Sequence[Task], balance: float) -> np.ndarray:
    """Weights float64 `[levels]` by which families are alike, and within each its kinds the more so the nearer
    ``balance`` is to 1: of n levels of a kind each has ``n ** -balance``, before those of a family are made to add up
    to 1."""
    of_kind = Counter(kind_of(task) for task in tasks)
    weights = np.array([of_kind[kind_of(task)] ** -balance for task in tasks])
    totals: dict[str, float] = defaultdict(float)
    for task, weight in zip(tasks, weights.tolist(), strict=True):
        totals[task.family] += weight
    return weights / np.array([totals[task.family] for task in tasks])


@dataclass(kw_only=True)
class Curriculum:
    """Success rates by kind of level.

    Attributes:
        floor: least weight of a kind, 0 to 1; 1 draws all levels alike.
        rates: share of successes by kind, a moving average; a kind without one counts as half solved.
    """

    floor: float
    rates: dict[str, float] = field(default_factory=dict)

    def weights(self, tasks: Sequence[Task]) -> np.ndarray:
        """Weight of each level, float64 `[levels]`."""
        rates = np.array([self.rates.get(kind_of(task), 0.5) for task in tasks])
        return self.floor + (1 - self.floor) * 4 * rates * (1 - rates)

    def learn(self, outcomes: Sequence[tuple[str, float]]) -> None:
        """Take in an iteration's videos: (kind, 1 for an exact match and 0 else) of each."""
        for kind in sorted({kind for kind, _ in outcomes}):
            rate = float(np.mean([solved for its_kind, solved in outcomes if its_kind == kind]))
            self.rates[kind] = MEMORY * self.rates.get(kind, rate) + (1 - MEMORY) * rate

    def state(self) -> Weights:
        """Its content as tensors, for a checkpoint."""
        return {kind: torch.tensor(rate, dtype=torch.float64) for kind, rate in self.rates.items()}

    def load(self, state: Weights) -> None:
        """Inverse of `state`."""
        self.rates = {kind: float(rate) for kind, rate in state.items()}
