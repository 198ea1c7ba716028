"""Set aside damaged results that `verify` found, so that rerunning a command recreates them."""

from __future__ import annotations

from datetime import UTC, datetime

from moodbench.errors import StoreError
from moodbench.store.commit import id_of_key
from moodbench.store.location import Location
from moodbench.store.reading import read_table
from moodbench.store.schema import RECORDS
from moodbench.store.verify import FOLDERS_OF_FILES, Row, Verification


def set_aside(location: Location, found: Verification) -> list[str]:
    """Move damaged keys to duplicates/damaged-TIME/, where nothing looks for results, and return them.

    Nothing is deleted. The keys are those of records that `found` reports as different, with their files; of the
    evaluations and measurements of such a fit; and of examples, failures and snapshots that differ. Records are moved
    first: an interrupted move leaves only files without records, which do not count as results.
    """
    damaged = {kind: {d.id for d in found.differences if d.kind == kind} for kind in RECORDS}
    records = {kind: _records(location, kind) for kind in RECORDS}
    for kind in ("evaluations", "measurements"):
        rows = ((id_of_key(key), row) for key, row in records[kind].items())
        damaged[kind] |= {id_ for id_, row in rows if row is not None and row["fit_id"] in damaged["fits"]}
    moved = [key for kind, rows in records.items() for key in rows if id_of_key(key) in damaged[kind]]
    listed = {
        file["path"]
        for kind, rows in records.items()
        for key, row in rows.items()
        if row is not None and id_of_key(key) in damaged[kind]
        for file in row["files"] or ()
    }
    ids = set().union(*damaged.values())
    for folder in FOLDERS_OF_FILES:
        for key in location.keys(folder):
            if key in listed or _owner(key) in ids:
                moved.append("/".join(key.split("/")[:2]) if folder == "artifacts" else key)
    for difference in found.differences:
        if difference.kind == "examples":
            moved += [k for k in location.keys("examples") if f"revision={difference.id}." in k]
        elif difference.kind == "failures":
            moved.append(difference.column)
        elif difference.kind == "snapshots":
            moved += location.keys("snapshots")
    moved = list(dict.fromkeys(moved))
    target = f"duplicates/damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    for key in moved:
        path = location.local(key)
        (location.create_folder if path.is_dir() else location.create)(path, f"{target}/{key}")
        location.delete(key)
    return moved


def _records(location: Location, kind: str) -> dict[str, Row | None]:
    """Return every record of `kind` by key, None where it cannot be read as one row."""
    found: dict[str, Row | None] = {}
    for key in location.keys(kind):
        try:
            rows = read_table(location, key, RECORDS[kind][0]).to_pylist()
        except StoreError:
            rows = []
        found[key] = rows[0] if len(rows) == 1 else None
    return found


def _owner(key: str) -> str:
    """Return the id that the key of a record's file contains: artifacts/ID/..., or the file name of a table."""
    parts = key.split("/")
    return parts[1].partition("@")[0] if parts[0] == "artifacts" else id_of_key(key)
