"""The gradient of a batch, on one device or spread over CPU cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from accelerate import Accelerator

from wan_r1.video_model.cores import Cores


def backward(
    accelerator: Accelerator,
    cores: Cores,
    loss: Callable[[slice], tuple[torch.Tensor, dict[str, float]]],
    size: int,
    parameters: Iterable[torch.nn.Parameter],
    *,
    scale: float = 1.0,
) -> dict[str, float]:
    """Add the gradient of ``scale`` times the mean loss to the parameters' gradients.

    Args:
        accelerator: enters autocast and, where the batch stays whole, does the backward pass (it may have to wait for
            other processes or scale the loss).
        cores: that the batch is spread over.
        loss: mean loss of a part of the batch, with what is logged of it.
        size: videos in the batch.
        parameters: that take gradients.
        scale: of the loss, such as one over the batches whose gradients are added up.

    Returns:
        Means over the batch of what is logged, with ``loss``, unscaled.
    """
    parameters = list(parameters)
    shares = cores.shares(size)

    def whole(share: slice, core: int) -> dict[str, float]:
        with accelerator.autocast():
            value, logged = loss(share)
        accelerator.backward(value * scale)
        return logged | {"loss": value.item()}

    def part(share: slice, core: int) -> tuple[dict[str, float], tuple[torch.Tensor | None, ...]]:
        with accelerator.autocast():
            value, logged = loss(share)
        weight = scale * (share.stop - share.start) / size
        # Not `backward`: two threads would add to the same gradients in an order that nobody knows.
        return logged | {"loss": value.item()}, torch.autograd.grad(value * weight, parameters, allow_unused=True)

    if len(shares) == 1:
        return whole(shares[0], 0)
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
