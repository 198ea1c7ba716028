"""Reading of store files as tables, whatever the order in which they were written and while others write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from moodbench.errors import StoreError
from moodbench.store.commit import id_of_key
from moodbench.store.location import Location
from moodbench.store.schema import SCHEMA_MAJOR, SCHEMA_VERSION, VERSION_KEY

MEND = (
    "give `moodbench verify --set-aside`, which moves what is damaged and what rests on it out of the way, "
    "and run the same command again to make it anew"
)
"""End of an error message: what to do about a damaged file."""


def first_of(keys: Iterable[str]) -> list[str]:
    """Return the key of the valid record of every id: of several sorted `keys`, the first by attempt name."""
    first: dict[str, str] = {}
    for key in keys:
        if key.endswith(".parquet"):
            first.setdefault(id_of_key(key), key)
    return list(first.values())


def read_table(location: Location, key: str, schema: pa.Schema) -> pa.Table:
    """Return the table at `key` with the columns of `schema`.

    Columns that the file lacks, because they were added later, are null. Columns that `schema` lacks are dropped.
    Raises: StoreError if the file is missing, truncated or damaged, is not from MoodBench, or has a newer major
    version.
    """
    filesystem, root = location.filesystem()
    try:
        table = pq.read_table(
            f"{root}/{key}", filesystem=filesystem, partitioning=None, page_checksum_verification=True
        )
    except FileNotFoundError as error:
        raise StoreError(
            f"{root}/{key}: is missing, though a record names it; `moodbench verify` lists what else differs. "
            f"Put it back, or {MEND}"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreError(
            f"{root}/{key}: cannot be read as Parquet ({str(error).splitlines()[0]}). To go on, {MEND}"
        ) from error
    version = (table.schema.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise StoreError(
            f"{root}/{key}: not written by MoodBench (no {VERSION_KEY.decode()} in its metadata). "
            "Move it out of the store, or give another folder with --store"
        )
    if int(version.split(b".")[0]) > SCHEMA_MAJOR:
        raise StoreError(
            f"{root}/{key}: has schema version {version.decode()}, this program reads up to {SCHEMA_VERSION}; "
            "upgrade moodbench, or give another folder with --store"
        )
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


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
        frame: pd.DataFrame = made.to_table(columns=list(columns)).to_pandas()
    except (pa.ArrowException, OSError):
        return read_many(location, keys, schema)[list(columns)]  # one by one, to name the file that fails
    return frame
