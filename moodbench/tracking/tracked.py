"""List of the tracked records of a local store, kept in its folder `tracking`: a cache, not the source of truth."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.store.schema import RECORDS

FOLDER = "tracking"
LIST = "tracked.txt"


def record_ids(store: Store) -> set[str]:
    """Return the ids of all records of `store`."""
    return set().union(*(store.ids(kind) for kind in RECORDS))


def is_tracked(store: Store) -> bool:
    """Return whether every record of `store` is in the list; False if the store is not a local folder."""
    location = store.location
    if not isinstance(location, LocalLocation):
        return False
    path = location.root / FOLDER / LIST
    known = set(path.read_text("utf-8").split()) if path.exists() else set()
    return record_ids(store) <= known


def note_tracked(folder: Path, ids: Set[str]) -> None:
    """Replace the list in `folder` by `ids`, atomically."""
    staged = folder / f".{LIST}.new"
    staged.write_text("\n".join(sorted(ids)) + "\n", encoding="utf-8")
    staged.replace(folder / LIST)
