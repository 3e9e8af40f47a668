"""The trainable weights of a model, and their exponential moving average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

Weights = dict[str, torch.Tensor]


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Parameters that take gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def copy_weights(module: torch.nn.Module) -> Weights:
    """A detached copy of the trainable weights."""
    return {name: parameter.detach().clone() for name, parameter in trainable(module).items()}


@torch.no_grad()
def move_towards(average: Weights, module: torch.nn.Module, share: float) -> None:
    """``average += share * (weights - average)`` in place: one step of a moving average with decay ``1 - share``."""
    for name, parameter in trainable(module).items():
        average[name].lerp_(parameter.detach(), share)


@contextmanager
def using(module: torch.nn.Module, weights: Weights) -> Iterator[None]:
    """Run with other trainable weights (those named in ``weights``), and put the module's own back afterwards.

    Tensors are exchanged, not copied, so that this costs nothing.
    """
    parameters = trainable(module)
    own = {name: parameters[name].data for name in weights}
    for name, tensor in weights.items():
        parameters[name].data = tensor
    try:
        yield
    finally:
        for name, tensor in own.items():
            parameters[name].data = tensor
