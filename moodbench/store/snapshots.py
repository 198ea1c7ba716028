"""One file with all records of a kind, for large stores: a cache of the record files, never the source of truth.

A row of a snapshot is used only as long as its record file has the size and modification time that the row was read
with; every other record is read from its own file. A stale, damaged or deleted snapshot therefore changes no result.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.errors import StoreError
from moodbench.store.commit import Attempt, write_table
from moodbench.store.location import Location
from moodbench.store.reading import MEND, first_of, read_table
from moodbench.store.schema import RECORDS, SCHEMA_VERSION, VERSION_KEY, stamped

KEY, STAMP = "record_key", "record_stamp"
"""Columns of a snapshot that identify the record file of a row: its key, and its size and modification time."""


@dataclass(frozen=True)
class Compacted:
    """Summary of a snapshot that was written."""

    key: str
    num_records: int
    num_read: int
    """Number of records read from their own files because the previous snapshot lacked their current version."""


def standing_records(location: Location, kind: str) -> pa.Table:
    """Return the valid record of every id of `kind`, one row each, in order of id.

    Raises: StoreError if a record cannot be read.
    """
    return _assembled(location, kind)[0].select(RECORDS[kind][0].names)


def compact(location: Location, kind: str) -> Compacted:
    """Write a snapshot of all records of `kind`, which replaces the previous one."""
    table, num_read = _assembled(location, kind)
    key = snapshot_key(kind)
    with Attempt(location) as attempt:
        staged = write_table(table.cast(stamped(table.schema)), attempt.folder / "snapshot.parquet")
        location.replace(staged, key)
    return Compacted(key, table.num_rows, num_read)


def snapshot_key(kind: str) -> str:
    """Return the key of the snapshot of `kind`."""
    return f"snapshots/{kind}.parquet"


def read_snapshot(location: Location, kind: str) -> pa.Table | None:
    """Return the snapshot of `kind` with its KEY and STAMP columns, or None if there is no usable one."""
    key, schema = snapshot_key(kind), _with_source(RECORDS[kind][0])
    if key not in location.keys("snapshots"):
        return None
    filesystem, root = location.filesystem()
    try:
        written = pq.read_schema(f"{root}/{key}", filesystem=filesystem)
        # Another minor version may lack columns that the record files have.
        if (written.metadata or {}).get(VERSION_KEY) != SCHEMA_VERSION.encode() or not written.equals(schema):
            return None
        return read_table(location, key, schema)
    except (StoreError, pa.ArrowException, OSError):
        return None


def _assembled(location: Location, kind: str) -> tuple[pa.Table, int]:
    """Return the valid records with KEY and STAMP, in order of key, and how many were read from their own files."""
    schema = RECORDS[kind][0]
    stamps = location.stamps(kind)
    keys = first_of(stamps)
    cached = read_snapshot(location, kind) if keys else None
    row_of: dict[str, int] = {}
    tables = []
    if cached is not None:
        tables.append(cached)
        sources = zip(cached.column(KEY).to_pylist(), cached.column(STAMP).to_pylist(), strict=True)
        row_of = {key: row for row, (key, stamp) in enumerate(sources) if stamps.get(key) == stamp}
    num_rows = 0 if cached is None else cached.num_rows
    missing = [key for key in keys if key not in row_of]
    for key in missing:
        table = read_table(location, key, schema)
        if table.num_rows != 1:
            raise StoreError(
                f"{location.filesystem()[1]}/{key}: holds {table.num_rows} rows, a record is one. To go on, {MEND}"
            )
        tables.append(table.append_column(KEY, pa.array([key])).append_column(STAMP, pa.array([stamps[key]])))
        row_of[key] = num_rows
        num_rows += 1
    if not keys:
        return _with_source(schema).empty_table(), 0
    return pa.concat_tables(tables).take(pa.array([row_of[key] for key in keys])), len(missing)


def _with_source(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(KEY, pa.string())).append(pa.field(STAMP, pa.string()))
