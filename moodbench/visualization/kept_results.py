"""What was worked out of a large store, kept in this user's cache folder so that the store opens at once the next time.

It is found by the size and time of change of every record, the kind of machine, and this program's own code; anything else
finds nothing and is worked out anew. It is never kept in the store: loading it runs what it says, and a store may come from
somebody else.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from uuid import uuid4

from moodbench.data.tokenised import cache_folder
from moodbench.hardware import Hardware
from moodbench.store import Store
from moodbench.visualization.board_view import Results, read_results

KINDS = ("fits", "evaluations", "measurements", "failures", "searches")
"""What a board is made from."""
FROM_RECORDS = 500
"""Smaller stores are worked out in a moment."""
MOST_KEPT = 4


def stamps_of(store: Store) -> dict[str, str]:
    """Every record with its size and time of change."""
    return {key: stamp for kind in KINDS for key, stamp in store.location.stamps(kind).items()}


def results_of(store: Store, machine: Hardware, stamps: Mapping[str, str]) -> Results:
    """What `store` holds for the board, its records being as in `stamps`: as kept, or worked out and kept."""
    if len(stamps) < FROM_RECORDS:
        return read_results(store, machine)
    path = cache_folder() / "boards" / f"{_key(store, machine, stamps)}.pickle"
    with suppress(OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError):
        kept = pickle.loads(path.read_bytes())
        if isinstance(kept, Results):
            path.touch()
            return kept
    results = read_results(store, machine)
    with suppress(OSError):  # a full disk is no reason to show nothing
        _keep(path, results)
    return results


def _keep(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        temporary.write_bytes(pickle.dumps(results, protocol=5))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for old in sorted(path.parent.glob("*.pickle"), key=lambda p: p.stat().st_mtime)[:-MOST_KEPT]:
        old.unlink(missing_ok=True)


def _key(store: Store, machine: Hardware, stamps: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr((store.uri, machine.machine_key)).encode())
    for key, stamp in sorted(stamps.items()):
        digest.update(f"{key} {stamp}\n".encode())
    for part in ("comparison", "store", "tuning", "visualization"):
        for source in sorted(files(f"moodbench.{part}").iterdir(), key=lambda entry: entry.name):
            _digest(source, digest)
    return digest.hexdigest()[:40]


def _digest(source: Traversable, digest: hashlib._Hash) -> None:
    if source.name.endswith((".py", ".toml")):
        digest.update(source.read_bytes())
