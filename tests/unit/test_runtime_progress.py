"""Progress lines: at once, not too many, never too few."""

from __future__ import annotations

import io
import itertools
import re
import time

import pytest

from wan_r1 import progress
from wan_r1.progress import Progress, clock, shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (65, "1:05"), (59.6, "1:00"), (3600, "1:00:00"), (7384, "2:03:04"), (-1, "0:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_values_are_short() -> None:
    assert [shown(value) for value in (0.23149, 12, "word", 1234567.0)] == ["0.231", "12", "word", "1.23e+06"]


def test_first_and_last_updates_are_shown_and_few_between() -> None:
    stream = io.StringIO()
    with Progress("train_sft", 500, stream=stream) as one:
        for step in range(501):
            one.update(step, loss=0.5)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train_sft  step 0/500  loss 0.5"
    assert lines[-1].startswith("train_sft  step 500/500  loss 0.5")
    assert len(lines) == 2


def test_time_left_follows_the_speed_since_the_start() -> None:
    stream = io.StringIO()
    with Progress("stage", 100, start=50, stream=stream) as one:
        one._begin -= 10
        one.update(60)
    found = re.search(r"(\d+):(\d\d) left", stream.getvalue())
    assert found is not None
    # Ten steps in ten seconds: the other forty take forty seconds.
    assert 39 <= int(found[1]) * 60 + int(found[2]) <= 41


def test_a_silent_stage_still_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOWEST_SECONDS", 1.5)
    times: list[float] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if text.strip():
                times.append(time.monotonic())
            return super().write(text)

    stream = Stream()
    with Progress("train_grpo", stream=stream) as one:
        one.note("compiling")
        time.sleep(3.5)
    assert len(times) >= 3
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.6
    assert "compiling" in stream.getvalue().splitlines()[-1]


def test_nothing_is_printed_after_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLOWEST_SECONDS", 1.1)
    stream = io.StringIO()
    one = Progress("stage", stream=stream)
    one.close()
    before = stream.getvalue()
    time.sleep(1.5)
    assert stream.getvalue() == before
