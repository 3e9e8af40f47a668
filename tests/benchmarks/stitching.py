"""What stitching makes of levels that are too long for a policy: successes by length, and a picture of some.

    python tests/benchmarks/stitching.py --runs DIR --family regular --weights forward_grpo-1200.pt --output FILE.png

``DIR`` is the output folder of `learning.py`, whose data set, model and kept weights of seed 0 are used. Of each length
``--levels`` prompts get one video each; from those that fail the policy goes on, as in training.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from wan_r1.rewards import get_reward
from wan_r1.tasks.dataset import Task
from wan_r1.train_grpo.replay import SUCCESS
from wan_r1.train_grpo.rollouts import Prompts, Rollout, roll_out
from wan_r1.train_grpo.stitching import Stitched, stitch
from wan_r1.training.inputs import levels
from wan_r1.training.processes import Processes
from wan_r1.video_model.loading import load_pipeline_folder
from wan_r1.video_model.sampling import ode_sample
from wan_r1.video_model.schedule import sigma_grid
from wan_r1.video_model.tiny import PROMPT_TOKENS
from wan_r1.video_model.wan import VideoModel

STEPS, BATCH = 2, 192


def chosen_levels(dataset: Path, each: int, seed: int) -> list[Task]:
    """Prompts of every length, ``each`` of them."""
    by_moves: dict[int, list[Task]] = defaultdict(list)
    for task in levels(dataset, "prompts", videos=False):
        by_moves[len(task.solution) - 1].append(task)
    rng = np.random.default_rng(seed)
    drawn = {moves: rng.choice(len(found), min(each, len(found)), replace=False) for moves, found in by_moves.items()}
    return [by_moves[moves][index] for moves in sorted(drawn) for index in drawn[moves].tolist()]


def go_on(model: VideoModel, tasks: list[Task], rounds: int, seed: int) -> tuple[Rollout, Stitched]:
    """A video of each level, and what stitching makes of those that fail."""
    prompts = Prompts.encode(model, [], tasks)
    generator = torch.Generator().manual_seed(seed)
    shape = (prompts.first_latents.shape[1], model.latent_frames(tasks[0].frames), *prompts.first_latents.shape[3:])
    grid, reward = sigma_grid(STEPS, model.shift), get_reward("trajectory")
    rollout = roll_out(
        model,
        prompts,
        np.arange(len(tasks)),
        group_size=1,
        noise=torch.randn(len(tasks), *shape, generator=generator),
        sampler=lambda noise, condition, part: (ode_sample(model, noise, condition, grid), []),
        reward=reward,
        chunk=BATCH,
    )
    stitched = stitch(
        model,
        prompts,
        rollout,
        noise=torch.randn(rounds, len(tasks), *shape, generator=generator),
        sampler=lambda noise, condition: ode_sample(model, noise, condition, grid),
        reward=reward,
        processes=Processes(_Alone()),
        chunk=BATCH,
    )
    return rollout, stitched


class _Alone:
    """Stands for an accelerator of one process."""

    num_processes, process_index = 1, 0


def picture(model: VideoModel, rollout: Rollout, stitched: Stitched, count: int) -> np.ndarray:
    """Failed videos of the longest levels, each above the success stitched from it, uint8 `[height, width, 3]`."""
    longest = sorted(
        stitched.successes, key=lambda success: (-len(rollout.tasks[success.level].solution), success.level)
    )
    rows = []
    for success in longest[:count]:
        moves = len(rollout.tasks[success.level].solution) - 1
        for name, video in (
            (f"the policy: fails ({moves} moves)", rollout.videos[success.level]),
            ("stitched: solved", model.decode(success.video)[0]),
        ):
            large = [cv2.resize(frame, (96, 96), interpolation=cv2.INTER_NEAREST) for frame in video]
            strip = np.concatenate(
                [np.pad(frame, ((18, 4), (0, 6), (0, 0)), constant_values=255) for frame in large], 1
            )
            strip = np.ascontiguousarray(strip)
            cv2.putText(strip, name, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
            rows.append(strip)
    return np.concatenate(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True, help="output folder of learning.py")
    parser.add_argument("--family", default="regular")
    parser.add_argument("--weights", required=True, help="name of a file of kept weights")
    parser.add_argument("--levels", type=int, default=96, help="levels of each length")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, required=True, help="PNG file")
    given = parser.parse_args()
    work = given.runs / "work" / given.family / "0"
    model = load_pipeline_folder(work / "model", max_prompt_tokens=PROMPT_TOKENS)
    model.transformer.load_state_dict(torch.load(work / given.weights, weights_only=True))
    tasks = chosen_levels(work / "dataset", given.levels, given.seed)
    rollout, stitched = go_on(model, tasks, given.rounds, given.seed)
    solved = {success.level for success in stitched.successes}
    print("| moves | levels | solved by the policy | stitched |\n| ---: | ---: | ---: | ---: |")
    for moves in sorted({len(task.solution) - 1 for task in tasks}):
        of = [index for index, task in enumerate(tasks) if len(task.solution) - 1 == moves]
        alone = sum(rollout.rewards[index, 0] >= SUCCESS for index in of)
        print(f"| {moves} | {len(of)} | {alone} | {len(solved.intersection(of))} |")
    shown = Image.fromarray(picture(model, rollout, stitched, 3))
    shown.quantize(200).save(given.output, optimize=True)


if __name__ == "__main__":
    main()
