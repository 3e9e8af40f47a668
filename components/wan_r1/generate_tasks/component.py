"""The stage generate_tasks as a Kubeflow component."""

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
):
    """Make puzzles with their solution videos as Parquet shards.

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
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.generate_tasks import GenerateTasksConfig, run

    levels = {"train_levels": train_levels, "prompts_levels": prompts_levels}
    levels |= {"test_levels": test_levels, "harder_levels": harder_levels}
    given = {name: value for name, value in {"families": families, **levels}.items() if value}
    config = GenerateTasksConfig.from_preset(preset, {"seed": seed, **given, **settings})
    summary = run(config, output=Path(dataset.path))
    describe(summary, config=config, metrics=metrics, artifacts=(dataset,))
