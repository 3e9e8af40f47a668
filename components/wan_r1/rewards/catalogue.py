"""Rewards by name, and loading of a user's own."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable

import numpy as np

from wan_r1.rewards import facts
from wan_r1.rewards.embedding import DEFAULT_ENCODER, embedding_reward
from wan_r1.rewards.interface import RewardError, RewardFn, RewardInputs, RewardOutput
from wan_r1.rewards.multimodal_judge import multimodal_reward


def embedding(inputs: RewardInputs) -> RewardOutput:
    """Likeness of a frozen encoder's embeddings to the reference's; see `wan_r1.rewards.embedding`."""
    return embedding_reward(DEFAULT_ENCODER)(inputs)


REWARDS: dict[str, RewardFn] = {
    "trajectory": facts.trajectory,
    "exact_match": facts.exact_match,
    "precision": facts.precision,
    "success": facts.success,
    "navigation": facts.navigation,
    "judge": facts.judge,
    "embedding": embedding,
}
"""Every reward of ours by name."""

_WITH_MODEL: dict[str, Callable[[str], RewardFn]] = {"embedding": embedding_reward, "judge": multimodal_reward}
"""Rewards that take a model of transformers after a colon, as in ``embedding:facebook/dinov2-small``."""


def get_reward(name: str) -> RewardFn:
    """The reward of that name, or the function that ``module:function`` names; its values are checked on each call.

    ``embedding:MODEL`` and ``judge:MODEL`` take a hub id or a folder, loaded at the first call.

    Raises:
        RewardError: if there is none, or the function does not take exactly one argument; and on a call, if what it
            returns is no `RewardOutput` with one finite value in [0, 1] a video.
    """
    if name in REWARDS:
        return _checked(name, REWARDS[name])
    module_name, colon, function_name = name.partition(":")
    if module_name in _WITH_MODEL and function_name:
        return _checked(name, _WITH_MODEL[module_name](function_name))
    if not (colon and module_name and function_name):
        near = difflib.get_close_matches(name, REWARDS, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise RewardError(
            f"reward={name!r} is unknown; allowed: {', '.join(REWARDS)}, embedding:MODEL, judge:MODEL, "
            f"or module:function{hint}"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise RewardError(f"reward={name!r}: cannot import module {module_name!r}: {error}") from error
    function = getattr(module, function_name, None)
    if function is None:
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(function_name, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise RewardError(f"reward={name!r}: module {module_name!r} has no {function_name!r}{hint}")
    if not callable(function):
        raise RewardError(f"reward={name!r} is a {type(function).__name__}, not a function of RewardInputs")
    _check_signature(name, function)
    return _checked(name, function)


def _check_signature(name: str, function: RewardFn) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Some built-in callables have none to look at.
        return
    try:
        signature.bind(object())
    except TypeError:
        raise RewardError(
            f"reward={name!r} has the signature {function.__name__}{signature}; expected one argument, the RewardInputs"
        ) from None


def _checked(name: str, function: RewardFn) -> RewardFn:
    """The function with its results checked: a wrong reward stops a run at once instead of spoiling it."""

    @functools.wraps(function, updated=())
    def reward(inputs: RewardInputs) -> RewardOutput:
        output = function(inputs)
        if not isinstance(output, RewardOutput):
            raise RewardError(f"reward={name!r} returned {type(output).__name__}; expected RewardOutput")
        count = len(inputs.videos)
        values = _as_floats(name, "reward", output.reward, count)
        bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(bad):
            raise RewardError(f"reward={name!r} gave {values[bad[0]]} to video {bad[0]}; allowed: 0 to 1")
        components = {key: _as_floats(name, key, value, count) for key, value in output.components.items()}
        return RewardOutput(reward=values, components=components)

    return reward


def _as_floats(name: str, part: str, value: object, count: int) -> np.ndarray:
    try:
        values = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise RewardError(f"reward={name!r}: {part!r} holds no numbers: {error}") from None
    if values.shape != (count,):
        raise RewardError(
            f"reward={name!r}: {part!r} has shape {list(values.shape)}; expected one value a video, [{count}]"
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise RewardError(f"reward={name!r}: {part!r} is {values[bad[0]]} for video {bad[0]}; expected a finite number")
    return values
