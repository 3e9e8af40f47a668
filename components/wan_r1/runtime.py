"""What a stage costs and where it ran: time, core time, memory, machine and code version."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

_SAMPLE_SECONDS = 0.5


class StageClock:
    """Measures a stage from ``with`` to `summary`: seconds, core seconds, peak memory of the process and its children.

    Args:
        stage: the stage's name.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="stage-clock", daemon=True)
        self._started_at = datetime.datetime.now(datetime.UTC)
        self._begin = time.monotonic()
        self._cores = core_seconds()
        self._frozen: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frozen = self._measure()
        self._stop.set()
        self._thread.join()

    def summary(self) -> dict[str, Any]:
        """What was measured until now or, after the ``with`` block, until its end.

        Returns:
            ``stage``, ``seconds`` (wall), ``core_seconds`` (processor time of all threads and ended children),
            ``peak_memory_bytes`` (largest sum of resident memory over this process and its children, sampled twice a
            second), ``started_at`` (UTC, ISO 8601), ``machine`` and ``git_commit``.
        """
        return dict(self._frozen or self._measure())

    def _measure(self) -> dict[str, Any]:
        self._peak = max(self._peak, resident_bytes())
        return {
            "stage": self.stage,
            "seconds": round(time.monotonic() - self._begin, 3),
            "core_seconds": round(core_seconds() - self._cores, 3),
            "peak_memory_bytes": self._peak,
            "started_at": self._started_at.isoformat(timespec="milliseconds"),
            "machine": machine(),
            "git_commit": git_commit(),
        }

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, resident_bytes())


def core_seconds() -> float:
    """Processor time of this process's threads and of its children that have ended, in seconds."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def resident_bytes() -> int:
    """Resident memory of this process and all its descendants, in bytes; pages they share count once for each."""
    process = psutil.Process()
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            # It ended between the listing and the look.
            continue
    return int(total)


def machine() -> dict[str, Any]:
    """The machine: ``cpu`` (model), ``cores`` (that this process may use), ``memory_bytes``, ``gpu`` (name or null).

    The GPU is named only where torch is loaded already: asking for it must not cost an import.
    """
    torch = sys.modules.get("torch")
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    return {**_host(), "gpu": gpu}


@functools.cache
def _host() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_model(), "cores": cores, "memory_bytes": psutil.virtual_memory().total}


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def git_commit() -> str:
    """The commit of this code: ``WAN_R1_GIT_COMMIT`` (images set it), else the source tree's, else ``unknown``.

    A source tree with uncommitted changes is marked by ``-dirty``.
    """
    named = os.environ.get("WAN_R1_GIT_COMMIT")
    if named:
        return named
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip() or "unknown"
