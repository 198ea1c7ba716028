"""The store: open, check, commit to and read a results folder or URI."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from moodbench.errors import StoreError
from moodbench.store.commit import Attempt, find_record, id_of_key, remove_abandoned, write_table
from moodbench.store.integrity import Damaged
from moodbench.store.location import LocalLocation, Location, open_location, sha256_of
from moodbench.store.reading import (
    REPAIR,
    read_many,
    read_record,
    read_records,
    record_keys,
    refuse_damaged,
    refuse_other_version,
)
from moodbench.store.schema import EXAMPLES, PREDICTIONS, SAMPLES, stamped

FOLDERS = (
    "fits",
    "evaluations",
    "measurements",
    "predictions",
    "validation",
    "samples",
    "examples",
    "artifacts",
    "failures",
    "reruns",
    "duplicates",
    "staging",
    "snapshots",
    "events",
    "searches",
    "exports",
    "tracking",
)


class Store:
    """Results at one location; see results/README.md for the layout."""

    def __init__(self, location: Location, uri: str) -> None:
        self.location = location
        self.uri = uri

    @classmethod
    def open(cls, uri: str | Path) -> Store:
        """Open the store at `uri`, which need not exist yet.

        Raises: StoreError if something else is there, or a store of another schema version.
        """
        location = open_location(uri)
        if isinstance(location, LocalLocation):
            _refuse_foreign(location.root)
        refuse_other_version(location)
        return cls(location, str(location.root) if isinstance(location, LocalLocation) else str(uri))

    def check_writable(self) -> None:
        """Check that this process can commit to the store, without changing it; only local stores are checked.

        Raises: StoreError if it cannot.
        """
        if not isinstance(self.location, LocalLocation):
            return
        root = self.location.root
        parent = next(p for p in (root, *root.parents) if p.exists())
        try:
            with tempfile.TemporaryDirectory(dir=parent, prefix=".moodbench-check-") as folder:
                source = Path(folder) / "a"
                source.write_bytes(b"")
                os.link(source, Path(folder) / "b")
        except OSError as error:
            raise StoreError(
                f"{root}: cannot be written ({error.strerror or error}); "
                "change its permissions or give another folder with --store"
            ) from error

    def attempt(self) -> Attempt:
        """Return a new attempt, to be used as a context manager."""
        return Attempt(self.location)

    def new_rerun(self, request: str) -> Store:
        """Return a new, empty store below this one for a rerun of `request`.

        The results of a rerun never replace those of the first run.
        """
        return self._rerun(f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{request}")

    def reruns(self, request: str) -> list[Store]:
        """Return the stores below this one with reruns of `request`, newest first."""
        names = {key.split("/")[1] for key in self.location.keys("reruns")}
        return [self._rerun(name) for name in sorted(names, reverse=True) if name.endswith(f"-{request}")]

    def _rerun(self, name: str) -> Store:
        return Store.open(f"{self.uri.rstrip('/')}/reruns/{name}")

    def remove_abandoned(self) -> list[str]:
        """Remove from the staging area what ended attempts left and no later one needs, and return the names."""
        return remove_abandoned(self.location.staging(), self.ids("fits"))

    def ids(self, kind: str) -> set[str]:
        """Return the ids of `kind` that have a record."""
        return {id_of_key(key) for key in record_keys(self.location.keys(kind))}

    def records(self, kind: str) -> pd.DataFrame:
        """Return all records of `kind`: fits, evaluations, measurements or failures.

        Raises: StoreError if a record cannot be read or is damaged.
        """
        table, damaged = read_records(self.location, kind)
        refuse_damaged(self.location, damaged)
        frame: pd.DataFrame = table.to_pandas()
        return frame

    def sound_records(self, kind: str) -> tuple[pd.DataFrame, Sequence[Damaged]]:
        """Return the records of `kind`, as `records` takes it, that are not damaged, and the others."""
        table, damaged = read_records(self.location, kind)
        return table.to_pandas(), damaged

    def record(self, kind: str, id_: str) -> dict[str, Any] | None:
        """Return the record of `kind` with `id_`, or None."""
        key = find_record(self.location, kind, id_)
        if key is None:
            return None
        table, damaged = read_record(self.location, kind, key)
        refuse_damaged(self.location, [damaged] if damaged else [])
        row: dict[str, Any] = table.to_pylist()[0]
        return row

    def artifact(self, fit_id: str) -> Path:
        """Return a local folder with the artifact of `fit_id` as it was committed.

        Raises: StoreError if the artifact is damaged or the fit has no record.
        """
        record = self.record("fits", fit_id)
        if record is None:
            raise StoreError(f"{self.uri}: no fit {fit_id}; `moodbench leaderboard --json` lists the ids")
        keys = {"/".join(f["path"].split("/")[:2]) for f in record["files"] if f["path"].startswith("artifacts/")}
        if len(keys) != 1:
            raise StoreError(f"{self.uri}: the record of fit {fit_id} names {len(keys)} artifact folders, expected 1")
        folder = self.location.local(keys.pop())
        for file in record["files"]:
            path = self.location.local(file["path"])
            if not path.is_file() or path.stat().st_size != file["bytes"] or sha256_of(path) != file["sha256"]:
                raise StoreError(
                    f"{self.uri}/{file['path']}: differs from what was committed with fit {fit_id}. To go on, {REPAIR}"
                )
        return folder

    def predictions(self, evaluation_ids: Iterable[str]) -> pd.DataFrame:
        """Return the predictions of these evaluations in long format: one row per evaluation and example."""
        return self._outputs("evaluations", evaluation_ids, "predictions/", PREDICTIONS)

    def validation(self, evaluation_ids: Iterable[str]) -> pd.DataFrame:
        """Return the predictions of these evaluations on the validation texts."""
        return self._outputs("evaluations", evaluation_ids, "validation/", PREDICTIONS)

    def samples(self, measurement_ids: Iterable[str]) -> pd.DataFrame:
        """Return the raw timings of these measurements, one row per request."""
        return self._outputs("measurements", measurement_ids, "samples/", SAMPLES)

    def has_examples(self, dataset: str, revision: str) -> bool:
        """Return whether the texts and labels of this revision of a dataset are stored."""
        return f"examples/dataset={dataset}/revision={revision}.parquet" in self.location.keys(
            f"examples/dataset={dataset}"
        )

    def put_examples(self, dataset: str, revision: str, table: pa.Table) -> None:
        """Write the texts and labels of a dataset, once per revision."""
        if self.has_examples(dataset, revision):
            return
        key = f"examples/dataset={dataset}/revision={revision}.parquet"
        with self.attempt() as attempt:
            self.location.create(write_table(table.cast(stamped(EXAMPLES)), attempt.folder / "examples.parquet"), key)

    def examples(self, dataset: str, revision: str) -> pd.DataFrame:
        """Return the texts and labels of one revision of a dataset."""
        return read_many(self.location, [f"examples/dataset={dataset}/revision={revision}.parquet"], EXAMPLES)

    def write_event_line(self, run_id: str, event: Mapping[str, Any]) -> None:
        """Append one JSON line to the live log of this process's own run.

        The log is not a result and exists in local stores only.
        """
        if isinstance(self.location, LocalLocation):
            path = self.location.root / "events" / f"{run_id}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(event), default=str) + "\n")

    def _outputs(self, kind: str, ids: Iterable[str], prefix: str, schema: pa.Schema) -> pd.DataFrame:
        keys = []
        for id_ in ids:
            record = self.record(kind, id_)
            if record is None:
                raise StoreError(f"{self.uri}: no record {id_} in {kind}")
            keys += [f["path"] for f in record["files"] if f["path"].startswith(prefix)]
        return read_many(self.location, keys, schema)


def _refuse_foreign(root: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise StoreError(f"--store {root}: is a file; give a folder or a URI such as s3://bucket/folder")
    try:
        names = {p.name for p in root.iterdir() if not p.name.startswith(".")}
    except OSError as error:
        raise StoreError(f"--store {root}: {error.strerror}; give a folder you may read") from error
    strange = names - set(FOLDERS) - {"README.md"}
    if strange and not names & set(FOLDERS):
        raise StoreError(
            f"--store {root}: is not a MoodBench store (it holds {', '.join(sorted(strange)[:3])}); "
            "give a new or empty folder"
        )
