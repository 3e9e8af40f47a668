"""What a local run shows of the runner's output: progress of stages, and the words of an error."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from launch.console import Console

RED, END = "\x1b[91m", "\x1b[0m"


@pytest.fixture
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(shown: io.StringIO, tmp_path: Path) -> Console:
    return Console(shown, tmp_path / "log.txt", ["train_sft", "evaluate"])


def test_progress_is_shown_and_noise_is_only_logged(console: Console, shown: io.StringIO, tmp_path: Path) -> None:
    console.write("12:00:00.000 - INFO - Executing task \x1b[96m'train-sft'\x1b[0m\n")
    console.write("    [KFP Executor 2026-11-22 16:43:05,440 INFO]: Looking for component `train_sft`\n")
    console.write("    ")
    console.write("train_sft  step 1/4  loss 1.3\n")
    console.write("    UserWarning: something of a library\n")
    console.write(f"12:00:09.000 - INFO - Task \x1b[96m'train-sft'\x1b[0m finished with status {RED}SUCCESS{END}\n")
    console.close()
    assert shown.getvalue().splitlines() == [
        "train_sft  starting",
        "train_sft  step 1/4  loss 1.3",
        "train_sft  done in 0:00",
    ]
    assert "something of a library" in (tmp_path / "log.txt").read_text()


def test_reused_stages_are_said(console: Console, shown: io.StringIO) -> None:
    console.write("12:00:00.000 - INFO - Task evaluate-3 cache hit (key=abc); skipping execution.\n")
    console.close()
    assert shown.getvalue() == "evaluate 3  reused: nothing that it depends on has changed\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [
                "Traceback (most recent call last):",
                '  File "x.py", line 1, in f',
                "wan_r1.config.ConfigError: a=1 is bad",
            ],
            "a=1 is bad",
        ),
        (["ValueError: rows are broken:", "row 3", "row 4"], "rows are broken:\nrow 3\nrow 4"),
        (['"uri": "/x"', "}", "one", "two"], "one\ntwo"),
        ([], "it ended without a word; it may have been killed for want of memory"),
    ],
)
def test_a_failure_has_the_errors_own_words(console: Console, lines: list[str], message: str) -> None:
    console.write("12:00:00.000 - INFO - Executing task 'train-sft'\n")
    for line in lines:
        console.write(f"    {line}\n")
    console.write(f"12:00:09.000 - INFO - Task 'train-sft' finished with status {RED}FAILURE{END}\n")
    console.close()
    assert [(failure.task, failure.message) for failure in console.failures] == [("train_sft", message)]


def test_lines_of_two_threads_do_not_mix(console: Console, shown: io.StringIO) -> None:
    ready, done = threading.Event(), threading.Event()

    def other() -> None:
        ready.wait()
        console.write("evaluate  video 1/2\n")
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    console.write("train_sft  st")
    ready.set()
    done.wait()
    console.write("ep 1/4\n")
    thread.join()
    console.close()
    assert sorted(shown.getvalue().splitlines()) == ["evaluate  video 1/2", "train_sft  step 1/4"]


def test_arms_that_run_at_once_are_told_apart(console: Console, shown: io.StringIO) -> None:
    def arm() -> None:
        console.write("12:00:00.000 - INFO - Executing task 'train-sft'\n")
        console.write("    train_sft  step 2/4\n")

    console.write("12:00:00.000 - INFO - Executing task 'train-sft'\n")
    thread = threading.Thread(target=arm)
    thread.start()
    thread.join()
    console.write("    train_sft  step 1/4\n")
    console.close()
    assert shown.getvalue().splitlines() == [
        "train_sft  starting",
        "train_sft (2)  starting",
        "train_sft (2)  step 2/4",
        "train_sft  step 1/4",
    ]


def test_a_silent_task_is_still_reported(console: Console, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.console.SLOWEST_SECONDS", 1.2)
    console.write("12:00:00.000 - INFO - Executing task 'evaluate'\n")
    threading.Event().wait(1.6)
    console.close()
    assert "evaluate  working" in shown.getvalue()
