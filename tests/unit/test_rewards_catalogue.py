"""Rewards: their values on known facts, names, a user's own, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wan_r1.rewards import REWARDS, RewardError, RewardInputs, RewardOutput, get_reward
from wan_r1.verification import Verdict, Violation

SOLVED = Verdict(em=True, sr=True, pr=1.0, sd=0.0, mf=1.0)
LONGER = Verdict(em=False, sr=True, pr=0.25, sd=0.5, mf=0.9)
HALF = Verdict(pr=0.5, mf=1.0)
STILL = Verdict(mf=1.0)
CHEAT = Verdict(pr=1.0, mf=1.0, violations=(Violation(kind="wall", frame=5, place=(0, 0)),))
UNREAD = Verdict(error="video has 0 frames")
ALL = [SOLVED, LONGER, HALF, STILL, CHEAT, UNREAD]


def inputs(verdicts=ALL, judge=None) -> RewardInputs:
    videos = np.zeros((len(verdicts), 9, 32, 32, 3), np.uint8)
    return RewardInputs(videos=videos, tasks=[None] * len(verdicts), verdicts=verdicts, judge=judge)


class Constant:
    """A judge of one opinion."""

    def __init__(self, value: float) -> None:
        self.value = value

    def score(self, videos: np.ndarray) -> np.ndarray:
        return np.full(len(videos), self.value, np.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("trajectory", [1.0, 0.125 + 0.18, 0.45, 0.2, 0.35, 0.0]),
        ("exact_match", [1, 0, 0, 0, 0, 0]),
        ("precision", [1, 0.25, 0.5, 0, 1, 0]),
        ("success", [1, 1, 0, 0, 0, 0]),
    ],
)
def test_values_on_known_facts(name, expected):
    output = get_reward(name)(inputs())
    assert output.reward.dtype == np.float32
    assert np.allclose(output.reward, expected)


def test_no_rule_breaker_is_paid_as_much_as_half_an_honest_solution():
    output = get_reward("trajectory")(inputs())
    assert output.reward[4] < output.reward[2]
    assert output.components["kept_rules"].tolist() == [1, 1, 1, 1, 0, 0]
    assert output.components["unreadable"].tolist() == [0, 0, 0, 0, 0, 1]
    assert set(output.components) >= {"em", "pr", "mf"}


def test_the_judge_is_asked_and_its_agreement_is_beside_it():
    output = get_reward("judge")(inputs(judge=Constant(0.75)))
    assert np.allclose(output.reward, 0.75)
    assert output.components["judge_agrees"].tolist() == [1, 0, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="needs a trained judge"):
        get_reward("judge")(inputs())


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.1])
def test_a_wrong_value_names_the_reward_the_value_and_the_video(value):
    with pytest.raises(RewardError, match=r"reward='judge'.*video 0"):
        get_reward("judge")(inputs(judge=Constant(value)))


def test_our_rewards_have_documentation():
    assert list(REWARDS) == ["trajectory", "exact_match", "precision", "success", "navigation", "judge", "embedding"]
    assert all(function.__doc__ for function in REWARDS.values())


USER = """
import numpy as np
from wan_r1.rewards import RewardOutput

LIMIT = 3

def careful(inputs):
    fidelity = [verdict.mf for verdict in inputs.verdicts]
    return RewardOutput(reward=np.array(fidelity), components={"mf": fidelity})

def two(inputs, other): ...
def wrong_type(inputs): return [0.0] * len(inputs.videos)
def too_few(inputs): return RewardOutput(reward=np.zeros(1), components={})
def words(inputs): return RewardOutput(reward=np.zeros(6), components={"note": ["a"] * 6})
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module with rewards, importable under the returned name."""
    (tmp_path / "my_rewards_of_test.py").write_text(USER)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_rewards_of_test"
    sys.modules.pop("my_rewards_of_test", None)


def test_a_users_own_reward_is_loaded_by_name(own_module):
    output = get_reward(f"{own_module}:careful")(inputs())
    assert isinstance(output, RewardOutput)
    assert output.reward.dtype == np.float32 and output.reward[0] == 1
    assert output.components["mf"].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("trajectry", "did you mean trajectory"),
        (
            "nonsense",
            "success, navigation, judge, embedding, embedding:MODEL, judge:MODEL, or module:function",
        ),
        (":careful", "is unknown"),
        ("my_rewards_of_test:", "is unknown"),
        ("no_such_module:careful", "cannot import module 'no_such_module'"),
        ("my_rewards_of_test:carefull", "did you mean careful"),
        ("my_rewards_of_test:LIMIT", "is a int, not a function"),
        ("my_rewards_of_test:two", r"two\(inputs, other\); expected one argument"),
    ],
)
def test_a_wrong_name_is_refused_with_what_is_allowed(own_module, name, says):
    with pytest.raises(RewardError, match=says):
        get_reward(name)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("wrong_type", "returned list; expected RewardOutput"),
        ("too_few", r"shape \[1\]; expected one value a video, \[6\]"),
        ("words", "'note' holds no numbers"),
    ],
)
def test_a_wrong_result_is_refused(own_module, function, says):
    with pytest.raises(RewardError, match=says):
        get_reward(f"{own_module}:{function}")(inputs())


def test_inputs_must_be_of_one_length():
    with pytest.raises(ValueError, match="1 videos, 2 tasks and 2 verdicts"):
        RewardInputs(videos=np.zeros((1, 9, 32, 32, 3), np.uint8), tasks=[None] * 2, verdicts=[SOLVED] * 2)
