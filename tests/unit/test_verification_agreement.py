"""Verification against a slow reader written apart, on solutions, cheats and what a half-trained model made."""

from __future__ import annotations

import numpy as np
import pytest
import slow_reader
from cheats import CHEATS, RULE, level_tasks
from kept_rollouts import kept
from slow_reader import read

from wan_r1.verification import StrictRules, verify
from wan_r1.verification.verdict import LOST


@pytest.mark.parametrize(
    ("number", "kind", "frame"),
    [(0, "duplicate", 3), (1, "duplicate", 4), (2, "lost", 3), (3, "duplicate", 2)],
)
def test_rollouts_that_were_misread_once(number: int, kind: str, frame: int):
    """A second player at a third of its opacity was overlooked: a policy had learned to leave such ghosts behind."""
    task, video = kept()[number]
    (verdict,) = verify(video[None], [task])
    assert not verdict.em and not verdict.sr
    assert (kind, frame) in {(found.kind, found.frame) for found in verdict.violations}


@pytest.mark.parametrize(
    ("number", "frame"),
    [
        (4, 3),
        (5, 3),
        (13, 3),
        (14, 3),
        (17, 7),
        (18, 7),
        (19, 4),
        (20, 7),
        (21, 7),
        (22, 2),
        (23, 3),
        (24, 2),
        (25, 4),
        (26, 7),
        (27, 7),
        (29, 3),
        (30, 6),
    ],
)
def test_a_player_at_half_its_opacity_is_lost(number: int, frame: int):
    """It fades in on the goal: .40 to .50 of its opacity for one reader, .50 to .54 for the other."""
    task, video = kept()[number]
    (verdict,) = verify(video[None], [task])
    assert not verdict.em and verdict.states[frame] == LOST and "lost" not in verdict.states[:frame]
    (lenient,) = verify(video[None], [task], rules=StrictRules(present=0.4))
    assert lenient.states[frame] != LOST


@pytest.mark.parametrize(("number", "frame"), [(6, 3), (7, 2), (8, 3)])
def test_a_copy_at_a_quarter_of_the_opacity_counts(number: int, frame: int):
    """A copy shows on the goal a frame early. The slow reader gives it .26 to .31 of its opacity. What blur explains
    leaves .20 to .24 of it: once a quarter was asked for all the same, not what blur leaves of a quarter."""
    task, video = kept()[number]
    assert (read(video, task).broken, read(video, task).frame) == ("second player", frame)
    (verdict,) = verify(video[None], [task])
    assert not verdict.em and not verdict.sr
    assert {(found.kind, found.frame) for found in verdict.violations} == {("duplicate", frame)}


@pytest.mark.parametrize(("number", "frame"), [(9, 4), (10, 4), (11, 2), (12, 3)])
def test_both_readers_overlook_a_copy_of_less_than_a_quarter(number: int, frame: int):
    """On plain floor blur explains nothing, and the copy is what it looks: more than a fifth, less than a quarter."""
    task, video = kept()[number]
    assert read(video, task).em
    (verdict,) = verify(video[None], [task])
    assert verdict.em
    (strict,) = verify(video[None], [task], rules=StrictRules(duplicate=0.2))
    assert (strict.violations[0].kind, strict.violations[0].frame) == ("duplicate", frame)


@pytest.mark.parametrize("number", [15, 16, 28])
def test_a_copy_just_above_a_quarter_is_at_the_limit(number: int, monkeypatch: pytest.MonkeyPatch):
    """On the goal, one frame early: between .25 and .27 of the opacity for the slow reader, below .25 for the fast."""
    task, video = kept()[number]
    (verdict,) = verify(video[None], [task])
    (strict,) = verify(video[None], [task], rules=StrictRules(duplicate=0.23))
    assert verdict.em and not strict.em and not read(video, task).em
    monkeypatch.setattr(slow_reader, "SECOND", 0.27)
    assert read(video, task).em


def test_both_readers_agree_on_solutions_and_cheats():
    tasks = level_tasks("tiny")[::6]
    for task in tasks:
        slow = read(task.video, task)
        assert slow.em and slow.walk == task.solution, (task.level_id, slow)
    cheats = [(name, task, CHEATS[name].make(task)) for name in sorted(CHEATS) for task in tasks[:2]]
    cheats = [(name, task, video) for name, task, video in cheats if video is not None]
    verdicts = verify(np.stack([video for *_, video in cheats]), [task for _, task, _ in cheats])
    unlike = []
    for (name, task, video), fast in zip(cheats, verdicts, strict=True):
        slow = read(video, task)
        if (fast.em, fast.sr) != (slow.em, slow.sr) or (CHEATS[name].breaks == RULE and slow.broken is None):
            unlike.append((name, task.level_id, slow.broken))
    assert len(cheats) > 60 and unlike == []
