"""Parquet tables with a contract: written under one schema with its version, refused on reading if they differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wan_r1.storage import locations
from wan_r1.storage.errors import StorageError


def write_table(
    table: pa.Table | Sequence[dict[str, Any]], path: Path | str, schema: pa.Schema, *, row_group_size: int = 1024
) -> None:
    """Write one Parquet file, whole or not at all, with the schema's own metadata.

    Args:
        table: a table, or its rows as dicts.
        path: a local path or an S3 URI.
        schema: names, types, nullability and metadata of the file.
        row_group_size: rows read together.

    Raises:
        StorageError: if a value does not fit the schema; the message names the file and the column.
    """
    try:
        data = table if isinstance(table, pa.Table) else pa.Table.from_pylist(list(table), schema=schema)
        for field in schema:
            if not field.nullable and data.column(field.name).null_count:
                raise ValueError(f"column {field.name!r} has nulls")
        data = data.select(schema.names).cast(schema).replace_schema_metadata(schema.metadata)
    except (pa.ArrowInvalid, pa.ArrowTypeError, KeyError, ValueError) as error:
        raise StorageError(f"cannot write {path}: a value does not fit the schema: {error}") from error
    buffer = io.BytesIO()
    pq.write_table(data, buffer, compression="zstd", row_group_size=row_group_size)
    locations.write_bytes(str(path), buffer.getvalue())


def read_table(path: Path | str, schema: pa.Schema | None = None, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or all Parquet files of a folder in the order of their names.

    Args:
        path: a local path or an S3 URI of a file or folder.
        schema: what every file must have, metadata included; ``None`` takes what is there.
        columns: names of the columns to read; ``None`` reads all.

    Raises:
        StorageError: naming the file that is missing, damaged or of another schema or version.
    """
    tables = [_read_file(file, schema, columns) for file in _files(path)]
    return pa.concat_tables(tables)


def _files(path: Path | str) -> list[str]:
    uri = str(path)
    if locations.is_s3(uri):
        if uri.endswith(".parquet"):
            return [uri]
    elif locations.local_path(uri).is_file():
        return [uri]
    files = [file for file in locations.list_files(uri) if file.endswith(".parquet")]
    if not files:
        raise StorageError(f"{uri} has no Parquet file; check the path, an earlier stage may not have written it")
    return files


def _read_file(file: str, schema: pa.Schema | None, columns: Sequence[str] | None) -> pa.Table:
    source = io.BytesIO(locations.read_bytes(file)) if locations.is_s3(file) else locations.local_path(file)
    try:
        parquet = pq.ParquetFile(source)
        if schema is not None:
            _check(file, parquet.schema_arrow, schema)
        return parquet.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"{file} is no readable Parquet file: {error}") from error


def _check(file: str, found: pa.Schema, expected: pa.Schema) -> None:
    found_metadata = found.metadata or {}
    for key, value in (expected.metadata or {}).items():
        if found_metadata.get(key) != value:
            shown = found_metadata.get(key, b"nothing").decode()
            raise StorageError(
                f"{file} has {key.decode()}={shown}; this program reads {value.decode()}; make the table again"
            )
    for field in expected:
        if field.name not in found.names:
            raise StorageError(f"{file} lacks the column {field.name!r}")
        other = found.field(field.name)
        if other.type != field.type:
            raise StorageError(f"{file} has the column {field.name!r} as {other.type}, expected {field.type}")
        if other.nullable and not field.nullable:
            raise StorageError(f"{file} allows nulls in the column {field.name!r}, which must have none")
