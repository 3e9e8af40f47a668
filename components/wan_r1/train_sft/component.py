"""The stage train_sft as two Kubeflow components: from the base model, and continued for as long as another one."""

from kfp import dsl

from wan_r1.images import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def train_sft(
    dataset: dsl.Input[dsl.Dataset],
    certificate: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    storage_uri: str,
    trained: dsl.Output[dsl.Model],
    log: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    preset: str = "tiny",
    seed: int = 0,
    steps: int = 0,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    target_em: float = 0.0,
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Fine-tune the model on solution videos.

    Args:
        dataset: shards of generate_tasks.
        certificate: of validate_tasks, for this data set.
        model: reference of the model to start from.
        storage_uri: where checkpoints are kept.
        trained: reference of the trained model.
        log: Parquet file, one row a step.
        metrics: losses, exact match, seconds and memory.
        report: curves.
        preset: name of the preset.
        seed: seed of batches, noise and adapters.
        steps: optimizer steps at most; 0 takes the preset's.
        batch_size: videos per step; 0 takes the preset's.
        learning_rate: AdamW's; 0 takes the preset's.
        target_em: validation exact match to stop at; 0 takes the preset's.
        settings: further fields of `TrainSftConfig` by name.
    """
    from wan_r1.artifacts import describe, paths
    from wan_r1.train_sft import TrainSftConfig, run
    from wan_r1.training.placement import place

    chosen = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "target_em": target_em}
    given = {name: value for name, value in chosen.items() if value}
    config = TrainSftConfig.from_preset(preset, {"seed": seed, **given, **settings})
    inputs = paths(dataset=dataset, certificate=certificate, model=model)
    summary = place(run, config, storage_uri=storage_uri, **inputs, **paths(output=trained, metrics=log, report=report))
    describe(summary, config=config, metrics=metrics, artifacts=(trained, log, report))


@dsl.component(base_image=GPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def continue_sft(
    dataset: dsl.Input[dsl.Dataset],
    certificate: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    compute_of: dsl.Input[dsl.Model],
    storage_uri: str,
    trained: dsl.Output[dsl.Model],
    log: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    preset: str = "tiny",
    seed: int = 0,
    batch_size: int = 0,
    learning_rate: float = 0.0,
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Fine-tune a fine-tuned model further, for the compute that another model's training took.

    The preset's table `continue_sft` overrides `train_sft`.

    Args:
        dataset: shards of generate_tasks.
        certificate: of validate_tasks, for this data set.
        model: reference of the fine-tuned model.
        compute_of: reference of the model whose training time is the budget.
        storage_uri: where checkpoints are kept.
        trained: reference of the trained model.
        log: Parquet file, one row a step.
        metrics: losses, exact match, seconds and memory.
        report: curves.
        preset: name of the preset.
        seed: seed of batches, noise and adapters.
        batch_size: videos per step; 0 takes the preset's.
        learning_rate: AdamW's; 0 takes the preset's.
        settings: further fields of `TrainSftConfig` by name.
    """
    from wan_r1.artifacts import describe, paths
    from wan_r1.config import read_preset
    from wan_r1.train_sft import TrainSftConfig, run
    from wan_r1.training.placement import place

    table = read_preset(preset).get("continue_sft", {})
    given = {"batch_size": batch_size or None, "learning_rate": learning_rate or None}
    given = {name: value for name, value in given.items() if value is not None}
    config = TrainSftConfig.from_preset(preset, {"seed": seed, **table, **given, **settings})
    inputs = paths(dataset=dataset, certificate=certificate, model=model, compute_of=compute_of)
    summary = place(run, config, storage_uri=storage_uri, **inputs, **paths(output=trained, metrics=log, report=report))
    describe(summary, config=config, metrics=metrics, artifacts=(trained, log, report), name="continue_sft")
