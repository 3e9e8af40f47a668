"""A small learned judge of videos, trained on labelled rollouts: the reward that the paper shows to fail.

A 3D-convolutional classifier sees the video alone, not the level. Its agreement with verified facts on clips it was not
trained on (`VideoJudge.heldout_accuracy`) belongs beside every score of it. Torch is imported here and nowhere else in
`wan_r1.rewards`; without this module no reward needs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

_WIDTHS = (16, 32, 64)
LEAST_CLIPS = 4
"""Clips of each label that a judge needs: it learns from some and is tried on the others."""
_HELD_OUT = 0.25
_BATCH = 32
_LEARNING_RATE = 3e-3
_SCORE_BATCH = 64
_SIDE = 32
"""Pixels a side at which videos are seen; larger ones are reduced."""


class _Net(nn.Module):
    """Logit [N] that a video [N, 3, F, S, S] in [-1, 1] shows a solution."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in _WIDTHS:
            # Halved in space, not in time: a path is told by which frame shows the player where.
            layers += [
                nn.Conv3d(before, width, 3, stride=(1, 2, 2), padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            before = width
        layers += [nn.Conv3d(before, before, 3, padding=1), nn.GroupNorm(8, before), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * before, 1)

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        found = self.features(videos).flatten(2)
        return self.head(torch.cat([found.mean(2), found.amax(2)], dim=1))[:, 0]


@dataclass(frozen=True)
class VideoJudge:
    """A trained judge.

    Attributes:
        net: the classifier.
        heldout_accuracy: share of held-out clips whose label it gets right.
        heldout_majority: share that always answering the commoner label would get right on the same clips.
        heldout_count: held-out clips.
        train_accuracy: share of training clips whose label it gets right.
    """

    net: nn.Module
    heldout_accuracy: float
    heldout_majority: float
    heldout_count: int
    train_accuracy: float

    def score(self, videos: np.ndarray) -> np.ndarray:
        """Probability, float32 [N], that each video ``[N, F, H, W, 3]`` uint8 shows a solution."""
        if len(videos) == 0:
            return np.zeros(0, np.float32)
        with torch.no_grad():
            parts = [
                torch.sigmoid(self.net(_tensor(videos[begin : begin + _SCORE_BATCH])))
                for begin in range(0, len(videos), _SCORE_BATCH)
            ]
        return torch.cat(parts).numpy().astype(np.float32)

    def agreement(self, videos: np.ndarray, labels: np.ndarray) -> float:
        """Share of videos on which the judge (at one half) and the labels, bool [N], agree."""
        return float(((self.score(videos) >= 0.5) == np.asarray(labels, bool)).mean())

    def to_bytes(self) -> bytes:
        """The judge as one safetensors file."""
        facts = {name: getattr(self, name) for name in _FACTS}
        return safetensors.torch.save(self.net.state_dict(), metadata={"judge": json.dumps(facts)})

    @classmethod
    def from_bytes(cls, content: bytes) -> VideoJudge:
        """Inverse of `to_bytes`.

        Raises:
            ValueError: if the content is no judge.
        """
        try:
            weights = safetensors.torch.load(content)
            length = int.from_bytes(content[:8], "little")
            facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["judge"])
            net = _Net()
            net.load_state_dict(weights)
        except (safetensors.SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"these {len(content)} bytes are no judge: {error}") from None
        return cls(net.eval(), **facts)


_FACTS = ("heldout_accuracy", "heldout_majority", "heldout_count", "train_accuracy")


def fit_judge(videos: np.ndarray, labels: np.ndarray, *, seed: int, steps: int = 200) -> VideoJudge:
    """Train a judge on labelled rollouts; a quarter of each label's clips is held out.

    Args:
        videos: ``[N, F, H, W, 3]`` uint8.
        labels: bool [N], whether each shows a solution.
        seed: of the split, the initial weights and the order; the same seed gives the same judge on the same machine.
        steps: AdamW steps of 32 clips, half of them of each label.

    Raises:
        ValueError: if there are not at least 4 clips of each label, or the numbers do not fit.
    """
    labels = np.asarray(labels, bool)
    if len(videos) != len(labels):
        raise ValueError(f"{len(videos)} videos but {len(labels)} labels; give one label a video")
    if steps < 1:
        raise ValueError(f"steps={steps} is not allowed; expected at least 1")
    rng = np.random.default_rng(seed)
    train, held = [], []
    for label in (False, True):
        clips = rng.permutation(np.flatnonzero(labels == label))
        if len(clips) < LEAST_CLIPS:
            raise ValueError(
                f"{len(clips)} clips are labelled {label}; a judge needs at least {LEAST_CLIPS} of each label"
            )
        cut = max(1, round(_HELD_OUT * len(clips)))
        held.append(clips[:cut])
        train.append(clips[cut:])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _Net()
    optimiser = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    net.train()
    for _ in range(steps):
        batch = np.concatenate([rng.choice(clips, _BATCH // 2) for clips in train])
        wanted = torch.from_numpy(labels[batch].astype(np.float32))
        loss = nn.functional.binary_cross_entropy_with_logits(net(_tensor(videos[batch])), wanted)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()

    unseen, seen = np.concatenate(held), np.concatenate(train)
    judge = VideoJudge(net.eval(), 0.0, 0.0, 0, 0.0)
    positive = float(labels[unseen].mean())
    return VideoJudge(
        net,
        heldout_accuracy=judge.agreement(videos[unseen], labels[unseen]),
        heldout_majority=max(positive, 1 - positive),
        heldout_count=len(unseen),
        train_accuracy=judge.agreement(videos[seen], labels[seen]),
    )


def _tensor(videos: np.ndarray) -> torch.Tensor:
    """Videos [N, F, H, W, 3] uint8 as float [N, 3, F, S, S] in [-1, 1]."""
    values = torch.from_numpy(np.ascontiguousarray(videos)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    if max(values.shape[-2:]) > _SIDE:
        values = nn.functional.interpolate(values, (values.shape[2], _SIDE, _SIDE), mode="area")
    return values
