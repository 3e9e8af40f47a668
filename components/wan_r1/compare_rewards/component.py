"""The stage compare_rewards as a Kubeflow component."""

from kfp import dsl

from wan_r1.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def compare_rewards(
    arms: dsl.Input[list[dsl.Dataset]],
    evaluations: dsl.Input[list[dsl.Dataset]],
    comparison: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    preset: str = "tiny",
    seed: int = 0,
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Compare training runs that differ in their reward alone.

    Args:
        arms: training logs of train_grpo.
        evaluations: scores of evaluate, in the same order.
        comparison: Parquet file, one row an arm.
        metrics: seconds and memory.
        report: table and curves.
        preset: name of the preset.
        seed: unused, kept for the one form that all stages have.
        settings: further fields of `CompareRewardsConfig` by name.
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.compare_rewards import CompareRewardsConfig, run

    config = CompareRewardsConfig.from_preset(preset, {"seed": seed, **settings})
    inputs: dict = {"arms": [Path(log.path) for log in arms], "evaluations": [Path(one.path) for one in evaluations]}
    summary = run(config, **inputs, output=Path(comparison.path), report=Path(report.path))
    describe(summary, config=config, metrics=metrics, artifacts=(comparison, report))
