"""What a local run shows: the stages' progress and nothing else; every other line goes into the run's log.

Kubeflow's local runner prints its own log, the stages' output and all warnings to standard output. `Console` stands in
for standard output meanwhile and sorts the lines.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from wan_r1.progress import SLOWEST_SECONDS, clock

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_START = re.compile(r"Executing task '([^']+)'")
_END = re.compile(r"Task '([^']+)' finished with status (SUCCESS|FAILURE)")
_REUSED = re.compile(r"Task (\S+) cache hit")
_ERROR = re.compile(r"^(?:[A-Za-z_][\w]*\.)*([A-Za-z_]\w*(?:Error|Exception|Diverged|Interrupt|Exit))(?:: (.*))?$")
_INPUT = re.compile(r'^["{}\[\]]')
_RUNNER = re.compile(r"^\[KFP Executor|^\d\d:\d\d:\d\d\.\d{3} - ")


@dataclass
class Task:
    """A task that a thread of the runner works on."""

    name: str
    begin: float = field(default_factory=time.monotonic)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=40))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A task that failed."""

    task: str
    message: str
    """The error's own words, or the last lines of the task's output."""


class Console:
    """A stand-in for standard output during a local run.

    Args:
        shown: where progress goes.
        log: file that receives every line.
        stages: names of the stages, by which their progress lines are known.
    """

    encoding = "utf-8"

    def __init__(self, shown: TextIO, log: Path, stages: list[str]) -> None:
        self.failures: list[Failure] = []
        self.interrupted = False
        self._shown = shown
        self._log = log.open("a")
        self._progress = re.compile(rf"^(?:{'|'.join(map(re.escape, stages))})\S*  ")
        self._lock = threading.RLock()
        self._partial: dict[int, str] = {}
        self._tasks: dict[int, Task] = {}
        self._printed = time.monotonic()
        self._closed = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="console", daemon=True)
        self._heart.start()

    def write(self, text: str) -> int:
        """Take text; whole lines of one thread stay together."""
        with self._lock:
            thread = threading.get_ident()
            *lines, rest = (self._partial.get(thread, "") + text).split("\n")
            self._partial[thread] = rest
            for line in lines:
                self._line(thread, _COLOUR.sub("", line))
        return len(text)

    def flush(self) -> None:
        """Nothing waits: every line is written at once."""

    def isatty(self) -> bool:
        """Lines are plain."""
        return False

    def say(self, text: str) -> None:
        """Show a line."""
        with self._lock:
            self._write_log(text)
            print(text, file=self._shown, flush=True)
            self._printed = time.monotonic()

    def close(self) -> None:
        """Stop showing and close the log."""
        self._closed.set()
        self._heart.join()
        with self._lock:
            self._log.close()

    @property
    def running(self) -> list[str]:
        """Tasks that run now."""
        with self._lock:
            return [task.name for task in self._tasks.values()]

    def _line(self, thread: int, line: str) -> None:
        self._write_log(line)
        content = line.strip()
        if found := _REUSED.search(line):
            self.say(f"{_stage(found[1])}  reused: nothing that it depends on has changed")
        elif found := _START.search(line):
            self._tasks[thread] = Task(self._free_name(_stage(found[1])))
            self.say(f"{self._tasks[thread].name}  starting")
        elif found := _END.search(line):
            self._end(thread, failed=found[2] == "FAILURE")
        elif content and not _RUNNER.match(content):
            if thread in self._tasks and not _INPUT.match(content):
                self._tasks[thread].tail.append(content)
            if self._progress.match(content):
                task = self._tasks.get(thread)
                # Two arms of a comparison run at once: the second one's lines say that they are its.
                numbered = task is not None and task.name.endswith(")") and ":" not in content.split()[0]
                self.say(re.sub(r"^\S+", task.name, content) if task and numbered else content)

    def _free_name(self, stage: str) -> str:
        """The stage's name, numbered if it runs already."""
        taken = {task.name for task in self._tasks.values()}
        names = [stage, *(f"{stage} ({number})" for number in range(2, len(taken) + 2))]
        return next(name for name in names if name not in taken)

    def _end(self, thread: int, *, failed: bool) -> None:
        task = self._tasks.pop(thread, None)
        if task is None:
            return
        if failed:
            self.failures.append(Failure(task=task.name, message=_message(list(task.tail))))
            if not self.interrupted:
                self.say(f"{task.name}  failed: {self.failures[-1].message}")
        else:
            self.say(f"{task.name}  done in {clock(time.monotonic() - task.begin)}")

    def _beat(self) -> None:
        while not self._closed.wait(0.1):
            with self._lock:
                # A little later than the heartbeat of a stage itself, which says more.
                if self._tasks and time.monotonic() - self._printed >= SLOWEST_SECONDS - 0.4:
                    oldest = min(self._tasks.values(), key=lambda task: task.begin)
                    self.say(f"{oldest.name}  working  {clock(time.monotonic() - oldest.begin)} passed")

    def _write_log(self, line: str) -> None:
        if not self._log.closed:
            print(line, file=self._log, flush=True)


def _stage(task: str) -> str:
    """The stage's name of a task: ``evaluate 2`` for the task ``evaluate-2``."""
    return re.sub(r"-(\d+)$", r" \1", task).replace("-", "_")


def _message(tail: list[str]) -> str:
    """The words of the last error in a task's output, or its last lines."""
    for place in range(len(tail) - 1, -1, -1):
        if _ERROR.match(tail[place]):
            kind, _, words = tail[place].partition(": ")
            rest = [words, *tail[place + 1 :]] if words else [kind, *tail[place + 1 :]]
            return "\n".join(rest)
    return "\n".join(tail[-5:]) or "it ended without a word; it may have been killed for want of memory"
