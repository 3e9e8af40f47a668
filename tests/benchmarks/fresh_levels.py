"""The policies of a learning benchmark on harder levels that nobody has looked at.

    python tests/benchmarks/fresh_levels.py --runs DIR --family regular,trapfield --seed 0 --levels-seed 4711

Whoever tunes a recipe on a benchmark's levels tunes it to them. Here levels come from another data-set seed, less those
whose layout is in any split of the benchmark's own data set; weights are those that `learning.py --output DIR` left.
What is left has other shares of lengths, since of some lengths there are few levels: compare by length. Prints exact
match in % with its 95 % interval, and by moves.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from learning import EVALUATION_STEPS, _fresh_model

from wan_r1.evaluate.stage import video_seed
from wan_r1.generate_tasks import GenerateTasksConfig
from wan_r1.generate_tasks import run as generate_tasks
from wan_r1.reports.intervals import wilson
from wan_r1.tasks.dataset import Task
from wan_r1.tasks.schema import SPLITS
from wan_r1.training.inputs import levels
from wan_r1.verification import verify

WEIGHTS = ("sft.pt", "sft_continued-*.pt", "forward_grpo-*.pt")


def fresh_levels(family: str, dataset: Path, seed: int, count: int) -> list[Task]:
    """``count`` harder levels of a data-set seed whose layout is in no split of ``dataset``."""
    known = {task.level.layout_id for split in SPLITS for task in levels(dataset, split, videos=False)}
    counts = {f"{split}_levels": 4 * count if split == "harder" else 1 for split in SPLITS}
    with tempfile.TemporaryDirectory(prefix="wan-r1-fresh-") as folder:
        config = GenerateTasksConfig.from_preset("tiny", {"families": [family], "seed": seed, **counts})
        generate_tasks(config, output=Path(folder) / "dataset")
        made = levels(Path(folder) / "dataset", "harder", videos=False)
    return [task for task in made if task.level.layout_id not in known][:count]


def solved(folder: Path, weights: Path, tasks: list[Task]) -> np.ndarray:
    """Which levels a policy solves, bool `[levels]`."""
    model = _fresh_model(folder / "model", 0, 1)
    model.transformer.load_state_dict(torch.load(weights, weights_only=True))
    found = []
    for start in range(0, len(tasks), 192):
        part = tasks[start : start + 192]
        videos = model.sample(
            np.stack([task.first_frame for task in part]),
            [task.prompt for task in part],
            frames=part[0].frames,
            steps=EVALUATION_STEPS,
            seeds=[video_seed(0, task.level_id) for task in part],
        )
        found += [verdict.em for verdict in verify(videos, part)]
    return np.array(found, bool)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="folder that learning.py wrote")
    parser.add_argument("--family", default="regular,trapfield")
    parser.add_argument("--seed", type=int, default=0, help="of the benchmark's run")
    parser.add_argument("--levels-seed", type=int, default=4711, help="of the fresh levels")
    parser.add_argument("--levels", type=int, default=384, help="at most, a family")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for family in given.family.split(","):
        folder = given.runs / "work" / family / str(given.seed)
        tasks = fresh_levels(family, folder / "dataset", given.levels_seed, given.levels)
        moves = np.array([len(task.solution) - 1 for task in tasks])
        print(
            f"{family}: {len(tasks)} levels, by moves {dict(zip(*np.unique(moves, return_counts=True), strict=True))}"
        )
        for pattern in WEIGHTS:
            files = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
            if files:
                em = solved(folder, files[-1], tasks)
                low, high = wilson(int(em.sum()), len(em)) or (0.0, 1.0)
                by_moves = ", ".join(f"{n}: {em[moves == n].mean():.2f}" for n in sorted(set(moves.tolist())))
                print(
                    f"  {files[-1].stem}  {100 * em.mean():.1f} ({100 * low:.0f} to {100 * high:.0f})  {by_moves}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
