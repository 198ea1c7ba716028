"""Recomputed derived columns of all records, in a table of their own; the records are not changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from moodbench.store.commit import Attempt, write_table
from moodbench.store.recompute import evaluation_figures, measurement_figures, same
from moodbench.store.schema import METRIC_COLUMNS, RECORDS, stamped
from moodbench.store.store import Store

KINDS = ("evaluations", "measurements")
DERIVED = {
    "evaluations": (*METRIC_COLUMNS, "num_test", "num_classes", "confusion", "truncated_share"),
    "measurements": (
        *("num_processes", "process_speed", "num_requests", "num_clean_requests", "clean_share", "run_delay_share"),
        *(f"latency_{q}_{part}" for q in ("p50", "p90", "p95", "p99") for part in ("s", "low_s", "high_s")),
        *("latency_p99_needed", "cpu_time_p50_s", "cpu_time_p99_s", "length_intercept_s", "length_slope_s_per_token"),
        *("throughput_texts_per_s", "throughput_tokens_per_s", "throughput_batch_size"),
    ),
}
"""Columns that follow from predictions, or from samples and throughput points."""


@dataclass(frozen=True)
class Recomputed:
    """Summary of a table of recomputed columns that was written."""

    key: str
    num_records: int
    differing: tuple[str, ...]
    """Ids of records whose stored columns differ from the recomputed ones."""


def recompute(store: Store, kind: str) -> Recomputed:
    """Recompute the derived columns of all records of `kind` into a table that replaces the previous one.

    Raises: StoreError if a record or file cannot be read.
    """
    schema, id_column = RECORDS[kind]
    wanted = pa.schema([schema.field(name) for name in (id_column, *DERIVED[kind])])
    rows, differing = [], []
    for id_ in sorted(store.ids(kind)):
        record = store.record(kind, id_)
        assert record is not None
        figures = _figures(store, kind, id_, record)
        rows.append({id_column: id_} | {name: figures.get(name) for name in DERIVED[kind]})
        if not all(same(record[name], figures.get(name)) for name in DERIVED[kind]):
            differing.append(id_)
    key = f"snapshots/recomputed-{kind}.parquet"
    with Attempt(store.location) as attempt:
        table = pa.Table.from_pylist(rows, schema=stamped(wanted))
        store.location.replace(write_table(table, attempt.folder / "recomputed.parquet"), key)
    return Recomputed(key, len(rows), tuple(differing))


def _figures(store: Store, kind: str, id_: str, record: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "evaluations":
        return evaluation_figures(store.predictions([id_]))
    return measurement_figures(record, store.samples([id_]))
