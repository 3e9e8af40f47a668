"""What every training stage reads: its model and its levels, checked before anything expensive starts."""

from __future__ import annotations

import json
from pathlib import Path

from wan_r1.tasks.dataset import Task, dataset_sha256, read_tasks


class InputError(ValueError):
    """An input of a stage is not what it should be. The message names it and the remedy."""


def checked_dataset(dataset: Path, certificate: Path | None) -> str:
    """The data set's SHA-256, compared with the certificate that validate_tasks wrote for it.

    Raises:
        InputError: if the certificate is for other data.
    """
    sha256 = dataset_sha256(dataset)
    if certificate is None:
        return sha256
    try:
        certified = json.loads(Path(certificate).read_text())["dataset_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"certificate={certificate} is no certificate of validate_tasks ({error})") from error
    if certified != sha256:
        raise InputError(
            f"dataset={dataset} is not the data that certificate={certificate} is for (SHA-256 {sha256[:12]}..., "
            f"certified {certified[:12]}...); run validate_tasks on it"
        )
    return sha256


def levels(dataset: Path, split: str, *, per_family: int | None = None, videos: bool = True) -> list[Task]:
    """Levels of a split, ``per_family`` of each family at most.

    Raises:
        InputError: if the split has none.
    """
    tasks = read_tasks(dataset, split=split, videos=videos)
    if not tasks:
        raise InputError(f"dataset={dataset} has no levels in split {split!r}; raise tasks_{split}_levels")
    if per_family is None:
        return tasks
    families = sorted({task.family for task in tasks})
    return [task for family in families for task in [t for t in tasks if t.family == family][:per_family]]
