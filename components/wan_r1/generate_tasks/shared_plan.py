"""The ids of all levels, found once by all shards together and left in storage, so that no shard pays for the others.

Planning a data set (`wan_r1.generate_tasks.plan`) takes the id of the first level of every place. Places are dealt out
in pieces. Each shard finds the ids of its own pieces, leaves each as a small table, and reads those of the others. What
another shard has not left, because it is lost, late or not started, a shard finds itself: nobody waits, and any shard
alone comes to the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wan_r1.generate_tasks.config import GenerateTasksConfig
from wan_r1.generate_tasks.plan import check_plans, plan_split
from wan_r1.source import source_hash
from wan_r1.storage import locations
from wan_r1.storage.errors import StorageError
from wan_r1.storage.tables import read_table, write_table

PIECE = 2048
"""Places in a piece: what is lost if a shard is killed, and what two shards may find both at the end."""

PLAN_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False, metadata={"doc": "place within (family, split)"}),
        pa.field("level_id", pa.string(), nullable=False, metadata={"doc": "content hash of its first level"}),
    ],
    metadata={"wan_r1.schema": "plan", "wan_r1.schema_version": "1"},
)
"""One row a place; family, split and places are the file's name."""

Pair = tuple[str, str]
"""A family and a split."""


@dataclass(frozen=True)
class _Piece:
    family: str
    split: str
    places: range

    @property
    def name(self) -> str:
        return f"{self.split}-{self.family}-{self.places.start:09d}-{self.places.stop:09d}.parquet"


def data_set_uri(config: GenerateTasksConfig, uri: str) -> str:
    """The folder below ``uri`` for what belongs to this data set, named by its parameters and the code."""
    return locations.join(uri, f"{config.content_hash}-{source_hash()}")


def gather_ids(
    config: GenerateTasksConfig,
    uri: str,
    pairs: list[Pair],
    compute: Callable[[GenerateTasksConfig, str, str, range], NDArray[np.uint64]],
    tell: Callable[[int], None],
) -> dict[Pair, NDArray[np.uint64]]:
    """The id of the first level of every place: those found by other shards, and the rest.

    Args:
        config: what to make; its ``shard`` says which pieces are its own.
        uri: folder in storage that the shards share.
        pairs: families and splits that have levels.
        compute: `wan_r1.generate_tasks.plan.level_ids`, or the same by many processes.
        tell: told how many places are known.

    Raises:
        ConfigError: if the first ids of a piece are so much alike that a split cannot have as many levels as asked for.
        StorageError: if the storage refuses, or holds a piece that is none.
    """
    place = locations.join(data_set_uri(config, uri), "plan")
    known = {(family, split): np.zeros(config.levels(split), np.uint64) for family, split in pairs}
    left = {piece.name: piece for piece in _in_turn(config, pairs)}
    total = sum(len(ids) for ids in known.values())
    done = 0
    while left:
        # Others go on meanwhile, so the folder is looked at again before each piece.
        for found in locations.list_files(place):
            piece = left.pop(found.rpartition("/")[2], None)
            if piece is not None:
                known[piece.family, piece.split][piece.places.start : piece.places.stop] = _read(found, piece)
                done += len(piece.places)
                tell(done)
        if not left:
            break
        piece = left.pop(next(iter(left)))
        ids = compute(config, piece.family, piece.split, piece.places)
        _refuse_small_space(config, piece, ids)
        _write(locations.join(place, piece.name), piece, ids)
        known[piece.family, piece.split][piece.places.start : piece.places.stop] = ids
        done += len(piece.places)
        tell(done)
    assert done == total
    return known


def _in_turn(config: GenerateTasksConfig, pairs: list[Pair]) -> Iterator[_Piece]:
    """All pieces: a shard's own ones first, then those of the next shard from their end, and so on."""
    pieces = [
        _Piece(family, split, range(first, min(first + PIECE, config.levels(split))))
        for family, split in pairs
        for first in range(0, config.levels(split), PIECE)
    ]
    yield from pieces[config.shard :: config.shards]
    for further in range(1, config.shards):
        yield from reversed(pieces[(config.shard + further) % config.shards :: config.shards])


def _refuse_small_space(config: GenerateTasksConfig, piece: _Piece, ids: NDArray[np.uint64]) -> None:
    """Fill the split at once if so many first levels are alike that it may not have as many levels as asked for."""
    repeated = len(ids) - len(np.unique(ids))
    # By the birthday problem n draws from S equally likely levels have about n^2 / 2S repetitions.
    if repeated and len(ids) ** 2 / (2 * repeated) < config.levels(piece.split) / 4:
        check_plans(config, [plan_split(config, piece.family, piece.split)])


def _write(uri: str, piece: _Piece, ids: NDArray[np.uint64]) -> None:
    names = [f"{one:016x}" for one in ids.tolist()]
    write_table(pa.table({"index": list(piece.places), "level_id": names}), uri, PLAN_SCHEMA)


def _read(uri: str, piece: _Piece) -> NDArray[np.uint64]:
    table = read_table(uri, PLAN_SCHEMA)
    if table.column("index").to_pylist() != list(piece.places):
        raise StorageError(f"{uri} has not the places that its name says; delete it, and it is made again")
    try:
        return np.array([int(one, 16) for one in table.column("level_id").to_pylist()], np.uint64)
    except (ValueError, OverflowError) as error:
        raise StorageError(f"{uri} holds no level ids ({error}); delete it, and it is made again") from error
