"""A training that is asked to end (SIGTERM: a pod is evicted, a node is drained) saves what it has first.

Kubernetes waits `terminationGracePeriodSeconds`, 30 by default, between SIGTERM and SIGKILL. A rollout changes no
weight, so it is given up at once; an update that has begun is finished, since half of one cannot be saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from wan_r1.training.processes import Processes


class Evicted(SystemExit):
    """SIGTERM ended the training. Its checkpoint is saved; the same command goes on from there.

    A `SystemExit`, with a shell's code for a process that SIGTERM ended.
    """

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Eviction:
    """Turns SIGTERM into `Evicted`, at a moment when the training's state is whole.

    Used as a context manager around the training's loop. Elsewhere than in the main thread, where Python allows no
    handler, it does nothing.

    Args:
        processes: that train together. Several end together, after an iteration: one that left alone would leave the
            others waiting.
    """

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._asked = False
        self._busy = processes.count > 1

    def __enter__(self) -> Eviction:
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Do not end in here, but right after it: weights, averages and counters change together.

        Raises:
            Evicted: at its end, if SIGTERM has come to any of the processes.
        """
        self._busy = True
        yield
        self._busy = self._processes.count > 1
        if self._processes.total(float(self._asked)):
            self._end()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self._busy:
            self._end()

    def _end(self) -> None:
        # Once: what ends the loop must not end the saving that follows.
        self._busy, self._asked = True, False
        raise Evicted
