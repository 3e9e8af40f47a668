"""Each stage as a pipeline of its own, fed by the URIs of artifacts, to run one again from an earlier run's outputs.

python pipelines/stages.py train-grpo run dataset_uri=... certificate_uri=... model_uri=... grpo_reward=exact_match
python pipelines/stages.py compile                  # writes pipelines/stage-*.yaml
"""

from typing import NamedTuple

from kfp import dsl

import parts
from launch.verbs import main_of_many
from wan_r1.compare_rewards import component as compare_rewards
from wan_r1.evaluate import component as evaluate
from wan_r1.prepare_model import component as prepare_model
from wan_r1.train_grpo import component as train_grpo
from wan_r1.train_sft import component as train_sft
from wan_r1.validate_tasks import component as validate_tasks


class Checked(NamedTuple):
    """What validate_tasks leaves behind."""

    certificate: dsl.Artifact
    report: dsl.HTML
    metrics: dsl.Metrics


class Prepared(NamedTuple):
    """What prepare_model leaves behind."""

    model: dsl.Model
    metrics: dsl.Metrics


class Trained(NamedTuple):
    """What a training leaves behind."""

    trained: dsl.Model
    log: dsl.Dataset
    metrics: dsl.Metrics
    report: dsl.HTML


class Evaluated(NamedTuple):
    """What evaluate leaves behind."""

    scores: dsl.Dataset
    metrics: dsl.Metrics
    report: dsl.HTML


class Compared(NamedTuple):
    """What compare_rewards leaves behind."""

    comparison: dsl.Dataset
    metrics: dsl.Metrics
    report: dsl.HTML


def _import(uri: str, kind: type[dsl.Artifact]) -> dsl.Artifact:
    return dsl.importer(artifact_uri=uri, artifact_class=kind, reimport=False).output


def _data(dataset_uri: str, certificate_uri: str) -> dict:
    return {"dataset": _import(dataset_uri, dsl.Dataset), "certificate": _import(certificate_uri, dsl.Artifact)}


def _outputs(task: dsl.PipelineTask, kind: type) -> tuple:
    return kind(**{name: task.outputs[name] for name in kind._fields})


@dsl.pipeline(name="wan-r1-generate-tasks")
def generate(
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    tasks_families: list = [],  # noqa: B006 - a pipeline's default, never changed
    tasks_train_levels: int = 0,
    tasks_prompts_levels: int = 0,
    tasks_test_levels: int = 0,
    tasks_harder_levels: int = 0,
    tasks_shards: int = 1,
    tasks_settings: dict = {},  # noqa: B006
) -> parts.Data:
    """Make puzzles with their solution videos; parameters as in the pipeline `wan-r1`."""
    task = parts.make_tasks(
        preset=preset,
        seed=seed,
        families=tasks_families,
        train_levels=tasks_train_levels,
        prompts_levels=tasks_prompts_levels,
        test_levels=tasks_test_levels,
        harder_levels=tasks_harder_levels,
        settings=tasks_settings,
        shards=tasks_shards,
        storage_uri=storage_uri,
    )
    return _outputs(task, parts.Data)


@dsl.pipeline(name="wan-r1-validate-tasks")
def validate(
    dataset_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    validate_settings: dict = {},  # noqa: B006
) -> Checked:
    """Check a data set against its contract; parameters as in the pipeline `wan-r1`."""
    dataset = _import(dataset_uri, dsl.Dataset)
    task = validate_tasks.validate_tasks(dataset=dataset, preset=preset, seed=seed, settings=validate_settings)
    return _outputs(task, Checked)


@dsl.pipeline(name="wan-r1-prepare-model")
def prepare(
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    model_source: str = "",
    model_settings: dict = {},  # noqa: B006
) -> Prepared:
    """Put the diffusers pipeline that training starts from into storage; parameters as in the pipeline `wan-r1`."""
    task = prepare_model.prepare_model(
        storage_uri=storage_uri, preset=preset, seed=seed, source=model_source, settings=model_settings
    )
    return _outputs(task, Prepared)


@dsl.pipeline(name="wan-r1-train-sft")
def sft(
    dataset_uri: str,
    certificate_uri: str,
    model_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    sft_steps: int = 0,
    sft_batch_size: int = 0,
    sft_learning_rate: float = 0.0,
    sft_target_em: float = 0.0,
    sft_settings: dict = {},  # noqa: B006
) -> Trained:
    """Fine-tune a model on solution videos; parameters as in the pipeline `wan-r1`."""
    task = train_sft.train_sft(
        model=_import(model_uri, dsl.Model),
        storage_uri=storage_uri,
        preset=preset,
        seed=seed,
        steps=sft_steps,
        batch_size=sft_batch_size,
        learning_rate=sft_learning_rate,
        target_em=sft_target_em,
        settings=sft_settings,
        **_data(dataset_uri, certificate_uri),
    )
    return _outputs(task, Trained)


@dsl.pipeline(name="wan-r1-continue-sft")
def more_sft(
    dataset_uri: str,
    certificate_uri: str,
    model_uri: str,
    compute_of_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    sft_batch_size: int = 0,
    sft_learning_rate: float = 0.0,
    sft_settings: dict = {},  # noqa: B006
) -> Trained:
    """Fine-tune a fine-tuned model for the compute of another training; parameters as in the pipeline `wan-r1`."""
    task = train_sft.continue_sft(
        model=_import(model_uri, dsl.Model),
        compute_of=_import(compute_of_uri, dsl.Model),
        storage_uri=storage_uri,
        preset=preset,
        seed=seed,
        batch_size=sft_batch_size,
        learning_rate=sft_learning_rate,
        settings=sft_settings,
        **_data(dataset_uri, certificate_uri),
    )
    return _outputs(task, Trained)


@dsl.pipeline(name="wan-r1-train-grpo")
def grpo(
    dataset_uri: str,
    certificate_uri: str,
    model_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    storage_uri: str = "s3://wan-r1",
    grpo_reward: str = "",
    grpo_objective: str = "",
    grpo_group_size: int = 0,
    grpo_iterations: int = 0,
    grpo_learning_rate: float = 0.0,
    grpo_kl_beta: float = -1.0,
    grpo_settings: dict = {},  # noqa: B006
) -> Trained:
    """Improve a model by reinforcement learning; parameters as in the pipeline `wan-r1`."""
    task = train_grpo.train_grpo(
        model=_import(model_uri, dsl.Model),
        storage_uri=storage_uri,
        preset=preset,
        seed=seed,
        reward=grpo_reward,
        objective=grpo_objective,
        group_size=grpo_group_size,
        iterations=grpo_iterations,
        learning_rate=grpo_learning_rate,
        kl_beta=grpo_kl_beta,
        settings=grpo_settings,
        **_data(dataset_uri, certificate_uri),
    )
    return _outputs(task, Trained)


@dsl.pipeline(name="wan-r1-evaluate")
def evaluation(
    dataset_uri: str,
    certificate_uri: str,
    model_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    eval_samples: int = 0,
    eval_steps: int = 0,
    eval_settings: dict = {},  # noqa: B006
) -> Evaluated:
    """Evaluate a model on levels it has never seen; parameters as in the pipeline `wan-r1`."""
    task = evaluate.evaluate(
        model=_import(model_uri, dsl.Model),
        preset=preset,
        seed=seed,
        samples=eval_samples,
        steps=eval_steps,
        settings=eval_settings,
        **_data(dataset_uri, certificate_uri),
    )
    return _outputs(task, Evaluated)


@dsl.pipeline(name="wan-r1-compare-rewards")
def comparison(
    arm_uris: list,
    evaluation_uris: list,
    preset: str = "tiny",
    ablation_settings: dict = {},  # noqa: B006
) -> Compared:
    """Compare trainings by their logs and the evaluations of their models, given in the same order."""
    with dsl.ParallelFor(arm_uris) as uri:
        log = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=False)
    with dsl.ParallelFor(evaluation_uris) as uri:
        scores = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, reimport=False)
    task = compare_rewards.compare_rewards(
        arms=dsl.Collected(log.output),
        evaluations=dsl.Collected(scores.output),
        preset=preset,
        settings=ablation_settings,
    )
    return _outputs(task, Compared)


STAGES = {
    "generate-tasks": generate,
    "validate-tasks": validate,
    "prepare-model": prepare,
    "train-sft": sft,
    "train-grpo": grpo,
    "continue-sft": more_sft,
    "evaluate": evaluation,
    "compare-rewards": comparison,
}

if __name__ == "__main__":
    raise SystemExit(main_of_many(STAGES, __file__))
