"""One file with all records of a kind, for large stores: a cache of what the record files say, never the truth.

A row of a snapshot counts only while its record file is there with the size and time of change that the row was made
from; every other record is read from its own file. So a stale, damaged or deleted snapshot changes no result.
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
"""What a row of a snapshot was read from: the key, size and time of change of the record file."""


@dataclass(frozen=True)
class Compacted:
    """A snapshot that was written."""

    key: str
    num_records: int
    num_read: int
    """Records read from their own files, because the snapshot before did not have them as they are now."""


def standing_records(location: Location, kind: str) -> pa.Table:
    """All standing records of `kind`, one row each, in order of id; StoreError for a record that cannot be read."""
    return _assembled(location, kind)[0].select(RECORDS[kind][0].names)


def compact(location: Location, kind: str) -> Compacted:
    """The snapshot of all records of `kind`, replaced as a whole."""
    table, num_read = _assembled(location, kind)
    key = snapshot_key(kind)
    with Attempt(location) as attempt:
        staged = write_table(table.cast(stamped(table.schema)), attempt.folder / "snapshot.parquet")
        location.replace(staged, key)
    return Compacted(key, table.num_rows, num_read)


def snapshot_key(kind: str) -> str:
    """Where the snapshot of `kind` is."""
    return f"snapshots/{kind}.parquet"


def read_snapshot(location: Location, kind: str) -> pa.Table | None:
    """The snapshot of `kind` with its KEY and STAMP columns; None when there is none that this program may use."""
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
    """The standing records with KEY and STAMP, in order of key, and how many of them were read from their own files."""
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
