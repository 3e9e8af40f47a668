"""Make the data set: plan the levels, then draw and write them shard by shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_r1.config import ConfigError
from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.plan import Shard, SplitPlan, check_plans, data_shards
from wan_r1.generate_tasks.shared_plan import Pair, gather_ids
from wan_r1.generate_tasks.workers import Workers
from wan_r1.progress import Progress
from wan_r1.runtime import StageClock, git_commit
from wan_r1.storage import locations
from wan_r1.tasks.dataset import dataset_sha256, open_data_file
from wan_r1.tasks.schema import SCHEMA_VERSION, SPLITS, DataContractError


def run(config: GenerateTasksConfig, *, output: Path, deliver_uri: str = "", plan_uri: str = "") -> dict[str, Any]:
    """Write the data set.

    Args:
        config: what to make.
        output: folder for the Parquet files; new, empty, or with finished files of this very data set from a run that
            was cut short, which are kept.
        deliver_uri: folder or S3 URI to which each finished file is moved; files that are there are kept as well.
        plan_uri: folder or S3 URI where shards leave for each other what they find out about all levels; without it
            each shard finds out all of it.

    Returns:
        The stage's summary, with ``rows``, ``rows_by_split``, ``files``, ``kept_files`` (those found finished),
        ``schema_version`` and, unless files are delivered, ``dataset_sha256``.

    Raises:
        ConfigError: if a split cannot have as many different levels, or the folder holds anything else.
        StorageError: if the storage refuses.
    """
    output = Path(output)
    _check_folder(config, output)
    output.mkdir(parents=True, exist_ok=True)
    total = sum(config.levels(split) for split in SPLITS) * len(config.families)
    everything = data_shards(config)
    shards = everything[config.shard :: config.shards]
    delivered = {Path(uri).name for uri in locations.list_files(deliver_uri)} if deliver_uri else set()
    left = [shard for shard in shards if shard.name not in delivered and not (output / shard.name).exists()]
    with StageClock(config.STAGE) as clock, Workers(config, total if left else 0) as workers:
        if left:
            kept = [shard for shard in everything if (output / shard.name).exists()]
            plans = {(plan.family, plan.split): plan for plan in _plan(config, workers, kept, output, plan_uri)}
            todo = [(shard, _attempts(plans[shard.family, shard.split], shard)) for shard in left]
            with Progress(config.STAGE, sum(len(shard.places) for shard in left), unit="level") as progress:
                workers.write(todo, output, deliver_uri, progress.update)
    by_split = Counter[str]()
    for shard in shards:
        by_split[shard.split] += len(shard.places)
    return {
        **clock.summary(),
        "rows": by_split.total(),
        "rows_by_split": dict(by_split),
        "files": len(shards),
        "kept_files": len(shards) - len(left),
        "schema_version": SCHEMA_VERSION,
        "config_hash": config.hash,
        **({} if deliver_uri else {"dataset_sha256": dataset_sha256(output)}),
    }


def _plan(
    config: GenerateTasksConfig, workers: Workers, kept: Iterable[Shard], output: Path, plan_uri: str
) -> list[SplitPlan]:
    """The plans of all families and splits that have levels, split by split; refused if a split cannot be filled."""
    pairs = [(family, split) for split in SPLITS if config.levels(split) for family in config.families]
    total = sum(config.levels(split) for _, split in pairs)
    with Progress(config.STAGE, total, unit="planned level") as progress:
        progress.note(f"planning {total} levels")
        if plan_uri:
            known = gather_ids(config, plan_uri, pairs, workers.ids, progress.update)
        else:
            known = _known_ids(config, kept, output)
        plans = workers.plan(pairs, known)
    check_plans(config, plans)
    return plans


def _known_ids(config: GenerateTasksConfig, kept: Iterable[Shard], output: Path) -> dict[Pair, NDArray[np.uint64]]:
    """Ids of the levels in the files that are finished, so that they are not looked for again."""
    known: dict[Pair, NDArray[np.uint64]] = {}
    for shard in kept:
        ids = known.setdefault((shard.family, shard.split), np.zeros(config.levels(shard.split), np.uint64))
        columns = open_data_file(output / shard.name).read(columns=["index", "level_id"]).to_pydict()
        ids[columns["index"]] = [int(one, 16) for one in columns["level_id"]]
    return known


def _attempts(plan: SplitPlan, shard: Shard) -> bytes:
    return plan.attempts[shard.places.start : shard.places.stop]


def _check_folder(config: GenerateTasksConfig, output: Path) -> None:
    """Refuse a folder with anything but files of this data set; remove what a run that was cut short left half-made."""
    if not output.exists():
        return
    wrong: Path | None = output if output.is_file() else None
    for path in () if wrong else sorted(output.iterdir()):
        if path.name.endswith(".parquet.unfinished"):
            path.unlink()
        elif not (path.suffix == ".parquet" and _origin(path) == (config.content_hash, git_commit())):
            wrong = path
    if wrong is not None:
        raise ConfigError(
            f"output={str(output)!r} holds {wrong.name}, which is no file of this data set at this commit; give a new "
            "or an empty folder, or the folder of a run with the same parameters to finish that"
        )


def _origin(file: Path) -> tuple[str, str] | None:
    """The config's hash and the commit that a file was made with; ``None`` if it is no file of a data set."""
    try:
        metadata = open_data_file(file).schema_arrow.metadata or {}
    except DataContractError:
        return None
    return metadata.get(b"wan_r1.config_hash", b"").decode(), metadata.get(b"wan_r1.git_commit", b"").decode()
