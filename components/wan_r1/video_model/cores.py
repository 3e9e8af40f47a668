"""The videos of a batch spread over CPU cores, a thread each.

Torch's own threads share out single operations, which are small in the tiny model. On two cores they make it 1.6 times
as fast; two Python threads with half of the videos each, 1.8 times (batches of 96; of 32, both 1.6:
`tests/benchmarks/cores.py`). Torch lets go of Python's lock inside its operations.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from wan_r1.memory import keep_freed_memory

T = TypeVar("T")

LEAST = 8
"""Videos below which a thread's share is not worth a switch."""


class Cores:
    """Threads that each take their share of a batch. The shares depend on the batch and ``count`` alone.

    Args:
        count: threads; 1 runs everything where it is called.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self._pool = (
            ThreadPoolExecutor(count - 1, thread_name_prefix="core", initializer=torch.set_num_threads, initargs=(1,))
            if count > 1
            else None
        )

    def shares(self, size: int) -> list[slice]:
        """Consecutive, nearly equal parts of ``size`` videos, at most one a thread."""
        parts = max(1, min(self.count, size // LEAST))
        ends = [size * part // parts for part in range(parts + 1)]
        return [slice(begin, end) for begin, end in itertools.pairwise(ends)]

    def spread(self, work: Callable[[slice, int], T], size: int) -> list[T]:
        """``work(share, core)`` for every share of ``size`` videos at once; results in the order of the shares.

        ``core`` counts from 0, for what must not be used by two threads. Gradients are recorded where the caller
        records them; autocast is the work's own to enter.
        """
        shares = self.shares(size)
        if self._pool is None or len(shares) == 1:
            return [work(share, 0) for share in shares]
        recording = torch.is_grad_enabled()

        def elsewhere(share: slice, core: int) -> T:
            with torch.set_grad_enabled(recording):
                return work(share, core)

        others = [self._pool.submit(elsewhere, share, core + 1) for core, share in enumerate(shares[1:])]
        try:
            first = work(shares[0], 0)
        finally:
            # Nobody goes on, not even with an error, while a thread still works on the caller's tensors.
            for other in others:
                other.exception()
        return [first, *(other.result() for other in others)]


def use_cores(threads: int, device: torch.device) -> Cores:
    """``threads`` cores for a model on this device, 0 for all that this process may use; torch's own threads go to 1.

    On a GPU the batch stays whole, and torch keeps its threads.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type != "cpu":
        torch.set_num_threads(threads or available)
        return Cores(1)
    torch.set_num_threads(1)
    keep_freed_memory()
    return Cores(threads or available)
