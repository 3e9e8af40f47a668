"""A sweep: one data set, one fine-tuned model, and a reinforcement learning for each of a list of settings.

python pipelines/sweep.py run 'settings=[{"kl_beta": 0.0}, {"kl_beta": 0.1}, {"reward": "exact_match"}]'
"""

from typing import NamedTuple

from kfp import dsl

import parts
from launch.verbs import main
from wan_r1.compare_rewards.component import compare_rewards
from wan_r1.generate_tasks.component import generate_tasks
from wan_r1.prepare_model.component import prepare_model
from wan_r1.train_sft.component import train_sft
from wan_r1.validate_tasks.component import validate_tasks


class Compared(NamedTuple):
    """What a sweep leaves behind."""

    comparison: dsl.Dataset
    report: dsl.HTML


@dsl.pipeline(name="wan-r1-sweep", description="Reinforcement learning with each of a list of settings, compared")
def sweep(
    settings: list = [{"kl_beta": 0.0}, {"kl_beta": 0.1}],  # noqa: B006 - a pipeline's default, never changed
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    tasks_settings: dict = {},  # noqa: B006
    validate_settings: dict = {},  # noqa: B006
    model_source: str = "",
    model_settings: dict = {},  # noqa: B006
    sft_steps: int = 0,
    sft_settings: dict = {},  # noqa: B006
    grpo_iterations: int = 0,
    grpo_settings: dict = {},  # noqa: B006
    eval_samples: int = 0,
    eval_steps: int = 0,
    eval_settings: dict = {},  # noqa: B006
    ablation_threads: int = 0,
) -> Compared:
    """Compare reinforcement learning under several settings, from the same fine-tuned model.

    Args:
        settings: one object an arm: fields of `TrainGrpoConfig` by name, reward and seed among them; they name the arm.
        preset: values of everything that is not given.
        seed: seed of all stages.
        storage_uri: where models and checkpoints are kept: `s3://bucket/prefix` or a folder.
        tasks_settings: fields of `GenerateTasksConfig` by name.
        validate_settings: fields of `ValidateTasksConfig` by name.
        model_source: `tiny`, a diffusers folder, an `s3://` URI or a hub id; empty takes the preset's.
        model_settings: fields of `PrepareModelConfig` by name.
        sft_steps: optimizer steps of supervised fine-tuning at most; 0 takes the preset's.
        sft_settings: further fields of `TrainSftConfig` by name.
        grpo_iterations: rollouts and updates of each arm; 0 takes the preset's for arms.
        grpo_settings: fields of `TrainGrpoConfig` by name that all arms share.
        eval_samples: levels per split and family in an evaluation; 0 takes the preset's.
        eval_steps: denoising steps in an evaluation; 0 takes the preset's.
        eval_settings: further fields of `EvaluateConfig` by name.
        ablation_threads: CPU threads of each arm; 0 uses every core.
    """
    common = {"preset": preset, "seed": seed}
    tasks = generate_tasks(settings=tasks_settings, **common)
    checked = validate_tasks(dataset=tasks.outputs["dataset"], settings=validate_settings, **common)
    data = {"dataset": tasks.outputs["dataset"], "certificate": checked.outputs["certificate"]}
    base = prepare_model(storage_uri=storage_uri, source=model_source, settings=model_settings, **common)
    sft = train_sft(
        model=base.outputs["model"],
        storage_uri=storage_uri,
        steps=sft_steps,
        settings=sft_settings,
        **data,
        **common,
    )
    with dsl.ParallelFor(settings) as variant:
        arm = parts.reward_arm(
            model=sft.outputs["trained"],
            storage_uri=storage_uri,
            variant=variant,
            reward="",
            objective="",
            group_size=0,
            iterations=grpo_iterations,
            learning_rate=0.0,
            kl_beta=-1.0,
            threads=ablation_threads,
            settings=grpo_settings,
            eval_samples=eval_samples,
            eval_steps=eval_steps,
            eval_settings=eval_settings,
            **data,
            **common,
        )
    compared = compare_rewards(
        arms=dsl.Collected(arm.outputs["log"]), evaluations=dsl.Collected(arm.outputs["scores"]), **common
    )
    return Compared(compared.outputs["comparison"], compared.outputs["report"])


if __name__ == "__main__":
    raise SystemExit(main(sweep, __file__))
