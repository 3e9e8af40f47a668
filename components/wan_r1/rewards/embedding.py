"""The paper's embedding reward (arXiv 2603.27866, Eq. 12-15): a frozen encoder compares a video with the reference.

With unit embeddings ``e_t`` of the video's frames and ``e*_t`` of the reference's, the shorter sequence interpolated to
the length T of the longer one:

    R_cos  = mean_t <e_t, e*_t>
    R_end  = (<e_1, e*_1> + <e_T, e*_T>) / 2
    R_temp = 1 - mean_t |c_t - c*_t|,   c_t the share of the whole displacement that is covered up to frame t
    R      = 0.5 R_cos + 0.2 R_temp + 0.3 R_end

Interpolated embeddings are brought back to unit length, and a video that never moves covers nothing (c = 0): the paper
says neither. A maze's background fills most of a frame, so a still video scores high here: this reward is for
navigation videos and for comparison; agreement with verified exact match is logged beside it.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from wan_r1.rewards.interface import RewardError, RewardInputs, RewardOutput
from wan_r1.tasks.families import get_family
from wan_r1.tasks.textures import get_texture
from wan_r1.verification.navigation import resample

if TYPE_CHECKING:
    from wan_r1.tasks.dataset import Task

COSINE_WEIGHT, TIME_WEIGHT, END_WEIGHT = 0.5, 0.2, 0.3
DEFAULT_ENCODER = "facebook/dinov2-base"
AGREES_FROM = 0.9
"""Reward from which the video counts as solved when agreement with verified facts is counted."""

_KEPT_REFERENCES = 4096


class Encoder(Protocol):
    """A frozen encoder of frames; `wan_r1.rewards.encoders` loads one through transformers."""

    def encode(self, videos: np.ndarray) -> np.ndarray:
        """Embeddings float32 [N, T, dimensions] of videos ``[N, F, H, W, 3]`` uint8, T at most F."""


def embedding_parts(video: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """R_cos, R_temp, R_end and R of one video.

    Args:
        video: embeddings ``[T1, dimensions]`` of its frames, of any length but 0.
        reference: embeddings ``[T2, dimensions]`` of the reference's frames.
    """
    length = max(len(video), len(reference))
    own, other = (_unit(resample(_unit(part), length)) for part in (video, reference))
    alike = (own * other).sum(1)
    covered = np.abs(_covered(own) - _covered(other)).mean()
    parts = {"cos": float(alike.mean()), "temp": float(1 - covered), "end": float((alike[0] + alike[-1]) / 2)}
    return parts | {"emb": COSINE_WEIGHT * parts["cos"] + TIME_WEIGHT * parts["temp"] + END_WEIGHT * parts["end"]}


def _unit(embeddings: np.ndarray) -> np.ndarray:
    values = np.asarray(embeddings, np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def _covered(embeddings: np.ndarray) -> np.ndarray:
    """Share of the whole displacement covered up to each frame, [T]; 0 all along if nothing moves."""
    steps = np.linalg.norm(np.diff(embeddings, axis=0), axis=1)
    total = steps.sum()
    return np.concatenate([[0.0], np.cumsum(steps)]) / total if total > 1e-9 else np.zeros(len(embeddings))


class EmbeddingReward:
    """The reward with one encoder; embeddings of references are kept.

    Args:
        encoder: the encoder, or a function that loads it at the first use.
    """

    def __init__(self, encoder: Encoder | Callable[[], Encoder]) -> None:
        self._given = encoder
        self._references: OrderedDict[tuple, np.ndarray] = OrderedDict()

    @functools.cached_property
    def _encoder(self) -> Encoder:
        return self._given if hasattr(self._given, "encode") else self._given()

    def __call__(self, inputs: RewardInputs) -> RewardOutput:
        """Rewards of a batch; an unreadable video gets 0."""
        readable = [i for i, verdict in enumerate(inputs.verdicts) if verdict.error is None]
        names = ("cos", "temp", "end", "emb")
        values = {name: np.zeros(len(inputs.videos), np.float32) for name in names}
        if readable:
            embeddings = self._encoder.encode(np.stack([inputs.videos[i] for i in readable]))
            references = self._of_references([inputs.tasks[i] for i in readable])
            for i, embedding, reference in zip(readable, embeddings, references, strict=True):
                for name, value in embedding_parts(embedding, reference).items():
                    values[name][i] = value
        reward = values.pop("emb").clip(0, 1)
        solved = np.array([verdict.error is None and verdict.em for verdict in inputs.verdicts], bool)
        values["agrees"] = ((reward >= AGREES_FROM) == solved).astype(np.float32)
        return RewardOutput(reward=reward, components={f"embedding_{name}": part for name, part in values.items()})

    def _of_references(self, tasks: list[Task]) -> list[np.ndarray]:
        keys = [(task.level_id, task.texture, task.frames, task.height) for task in tasks]
        new = {key: task for key, task in zip(keys, tasks, strict=True) if key not in self._references}
        shapes: dict[tuple, list[tuple]] = {}
        for key, task in new.items():
            shapes.setdefault((task.frames, task.height, task.width), []).append(key)
        for alike in shapes.values():
            found = self._encoder.encode(np.stack([reference_video(new[key]) for key in alike]))
            self._references.update(zip(alike, found, strict=True))
        result = [self._references[key] for key in keys]
        while len(self._references) > _KEPT_REFERENCES:
            self._references.popitem(last=False)
        return result


def reference_video(task: Task) -> np.ndarray:
    """The task's solution video; drawn again where the task has none with it (levels for reinforcement learning)."""
    if task.video is not None:
        return task.video
    return get_family(task.family).render(task.level, get_texture(task.texture), task.trajectory, task.height)


@functools.lru_cache(maxsize=4)
def embedding_reward(encoder: str = DEFAULT_ENCODER) -> EmbeddingReward:
    """The reward with an encoder by name: a hub id or a folder that transformers loads. Loaded at the first use."""

    def load() -> Encoder:
        # Imported late: torch and transformers take seconds, and only this reward needs them.
        from wan_r1.rewards.encoders import EncoderError, load_encoder

        try:
            return load_encoder(encoder)
        except EncoderError as error:
            raise RewardError(f"reward='embedding:{encoder}': {error}") from None

    return EmbeddingReward(load)
