"""What a reward is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wan_r1.verification import Verdict

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task


class RewardError(ValueError):
    """A reward is unknown, cannot be loaded, or returned what is no reward; the message says what is allowed."""


class Judge(Protocol):
    """A learned scorer of videos; `wan_r1.rewards.judge` trains one."""

    def score(self, videos: np.ndarray) -> np.ndarray:
        """Scores float32 [N] in [0, 1] of videos ``[N, F, H, W, 3]`` uint8."""


@dataclass(frozen=True, kw_only=True)
class RewardInputs:
    """What a reward may look at.

    Attributes:
        videos: ``[N, F, H, W, 3]`` uint8.
        tasks: level of each video.
        verdicts: what `wan_r1.verification.verify` found in each.
        judge: a learned scorer, for rewards that ask one.
    """

    videos: np.ndarray
    tasks: Sequence[Task]
    verdicts: Sequence[Verdict]
    judge: Judge | None = None

    def __post_init__(self) -> None:
        """Refuse lists of different lengths."""
        if not len(self.videos) == len(self.tasks) == len(self.verdicts):
            raise ValueError(
                f"{len(self.videos)} videos, {len(self.tasks)} tasks and {len(self.verdicts)} verdicts; give one each"
            )


@dataclass(frozen=True, kw_only=True)
class RewardOutput:
    """Rewards of a batch.

    Attributes:
        reward: float32 [N] in [0, 1].
        components: parts of the reward by name, float32 [N] each, for the log; not necessarily in [0, 1].
    """

    reward: np.ndarray
    components: dict[str, np.ndarray]


RewardFn = Callable[[RewardInputs], RewardOutput]
