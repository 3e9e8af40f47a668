"""The gradient of a batch: in parts that fit the memory, on one device or spread over CPU cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from wan_r1.video_model.cores import Cores

Loss = Callable[[slice], tuple[torch.Tensor, dict[str, float]]]
"""Mean loss of a part of a batch, with what is logged of it."""


@dataclass(frozen=True, kw_only=True)
class Idle:
    """How a process keeps step with others that have more videos, where each pass takes all of them.

    Attributes:
        missing: passes that another process makes more than this one, which makes so many (`Processes.missing`).
        forward: a forward pass on a video of this process; its result counts for nothing.
    """

    missing: Callable[[int], int]
    forward: Callable[[], torch.Tensor]


def backward(
    accelerator: Accelerator,
    cores: Cores,
    loss: Loss,
    size: int,
    parameters: Iterable[torch.nn.Parameter],
    *,
    scale: float = 1.0,
    micro_batch: int = 0,
    idle: Idle | None = None,
) -> dict[str, float]:
    """Add the gradient of ``scale`` times the mean loss to the parameters' gradients.

    Args:
        accelerator: enters autocast and, where the batch stays whole, does the backward pass (it may have to scale the
            loss).
        cores: that the batch is spread over.
        loss: of a part of the batch.
        size: videos in the batch; 0 does nothing.
        parameters: that take gradients.
        scale: of the loss, such as one over the batches whose gradients are added up.
        micro_batch: videos per forward and backward pass; 0 takes all at once.
        idle: what this process does in the passes that others make more; by default all make the same number.

    Returns:
        Means over the batch of what is logged, with ``loss``, unscaled; nothing of an empty batch.
    """
    parameters = list(parameters)
    means: dict[str, float] = {}
    starts = range(0, size, micro_batch or max(1, size))
    # Asked first: from here on nobody waits for anything but passes.
    missing = 0 if idle is None else idle.missing(len(starts))
    for start in starts:
        part = slice(start, min(size, start + micro_batch) if micro_batch else size)
        share = (part.stop - part.start) / size
        logged = _backward_part(accelerator, cores, loss, part, parameters, scale * share)
        for name, value in logged.items():
            means[name] = means.get(name, 0.0) + share * value
    for _ in range(missing):
        assert idle is not None
        with accelerator.autocast():
            nothing = 0 * idle.forward().sum()
        accelerator.backward(nothing)
    return means


def _backward_part(
    accelerator: Accelerator,
    cores: Cores,
    loss: Loss,
    batch: slice,
    parameters: list[torch.nn.Parameter],
    scale: float,
) -> dict[str, float]:
    """One forward and backward pass; means of what is logged."""
    size = batch.stop - batch.start
    shares = cores.shares(size)

    def value_of(share: slice) -> tuple[torch.Tensor, dict[str, float]]:
        with accelerator.autocast():
            value, logged = loss(slice(batch.start + share.start, batch.start + share.stop))
        return value, logged | {"loss": value.item()}

    def part(share: slice, core: int) -> tuple[dict[str, float], tuple[torch.Tensor | None, ...]]:
        value, logged = value_of(share)
        weight = scale * (share.stop - share.start) / size
        # Not `backward`: two threads would add to the same gradients in an order that nobody knows.
        return logged, torch.autograd.grad(value * weight, parameters, allow_unused=True)

    if len(shares) == 1:
        value, logged = value_of(shares[0])
        accelerator.backward(value * scale)
        return logged
    results = cores.spread(part, size)
    for index, parameter in enumerate(parameters):
        for _, gradients in results:
            gradient = gradients[index]
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return {
        name: sum(logged[name] * (share.stop - share.start) for share, (logged, _) in zip(shares, results, strict=True))
        / size
        for name in results[0][0]
    }
