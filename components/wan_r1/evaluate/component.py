"""The stage evaluate as a Kubeflow component."""

from kfp import dsl

from wan_r1.images import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    certificate: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    scores: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    preset: str = "tiny",
    seed: int = 0,
    samples: int = 0,
    steps: int = 0,
    threads: int = 0,
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Sample a model on levels it has never seen, verify every video and sum up with intervals.

    Args:
        dataset: shards of generate_tasks.
        certificate: of validate_tasks, for this data set.
        model: reference of the model.
        scores: Parquet file, one row a video with the video, and the summary.
        metrics: exact match, success, precision and fidelity by split and family, seconds and memory.
        report: tables and videos beside their references.
        preset: name of the preset.
        seed: seed of the noise of every video.
        samples: levels per split and family; 0 takes the preset's.
        steps: denoising steps; 0 takes the preset's.
        threads: CPU threads; 0 uses every core.
        settings: further fields of `EvaluateConfig` by name.
    """
    from wan_r1.artifacts import describe, paths
    from wan_r1.evaluate import EvaluateConfig, run

    given = {"samples": samples or None, "steps": steps or None, "threads": threads or None}
    config = EvaluateConfig.from_preset(preset, {"seed": seed, **given, **settings})
    inputs = paths(dataset=dataset, certificate=certificate, model=model)
    summary = run(config, **inputs, **paths(output=scores, metrics=metrics, report=report))
    describe(summary, config=config, metrics=metrics, artifacts=(scores, report), name=f"evaluate {summary['model']}")
