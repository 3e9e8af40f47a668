"""The stage validate_tasks as a Kubeflow component."""

from kfp import dsl

from wan_r1.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def validate_tasks(
    dataset: dsl.Input[dsl.Dataset],
    certificate: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    preset: str = "tiny",
    seed: int = 0,
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Check every row of a data set against its contract; a broken row stops the pipeline and is named.

    Args:
        dataset: shards of generate_tasks.
        certificate: names the checked content by its hash, so that later stages know what they read.
        report: Data Docs of Great Expectations.
        metrics: rows and rules checked, seconds and memory.
        preset: name of the preset.
        seed: seed of what is sampled.
        settings: further fields of `ValidateTasksConfig` by name.
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.validate_tasks import ValidateTasksConfig, run

    config = ValidateTasksConfig.from_preset(preset, {"seed": seed, **settings})
    summary = run(config, dataset=Path(dataset.path), certificate=Path(certificate.path), report=Path(report.path))
    describe(summary, config=config, metrics=metrics, artifacts=(certificate, report))
