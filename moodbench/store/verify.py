"""Verification of a store: its files, ids and splits, and every value that can be recomputed.

A checksum over all of a record detects a change of any of its values, also of those that do not follow from other
stored data, such as a training time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from moodbench.data.examples import Examples
from moodbench.errors import StoreError
from moodbench.evaluation.predicting import figures_of_predictions
from moodbench.store.commit import id_of_key
from moodbench.store.location import Location, sha256_of
from moodbench.store.reading import KEY, STAMP, read_record, read_snapshot, read_table, record_keys
from moodbench.store.recompute import (
    equal,
    fit_figures,
    measurement_figures,
    num_changed_kept_flags,
    scored_validation,
    validation_figures,
)
from moodbench.store.schema import EXAMPLES, PREDICTIONS, RECORDS, SAMPLES

Row = Mapping[str, Any]
IDENTITY = ("config_id", "model", "dataset", "seed")
"""Columns that a fit shares with its evaluations and measurements."""
FOLDERS_OF_FILES = ("predictions", "validation", "samples", "artifacts", "examples")
IMPOSSIBLE = (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, AttributeError)
"""Exceptions that recomputing raises if the stored values are malformed."""


class Difference(NamedTuple):
    """A stored value and the value that it should equal."""

    kind: str
    """Kind of record, or failures, examples or snapshots."""
    id: str
    column: str
    stored: Any
    recomputed: Any


@dataclass
class Verification:
    """Numbers of checked records and files, and the problems found."""

    num_records: int = 0
    num_files: int = 0
    differences: list[Difference] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    """Files that no readable record names. They are harmless."""
    leftovers: list[str] = field(default_factory=list)
    """Attempts in staging/ that are running or were killed, and checkpoints of uncommitted fits."""


def verify(location: Location) -> Verification:
    """Compare every record of the store with its files, spec, examples and recomputed values."""
    return _Verifier(location).run()


class _Verifier:
    def __init__(self, location: Location) -> None:
        self._location = location
        self._found = Verification()
        self._named: set[str] = set()
        self._fits: dict[str, Row | None] = {}
        self._examples: dict[str, pd.DataFrame | None] = {}

    def run(self) -> Verification:
        self._fits = self._records("fits")
        for records, check in (
            (self._fits, self._check_fit),
            (self._records("evaluations"), self._check_evaluation),
            (self._records("measurements"), self._check_measurement),
        ):
            for id_, record in records.items():
                if record is not None:
                    check(id_, record)
        for key in self._location.keys("failures"):
            self._named.add(key)
            self._record("failures", id_of_key(key), key)
        keys = (key for folder in (*FOLDERS_OF_FILES, *RECORDS) for key in self._location.keys(folder))
        self._found.orphans = [key for key in keys if key not in self._named]
        staging = self._location.staging()  # for a remote store, on this machine
        files = (path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
        where = "staging" if self._location.exclusive else staging
        self._found.leftovers = sorted({f"{where}/{file.parts[0].removesuffix('.lock')}" for file in files})
        return self._found

    def _records(self, kind: str) -> dict[str, Row | None]:
        """Check the record files and the snapshot of `kind`, and return the record of each id, None if unreadable."""
        stamps = self._location.stamps(kind)
        snapshot = read_snapshot(self._location, kind)
        cached = {row[KEY]: row for row in ([] if snapshot is None else snapshot.to_pylist())}
        records: dict[str, Row | None] = {}
        for key in record_keys(stamps):
            id_ = id_of_key(key)
            self._named.add(key)
            self._found.num_records += 1
            row = records[id_] = self._record(kind, id_, key)
            copy = cached.get(key)
            if row is not None and copy is not None and copy[STAMP] == stamps[key]:
                self._equal("snapshots", id_, copy, row)
        return records

    def _record(self, kind: str, id_: str, key: str) -> Row | None:
        """Return the record at `key` after reporting its flaws; None if no further check is possible."""
        try:
            table, damaged = read_record(self._location, kind, key)
        except StoreError as error:
            self._differ(kind, id_, key, "a record", str(error).splitlines()[0])
            return None
        flaws = damaged.flaws if damaged else ()
        if damaged and kind == "failures":  # an id may have several: the key tells which to set aside
            self._differ(kind, id_, key, "a record", damaged.reasons)
        else:
            for flaw in flaws:
                self._differ(kind, id_, flaw.column, flaw.seen, flaw.allowed)
        return None if any(flaw.column == "files" for flaw in flaws) else table.to_pylist()[0]

    def _check_fit(self, id_: str, fit: Row) -> None:
        self._intact("fits", id_, fit)
        self._equal("fits", id_, fit, self._recomputed("fits", id_, "spec", lambda: fit_figures(fit)))

    def _check_evaluation(self, id_: str, record: Row) -> None:
        examples = self._examples_of("evaluations", id_, record)
        test = None if examples is None else examples[examples["split"] == "test"]
        if test is not None:
            fingerprint = Examples("", (), 0.0, test).fingerprint("test")
            self._equal("evaluations", id_, record, {"test_fingerprint": fingerprint})
        predictions = self._rows("evaluations", id_, record, "predictions/", PREDICTIONS)
        if predictions is None:
            return
        self._owned("evaluations", id_, predictions, "evaluation_id")
        figures = self._recomputed("evaluations", id_, "predictions", lambda: figures_of_predictions(predictions))
        self._equal("evaluations", id_, record, figures)
        if figures:
            predicted = np.stack(predictions["logits"].to_list()).argmax(axis=1)
            self._none("evaluations", id_, "predictions.predicted", predictions["predicted"] != predicted, "its logits")
        if test is not None:
            self._same_examples(id_, predictions, test)
        if any(f["path"].startswith("validation/") for f in record["files"] or ()):
            self._check_validation(id_, record, examples)

    def _check_validation(self, id_: str, record: Row, examples: pd.DataFrame | None) -> None:
        """Check that validation predictions belong to this evaluation and match the validation texts and labels."""
        rows = self._rows("evaluations", id_, record, "validation/", PREDICTIONS)
        if rows is None:
            return
        self._owned("evaluations", id_, rows, "evaluation_id")
        if examples is not None:
            known = examples[examples["split"] == "validation"].drop_duplicates("example_id")
            labels = rows["example_id"].map(known.set_index("example_id")["label"])
            wrong = rows["example_id"].duplicated() | (labels != rows["label"])
            self._none("evaluations", id_, "validation", wrong, "the validation split")
        fit = self._fits.get(record["fit_id"])
        if fit is not None:
            self._check_validation_scores(fit, rows)

    def _check_validation_scores(self, fit: Row, validation: pd.DataFrame) -> None:
        """Check that the validation scores of a fit match the predictions on its validation texts."""
        id_ = str(fit["fit_id"])
        if fit["num_validation"] == 0:  # an untrained model, so validation selected nothing
            return
        validation = scored_validation(fit, validation)
        figures = self._recomputed("fits", id_, "validation", lambda: dict(validation_figures(fit, validation)))
        for column, about in figures.items():
            if not equal(fit[column], about):
                self._differ("fits", id_, column, fit[column], about.value)
        if fit["num_validation"] != len(validation):
            self._differ("fits", id_, "num_validation", fit["num_validation"], len(validation))

    def _check_measurement(self, id_: str, record: Row) -> None:
        examples = self._examples_of("measurements", id_, record)
        samples = self._rows("measurements", id_, record, "samples/", SAMPLES)
        if samples is None:
            return
        self._owned("measurements", id_, samples, "measurement_id")
        figures = self._recomputed("measurements", id_, "samples", lambda: measurement_figures(record, samples))
        self._equal("measurements", id_, record, figures)
        if figures and (changed := num_changed_kept_flags(record, samples)):
            self._differ(
                "measurements", id_, "samples.kept", f"{changed} of {len(samples)} rows", "recomputed the other way"
            )
        if examples is not None:
            strange = ~samples["example_id"].isin(examples.loc[examples["split"] == "test", "example_id"])
            self._none("measurements", id_, "samples.example_id", strange, "the test split")

    def _same_examples(self, id_: str, predictions: pd.DataFrame, test: pd.DataFrame) -> None:
        """Report missing, unknown and repeated examples, and labels that differ."""
        ids, wanted = predictions["example_id"], test["example_id"]
        flaws = {"missing": ~wanted.isin(ids), "not in it": ~ids.isin(wanted), "repeated": ids.duplicated()}
        named = ", ".join(f"{int(rows.sum())} {name}" for name, rows in flaws.items() if rows.any())
        if named:
            self._differ(
                "evaluations", id_, "predictions.example_id", f"{len(ids)} rows ({named})", f"{len(test)} rows"
            )
        labels = ids.map(test.drop_duplicates("example_id").set_index("example_id")["label"])
        self._none(
            "evaluations", id_, "predictions.label", labels.notna() & (labels != predictions["label"]), "examples"
        )

    def _examples_of(self, kind: str, id_: str, record: Row) -> pd.DataFrame | None:
        """Return the examples of the fit of `record`; report a difference and return None if they are unavailable."""
        fit_id = record["fit_id"]
        if fit_id not in self._fits:
            self._differ(kind, id_, "fit_id", fit_id, "no such fit")
            return None
        fit = self._fits[fit_id]
        if fit is None:
            return None
        self._equal(kind, id_, record, {name: fit[name] for name in IDENTITY})
        key = f"examples/dataset={fit['dataset']}/revision={fit['dataset_revision']}.parquet"
        if key not in self._examples:
            self._examples[key] = self._read_examples(key, fit)
        return self._examples[key]

    def _read_examples(self, key: str, fit: Row) -> pd.DataFrame | None:
        self._named.add(key)
        self._found.num_files += 1
        revision = fit["dataset_revision"]
        if not self._location.local(key).is_file():
            self._differ("examples", str(revision), key, "named by a fit", "missing")
            return None
        table = self._readable("examples", str(revision), key, EXAMPLES)
        if table is None:
            return None
        rows: pd.DataFrame = table.to_pandas()

        def work() -> dict[str, Any]:
            labels = tuple(json.loads(fit["spec"])["dataset"]["labels"])
            return {"revision": Examples("", labels, 0.0, rows).revision}

        stored = self._recomputed("examples", str(revision), "spec", work)
        self._equal("examples", revision, {"revision": revision}, stored)
        return rows

    def _rows(self, kind: str, id_: str, record: Row, prefix: str, schema: pa.Schema) -> pd.DataFrame | None:
        """Check the files of `record`, and return its table below `prefix`, or None if that cannot be read."""
        missing = self._intact(kind, id_, record)
        keys = [f["path"] for f in record["files"] or () if f["path"].startswith(prefix)]
        if len(keys) != 1:
            self._differ(kind, id_, "files", f"{len(keys)} below {prefix}", "1")
            return None
        table = None if keys[0] in missing else self._readable(kind, id_, keys[0], schema)
        return None if table is None else table.to_pandas()

    def _intact(self, kind: str, id_: str, record: Row) -> set[str]:
        """Report files of `record` that are missing or differ in size or digest, and return the missing ones."""
        missing = set()
        for file in record["files"] or ():
            key = file["path"]
            self._named.add(key)
            self._found.num_files += 1
            path = self._location.local(key)
            size = path.stat().st_size if path.is_file() else None
            if size != file["bytes"]:
                seen = "missing" if size is None else f"{size} bytes"
                self._differ(kind, id_, key, f"{file['bytes']} bytes", seen)
                missing |= set() if path.is_file() else {key}
            elif (digest := sha256_of(path)) != file["sha256"]:
                self._differ(kind, id_, key, f"sha256 {file['sha256']}", f"sha256 {digest}")
        return missing

    def _readable(self, kind: str, id_: str, key: str, schema: pa.Schema) -> pa.Table | None:
        """Return the table at `key`; report a difference and return None if it is not a table of this kind."""
        try:
            return read_table(self._location, key, schema)
        except StoreError as error:
            self._differ(kind, id_, key, "a table", str(error).splitlines()[0])
            return None

    def _owned(self, kind: str, id_: str, rows: pd.DataFrame, column: str) -> None:
        self._none(kind, id_, f"{rows.shape[0]} rows' {column}", rows[column] != id_, id_)

    def _recomputed(self, kind: str, id_: str, source: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the values that `work` computes; report a difference and return {} if its source is malformed."""
        try:
            return work()
        except IMPOSSIBLE as error:
            self._differ(kind, id_, source, "figures", f"cannot be recomputed: {type(error).__name__}: {error}")
            return {}

    def _equal(self, kind: str, id_: str, stored: Row, recomputed: Row) -> None:
        for column, value in recomputed.items():
            if not equal(stored[column], value):
                self._differ(kind, id_, column, stored[column], value)

    def _none(self, kind: str, id_: str, column: str, wrong: Iterable[Any], against: str) -> None:
        flags = list(wrong)
        if any(flags):
            self._differ(kind, id_, column, f"{sum(map(bool, flags))} of {len(flags)} rows differ", against)

    def _differ(self, kind: str, id_: str, column: str, stored: Any, recomputed: Any) -> None:
        self._found.differences.append(Difference(kind, id_, column, stored, recomputed))


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
