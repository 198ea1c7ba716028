"""Which records of a local store have been tracked, as a list beside what was made of them: a cache, never the truth."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from moodbench.store import Store
from moodbench.store.location import LocalLocation
from moodbench.store.schema import RECORDS

FOLDER = "tracking"
LIST = "tracked.txt"


def record_ids(store: Store) -> set[str]:
    """The ids of all records of `store`."""
    return set().union(*(store.ids(kind) for kind in RECORDS))


def is_tracked(store: Store) -> bool:
    """Whether every record of `store` is in the list; False for a store that is no local folder, which has no list."""
    location = store.location
    if not isinstance(location, LocalLocation):
        return False
    path = location.root / FOLDER / LIST
    known = set(path.read_text("utf-8").split()) if path.exists() else set()
    return record_ids(store) <= known


def note_tracked(folder: Path, ids: Set[str]) -> None:
    """Nothing; the list in `folder` is of these ids. It appears whole."""
    staged = folder / f".{LIST}.new"
    staged.write_text("\n".join(sorted(ids)) + "\n", encoding="utf-8")
    staged.replace(folder / LIST)
