"""The stage train_grpo as a Kubeflow component."""

from kfp import dsl

from wan_r1.images import GPU_IMAGE


@dsl.component(base_image=GPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def train_grpo(
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
    reward: str = "",
    objective: str = "",
    group_size: int = 0,
    iterations: int = 0,
    learning_rate: float = 0.0,
    kl_beta: float = -1.0,
    threads: int = 0,
    arm: bool = False,
    variant: dict = {},  # noqa: B006 - a pipeline's default, never changed
    settings: dict = {},  # noqa: B006
):
    """Improve a model by reinforcement learning with verified rewards.

    Args:
        dataset: shards of generate_tasks.
        certificate: of validate_tasks, for this data set.
        model: reference of the model to start from.
        storage_uri: where checkpoints are kept.
        trained: reference of the trained model.
        log: Parquet file, one row an iteration.
        metrics: rewards, exact match, seconds and memory.
        report: curves.
        preset: name of the preset.
        seed: seed of prompts, rollouts and adapters.
        reward: name of the reward, or `module:function`; empty takes the preset's.
        objective: `flow_grpo` or `forward_grpo`; empty takes the preset's.
        group_size: videos per prompt; 0 takes the preset's.
        iterations: rollouts and updates; 0 takes the preset's.
        learning_rate: AdamW's; 0 takes the preset's.
        kl_beta: weight of the KL to the starting model; -1 takes the preset's.
        threads: CPU threads; 0 uses every core.
        arm: whether this is one of several that are compared: the preset's table `ablation` overrides `train_grpo`.
        variant: fields of `TrainGrpoConfig` by name in which an arm differs from the others; they name its model.
        settings: further fields of `TrainGrpoConfig` by name.
    """
    from wan_r1.artifacts import describe, paths
    from wan_r1.config import read_preset
    from wan_r1.train_grpo import TrainGrpoConfig, run
    from wan_r1.training.placement import place
    from wan_r1.video_model import ModelReference

    table = read_preset(preset).get("ablation", {}) if arm else {}
    chosen = {"reward": reward, "objective": objective, "group_size": group_size, "iterations": iterations}
    chosen |= {"learning_rate": learning_rate, "threads": threads}
    given = {name: value for name, value in chosen.items() if value} | ({} if kl_beta == -1 else {"kl_beta": kl_beta})
    config = TrainGrpoConfig.from_preset(preset, {"seed": seed, **table, **given, **settings, **variant})
    inputs = paths(dataset=dataset, certificate=certificate, model=model)
    summary = place(run, config, storage_uri=storage_uri, **inputs, **paths(output=trained, metrics=log, report=report))
    label = ",".join(f"{field}={value}" for field, value in variant.items()) or config.reward
    model_name, name = (f"grpo:{label}", f"train_grpo {label}") if arm else ("grpo", "train_grpo")
    ModelReference.read(trained.path).with_(name=model_name).write(trained.path)
    describe(summary, config=config, metrics=metrics, artifacts=(trained, log, report), name=name)
