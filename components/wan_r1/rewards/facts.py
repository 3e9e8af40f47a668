"""Rewards of strict facts: the paper's trajectory reward and its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from wan_r1.rewards.interface import RewardInputs, RewardOutput
from wan_r1.verification import Verdict
from wan_r1.verification.navigation import FULL_SCORE

EXACT_WEIGHT, PRECISION_WEIGHT, FIDELITY_WEIGHT = 0.3, 0.5, 0.2
"""Weights of exact match, precision and fidelity (arXiv 2603.27866, Eq. 11)."""
BROKEN_RULE = 0.5
"""Share of the reward that a video keeps if it breaks a rule anywhere. An honest video that stops half-way earns .25
and its fidelity's .2; a rule-breaker at most half of .5 + .2, so no broken rule is worth as much as half a solution."""


def trajectory(inputs: RewardInputs) -> RewardOutput:
    """The paper's R = 0.3 EM + 0.5 PR + 0.2 MF on strict facts; a video that breaks a rule keeps half of it.

    Halving is the one change to the paper's formula. Strict precision ends at the first violation and strict exact
    match allows none, so a cheat is paid (half) for what it did before it cheated. A frozen video earns its fidelity,
    0.2, as in the paper.
    """
    exact, precise, kept = (_values(inputs.verdicts, read) for read in (_em, _pr, _kept_rules))
    fidelity = _values(inputs.verdicts, lambda verdict: verdict.mf)
    full = EXACT_WEIGHT * exact + PRECISION_WEIGHT * precise + FIDELITY_WEIGHT * fidelity
    reward = np.where(kept > 0, full, BROKEN_RULE * full).astype(np.float32)
    unread = np.array([verdict.error is not None for verdict in inputs.verdicts], np.float32)
    parts = {"em": exact, "pr": precise, "mf": fidelity, "kept_rules": kept, "unreadable": unread}
    return RewardOutput(reward=reward.clip(0, 1), components=parts)


def exact_match(inputs: RewardInputs) -> RewardOutput:
    """1 for a strict exact match, else 0."""
    exact = _values(inputs.verdicts, _em)
    return RewardOutput(reward=exact, components={"em": exact})


def precision(inputs: RewardInputs) -> RewardOutput:
    """Strict precision: the share of a shortest path that is followed before the first mistake or violation."""
    precise = _values(inputs.verdicts, _pr)
    return RewardOutput(reward=precise, components={"pr": precise})


def success(inputs: RewardInputs) -> RewardOutput:
    """1 for a strict success, by whatever honest way, else 0."""
    value = _values(inputs.verdicts, lambda verdict: verdict.sr)
    return RewardOutput(reward=value, components={"sr": value})


def navigation(inputs: RewardInputs) -> RewardOutput:
    """Target-Bench's weighted score of a robot's recovered path, 0 to 1; a video that breaks a rule keeps half of it.

    A video that was not read as a robot's earns nothing.
    """
    scores = _values(inputs.verdicts, lambda verdict: verdict.navigation.score if verdict.navigation else 0.0)
    full = scores / np.float32(FULL_SCORE)
    kept = _values(inputs.verdicts, _kept_rules)
    reward = np.where(kept > 0, full, BROKEN_RULE * full).astype(np.float32)
    parts = {name: _values(inputs.verdicts, _of_path(name)) for name in _OF_PATH}
    success = _values(inputs.verdicts, lambda verdict: verdict.sr)
    return RewardOutput(reward=reward.clip(0, 1), components={**parts, "sr": success, "kept_rules": kept})


def judge(inputs: RewardInputs) -> RewardOutput:
    """The score of a learned judge; its agreement with verified exact match is logged beside it.

    Raises:
        ValueError: if the inputs hold no judge.
    """
    if inputs.judge is None:
        raise ValueError("reward 'judge' needs a trained judge; give RewardInputs one (wan_r1.rewards.judge.fit_judge)")
    score = np.asarray(inputs.judge.score(inputs.videos), np.float32)
    exact = _values(inputs.verdicts, _em)
    agrees = ((score >= 0.5) == (exact > 0)).astype(np.float32)
    return RewardOutput(reward=score, components={"judge": score, "judge_agrees": agrees})


_OF_PATH = ("ade", "fde", "miss_rate", "soft_endpoint", "approach_consistency")


def _of_path(name: str) -> Callable[[Verdict], float]:
    return lambda verdict: getattr(verdict.navigation, name, 0.0)


def _em(verdict: Verdict) -> float:
    return verdict.em


def _pr(verdict: Verdict) -> float:
    return verdict.pr


def _kept_rules(verdict: Verdict) -> float:
    return verdict.kept_rules


def _values(verdicts: Sequence[Verdict], read: Callable[[Verdict], float]) -> np.ndarray:
    """One value a verdict, float32 [N]; 0 for a video that could not be read."""
    return np.array([0.0 if verdict.error else read(verdict) for verdict in verdicts], np.float32)
