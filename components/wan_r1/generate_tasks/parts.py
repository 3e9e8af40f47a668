"""A data set that several tasks make side by side: each leaves its files in storage, and one task collects them.

Parts lie below ``<storage>/tasks/``, named by what decides their content: parameters and code. So a part that was cut
short goes on where it was, and what no part has made the collecting task makes itself. Beside them lies their plan,
which they make together (`wan_r1.generate_tasks.shared_plan`).
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.plan import data_shards
from wan_r1.generate_tasks.shared_plan import data_set_uri
from wan_r1.generate_tasks.stage import run
from wan_r1.storage import locations


def parts_uri(config: GenerateTasksConfig, storage_uri: str) -> str:
    """Where the parts of a data set are kept."""
    return data_set_uri(config, locations.join(storage_uri, "tasks"))


def make_part(config: GenerateTasksConfig, *, storage_uri: str) -> dict[str, Any]:
    """Make the part ``config.shard`` of ``config.shards``, and leave its files in storage as they are finished.

    Returns:
        The stage's summary, without ``dataset_sha256``.

    Raises:
        ConfigError: see `wan_r1.generate_tasks.run`.
        StorageError: if the storage refuses.
    """
    place = parts_uri(config, storage_uri)
    with tempfile.TemporaryDirectory() as scratch:
        plan_uri = locations.join(storage_uri, "tasks")
        summary = run(config, output=Path(scratch), deliver_uri=place, plan_uri=plan_uri)
    locations.write_bytes(
        locations.join(place, _summary_name(config.shard, config.shards)), json.dumps(summary).encode()
    )
    return summary


def collect(config: GenerateTasksConfig, *, storage_uri: str, output: Path) -> dict[str, Any]:
    """Put the files of all parts in one folder: the data set that one task would have made.

    Args:
        config: what the data set is, with the number of its parts in ``shards``.
        storage_uri: where the parts were left.
        output: folder for the data set, as of `wan_r1.generate_tasks.run`.

    Returns:
        The summary of `wan_r1.generate_tasks.run`, with the parts' core seconds added, the longest part's seconds, and
        ``kept_files`` for the files that were found.

    Raises:
        ConfigError: see `wan_r1.generate_tasks.run`.
        StorageError: if the storage refuses.
    """
    whole = GenerateTasksConfig.build({**json.loads(config.to_json()), "shards": 1, "shard": 0})
    found = {Path(uri).name: uri for uri in locations.list_files(parts_uri(config, storage_uri))}
    for shard in data_shards(whole):
        if shard.name in found and not (output / shard.name).exists():
            _fetch(found[shard.name], output / shard.name)
    summary = run(whole, output=output)
    names = (_summary_name(shard, config.shards) for shard in range(config.shards))
    parts = [json.loads(locations.read_bytes(found[name])) for name in names if name in found]
    return {
        **summary,
        "parts": len(parts),
        "seconds": summary["seconds"] + max((part["seconds"] for part in parts), default=0.0),
        "core_seconds": summary["core_seconds"] + sum(part["core_seconds"] for part in parts),
        "peak_memory_bytes": max(part["peak_memory_bytes"] for part in (summary, *parts)),
    }


def _summary_name(shard: int, shards: int) -> str:
    return f"part-{shard:05d}-of-{shards:05d}.json"


def _fetch(uri: str, path: Path) -> None:
    """A file of the storage here: a hard link where that is possible, a copy elsewhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not locations.is_s3(uri):
        with contextlib.suppress(OSError):
            os.link(locations.local_path(uri), path)
            return
    locations.download_file(uri, path)
