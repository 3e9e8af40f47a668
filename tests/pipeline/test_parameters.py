"""Parameters are checked before anything starts: names, types, and every stage's own rules."""

from __future__ import annotations

import pytest

import full
import stages
import sweep
from launch.parameters import CONFIGS, check, parse
from wan_r1.config import ConfigError


def test_values_have_the_pipelines_types() -> None:
    words = ["seed=3", "sft_learning_rate=1e-3", "tasks_families=regular", 'grpo_settings={"epochs": 2}']
    assert parse(full.full, [*words, "grpo_reward=exact_match"]) == {
        "seed": 3,
        "sft_learning_rate": 1e-3,
        "tasks_families": ["regular"],
        "grpo_settings": {"epochs": 2},
        "grpo_reward": "exact_match",
    }


def test_every_field_of_a_config_can_be_given_by_its_name() -> None:
    values = parse(
        full.full, ["grpo_clip_range=0.1", "grpo_sde_window=0,1", "tasks_lossless=false", "eval_batch_size=8"]
    )
    assert values == {
        "grpo_settings": {"clip_range": 0.1, "sde_window": [0, 1]},
        "tasks_settings": {"lossless": False},
        "eval_settings": {"batch_size": 8},
    }
    check(full.full, values)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seeed=1", "seeed is no parameter of this pipeline; did you mean seed?"),
        ("grpo_group_sise=4", "did you mean grpo_group_size?"),
        ("grpo_clip_rnage=4", "did you mean grpo_clip_range?"),
        ("seed", "expected name=value"),
        ("seed=one", "seed='one' is not of the right type; expected a whole number"),
        ("sft_steps=1.5", "sft_steps='1.5' is not of the right type; expected a whole number"),
        ("sft_learning_rate=fast", "expected a number"),
        ("tasks_settings=3", "expected a JSON object"),
    ],
)
def test_wrong_words_are_named(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(full.full, [word])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("grpo_reward=exactmatch", "exactmatch"),
        ("grpo_group_size=1", "grpo_group_size=1 is not allowed; expected at least 2"),
        ("sft_steps=-4", "sft_steps=-4 is not allowed"),
        ("preset=tniy", "did you mean tiny?"),
        ("ablation_rewards=trajectory,nothing", "nothing"),
        ("ablation_iterations=-1", "grpo_iterations=-1"),
        ("tasks_families=regulr", "regulr"),
        ("model_frames=8", "model_frames=8 is not allowed; expected 4k + 1"),
        ('grpo_settings={"clip_rnage": 1}', "grpo_clip_rnage is no parameter of train_grpo"),
        ("storage_uri=", "expected s3://bucket/prefix or a folder"),
        ("seed=-1", "seed=-1 is not allowed"),
    ],
)
def test_wrong_values_are_known_before_the_run(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(full.full, parse(full.full, [word]))
    assert message in str(caught.value)


def test_a_run_without_parameters_is_sound() -> None:
    configs = check(full.full, {})
    assert {config.STAGE for config in CONFIGS} <= set(configs)
    assert {"train_grpo trajectory", "train_grpo exact_match", "train_grpo judge"} <= set(configs)


def test_what_is_not_given_is_the_presets() -> None:
    plain = check(full.full, {})
    same = check(full.full, parse(full.full, ["sft_steps=0", "grpo_kl_beta=-1", "tasks_families="]))
    assert plain == same
    other = check(full.full, parse(full.full, ["grpo_kl_beta=0"]))
    assert other["train_grpo"] != plain["train_grpo"]
    assert other["train_sft"] == plain["train_sft"]


def test_arms_of_a_sweep_are_checked() -> None:
    check(sweep.sweep, parse(sweep.sweep, ['settings=[{"kl_beta": 0.5}, {"reward": "exact_match"}]']))
    with pytest.raises(ConfigError, match="grpo_kl_bta is no parameter of train_grpo"):
        check(sweep.sweep, parse(sweep.sweep, ['settings=[{"kl_bta": 0.5}]']))
    with pytest.raises(ConfigError, match=r"settings\[0\]=5 is no object"):
        check(sweep.sweep, parse(sweep.sweep, ["settings=[5]"]))
    with pytest.raises(ConfigError, match=r"settings\[1\]=\{'kl_beta': 0.5\} is the same as settings\[0\]"):
        check(sweep.sweep, parse(sweep.sweep, ['settings=[{"kl_beta": 0.5}, {"grpo_kl_beta": 0.5}]']))
    with pytest.raises(ConfigError, match="settings is empty; expected one object an arm"):
        check(sweep.sweep, parse(sweep.sweep, ["settings=[]"]))


def test_arms_of_a_sweep_may_have_the_pipelines_names() -> None:
    values = parse(sweep.sweep, ['settings=[{"grpo_kl_beta": 0.5, "seed": 1}, {"grpo_reward": "exact_match"}]'])
    assert values == {"settings": [{"kl_beta": 0.5, "seed": 1}, {"reward": "exact_match"}]}
    configs = check(sweep.sweep, values)
    assert (configs["train_grpo 0"].kl_beta, configs["train_grpo 0"].seed) == (0.5, 1)
    assert configs["train_grpo 1"].reward == "exact_match"


def test_single_stages_have_the_same_parameters() -> None:
    known = set(full.full.component_spec.inputs)
    for pipeline in stages.STAGES.values():
        own = set(pipeline.component_spec.inputs or {})
        assert {name for name in own if not name.endswith(("_uri", "_uris"))} <= known
