"""The stage generate_tasks as Kubeflow components: the whole of it, and a part of it for tasks side by side."""

from kfp import dsl

from wan_r1.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def generate_tasks(
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    preset: str = "tiny",
    seed: int = 0,
    families: list = [],  # noqa: B006 - a pipeline's default, never changed
    train_levels: int = 0,
    prompts_levels: int = 0,
    test_levels: int = 0,
    harder_levels: int = 0,
    settings: dict = {},  # noqa: B006
    shards: int = 1,
    storage_uri: str = "",
):
    """Make puzzles with their solution videos as Parquet shards, or collect those that parts of it have made.

    Args:
        dataset: the shards, one row a level.
        metrics: rows, seconds and memory.
        preset: name of the preset.
        seed: seed of all levels.
        families: names of the families; empty takes the preset's.
        train_levels: levels per family with a demonstration; 0 takes the preset's.
        prompts_levels: levels per family for reinforcement learning alone; 0 takes the preset's.
        test_levels: levels per family for the results; 0 takes the preset's.
        harder_levels: harder levels per family for the results; 0 takes the preset's.
        settings: further fields of `GenerateTasksConfig` by name.
        shards: parts that generate_part has made; 1 makes the whole data set here.
        storage_uri: where the parts are; not used for one.
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.generate_tasks import GenerateTasksConfig, collect, run

    levels = {"train_levels": train_levels, "prompts_levels": prompts_levels}
    levels |= {"test_levels": test_levels, "harder_levels": harder_levels}
    given = {name: value for name, value in {"families": families, **levels}.items() if value}
    config = GenerateTasksConfig.from_preset(preset, {"seed": seed, **given, **settings, "shards": shards})
    output = Path(dataset.path)
    summary = collect(config, storage_uri=storage_uri, output=output) if shards > 1 else run(config, output=output)
    describe(summary, config=config, metrics=metrics, artifacts=(dataset,))


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def number_parts(shards: int) -> list:
    """Numbers of the parts, for a loop over them.

    Args:
        shards: how many there are.
    """
    return list(range(shards))


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def generate_part(
    metrics: dsl.Output[dsl.Metrics],
    shard: int,
    shards: int,
    storage_uri: str,
    preset: str = "tiny",
    seed: int = 0,
    families: list = [],  # noqa: B006
    train_levels: int = 0,
    prompts_levels: int = 0,
    test_levels: int = 0,
    harder_levels: int = 0,
    settings: dict = {},  # noqa: B006
):
    """Make a part of the puzzles and leave its files in storage, for generate_tasks to collect.

    Args:
        metrics: rows, seconds and memory.
        shard: which part, from 0.
        shards: how many parts there are.
        storage_uri: where the files are left, below ``tasks/``.
        preset: as of generate_tasks, like all that follow.
        seed: see there.
        families: see there.
        train_levels: see there.
        prompts_levels: see there.
        test_levels: see there.
        harder_levels: see there.
        settings: see there.
    """
    from wan_r1.artifacts import describe
    from wan_r1.generate_tasks import GenerateTasksConfig, make_part

    levels = {"train_levels": train_levels, "prompts_levels": prompts_levels}
    levels |= {"test_levels": test_levels, "harder_levels": harder_levels}
    given = {name: value for name, value in {"families": families, **levels}.items() if value}
    part = {"shards": shards, "shard": shard}
    config = GenerateTasksConfig.from_preset(preset, {"seed": seed, **given, **settings, **part})
    summary = make_part(config, storage_uri=storage_uri)
    describe(summary, config=config, metrics=metrics, artifacts=(), name=f"generate_tasks {shard + 1} of {shards}")
