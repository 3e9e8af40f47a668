"""The whole pipeline: puzzles, model, fine-tuning, reinforcement learning, evaluation, comparison of rewards.

python pipelines/full.py run preset=tiny            # here, with an S3 server of its own
python pipelines/full.py compile                    # writes pipelines/full.yaml
python pipelines/full.py submit --endpoint URL ...  # to Kubeflow Pipelines
"""

from kfp import dsl

import parts
from launch.verbs import main
from wan_r1.compare_rewards.component import compare_rewards
from wan_r1.evaluate.component import evaluate
from wan_r1.prepare_model.component import prepare_model
from wan_r1.summarise_run.component import record_outcome, summarise_run
from wan_r1.train_grpo.component import train_grpo
from wan_r1.train_sft.component import continue_sft, train_sft
from wan_r1.validate_tasks.component import validate_tasks


@dsl.pipeline(name="wan-r1", description="Verifiable reinforcement learning for video reasoning")
def full(
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    run_id: str = "",
    started_at: str = "",
    tasks_families: list = [],  # noqa: B006 - a pipeline's default, never changed
    tasks_train_levels: int = 0,
    tasks_prompts_levels: int = 0,
    tasks_test_levels: int = 0,
    tasks_harder_levels: int = 0,
    tasks_shards: int = 1,
    tasks_settings: dict = {},  # noqa: B006
    validate_settings: dict = {},  # noqa: B006
    model_source: str = "",
    model_settings: dict = {},  # noqa: B006
    sft_steps: int = 0,
    sft_batch_size: int = 0,
    sft_learning_rate: float = 0.0,
    sft_target_em: float = 0.0,
    sft_settings: dict = {},  # noqa: B006
    grpo_reward: str = "",
    grpo_objective: str = "",
    grpo_group_size: int = 0,
    grpo_iterations: int = 0,
    grpo_learning_rate: float = 0.0,
    grpo_kl_beta: float = -1.0,
    grpo_settings: dict = {},  # noqa: B006
    eval_samples: int = 0,
    eval_steps: int = 0,
    eval_settings: dict = {},  # noqa: B006
    ablation_rewards: list = ["trajectory", "exact_match", "judge"],  # noqa: B006
    ablation_iterations: int = 0,
    ablation_threads: int = 0,
    ablation_settings: dict = {},  # noqa: B006
):
    """Make puzzles, fine-tune a video model on their solutions, improve it by verified rewards, and measure it.

    Args:
        preset: values of everything that is not given: `tiny`, `small` or `wan2.2-ti2v-5b`.
        seed: seed of all stages.
        storage_uri: where models, checkpoints and results are kept: `s3://bucket/prefix` or a folder.
        run_id: name of the run's results in the storage; empty takes Kubeflow's id of the run.
        started_at: time of the start (ISO 8601), by which reused stages are told from new ones; may be empty.
        tasks_families: families of puzzles; empty takes the preset's.
        tasks_train_levels: levels per family with a demonstration; 0 takes the preset's.
        tasks_prompts_levels: levels per family for reinforcement learning alone; 0 takes the preset's.
        tasks_test_levels: levels per family for the results; 0 takes the preset's.
        tasks_harder_levels: harder levels per family for the results; 0 takes the preset's.
        tasks_shards: tasks side by side that make the puzzles, a part each; the data set is the same for any number.
        tasks_settings: further fields of `GenerateTasksConfig` by name.
        validate_settings: further fields of `ValidateTasksConfig` by name.
        model_source: `tiny`, a diffusers folder, an `s3://` URI or a hub id; empty takes the preset's.
        model_settings: further fields of `PrepareModelConfig` by name.
        sft_steps: optimizer steps of supervised fine-tuning at most; 0 takes the preset's.
        sft_batch_size: videos per step; 0 takes the preset's.
        sft_learning_rate: learning rate of supervised fine-tuning; 0 takes the preset's.
        sft_target_em: validation exact match at which supervised fine-tuning stops; 0 takes the preset's.
        sft_settings: further fields of `TrainSftConfig` by name.
        grpo_reward: reward of reinforcement learning, or `module:function`; empty takes the preset's.
        grpo_objective: `flow_grpo` or `forward_grpo`; empty takes the preset's.
        grpo_group_size: videos per prompt; 0 takes the preset's.
        grpo_iterations: rollouts and updates; 0 takes the preset's.
        grpo_learning_rate: learning rate of reinforcement learning; 0 takes the preset's.
        grpo_kl_beta: weight of the KL to the fine-tuned model; -1 takes the preset's.
        grpo_settings: further fields of `TrainGrpoConfig` by name, for the arms of the comparison as well.
        eval_samples: levels per split and family in an evaluation; 0 takes the preset's.
        eval_steps: denoising steps in an evaluation; 0 takes the preset's.
        eval_settings: further fields of `EvaluateConfig` by name.
        ablation_rewards: rewards that are compared, each in a training of its own.
        ablation_iterations: rollouts and updates of each of them; 0 takes the preset's.
        ablation_threads: CPU threads of each of them; 0 uses every core.
        ablation_settings: further fields of `CompareRewardsConfig` by name.
    """
    common = {"preset": preset, "seed": seed}
    run = {"storage_uri": storage_uri, "run_id": run_id, "job_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    outcome = record_outcome(**run, **common)
    outcome.set_caching_options(False)
    with dsl.ExitHandler(outcome):
        tasks = parts.make_tasks(
            families=tasks_families,
            train_levels=tasks_train_levels,
            prompts_levels=tasks_prompts_levels,
            test_levels=tasks_test_levels,
            harder_levels=tasks_harder_levels,
            settings=tasks_settings,
            shards=tasks_shards,
            storage_uri=storage_uri,
            **common,
        )
        checked = validate_tasks(dataset=tasks.outputs["dataset"], settings=validate_settings, **common)
        data = {"dataset": tasks.outputs["dataset"], "certificate": checked.outputs["certificate"]}

        base = prepare_model(storage_uri=storage_uri, source=model_source, settings=model_settings, **common)
        sft = train_sft(
            model=base.outputs["model"],
            storage_uri=storage_uri,
            steps=sft_steps,
            batch_size=sft_batch_size,
            learning_rate=sft_learning_rate,
            target_em=sft_target_em,
            settings=sft_settings,
            **data,
            **common,
        )
        recipe = {
            "objective": grpo_objective,
            "group_size": grpo_group_size,
            "learning_rate": grpo_learning_rate,
            "kl_beta": grpo_kl_beta,
            "settings": grpo_settings,
        }
        grpo = train_grpo(
            model=sft.outputs["trained"],
            storage_uri=storage_uri,
            reward=grpo_reward,
            iterations=grpo_iterations,
            **recipe,
            **data,
            **common,
        )
        continued = continue_sft(
            model=sft.outputs["trained"],
            compute_of=grpo.outputs["trained"],
            storage_uri=storage_uri,
            batch_size=sft_batch_size,
            learning_rate=sft_learning_rate,
            settings=sft_settings,
            **data,
            **common,
        )
        evaluations = [
            evaluate(model=model, samples=eval_samples, steps=eval_steps, settings=eval_settings, **data, **common)
            for model in (
                base.outputs["model"],
                sft.outputs["trained"],
                continued.outputs["trained"],
                grpo.outputs["trained"],
            )
        ]
        # Values of upstream tasks reach the arms as artifacts alone: in a loop, the local runner replaces their
        # parameters by the loop's item (reference/kubeflow.md, B).
        with dsl.ParallelFor(ablation_rewards) as reward:
            arm = parts.reward_arm(
                model=sft.outputs["trained"],
                storage_uri=storage_uri,
                reward=reward,
                iterations=ablation_iterations,
                variant={},
                threads=ablation_threads,
                eval_samples=eval_samples,
                eval_steps=eval_steps,
                eval_settings=eval_settings,
                **recipe,
                **data,
                **common,
            )
        comparison = compare_rewards(
            arms=dsl.Collected(arm.outputs["log"]),
            evaluations=dsl.Collected(arm.outputs["scores"]),
            settings=ablation_settings,
            **common,
        )
        of_base, of_sft, of_continued, of_grpo = evaluations
        summary = summarise_run(
            generate_metrics=tasks.outputs["metrics"],
            validate_metrics=checked.outputs["metrics"],
            model_metrics=base.outputs["metrics"],
            sft_metrics=sft.outputs["metrics"],
            grpo_metrics=grpo.outputs["metrics"],
            continued_metrics=continued.outputs["metrics"],
            arm_metrics=dsl.Collected(arm.outputs["metrics"]),
            comparison_metrics=comparison.outputs["metrics"],
            base_scores=of_base.outputs["scores"],
            sft_scores=of_sft.outputs["scores"],
            continued_scores=of_continued.outputs["scores"],
            grpo_scores=of_grpo.outputs["scores"],
            arm_scores=dsl.Collected(arm.outputs["scores"]),
            sft_log=sft.outputs["log"],
            continued_log=continued.outputs["log"],
            grpo_log=grpo.outputs["log"],
            comparison=comparison.outputs["comparison"],
            started_at=started_at,
            seed=seed,
            **run,
        )
        summary.set_caching_options(False)


if __name__ == "__main__":
    raise SystemExit(main(full, __file__))
