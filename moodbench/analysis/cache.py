"""Cache of the leaderboard results of a large store, so that it opens at once the next time.

A cache file holds numbers and JSON, nothing executable. `moodbench store compact` writes one beside the snapshots of
the store, for all its readers. A page never writes into the store that it shows; its cache is in this user's cache
folder. The cache key covers the ids and times of the records, the machine type and the code that computes the results.
Any other key means that they are computed again.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from moodbench.analysis.results import Computed, Records, Results, compute, read_records, results_of
from moodbench.hardware import Hardware
from moodbench.paths import atomic_write, cache_folder
from moodbench.statistics.all_pairs import AllPairs
from moodbench.statistics.bootstrap import BootstrapDraws
from moodbench.statistics.overall import OVERALL
from moodbench.store import Store
from moodbench.store.commit import Attempt

KINDS = ("fits", "evaluations", "measurements", "failures", "searches")
"""Kinds of records that a leaderboard is made from."""
FROM_RECORDS = 500
"""Fewest records for which results are cached; those of smaller stores are computed in a moment."""
MAX_FILES = 4
IN_STORE = "snapshots/board.npz"
ARRAYS = ("accuracy", "f1_macro", "accuracy_draws", "f1_draws", "f1_own_draws", "speed_noise")


def record_stamps(store: Store) -> dict[str, str]:
    """Return the stamp (size and modification time) of every record."""
    return {key: stamp for kind in KINDS for key, stamp in store.location.stamps(kind).items()}


def cached_results(store: Store, machine: Hardware, *, in_store: bool = False) -> Results:
    """Return what `store` holds for the leaderboard, from the cache or computed and then cached.

    `in_store` writes the cache into the store instead of this user's cache folder.
    """
    records = read_records(store, machine)
    return results_of(store, records, _cached(store, records, in_store))


def _cached(store: Store, records: Records, in_store: bool) -> Computed:
    if sum(len(frame) for frame in (records.fits, records.evaluations, records.measurements)) < FROM_RECORDS:
        return compute(store, records)
    key = key_of(records)
    own = cache_folder() / "boards" / f"{key}.npz"
    shared = store.location.local(IN_STORE) if IN_STORE in store.location.keys("snapshots") else None
    if shared is not None and (found := _read(shared, key)) is not None:
        return found
    found = _read(own, key)
    computed = found or compute(store, records)
    if in_store:
        with Attempt(store.location) as attempt:
            staged = attempt.folder / "board.npz"
            with staged.open("wb") as file:
                _write(file, key, computed)
            store.location.replace(staged, IN_STORE)
    elif found is None:
        with suppress(OSError):  # a full disk must not keep the results from being shown
            _save(own, key, computed)
    return computed


def key_of(records: Records) -> str:
    """Return the cache key of what this version of the program computes from `records`."""
    digest = hashlib.sha256()
    for frame, column in (
        (records.fits, "fit_id"),
        (records.evaluations, "evaluation_id"),
        (records.measurements, "measurement_id"),
    ):
        times = frame["ended_at"].astype(str)
        digest.update("\n".join(sorted(frame[column] + " " + times)).encode() + b"\n\n")
    for part in ("statistics", "analysis", "metrics"):
        for source in sorted(files(f"moodbench.{part}").iterdir(), key=lambda entry: entry.name):
            if source.name.endswith((".py", ".toml")):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:40]


def _save(path: Path, key: str, computed: Computed) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_write(path) as file:
        _write(file, key, computed)
    for old in sorted(path.parent.glob("*.npz"), key=lambda p: p.stat().st_mtime)[:-MAX_FILES]:
        old.unlink(missing_ok=True)


def _write(file: BinaryIO, key: str, computed: Computed) -> None:
    overall = {} if computed.overall_draws is None else {OVERALL: computed.overall_draws}
    draws = list({**computed.draws, **overall}.items())
    about: dict[str, Any] = {
        "key": key,
        "entries": _table(computed.entries),
        "covered": computed.covered,
        "ties": None if computed.ties is None else _table(computed.ties),
        "pairs": {name: vars(pairs) for name, pairs in computed.pairs.items()},
        "draws": {
            name: {f.name: getattr(own, f.name) for f in fields(own) if f.name not in ARRAYS} for name, own in draws
        },
    }
    text = json.dumps(about, default=_plain)
    arrays = {
        f"{n}-{what}": value
        for n, (_, own) in enumerate(draws)
        for what in ARRAYS
        if (value := getattr(own, what)) is not None
    }
    np.savez(file, about=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)


def _read(path: Path, key: str) -> Computed | None:
    """Return the results in `path` if they are complete and have this `key`, otherwise None."""
    with suppress(OSError, EOFError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError):
        with np.load(path, allow_pickle=False) as held:
            about = json.loads(held["about"].tobytes())
            if about["key"] != key:
                return None
            draws = {}
            for n, (name, facts) in enumerate(about["draws"].items()):
                values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
                arrays = {what: held[f"{n}-{what}"] for what in ARRAYS if f"{n}-{what}" in held}
                draws[name] = BootstrapDraws(**values, **arrays)
        ties = None if about["ties"] is None else _frame(about["ties"])
        pairs = {name: AllPairs(**facts) for name, facts in about["pairs"].items()}
        overall_draws = draws.pop(OVERALL, None)
        return Computed(_frame(about["entries"]), draws, about["covered"], overall_draws, ties, pairs)
    return None


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the columns with their dtypes, and the index, as plain values."""
    columns = {
        name: {"dtype": str(column.dtype), "values": column.astype(object).tolist()} for name, column in frame.items()
    }
    return {"columns": columns, "index": frame.index.tolist(), "index_name": frame.index.name}


def _frame(table: Mapping[str, Any]) -> pd.DataFrame:
    index = pd.Index(table["index"], name=table["index_name"])
    columns = {
        name: pd.Series(column["values"], dtype=column["dtype"], index=index)
        for name, column in table["columns"].items()
    }
    return pd.DataFrame(columns, index=index)


def _plain(value: Any) -> Any:
    """Convert a numpy or pandas value to one that JSON has."""
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__}: cannot be cached")
