"""Parquet tables with a contract."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wan_r1.storage import StorageError, locations
from wan_r1.storage.tables import read_table, write_table

SCHEMA = pa.schema(
    [pa.field("name", pa.string(), nullable=False), pa.field("value", pa.float32())],
    metadata={"wan_r1.schema": "toy", "wan_r1.schema_version": "2"},
)
ROWS = [{"name": "a", "value": 0.5}, {"name": "b", "value": None}]


def test_round_trip(place: str) -> None:
    file = locations.join(place, "rows.parquet")
    write_table(ROWS, file, SCHEMA)
    table = read_table(file, SCHEMA)
    assert table.to_pylist() == ROWS
    assert table.schema.metadata[b"wan_r1.schema_version"] == b"2"


def test_a_folder_is_read_in_order(place: str) -> None:
    for number in (1, 0, 2):
        write_table([{"name": str(number)}], locations.join(place, f"part-{number}.parquet"), SCHEMA)
    locations.write_bytes(locations.join(place, "notes.txt"), b"no table")
    assert read_table(place, SCHEMA, columns=["name"]).column("name").to_pylist() == ["0", "1", "2"]


def test_a_null_is_refused_on_writing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="column 'name' has nulls"):
        write_table([{"name": None, "value": 1.0}], tmp_path / "x.parquet", SCHEMA)
    assert not (tmp_path / "x.parquet").exists()


def test_a_wrong_type_is_refused_on_writing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not fit the schema"):
        write_table([{"name": "a", "value": "much"}], tmp_path / "x.parquet", SCHEMA)


def test_another_version_is_named(tmp_path: Path) -> None:
    file = tmp_path / "old.parquet"
    older = SCHEMA.with_metadata({"wan_r1.schema": "toy", "wan_r1.schema_version": "1"})
    write_table(ROWS, file, older)
    with pytest.raises(StorageError, match=r"old.parquet has wan_r1.schema_version=1; this program reads 2"):
        read_table(file, SCHEMA)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = tmp_path / "narrow.parquet"
    pq.write_table(pa.table({"name": ["a"]}, schema=pa.schema([SCHEMA.field("name")], metadata=SCHEMA.metadata)), file)
    with pytest.raises(StorageError, match="lacks the column 'value'"):
        read_table(file, SCHEMA)


def test_what_is_no_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"text")
    with pytest.raises(StorageError, match=r"bad.parquet is no readable Parquet file"):
        read_table(tmp_path, SCHEMA)
    with pytest.raises(StorageError, match="has no Parquet file"):
        read_table(tmp_path / "nowhere", SCHEMA)


def test_nulls_that_the_schema_forbids_are_named(tmp_path: Path) -> None:
    nullable = pa.schema([pa.field("name", pa.string()), SCHEMA.field("value")], metadata=SCHEMA.metadata)
    pq.write_table(pa.table({"name": ["a"], "value": [1.0]}, schema=nullable), tmp_path / "nulls.parquet")
    with pytest.raises(StorageError, match=r"nulls.parquet allows nulls in the column 'name'"):
        read_table(tmp_path / "nulls.parquet", SCHEMA)
