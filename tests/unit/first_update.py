"""A tiny training, to compare processes or to be killed: `torchrun first_update.py FOLDER PREFIX OUTPUT KIND`.

The first process writes weights, averages and the optimizer's first moments (a tenth of the gradient) to OUTPUT.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tiny_training import BRIGHT, grpo, sft

KINDS = {
    "sft": (sft, {"steps": 1, "batch_size": 6}),
    "flow_grpo": (grpo, {"objective": "flow_grpo", "iterations": 1, "kl_beta": 0.1, "minibatches": 2}),
    "random_window": (
        grpo,
        {"objective": "flow_grpo", "iterations": 1, "sde_window_moves": "random", "step_weighting": "gradient_scale"},
    ),
    "forward_grpo": (
        grpo,
        {
            "objective": "forward_grpo",
            "iterations": 1,
            "minibatches": 2,
            "replay_batch": 3,
            "demonstration_batch": 3,
            "curriculum_floor": 0.5,
        },
    ),
}
LONG = {
    "long_sft": (sft, {"steps": 60, "batch_size": 8, "checkpoint_every": 7, "validate_every": 5}),
    "long_grpo": (
        grpo,
        {"objective": "forward_grpo", "iterations": 24, "replay_batch": 3, "checkpoint_every": 3, "validate_every": 2},
    ),
}
"""Trainings of some seconds, to be killed in the middle."""
COMMON = {"prompts_per_iteration": 4, "reward": BRIGHT, "least_std": 1e-7}


def main() -> None:
    """Train once and write what came out."""
    folder, prefix, output, kind = sys.argv[1:]
    torch.set_num_threads(1)
    make, changes = (KINDS | LONG)[kind]
    trainer = make(Path(folder), Path(prefix), learning_rate=1e-4, **({} if make is sft else COMMON), **changes)
    if changes.get("demonstration_batch"):
        known = trainer.prompts.tasks[: trainer.prompts.demonstrated]
        trainer.prompts.demonstrations = trainer.model.encode_videos(np.stack([task.video for task in known]))
    kept = {}
    save = trainer._save

    def keep(*optimizer):
        used = optimizer[1] if optimizer else trainer.optimizer
        kept.update({f"moment {i}": state["exp_avg"] for i, state in used.state_dict()["state"].items()})
        return save(*optimizer)

    trainer._save = keep
    trainer.run()
    if trainer.processes.first:
        torch.save({"average": trainer.state.ema, "weights": trainer.model.transformer.state_dict(), **kept}, output)
        Path(output).with_suffix(".json").write_text(
            json.dumps({"processes": trainer.processes.count, "log": trainer.state.log})
        )


if __name__ == "__main__":
    main()
