"""Nested pipelines that the pipelines of this folder share."""

from typing import NamedTuple

from kfp import dsl

from wan_r1.evaluate.component import evaluate
from wan_r1.train_grpo.component import train_grpo


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
