"""What stages leave in a pipeline beside their files: metadata of artifacts, and metrics that a file holds, too."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from wan_r1.config import StageConfig

METADATA = (
    "rows",
    "schema_version",
    "git_commit",
    "checkpoint_uri",
    "base_uri",
    "dataset_sha256",
    "started_at",
    "seconds",
    "core_seconds",
    "peak_memory_bytes",
)
"""Keys of a stage's summary that become metadata of all its artifacts."""


class Artifact(Protocol):
    """What is used of a pipeline's artifact, `kfp.dsl.Artifact`."""

    path: str
    metadata: dict[str, Any]


class MetricsArtifact(Artifact, Protocol):
    """What is used of a pipeline's metrics artifact, `kfp.dsl.Metrics`."""

    def log_metric(self, metric: str, value: float) -> None:
        """Set one metric."""


def describe(
    summary: Mapping[str, Any],
    *,
    config: StageConfig,
    metrics: MetricsArtifact,
    artifacts: tuple[Artifact, ...],
    name: str = "",
) -> None:
    """Fill a stage's artifacts from its summary.

    The metrics artifact gets a file as well, the summary as JSON: Kubeflow's local cache takes an artifact without
    a file for a missing one and would run the stage again.

    Args:
        summary: what the stage's ``run`` returned.
        config: the stage's parameters; they go into the file, their hash into the metadata.
        metrics: receives every finite number of the summary.
        artifacts: receive the keys of `METADATA` that the summary has.
        name: name of the task in reports where a stage runs more than once, such as ``evaluate base``.
    """
    kept = {key: summary[key] for key in METADATA if isinstance(summary.get(key), str | int | float)}
    kept["config_hash"] = config.hash
    rows = summary.get("rows")
    if isinstance(rows, list):
        kept["rows"] = sum(row["n"] for row in rows)
    for artifact in (*artifacts, metrics):
        artifact.metadata.update(kept)
    for metric, value in numbers(summary).items():
        metrics.log_metric(metric, value)
    path = Path(metrics.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"label": name or config.STAGE, "config": json.loads(config.to_json())}
    path.write_text(json.dumps({**summary, **values}, indent=1))


def paths(**artifacts: Artifact) -> dict[str, Any]:
    """Paths of artifacts by name, as keyword arguments of a stage's ``run``."""
    return {name: Path(artifact.path) for name, artifact in artifacts.items()}


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers of a summary by name; those of an evaluation's rows as ``split/family/em`` and so on."""
    found = {name: value for name, value in summary.items() if _number(value)}
    for name, value in summary.items():
        if isinstance(value, Mapping) and name != "config":
            found.update({f"{name}/{key}": entry for key, entry in value.items() if _number(entry)})
    rows = summary.get("rows")
    for row in rows if isinstance(rows, list) else []:
        place = f"{row['split']}/{row['family']}"
        found.update({f"{place}/{key}": row[key] for key in ("em", "sr", "pr", "mf", "reward") if _number(row[key])})
    return {name: float(value) for name, value in found.items()}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
