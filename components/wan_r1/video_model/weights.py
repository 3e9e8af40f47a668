"""The trainable weights of a model, and their exponential moving average.

A model that is sharded over processes (`wan_r1.training.sharding`) has only its part of each weight here, a
`torch.distributed.tensor.DTensor`. `whole` and `placed_like` lead from these parts to whole weights and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

    Tensors are exchanged, not copied, so that this costs nothing. Parts of a sharded model are copied: it gathers from
    the memory that it has put them into.
    """
    parameters = trainable(module)
    own = {name: _own(parameters[name]) for name in weights}
    for name, tensor in weights.items():
        _put(parameters[name], tensor)
    try:
        yield
    finally:
        for name, tensor in own.items():
            _put(parameters[name], tensor)


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether this process has only a part of the tensor."""
    # Not by its class: importing that takes a second, which no other training should wait.
    return hasattr(tensor, "full_tensor")


@torch.no_grad()
def whole(value: Any) -> Any:
    """A value, dicts and lists of values alike, with every sharded tensor gathered; all processes call it together."""
    if isinstance(value, dict):
        return type(value)((key, whole(entry)) for key, entry in value.items())
    if isinstance(value, list):
        return [whole(entry) for entry in value]
    return value.full_tensor() if is_sharded(value) else value


def placed_like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A whole tensor where a parameter is: on its device and, if that is sharded, this process's part of it."""
    tensor = tensor.to(parameter.device)
    if not is_sharded(parameter):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every process has the whole tensor: none needs another one's.
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)  # type: ignore[attr-defined]


def _own(parameter: torch.nn.Parameter) -> torch.Tensor:
    return parameter.detach().clone() if is_sharded(parameter) else parameter.data


def _put(parameter: torch.nn.Parameter, tensor: torch.Tensor) -> None:
    if is_sharded(parameter):
        parameter.data.copy_(tensor)
    else:
        parameter.data = tensor
