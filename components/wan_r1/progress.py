"""Progress as plain lines, which read the same on a terminal, in a pod's log and in a file."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

FASTEST_SECONDS = 2.0
"""Least time between two lines of `Progress.update`."""
SLOWEST_SECONDS = 10.0
"""Longest time without a line while a stage works."""


class Progress:
    """Prints where a stage is: ``train_sft  step 120/500  loss 0.231  em 0.41  1:05 left``.

    The first update is printed at once, later ones at most every 2 s, and a background thread repeats the last one with
    its age when nothing was printed for 10 s (a long compile, an upload). Use it as a context manager, or `close` it.

    Args:
        stage: name at the start of each line.
        total: steps in all; ``None`` where it is not known, then no time left is shown.
        start: steps that were done before (a resumed stage), which say nothing about the speed.
        unit: what is counted.
        stream: where lines go; standard output by default.
        quiet: prints nothing, for all but the first of several processes.
    """

    def __init__(
        self,
        stage: str,
        total: int | None = None,
        *,
        start: int = 0,
        unit: str = "step",
        stream: TextIO | None = None,
        quiet: bool = False,
    ) -> None:
        self.stage = stage
        self.total = total
        self.unit = unit
        self._stream = stream
        self._quiet = quiet
        self._start_step = start
        self._begin = time.monotonic()
        self._printed = 0.0
        self._step: int | None = None
        self._values: dict[str, float | str] = {}
        self._note = ""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"progress-{stage}", daemon=True)
        self._printed = time.monotonic()
        self._thread.start()
        self._first = True

    def update(self, step: int, **values: float | str) -> None:
        """Tell the step that is done and what to show beside it; prints a line if it is time for one.

        Args:
            step: steps done so far, from 0 to ``total``.
            values: numbers or words to show, such as ``loss=0.231``.
        """
        with self._lock:
            self._step, self._values = step, values
            last = self.total is not None and step >= self.total
            if self._first or last or time.monotonic() - self._printed >= FASTEST_SECONDS:
                self._first = False
                self._print()

    def note(self, text: str) -> None:
        """Print a line at once, such as ``compiling``; it is repeated while nothing newer is known."""
        with self._lock:
            self._note, self._step = text, None
            self._print()

    def close(self) -> None:
        """End the background thread; call it when the stage's work is over."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _beat(self) -> None:
        while not self._closed.wait(0.5):
            with self._lock:
                # One beat early, so that two lines are never further apart than the promise.
                if time.monotonic() - self._printed >= SLOWEST_SECONDS - 1.0:
                    self._print(f"{clock(time.monotonic() - self._begin)} passed")

    def _print(self, extra: str = "") -> None:
        parts = [self.stage]
        if self._step is not None:
            parts.append(f"{self.unit} {self._step}/{self.total}" if self.total else f"{self.unit} {self._step}")
            parts += [f"{name} {shown(value)}" for name, value in self._values.items()]
        elif self._note:
            parts.append(self._note)
        else:
            parts.append("working")
        if extra:
            parts.append(extra)
        left = self._left()
        if left is not None:
            parts.append(f"{clock(left)} left")
        if not self._quiet:
            print("  ".join(parts), file=self._stream or sys.stdout, flush=True)
        self._printed = time.monotonic()

    def _left(self) -> float | None:
        """Seconds to the end at the speed so far."""
        if self._step is None or not self.total or self._step <= self._start_step:
            return None
        passed = time.monotonic() - self._begin
        return passed * (self.total - self._step) / (self._step - self._start_step)


def shown(value: float | str) -> str:
    """A value in few characters: three significant digits, or words as they are."""
    return value if isinstance(value, str) else f"{value:.3g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """A duration as ``1:05`` or ``2:03:04``."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
