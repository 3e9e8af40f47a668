"""The compute that training used, so that runs can be given the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class ComputeClock:
    """Adds up the CPU seconds of marked work, all threads counted; on a GPU its seconds.

    Attributes:
        seconds: sum so far.
    """

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        """Start from ``seconds``, what a resumed run had used before."""
        self.device = device
        self.seconds = seconds

    def now(self) -> float:
        """A reading; differences of readings are seconds of compute."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return time.perf_counter()
        return time.process_time()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time within."""
        start = self.now()
        try:
            yield
        finally:
            self.seconds += self.now() - start
