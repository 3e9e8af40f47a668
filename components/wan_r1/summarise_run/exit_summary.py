"""What is written about a run however it ended."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wan_r1.runtime import git_commit, machine


def write_exit_summary(
    *,
    output: Path,
    run_id: str,
    status: str,
    error: str | None = None,
    failed_stage: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    results: Path | None = None,
) -> dict[str, Any]:
    """Write how a run ended; what is not known is null, and nothing that is missing stops it.

    Args:
        output: JSON file to write.
        run_id: the run.
        status: how it ended, as Kubeflow Pipelines calls it, such as ``SUCCEEDED`` or ``FAILED``.
        error: the message of the error that ended it.
        failed_stage: the stage that raised it.
        parameters: what the run was started with.
        results: the run's ``results.json``; its rows are taken over if it is there and readable.

    Returns:
        What was written: ``run_id, status, error, failed_stage, parameters, finished_at, git_commit, machine, rows``.
    """
    summary = {
        "run_id": run_id,
        "status": status,
        "error": error or None,
        "failed_stage": failed_stage or None,
        "parameters": dict(parameters) if parameters is not None else None,
        "finished_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "machine": machine(),
        "rows": _rows(results),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(summary, indent=2, default=str) + "\n")
    return summary


def _rows(results: Path | None) -> list[dict[str, Any]] | None:
    if results is None:
        return None
    try:
        content = json.loads(results.read_text())
    except (OSError, ValueError):
        # A run that failed has no results, or half a file of them; its summary says so by null.
        return None
    rows = content.get("rows") if isinstance(content, dict) else None
    return rows if isinstance(rows, list) else None
