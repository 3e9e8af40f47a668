"""The stage prepare_model as a Kubeflow component."""

from kfp import dsl

from wan_r1.images import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def prepare_model(
    storage_uri: str,
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    preset: str = "tiny",
    seed: int = 0,
    source: str = "",
    settings: dict = {},  # noqa: B006 - a pipeline's default, never changed
):
    """Put the diffusers pipeline that training starts from into storage.

    Args:
        storage_uri: where models and checkpoints are kept.
        model: reference of the model, a small JSON file.
        metrics: seconds and memory.
        preset: name of the preset.
        seed: seed of a tiny model's weights.
        source: `tiny`, a folder, an `s3://` URI or a hub id; empty takes the preset's.
        settings: further fields of `PrepareModelConfig` by name.
    """
    from pathlib import Path

    from wan_r1.artifacts import describe
    from wan_r1.prepare_model import PrepareModelConfig, run

    config = PrepareModelConfig.from_preset(preset, {"seed": seed, "source": source or None, **settings})
    summary = run(config, storage_uri=storage_uri, model=Path(model.path))
    describe(summary, config=config, metrics=metrics, artifacts=(model,))
