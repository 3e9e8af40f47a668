"""How well the embedding reward of the tiny encoder tells solved videos from others, beside an untrained one.

PYTHONPATH=components python tests/benchmarks/embedding.py [DATASET SCORES.parquet...] > tests/benchmarks/embedding.md

Levels, and two of the eight textures, that the encoder never saw. AUC: how often a solution has a higher reward than a
video of the same family that is none. `SCORES` are tables of the stage evaluate, whose rollouts are compared by their
verified exact match.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from transformers import BitImageProcessor

from wan_r1.rewards.embedding import EmbeddingReward
from wan_r1.rewards.encoders import TINY, TINY_FOLDER, FrameEncoder, load_encoder, tiny_dinov2
from wan_r1.rewards.interface import RewardInputs
from wan_r1.rewards.train_tiny_encoder import form_of, wander
from wan_r1.tasks.dataset import Task, make_task, read_tasks
from wan_r1.tasks.families import FAMILIES
from wan_r1.tasks.family import DIFFICULTIES
from wan_r1.tasks.textures import TEXTURES
from wan_r1.tasks.video import decode_video
from wan_r1.verification import Verdict

EACH = 1
"""Levels of each family, texture and difficulty."""
MOST_ROLLOUTS = 512
"""Of each table, drawn at random."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("scores", type=Path, nargs="*")
    given = parser.parse_args()
    processor = BitImageProcessor.from_pretrained(TINY_FOLDER)
    rewards = {
        "trained": EmbeddingReward(load_encoder(TINY)),
        "untrained": EmbeddingReward(FrameEncoder(tiny_dinov2(0), processor)),
    }
    print("# The tiny encoder of the embedding reward\n")
    print(
        "Made by `python tests/benchmarks/embedding.py DATASET SCORES...`, seed 0. Both encoders have the same shape;"
    )
    print(
        "the untrained one has the weights that training began with. All videos but the first kind are disturbed: noise"
    )
    print("of 8/255, and a change of brightness and colour that is the same in all frames.\n")
    print("| family | videos | reward, trained | reward, untrained |")
    print("| --- | --- | ---: | ---: |")
    table = []
    for family in sorted(FAMILIES):
        kinds = videos_of(family)
        found = {name: {kind: score(reward, *made) for kind, made in kinds.items()} for name, reward in rewards.items()}
        for kind, (videos, _) in kinds.items():
            values = " | ".join(f"{found[name][kind].mean():.3f}" for name in rewards)
            print(f"| {family} | {len(videos)} x {kind} | {values} |", flush=True)
        good = [kind for kind in kinds if kind.startswith("solution")]
        bad = [kind for kind in kinds if kind not in good]
        table.append((family, {name: _auc_of(found[name], good, bad) for name in rewards}))
    print("\nAUC of disturbed solutions against all other kinds (disturbed alike):\n")
    print("| family | trained | untrained |\n| --- | ---: | ---: |")
    for family, values in table:
        print(f"| {family} | {values['trained']:.3f} | {values['untrained']:.3f} |")
    if given.dataset:
        _print_rollouts(given.dataset, given.scores, rewards)


def videos_of(family: str) -> dict[str, tuple[list[np.ndarray], list[Task]]]:
    """Videos of unseen levels by what they show, all but the first kind disturbed."""
    rng = np.random.default_rng(0)
    tasks = [
        make_task(family, difficulty, texture, seed=77, split="test", index=index, **form_of(family))
        for difficulty in DIFFICULTIES
        for texture in sorted(TEXTURES)
        for index in range(EACH)
    ]
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for task in tasks:
        video, frames = task.video, task.frames
        last = int(np.abs(np.diff(task.trajectory, axis=0)).sum(1).nonzero()[0][-1]) + 1
        half = np.minimum(np.arange(frames), last // 2)
        walk = FAMILIES[family].render(task.level, TEXTURES[task.texture], wander(task, frames, rng), task.height)
        order = np.concatenate([[0], 1 + rng.permutation(frames - 1)])
        found["solution as it is"].append(video)
        found["solution, disturbed"].append(_disturbed(video, rng))
        found["half the way"].append(_disturbed(video[half], rng))
        found["random walk"].append(_disturbed(walk, rng))
        found["still"].append(_disturbed(video[:1].repeat(frames, 0), rng))
        found["frames shuffled"].append(_disturbed(video[order], rng))
        back = np.concatenate([video[: last // 2], video[last // 2 :: -1]])[:frames]
        found["turns back"].append(_disturbed(np.concatenate([back, back[-1:].repeat(frames - len(back), 0)]), rng))
    return {kind: (videos, tasks) for kind, videos in found.items()}


def _disturbed(video: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise, and a change of brightness and colour that is the same in all frames."""
    gain = 1 + rng.normal(0, 0.1) + rng.normal(0, 0.04, 3)
    noisy = video * gain + rng.normal(0, 8, 3) + 8 * rng.standard_normal(video.shape, np.float32)
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def score(reward: EmbeddingReward, videos: list[np.ndarray], tasks: list[Task]) -> np.ndarray:
    """The reward of each video; what it shows is known already."""
    inputs = RewardInputs(videos=np.stack(videos), tasks=tasks, verdicts=[Verdict()] * len(videos))
    return reward(inputs).reward


def auc(good: np.ndarray, bad: np.ndarray) -> float:
    """Share of pairs in which the good one has the higher value; equals count half."""
    return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())


def _auc_of(found: dict[str, np.ndarray], good: list[str], bad: list[str]) -> float:
    disturbed = [kind for kind in good if "disturbed" in kind]
    return auc(*(np.concatenate([found[kind] for kind in kinds]) for kinds in (disturbed, bad)))


def _print_rollouts(dataset: Path, files: list[Path], rewards: dict[str, EmbeddingReward]) -> None:
    """AUC against verified exact match on what policies made."""
    tasks = {task.level_id: task for task in read_tasks(dataset, videos=False)}
    print("\nRollouts of policies, against verified exact match:\n")
    print("| model | family | videos | exact matches | AUC, trained | AUC, untrained |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for file in files:
        table = pq.read_table(file, columns=["model", "family", "level_id", "em", "video"])
        order = np.random.default_rng(0).permutation(table.num_rows)[:MOST_ROLLOUTS]
        chosen = table.take(np.sort(order)).to_pylist()
        for family in sorted({row["family"] for row in chosen}):
            own = [row for row in chosen if row["family"] == family]
            videos = [decode_video(row["video"]["bytes"]) for row in own]
            levels = [tasks[row["level_id"]] for row in own]
            solved = np.array([row["em"] for row in own], bool)
            if solved.all() or not solved.any():
                continue
            values = {name: score(reward, videos, levels) for name, reward in rewards.items()}
            found = " | ".join(f"{auc(value[solved], value[~solved]):.3f}" for value in values.values())
            print(f"| {own[0]['model']} | {family} | {len(own)} | {solved.sum()} | {found} |", flush=True)


if __name__ == "__main__":
    main()
