"""FSDP2: the processes of a training share a model's weights, and gather each block when it is its turn.

Torch's `fully_shard` splits every weight over the processes of a node, or over all nodes where each has one process.
An adapter stays whole in each of them, and its gradients are added up as without sharding: it is small (a LoRA of rank
32 on Wan2.2-TI2V-5B is 0.3 GB, the weights that it stands on are 10 GB), it is float32 beside bfloat16, which one group
of `fully_shard` cannot train, and what exchanges adapters (moving averages, the reference, checkpoints) exchanges whole
tensors.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

from wan_r1.training.processes import Processes
from wan_r1.video_model.cores import Cores
from wan_r1.video_model.experts import WanExperts, components
from wan_r1.video_model.wan import VideoModel
from wan_r1.video_model.weights import is_sharded, trainable


def shard(model: VideoModel, processes: Processes) -> None:
    """Share the transformer's weights among the processes, from here on in step with each other; one keeps them all.

    To be called after what is trained was chosen and before the optimizer is made.

    Args:
        model: its transformer is changed in place; it then runs only in all processes at once.
        processes: that each hold the whole model so far.
    """
    if processes.count == 1:
        return
    # Imported here: they take a second, which other trainings need not wait.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # Where a node has several processes they share the weights, which then cross no network between nodes.
    several = 1 < here < processes.count
    shape, names = (
        ((processes.count // here, here), ("replicate", "shard")) if several else ((processes.count,), ("shard",))
    )
    mesh = init_device_mesh(model.device.type, shape, mesh_dim_names=names)
    for transformer in components(model.transformer).values():
        parameters = dict(transformer.named_parameters())
        learned = trainable(transformer)
        adapter = set(learned.values()) if len(learned) < len(parameters) else set()
        # The root is resharded too: its weights must be put back before others take their place (`using`).
        for part in (*transformer.blocks, transformer):
            fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=adapter)
        for part in transformer.modules():
            if isinstance(part, FSDPModule):
                # The loss is weighed by each process's share of the batch, so gradients are added up.
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)
    if isinstance(model.transformer, WanExperts):
        model.transformer.in_step = True
    # Threads would gather weights in an order of their own.
    model.cores = Cores(1)
    processes.sharded = True
    # Nobody writes into what the transformer returns.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")


def held(model: VideoModel) -> int:
    """Weights of the transformer that this process holds, adapters included."""
    parts: list[Any] = list(model.transformer.parameters())
    return sum((part.to_local() if is_sharded(part) else part).numel() for part in parts)
