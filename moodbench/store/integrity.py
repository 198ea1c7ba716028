"""Integrity of records: the checksum over all of a record, required columns, and the ranges of its values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from moodbench.errors import StoreError
from moodbench.spec.job import KIND_OF_PHASE
from moodbench.store.location import checked_key
from moodbench.store.schema import WITH_FAILURES

CHECKSUM_KEY = b"moodbench.sha256"
"""Key in the metadata of records and snapshots. Earlier versions wrote none: only values of records are checked."""
_OF_TRIAL = ("fit_id", "config_id", "model", "dataset", "seed")
REQUIRED = {
    "fits": (*_OF_TRIAL, "status", "dataset_revision", "num_train"),
    "evaluations": (*_OF_TRIAL, "evaluation_id", "num_test", "accuracy", "f1_macro"),
    "measurements": (*_OF_TRIAL, "measurement_id", "perf_key", "verdict"),
    "failures": ("id", "attempt", "phase", "model", "dataset", "error_class"),
}
"""Columns that every record of a kind has a value in."""
_JSON = ("spec", "seeds", "hparams", "environment", "protocol")
_SHARES = {
    "accuracy", "f1_macro", "f1_positive", "precision_macro", "precision_positive", "recall_macro", "recall_positive",
    "auroc", "ece", "validation_accuracy", "validation_f1_macro", "truncated_share", "ceiling_accuracy",
    "ceiling_f1_macro", "clean_share", "agreement", "form_accuracy",
}  # fmt: skip
_RANGES = {**dict.fromkeys(_SHARES, (0.0, 1.0)), "mcc": (-1.0, 1.0), "brier": (0.0, 2.0)}
_ANY_SIGN = ("length_intercept_s", "length_slope_s_per_token")
_ROUNDING = 1e-9


class Flaw(NamedTuple):
    """A value of a record that cannot be right."""

    column: str
    seen: Any
    allowed: str


@dataclass(frozen=True)
class Damaged:
    """A record that does not count as a result."""

    kind: str
    id: str
    key: str
    row: Mapping[str, Any]
    flaws: tuple[Flaw, ...]

    @property
    def reasons(self) -> str:
        """Reasons why the record cannot be used."""
        return "; ".join(f"{f.column} is {str(f.seen)[:100]!r}, allowed is {f.allowed}" for f in self.flaws)

    def __str__(self) -> str:
        """Return where the record is, and what is wrong with it."""
        return f"{self.key}: is damaged ({self.reasons})"

    def as_failure(self) -> dict[str, Any]:
        """Return a row as of a failed attempt, so that whatever lists failures names the record."""
        columns = ", ".join(dict.fromkeys(flaw.column for flaw in self.flaws))
        facts = {name: self.row[name] for name in (*_OF_TRIAL, "run_id")}
        phase = {kind: phase for phase, kind in KIND_OF_PHASE.items()}.get(self.kind, self.row.get("phase"))
        about = {"id": self.id, "phase": phase, "error_class": f"damaged record ({columns})"}
        return {**facts, **about, "message": str(self)}


def sealed(table: pa.Table) -> pa.Table:
    """Return `table`, a record or a snapshot, with the checksum over its contents in its metadata."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), CHECKSUM_KEY: _digest(table)})


def is_sealed(table: pa.Table) -> bool:
    """Return whether `table` has the checksum over its contents in its metadata."""
    return (table.schema.metadata or {}).get(CHECKSUM_KEY) == _digest(table)


def _digest(table: pa.Table) -> bytes:
    """Return the SHA-256 of the names and values of all columns, in hex."""
    text = json.dumps(table.to_pylist(), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest().encode()


def flaws_of(kind: str, id_: str, table: pa.Table, row: Mapping[str, Any]) -> Iterator[Flaw]:
    """Yield what is wrong with a record: `table` is the file as read, `row` its columns of the schema."""
    noted = (table.schema.metadata or {}).get(CHECKSUM_KEY)
    if noted is not None and noted != (digest := _digest(table)):
        yield Flaw("checksum", digest.decode(), noted.decode("ascii", "backslashreplace"))
    schema, id_column = WITH_FAILURES[kind]
    if row[id_column] != id_:
        yield Flaw(id_column, row[id_column], id_)
    for name in REQUIRED[kind]:
        if row[name] is None:
            yield Flaw(name, None, "a value")
    for field in schema:
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type):
            yield from _out_of_range(field.name, row[field.name])
    for name in _JSON:
        if isinstance(row.get(name), str) and not _is_json(row[name]):
            yield Flaw(name, row[name], "JSON")
    for file in row["files"] or ():
        try:
            checked_key(str(file["path"]))
        except StoreError:
            yield Flaw("files", file["path"], "a path inside the store")


def _out_of_range(name: str, value: float | None) -> Iterator[Flaw]:
    if value is None or math.isnan(value):  # not measured
        return
    low, high = _RANGES.get(name, (-math.inf if name in _ANY_SIGN else 0.0, math.inf))
    if math.isinf(value) or not low - _ROUNDING <= value <= high + _ROUNDING:
        allowed = f"{low:g} to {high:g}" if high < math.inf else "a finite number" + ("" if low else ", 0 or more")
        yield Flaw(name, value, allowed)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
