"""Values of records recomputed from the data stored beside them, by the code that first computed them.

`recompute` writes them to tables of their own; the records are not changed.

Some values cannot be recomputed because their raw data is not stored: cold start, memory, the throughput of each batch
size and of each of several processes, the agreement of timed with evaluated labels, and the duration and cost of a fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from moodbench.data.examples import subsample
from moodbench.evaluation.measuring import (
    NEAR_TIE,
    check_little,
    figures_of_samples,
    judge,
    knee_of,
    process_latencies,
    used_samples,
)
from moodbench.evaluation.predicting import figures_of_predictions
from moodbench.metrics import score_all
from moodbench.spec import fit_ids
from moodbench.spec.resolved import MEASURE_PROTOCOL_VERSION
from moodbench.store.commit import Attempt, write_table
from moodbench.store.schema import METRIC_COLUMNS, RECORDS, stamped
from moodbench.store.store import Store

RELATIVE, ABSOLUTE = 1e-12, 1e-15
"""Floats that differ by less are equal: the order of a sum depends on the processor. Counts must be exact."""
COARSE_NEAR_TIE = 0.25
"""NEAR_TIE for a fit validated with 16-bit arithmetic or quantised weights but evaluated in another format."""
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


def fit_figures(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a fit record that follow from its spec: both ids and the identity of the trial."""
    spec = json.loads(record["spec"])
    config_id, fit_id = fit_ids(spec)
    return {
        "fit_id": fit_id,
        "config_id": config_id,
        "model": spec["model"]["name"],
        "method": spec["model"]["method"],
        "dataset": spec["dataset"]["name"],
        "dataset_revision": spec["dataset"]["revision"],
        "train_fingerprint": spec["dataset"]["train_fingerprint"],
        "seed": spec["seeds"]["init"],
    }


@dataclass(frozen=True)
class Tolerant:
    """A recomputed value that a stored value must equal up to a tolerance."""

    value: float
    tolerance: float


def validation_figures(fit: Mapping[str, Any], validation: pd.DataFrame) -> dict[str, Tolerant]:
    """Return the validation scores of a fit record, recomputed from an evaluation's predictions on the same texts.

    The fit scored its adapter beside the base weights, the evaluation scored the merged weights, which changes the last
    digits of the logits. Only texts whose two highest logits nearly tie can therefore change their predicted label. k
    such texts out of n change the accuracy by at most k / n. They change the F1 of a class,
    2 TP / (predicted + actual), by at most 3 k / actual, because TP and predicted change by at most k each and F1 is at
    most 1.
    """
    logits, labels = np.stack(validation["logits"].to_list()), validation["label"].to_numpy()
    top = np.sort(logits, axis=1)
    num_ties = int((top[:, -1] - top[:, -2] <= _near_tie(fit)).sum())
    scores = score_all(logits, labels)
    counts = np.bincount(labels)
    tolerances = {
        "accuracy": num_ties / len(labels),
        "f1_macro": float(np.mean([min(1.0, 3 * num_ties / n) for n in counts if n])),
    }
    return {
        f"validation_{name}": Tolerant(score, tolerance + 1e-9)
        for name, tolerance in tolerances.items()
        if (score := scores[name]) is not None
    }


def scored_validation(fit: Mapping[str, Any], validation: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of an evaluation's `validation` predictions that the validation scores of `fit` are based on.

    A fit with a limit on its validation texts is scored on a subsample, drawn with its subsample seed.
    """
    return subsample(validation, int(fit["num_validation"]), int(json.loads(fit["spec"])["seeds"]["subsample"]))


def _near_tie(fit: Mapping[str, Any]) -> float:
    """Return the largest gap of two logits whose order may differ between the fit's validation and an evaluation."""
    spec = json.loads(fit["spec"])
    precision = spec["train"]["precision"] if spec["train"] else "fp32"
    formats = (precision, spec["dtype"], spec["quantization"], fit["devices"])
    return NEAR_TIE if formats == ("fp32", "fp32", "none", "cpu") else COARSE_NEAR_TIE


def measurement_figures(record: Mapping[str, Any], samples: pd.DataFrame) -> dict[str, Any]:
    """Return the columns of a measurement record that follow from its samples and throughput points.

    The rules are those of the record's protocol version. The samples that count are those stored as kept. The verdict
    is recomputed from the signals of the windows; for a measurement stored as invalid, whose labels were wrong, verdict
    and causes are left out. The throughput of a process is as stored, unless it is the only process: then it is the
    throughput at the knee.
    """
    version = record["protocol_version"] or MEASURE_PROTOCOL_VERSION
    verdict, _ = judge(samples, record["num_threads"], record["windows"] or (), protocol_version=version)
    verdict = check_little(verdict, samples, record["throughput_points"] or (), protocol_version=version)
    invalid = record["verdict"] == "invalid"
    stored_verdict = verdict.verdict if invalid else record["verdict"]
    figures = figures_of_samples(samples, stored_verdict, protocol_version=version)
    figures["clean_share"] = verdict.share_clean
    if not invalid:
        figures |= {"verdict": verdict.verdict, "causes": list(verdict.causes)}
    if record["throughput_points"]:
        figures |= knee_of(record["throughput_points"])
    texts_per_s = [process["texts_per_s"] for process in record["process_speed"]]
    if figures["num_processes"] == 1 and texts_per_s != [None]:
        texts_per_s = [figures.get("throughput_texts_per_s", record["throughput_texts_per_s"])]
    latencies = process_latencies(used_samples(samples, stored_verdict), figures["num_processes"])
    figures["process_speed"] = [
        {"latency_p50_s": latency, "texts_per_s": rate}
        for latency, rate in zip_longest(latencies, texts_per_s[: len(latencies)])
    ]
    return figures


def num_changed_kept_flags(record: Mapping[str, Any], samples: pd.DataFrame) -> int:
    """Return the number of samples whose stored `kept` flag differs from the recomputed one."""
    _, judged = judge(samples, record["num_threads"], record["windows"] or ())
    return int((judged["kept"] != samples["kept"]).sum())


def equal(stored: Any, recomputed: Any) -> bool:
    """Return whether two values of a column are equal: floats up to rounding, everything else exactly."""
    if isinstance(recomputed, Tolerant):
        return isinstance(stored, float) and abs(stored - recomputed.value) <= recomputed.tolerance
    if isinstance(stored, list) and isinstance(recomputed, list):
        return len(stored) == len(recomputed) and all(map(equal, stored, recomputed))
    if isinstance(stored, dict) and isinstance(recomputed, dict):
        return stored.keys() == recomputed.keys() and all(equal(stored[key], recomputed[key]) for key in stored)
    if isinstance(stored, float) and isinstance(recomputed, float):
        return math.isclose(stored, recomputed, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(stored == recomputed)


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
        if kind == "evaluations":
            figures = figures_of_predictions(store.predictions([id_]))
        else:
            figures = measurement_figures(record, store.samples([id_]))
        rows.append({id_column: id_} | {name: figures.get(name) for name in DERIVED[kind]})
        if not all(equal(record[name], figures.get(name)) for name in DERIVED[kind]):
            differing.append(id_)
    key = f"snapshots/recomputed-{kind}.parquet"
    with Attempt(store.location) as attempt:
        table = pa.Table.from_pylist(rows, schema=stamped(wanted))
        store.location.replace(write_table(table, attempt.folder / "recomputed.parquet"), key)
    return Recomputed(key, len(rows), tuple(differing))
