"""The last tasks of a run as Kubeflow components: its results, and how it ended."""

from kfp import dsl

from wan_r1.images import CPU_IMAGE


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def summarise_run(
    generate_metrics: dsl.Input[dsl.Metrics],
    validate_metrics: dsl.Input[dsl.Metrics],
    model_metrics: dsl.Input[dsl.Metrics],
    sft_metrics: dsl.Input[dsl.Metrics],
    grpo_metrics: dsl.Input[dsl.Metrics],
    continued_metrics: dsl.Input[dsl.Metrics],
    arm_metrics: dsl.Input[list[dsl.Metrics]],
    comparison_metrics: dsl.Input[dsl.Metrics],
    base_scores: dsl.Input[dsl.Dataset],
    sft_scores: dsl.Input[dsl.Dataset],
    continued_scores: dsl.Input[dsl.Dataset],
    grpo_scores: dsl.Input[dsl.Dataset],
    arm_scores: dsl.Input[list[dsl.Dataset]],
    sft_log: dsl.Input[dsl.Dataset],
    continued_log: dsl.Input[dsl.Dataset],
    grpo_log: dsl.Input[dsl.Dataset],
    comparison: dsl.Input[dsl.Dataset],
    storage_uri: str,
    run_id: str,
    job_id: str,
    started_at: str,
    seed: int,
    results: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
):
    """Put a run's results together: one table, one page, the tables behind them; also stored under ``runs/``."""
    import json
    import shutil
    from pathlib import Path

    from wan_r1.storage import locations
    from wan_r1.summarise_run import run

    run_id = run_id or job_id
    trained = [generate_metrics, validate_metrics, model_metrics, sft_metrics, grpo_metrics, continued_metrics]
    evaluations = [Path(one.path) for one in (base_scores, sft_scores, continued_scores, grpo_scores, *arm_scores)]
    stages = [Path(one.path) for one in (*trained, *arm_metrics)]
    stages += [folder / "summary.json" for folder in evaluations] + [Path(comparison_metrics.path)]
    summaries = [json.loads(path.read_text()) for path in stages]
    names = [one.get("label") or f"{one['stage']} {one['model']}" for one in summaries]
    config = {name: summary["config"] for name, summary in zip(names, summaries, strict=True)}
    run(
        info={"id": run_id, "config": config, "seed": seed, "started_at": started_at or None},
        stages=stages,
        evaluations=evaluations,
        logs=[Path(one.path) for one in (sft_log, continued_log, grpo_log)],
        comparison=Path(comparison.path),
        output=Path(results.path),
    )
    shutil.copyfile(Path(results.path) / "report.html", report.path)
    locations.upload_folder(Path(results.path), locations.join(storage_uri, "runs", run_id))


@dsl.component(base_image=CPU_IMAGE, packages_to_install=[], install_kfp_package=False)
def record_outcome(
    status: dsl.PipelineTaskFinalStatus, storage_uri: str, run_id: str, job_id: str, preset: str, seed: int
):
    """Store how a run ended under ``runs/``, whether it succeeded or not.

    Args:
        status: given by Kubeflow Pipelines.
        storage_uri: where the run's results are kept.
        run_id: the run's name; empty takes the next one.
        job_id: Kubeflow's id of the run.
        preset: its preset.
        seed: its seed.
    """
    import tempfile
    from pathlib import Path

    from wan_r1.storage import locations
    from wan_r1.summarise_run import write_exit_summary

    run_id = run_id or job_id
    file = Path(tempfile.mkdtemp()) / "summary.json"
    write_exit_summary(
        output=file,
        run_id=run_id,
        status=status.state,
        error=status.error_message,
        failed_stage=None if status.state == "SUCCEEDED" else status.pipeline_task_name,
        parameters={"preset": preset, "seed": seed, "storage_uri": storage_uri},
    )
    locations.upload_file(file, locations.join(storage_uri, "runs", run_id, "summary.json"))
