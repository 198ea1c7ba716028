"""Reading of store files as tables, from the files themselves or from a snapshot of many records.

A snapshot is one file with all records of a kind: a cache for large stores, never the source of truth. A row is used
only if the checksum of the snapshot is right and the record file has the size and modification time it was read with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from moodbench.errors import StoreError
from moodbench.store.commit import Attempt, id_of_key, write_table
from moodbench.store.integrity import Damaged, flaws_of, is_sealed, sealed
from moodbench.store.location import Location
from moodbench.store.schema import ADDED, FAILURES, RECORDS, SCHEMA_VERSION, VERSION_KEY, WITH_FAILURES, stamped

REPAIR = (
    "run `moodbench store verify --set-aside`, which moves damaged results and what depends on them out of the way, "
    "then run the same command again to recreate them"
)
"""End of an error message: what to do about a damaged file."""
KEY, STAMP = "record_key", "record_stamp"
"""Columns of a snapshot that identify the record file of a row: its key, and its size and modification time."""


def record_keys(keys: Iterable[str]) -> list[str]:
    """Return the key of the valid record of every id: of several sorted `keys`, the first by attempt name."""
    first: dict[str, str] = {}
    for key in keys:
        if key.endswith(".parquet"):
            first.setdefault(id_of_key(key), key)
    return list(first.values())


def read_table(location: Location, key: str, schema: pa.Schema) -> pa.Table:
    """Return the table at `key` with the columns of `schema`.

    Raises: StoreError if the file is missing or damaged, is not from MoodBench, or has another schema version.
    """
    return _with_columns(location, key, _whole_table(location, key), schema)


def read_record(location: Location, kind: str, key: str) -> tuple[pa.Table, Damaged | None]:
    """Return the record of `kind` at `key` as a table of one row, and what is wrong with its values, if anything.

    Raises: StoreError as `read_table` does, and if there is not one row.
    """
    whole = _whole_table(location, key)
    table = _with_columns(location, key, whole, WITH_FAILURES[kind][0])
    if table.num_rows != 1:
        raise StoreError(
            f"{location.filesystem()[1]}/{key}: holds {table.num_rows} rows, a record is one. To go on, {REPAIR}"
        )
    row, id_ = table.to_pylist()[0], id_of_key(key)
    flaws = tuple(flaws_of(kind, id_, whole, row))
    return table, Damaged(kind, id_, key, row, flaws) if flaws else None


def refuse_damaged(location: Location, damaged: Sequence[Damaged]) -> None:
    """Raise StoreError, which names the first of the `damaged` records, if there are any."""
    if damaged:
        others = f", as are {len(damaged) - 1} others" if len(damaged) > 1 else ""
        raise StoreError(f"{location.filesystem()[1]}/{damaged[0]}{others}. To go on, {REPAIR}")


def _whole_table(location: Location, key: str) -> pa.Table:
    """Return the table at `key` with all its columns and metadata; raise StoreError as `read_table` does."""
    filesystem, root = location.filesystem()
    try:
        table = pq.read_table(
            f"{root}/{key}", filesystem=filesystem, partitioning=None, page_checksum_verification=True
        )
        list(table.schema.names)  # decodes them, which fails for a damaged one
    except FileNotFoundError as error:
        raise StoreError(
            f"{root}/{key}: is missing, though a record names it; `moodbench store verify` lists what else differs. "
            f"Put it back, or {REPAIR}"
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{root}/{key}: cannot be read as Parquet ({str(error).splitlines()[0]}). To go on, {REPAIR}"
        ) from error
    check_schema_version(f"{root}/{key}", table.schema)
    return table


def _with_columns(location: Location, key: str, table: pa.Table, schema: pa.Schema) -> pa.Table:
    for name in set(ADDED) & set(schema.names) - set(table.schema.names):
        table = table.append_column(schema.field(name), pa.nulls(table.num_rows, schema.field(name).type))
    try:
        return table.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowException) as error:
        raise StoreError(
            f"{location.filesystem()[1]}/{key}: lacks columns of its kind ({error}). To go on, {REPAIR}"
        ) from error


def check_schema_version(where: str, schema: pa.Schema) -> None:
    """Raise StoreError unless the file `where` with this schema has the schema version of this program."""
    version = (schema.metadata or {}).get(VERSION_KEY, b"").decode()
    if not version:
        raise StoreError(
            f"{where}: not written by MoodBench (no {VERSION_KEY.decode()} in its metadata). "
            "Move it out of the store, or give another folder with --store"
        )
    if int(version.partition(".")[0]) > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: has schema version {version}, this program reads version {SCHEMA_VERSION}; "
            "upgrade moodbench, or give another folder with --store"
        )
    if version != str(SCHEMA_VERSION):
        raise StoreError(
            f"{where}: was written by an earlier version of MoodBench (schema version {version}, this program reads "
            f"version {SCHEMA_VERSION}): reports and exports that were made of it stay readable, and that earlier "
            "version can still make them with `moodbench report` and `moodbench export`; start a new store by giving "
            "another folder with --store"
        )


def refuse_other_version(location: Location) -> None:
    """Raise StoreError if the store at `location` was written with another schema version, judged by one record."""
    filesystem, root = location.filesystem()
    for kind in (*RECORDS, "failures"):
        for key in record_keys(location.keys(kind))[:1]:
            try:
                schema = pq.read_schema(f"{root}/{key}", filesystem=filesystem)
            except (pa.ArrowInvalid, OSError):
                continue  # a damaged file, which its reader reports
            if VERSION_KEY in (schema.metadata or {}):
                check_schema_version(f"{root}/{key}", schema)
                return


def read_many(location: Location, keys: Iterable[str], schema: pa.Schema) -> pd.DataFrame:
    """Return the rows of all `keys`, in their order."""
    tables = [read_table(location, key, schema) for key in keys]
    frame: pd.DataFrame = (pa.concat_tables(tables) if tables else schema.empty_table()).to_pandas()
    return frame


def read_bulk(location: Location, keys: Sequence[str], schema: pa.Schema, columns: Sequence[str]) -> pd.DataFrame:
    """Return `columns` of all `keys`, in their order, read by several threads: for hundreds of small files.

    Raises: StoreError, which names the file that cannot be read.
    """
    filesystem, root = location.filesystem()
    checked = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    )
    try:
        made = ds.dataset([f"{root}/{key}" for key in keys], schema=schema, format=checked, filesystem=filesystem)
        # pyarrow fills a column that a file lacks with nulls.
        is_complete = all(set(columns) <= set(each.physical_schema.names) for each in made.get_fragments())
        frame: pd.DataFrame | None = made.to_table(columns=list(columns)).to_pandas() if is_complete else None
    except (pa.ArrowException, OSError):
        frame = None
    if frame is None:
        return read_many(location, keys, schema)[list(columns)]  # one by one, to name the file that fails
    return frame


@dataclass(frozen=True)
class Compacted:
    """Summary of a snapshot that was written."""

    key: str
    num_records: int
    num_read: int
    """Number of records read from their own files because the previous snapshot lacked their current version."""


def read_records(location: Location, kind: str) -> tuple[pa.Table, Sequence[Damaged]]:
    """Return the valid record of every id of `kind`, one row each, in order of id, and the damaged ones apart.

    Of failures, every attempt is returned.
    Raises: StoreError if a record cannot be read.
    """
    if kind != "failures":
        found = _read_records(location, kind)
        return found.table.select(RECORDS[kind][0].names), found.damaged
    read = [read_record(location, kind, key) for key in location.keys(kind) if key.endswith(".parquet")]
    sound = [table for table, damaged in read if damaged is None]
    table = pa.concat_tables(sound) if sound else FAILURES.empty_table()
    return table, [damaged for _, damaged in read if damaged is not None]


def compact(location: Location, kind: str) -> Compacted:
    """Write a snapshot of all records of `kind`, which replaces the previous one."""
    found = _read_records(location, kind)
    refuse_damaged(location, found.damaged)
    table, key = found.table, snapshot_key(kind)
    with Attempt(location) as attempt:
        staged = write_table(sealed(table.cast(stamped(table.schema))), attempt.folder / "snapshot.parquet")
        location.replace(staged, key)
    return Compacted(key, table.num_rows, found.num_read)


def snapshot_key(kind: str) -> str:
    """Return the key of the snapshot of `kind`."""
    return f"snapshots/{kind}.parquet"


def read_snapshot(location: Location, kind: str) -> pa.Table | None:
    """Return the snapshot of `kind` with its KEY and STAMP columns, or None if there is no usable one."""
    key = snapshot_key(kind)
    try:
        whole = _whole_table(location, key)
        return _with_columns(location, key, whole, _with_source(RECORDS[kind][0])) if is_sealed(whole) else None
    except StoreError:
        return None


class _Found(NamedTuple):
    table: pa.Table
    """The valid records with KEY and STAMP, in order of key."""
    num_read: int
    """How many were read from their own files."""
    damaged: Sequence[Damaged]


def _read_records(location: Location, kind: str) -> _Found:
    schema = RECORDS[kind][0]
    stamps = location.stamps(kind)
    keys = record_keys(stamps)
    cached = read_snapshot(location, kind) if keys else None
    row_of: dict[str, int] = {}
    tables = []
    if cached is not None:
        tables.append(cached)
        sources = zip(cached.column(KEY).to_pylist(), cached.column(STAMP).to_pylist(), strict=True)
        row_of = {key: row for row, (key, stamp) in enumerate(sources) if stamps.get(key) == stamp}
    num_rows = 0 if cached is None else cached.num_rows
    missing = [key for key in keys if key not in row_of]
    damaged = []
    for key in missing:
        table, problem = read_record(location, kind, key)
        if problem is not None:
            damaged.append(problem)
            continue
        tables.append(table.append_column(KEY, pa.array([key])).append_column(STAMP, pa.array([stamps[key]])))
        row_of[key] = num_rows
        num_rows += 1
    if not row_of:
        return _Found(_with_source(schema).empty_table(), len(missing), damaged)
    rows = pa.array([row_of[key] for key in keys if key in row_of])
    return _Found(pa.concat_tables(tables).take(rows), len(missing), damaged)


def _with_source(schema: pa.Schema) -> pa.Schema:
    return schema.append(pa.field(KEY, pa.string())).append(pa.field(STAMP, pa.string()))
