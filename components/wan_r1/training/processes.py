"""Several processes that train one model (`accelerate launch`): each has its share of every batch, all take one step.

Whatever decides how a run goes on is the same in all of them: randomness is drawn for the whole batch everywhere and
then shared out, and rewards, gradients and measured seconds are added up. So a batch gives the same step however many
processes share it, and no process waits for another that has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object, reduce

from wan_r1.config import ConfigError
from wan_r1.video_model.weights import is_sharded, whole

T = TypeVar("T")


class Processes:
    """The processes of one training.

    Args:
        accelerator: tells how many there are and which one this is.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.rank: int = accelerator.process_index
        self.sharded = False
        """Whether the model's weights are sharded over the processes (`wan_r1.training.sharding`)."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def require_share(self, parameter: str, value: int) -> None:
        """Refuse a batch that does not divide among the processes.

        Raises:
            ConfigError: naming the parameter and values that would work.
        """
        if value % self.count:
            below, above = value - value % self.count, value - value % self.count + self.count
            fitting = f"{below} or {above}" if below else str(above)
            raise ConfigError(
                f"{parameter}={value} does not divide among {self.count} processes; expected a multiple of "
                f"{self.count}, such as {fitting}"
            )

    def share(self, size: int) -> torch.Tensor:
        """Places of this process's entries among ``size``: every ``count``-th, int64."""
        return torch.arange(self.rank, size, self.count)

    def owns(self, places: torch.Tensor) -> torch.Tensor:
        """Whether each of these places belongs to this process's `share`, bool of the same shape."""
        return places % self.count == self.rank

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; one that is missing everywhere stays missing.

        One message for all of them: an adapter's gradients are many and small. Those of sharded weights are added up
        already, by the backward pass.
        """
        parameters = [parameter for parameter in parameters if not is_sharded(parameter)]
        if self.count == 1 or not parameters:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # An expert without a video in the whole batch must rest, as it does in one process.
        present = gradients[0].new_tensor([float(p.grad is not None) for p in parameters], dtype=torch.float32)
        flat = reduce(torch.cat([*(gradient.reshape(-1).float() for gradient in gradients), present]), reduction="sum")
        *parts, present = flat.split([*(gradient.numel() for gradient in gradients), len(parameters)])
        for parameter, part, found in zip(parameters, parts, present.tolist(), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype) if found else None

    def clip_gradients(self, parameters: Iterable[torch.nn.Parameter], largest: float) -> float:
        """Scale the gradients down to a norm of ``largest``; returns the norm before."""
        return float(whole(self.accelerator.clip_grad_norm_(list(parameters), largest)))

    def missing(self, passes: int) -> int:
        """How many passes another process makes more than this one; none counts where weights are not sharded.

        Where they are, each pass gathers them from all processes, so that all must make the same number.
        """
        return max(self.everyones([passes])) - passes if self.sharded else 0

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.count == 1:
            return value
        return float(sum(gather_object([value])))

    def everyones(self, items: Sequence[T]) -> list[T]:
        """What all processes have, in the order of their ranks; items must be picklable."""
        return list(items) if self.count == 1 else list(gather_object(list(items)))

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Means over the processes that have a value of that name."""
        if self.count == 1:
            return values
        everyones = self.everyones([values])
        names = dict.fromkeys(name for one in everyones for name in one)
        found = {name: [one[name] for one in everyones if name in one] for name in names}
        return {name: sum(numbers) / len(numbers) for name, numbers in found.items()}

    def by_first(self, work: Callable[[], T]) -> T:
        """Have the first process do something once, such as saving; the others wait and get its result."""
        if self.count == 1:
            return work()
        result = [work() if self.first else None]
        broadcast_object_list(result)
        return result[0]  # type: ignore[return-value]
