"""Tiny trainings, to compare processes or to be killed: `torchrun first_update.py FOLDER OUTPUT DATA_PARALLEL KIND...`.

FOLDER has the models `tiny` and `experts`. The first process writes weights, averages and the optimizer's first moments
(a tenth of the gradient) to OUTPUT/KIND.pt and what else there is to tell to OUTPUT/KIND.json. Checkpoints lie in
OUTPUT/KIND, up to a colon in the kind's name.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from tiny_training import BRIGHT, DARK, grpo, sft

from wan_r1.train_grpo import stitching
from wan_r1.training.sharding import held
from wan_r1.video_model.weights import whole

LORA = {"lora_rank": 4, "lora_alpha": 8.0}
KINDS = {
    "sft": (sft, {"steps": 1, "batch_size": 6}),
    "sft_lora": (sft, {"steps": 1, "batch_size": 6, **LORA}),
    "experts_lora": (sft, {"steps": 1, "batch_size": 6, **LORA}),
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
    "stitched": (
        grpo,
        {
            "objective": "forward_grpo",
            "iterations": 1,
            "replay_batch": 3,
            "stitches": 2,
            "reward": DARK,
            "micro_batch": 2,
        },
    ),
    "flow_grpo_lora": (
        grpo,
        {"objective": "flow_grpo", "iterations": 1, "kl_beta": 0.1, "minibatches": 2, "micro_batch": 2, **LORA},
    ),
    "forward_grpo_lora": (
        grpo,
        {"objective": "forward_grpo", "iterations": 1, "minibatches": 3, "replay_batch": 3, "micro_batch": 2, **LORA},
    ),
}
_SFT = {"batch_size": 4, "checkpoint_every": 100, "validate_every": 3}
_GRPO = {"objective": "forward_grpo", "replay_batch": 3, "checkpoint_every": 100, "validate_every": 3, **LORA}
CHAINS = {
    **{f"chain_sft:{steps}": (sft, {"steps": steps, **_SFT}) for steps in (2, 4, 6)},
    **{f"chain_grpo:{steps}": (grpo, {"iterations": steps, **_GRPO}) for steps in (1, 2, 3)},
}
"""Trainings that go on from the checkpoint of the one with fewer steps."""
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
    """Train each kind and write what came out."""
    folder, output, data_parallel, *kinds = sys.argv[1:]
    torch.set_num_threads(1)
    for kind in kinds:
        _train(Path(folder), Path(output), data_parallel, kind)


def _train(folder: Path, output: Path, data_parallel: str, kind: str) -> None:
    make, changes = (KINDS | CHAINS | LONG)[kind]
    common = {"learning_rate": 1e-4, "data_parallel": data_parallel, **({} if make is sft else COMMON)}
    model = "experts" if kind.startswith("experts") else "tiny"
    trainer = make(folder / model, output / kind.split(":")[0], **(common | changes))
    if changes.get("stitches"):
        # An untrained policy makes no right move that could be gone on from.
        stitching.last_right_move = lambda task, verdict: (1, 3)
    if changes.get("demonstration_batch"):
        known = trainer.prompts.tasks[: trainer.prompts.demonstrated]
        trainer.prompts.demonstrations = trainer.model.encode_videos(np.stack([task.video for task in known]))
    kept = {}
    save = trainer._save

    def keep(*optimizer):
        used = whole((optimizer[1] if optimizer else trainer.optimizer).state_dict()["state"])
        kept.update({f"moment {i}": state["exp_avg"] for i, state in used.items()})
        return save(*optimizer)

    trainer._save = keep
    trainer.run()
    transformer = trainer.model.transformer
    told = {
        "processes": trainer.processes.count,
        "log": trainer.state.log,
        "held": trainer.processes.everyones([held(trainer.model)]),
        "weights": sum(parameter.numel() for parameter in transformer.parameters()),
        "learned": sum(p.numel() for p in transformer.parameters() if p.requires_grad),
    }
    found = {"average": whole(trainer.state.ema), "weights": whole(transformer.state_dict()), **kept}
    if trainer.processes.first:
        torch.save(found, output / f"{kind}.pt")
        (output / f"{kind}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
