"""A user's ``name=value`` words, checked against a pipeline and every stage's config before a run starts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from kfp.dsl.base_component import BaseComponent

from wan_r1.compare_rewards.config import CompareRewardsConfig
from wan_r1.config import ConfigError, StageConfig, read_preset
from wan_r1.evaluate.config import EvaluateConfig
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.prepare_model.config import PrepareModelConfig
from wan_r1.train_grpo.config import TrainGrpoConfig
from wan_r1.train_sft.config import TrainSftConfig
from wan_r1.validate_tasks.config import ValidateTasksConfig
from wan_r1.words import field_value

CONFIGS: tuple[type[StageConfig], ...] = (
    GenerateTasksConfig,
    ValidateTasksConfig,
    PrepareModelConfig,
    TrainSftConfig,
    TrainGrpoConfig,
    EvaluateConfig,
    CompareRewardsConfig,
)
"""The config of each stage, in the order of the pipeline."""

ARMS = "settings"
"""Parameter of a sweep: one object an arm."""

_TYPES = {
    "String": "a word",
    "Integer": "a whole number",
    "Float": "a number",
    "Boolean": "true or false",
    "List": 'a list, such as a,b or ["a", "b"]',
    "Dict": 'a JSON object, such as {"name": 1}',
}


def parse(pipeline: BaseComponent, words: Iterable[str]) -> dict[str, Any]:
    """Values by parameter of the pipeline from words ``name=value``.

    A name that is a field of a stage's config but no parameter of the pipeline goes into the stage's ``settings``, so
    that every field can be given.

    Raises:
        ConfigError: naming the parameter that is unknown, with the nearest one, or whose value has the wrong type.
    """
    inputs = pipeline.component_spec.inputs or {}
    values: dict[str, Any] = {}
    for word in words:
        name, found, text = word.partition("=")
        if not found:
            raise ConfigError(f"{word!r} is no parameter; expected name=value, such as seed=1")
        if name in inputs:
            values[name] = _convert(name, text, inputs[name].type)
            if name == ARMS:
                values[name] = [_unprefixed(arm) for arm in values[name]]
            continue
        config = next((one for one in CONFIGS if _is_field(one, name) and f"{one.PREFIX}settings" in inputs), None)
        if config is None:
            raise ConfigError(_unknown(name, inputs))
        settings = values.setdefault(f"{config.PREFIX}settings", {})
        field = name.removeprefix(config.PREFIX)
        settings[field] = field_value(config, field, text)
    return values


def check(pipeline: BaseComponent, values: dict[str, Any]) -> dict[str, StageConfig]:
    """The config of every stage that a run with these values would have, so that wrong ones are known before it starts.

    Args:
        pipeline: the pipeline.
        values: values by parameter, as `parse` returns them.

    Returns:
        Configs by stage; the arms of the reward comparison appear as ``train_grpo <reward>``.

    Raises:
        ConfigError: naming the parameter, its value and what is allowed.
    """
    inputs = pipeline.component_spec.inputs or {}
    missing = [name for name, spec in inputs.items() if not spec.optional and values.get(name, "") in ("", [])]
    if missing:
        raise ConfigError(f"{missing[0]} is missing; give {' '.join(f'{name}=...' for name in missing)}")
    defaults = {name: spec.default for name, spec in inputs.items()}
    preset = values.get("preset", defaults.get("preset", "tiny"))
    seed = values.get("seed", defaults.get("seed", 0))
    read_preset(preset)
    configs: dict[str, StageConfig] = {}
    for config in CONFIGS:
        given = _given(config, values, defaults)
        configs[config.STAGE] = config.from_preset(preset, {"seed": seed, **given})
    for reward in values.get("ablation_rewards", defaults.get("ablation_rewards", [])):
        given = {**_given(TrainGrpoConfig, values, defaults), "reward": reward}
        given["iterations"] = values.get("ablation_iterations") or None
        given["threads"] = values.get("ablation_threads") or None
        table = read_preset(preset).get("ablation", {})
        arm = TrainGrpoConfig.from_preset(preset, {"seed": seed, **table, **_without_none(given)})
        configs[f"train_grpo {reward}"] = arm
    arms = values.get(ARMS, defaults.get(ARMS, []))
    if ARMS in inputs and not arms:
        raise ConfigError(f'{ARMS} is empty; expected one object an arm, such as {ARMS}=[{{"kl_beta": 0.1}}]')
    for number, variant in enumerate(arms):
        if not isinstance(variant, dict):
            raise ConfigError(f"{ARMS}[{number}]={variant!r} is no object; expected fields of train_grpo by name")
        if variant in arms[:number]:
            first = arms.index(variant)
            raise ConfigError(f"{ARMS}[{number}]={variant!r} is the same as {ARMS}[{first}]; arms are told apart by it")
        given = {**_given(TrainGrpoConfig, values, defaults), **read_preset(preset).get("ablation", {}), **variant}
        configs[f"train_grpo {number}"] = TrainGrpoConfig.from_preset(preset, {"seed": seed, **given})
    if not values.get("storage_uri", defaults.get("storage_uri", "x")):
        raise ConfigError("storage_uri='' is not allowed; expected s3://bucket/prefix or a folder")
    return configs


def _given(config: type[StageConfig], values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The fields of a stage's config that a user gave; the default of a parameter stands for the preset's value."""
    found = {}
    for name, value in values.items():
        if _is_field(config, name) and value != defaults.get(name) and name not in ("seed", "threads"):
            found[name.removeprefix(config.PREFIX)] = value
    return {**found, **values.get(f"{config.PREFIX}settings", {})}


def _is_field(config: type[StageConfig], name: str) -> bool:
    rest = name.removeprefix(config.PREFIX)
    return name.startswith(config.PREFIX) and rest in {field.name for field in fields(config)}


def _unprefixed(arm: Any) -> Any:
    """An arm's settings by field, whether they were given as ``kl_beta`` or, as in the pipeline, ``grpo_kl_beta``."""
    if not isinstance(arm, dict):
        return arm
    return {str(name).removeprefix(TrainGrpoConfig.PREFIX): value for name, value in arm.items()}


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _convert(name: str, text: str, kind: str) -> Any:
    if kind == "String":
        return text
    if kind == "List" and not text.lstrip().startswith("["):
        return [part for part in (piece.strip() for piece in text.split(",")) if part]
    value = _plain(text)
    wrong = ConfigError(f"{name}={text!r} is not of the right type; expected {_TYPES.get(kind, kind)}")
    if kind == "Integer" and (not isinstance(value, int) or isinstance(value, bool)):
        raise wrong
    if kind == "Float":
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong
        return float(value)
    expected = {"Boolean": bool, "List": list, "Dict": dict}.get(kind)
    if expected is not None and not isinstance(value, expected):
        raise wrong
    return value


def _plain(text: str) -> Any:
    """JSON where it is JSON, the text itself otherwise."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unknown(name: str, inputs: Iterable[str]) -> str:
    known = [*inputs, *(f"{config.PREFIX}{field.name}" for config in CONFIGS for field in fields(config))]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; there are: {', '.join(inputs)}"
    return f"{name} is no parameter of this pipeline{hint}"
