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
    settings: dict = {},  # noqa: B006
):
    """Make puzzles with their solution videos as Parquet shards.

    Args:
        dataset: the shards, one row a level.
        metrics: rows per split, seconds and memory.
        preset: name of the preset.
        seed: seed of all levels.
        families: names of the families; empty takes the preset's.
        settings: further fields of `GenerateTasksConfig` by name.
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.generate_tasks import GenerateTasksConfig, run

    config = GenerateTasksConfig.from_preset(preset, {"seed": seed, "families": families or None, **settings})
    summary = run(config, output=Path(dataset.path))
    describe(summary, metrics=metrics, artifacts=(dataset,))
