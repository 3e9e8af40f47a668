"""Nested pipelines that the pipelines of this folder share."""

from typing import Any, NamedTuple

from kfp import dsl

from wan_r1.evaluate.component import evaluate
from wan_r1.generate_tasks.component import generate_part, generate_tasks, number_parts
from wan_r1.train_grpo.component import train_grpo


class Data(NamedTuple):
    """What generate_tasks leaves behind."""

    dataset: dsl.Dataset
    metrics: dsl.Metrics


@dsl.pipeline(name="make-parts")
def make_parts(
    preset: str,
    seed: int,
    families: list,
    train_levels: int,
    prompts_levels: int,
    test_levels: int,
    harder_levels: int,
    settings: dict,
    shards: int,
    storage_uri: str,
):
    """Make the parts of the data set side by side if there is more than one; parameters as of `generate_part`."""
    with dsl.If(shards > 1):
        numbers = number_parts(shards=shards)
        # The loop's body takes no other parameter of a task: the local runner would replace it by the loop's item.
        with dsl.ParallelFor(numbers.output) as number:
            generate_part(
                shard=number,
                shards=shards,
                storage_uri=storage_uri,
                preset=preset,
                seed=seed,
                families=families,
                train_levels=train_levels,
                prompts_levels=prompts_levels,
                test_levels=test_levels,
                harder_levels=harder_levels,
                settings=settings,
            )


def make_tasks(**values: Any) -> dsl.PipelineTask:
    """The data set, made in one task, or in parts that it collects; values as of `make_parts`.

    Parts reach it by the storage, not as artifacts: so one part needs no further task, as the local runner knows no
    artifact that comes from one of two branches.
    """
    return generate_tasks(**values).after(make_parts(**values))


class ArmOutputs(NamedTuple):
    """What an arm of a comparison leaves behind."""

    log: dsl.Dataset
    metrics: dsl.Metrics
    scores: dsl.Dataset


@dsl.pipeline(name="reward-arm")
def reward_arm(
    dataset: dsl.Input[dsl.Dataset],
    certificate: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    storage_uri: str,
    preset: str,
    seed: int,
    reward: str,
    objective: str,
    group_size: int,
    iterations: int,
    learning_rate: float,
    kl_beta: float,
    threads: int,
    variant: dict,
    settings: dict,
    eval_samples: int,
    eval_steps: int,
    eval_settings: dict,
) -> ArmOutputs:
    """Train with one reward and evaluate the result; parameters are those of the pipeline `full`, without defaults."""
    trained = train_grpo(
        dataset=dataset,
        certificate=certificate,
        model=model,
        storage_uri=storage_uri,
        preset=preset,
        seed=seed,
        reward=reward,
        objective=objective,
        group_size=group_size,
        iterations=iterations,
        learning_rate=learning_rate,
        kl_beta=kl_beta,
        threads=threads,
        arm=True,
        variant=variant,
        settings=settings,
    )
    evaluated = evaluate(
        dataset=dataset,
        certificate=certificate,
        model=trained.outputs["trained"],
        preset=preset,
        seed=seed,
        samples=eval_samples,
        steps=eval_steps,
        threads=threads,
        settings=eval_settings,
    )
    return ArmOutputs(trained.outputs["log"], trained.outputs["metrics"], evaluated.outputs["scores"])
