"""Tracked part of the records of a store: parameters and metrics of every fit, without texts and paths."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from moodbench.store import Store
from moodbench.store.schema import METRIC_COLUMNS

_FACTS = ("dataset", "seed", "method", "family", "quantization", "num_train", "num_validation", "num_params",
          "num_trainable", "devices")  # fmt: skip
_PREFIX = {"lora": "lora_", "train": "", "text": "", "probe": "probe_", "tfidf": "tfidf_", "chosen": "chosen_"}
_RENAMED = {"lora_r": "lora_rank"}
_OF_FIT = ("train_time_s", "train_texts_per_s", "train_peak_memory_bytes")
_OF_EVALUATION = {"f1": "f1_macro", "precision": "precision_macro", "recall": "recall_macro"} | {
    name: name for name in (*METRIC_COLUMNS, "truncated_share") if not name.endswith("_macro")
}
_OF_MEASUREMENT = ("latency_p50_s", "latency_p90_s", "latency_p99_s", "throughput_texts_per_s",
                   "throughput_tokens_per_s", "cold_start_s", "weights_bytes", "memory_peak_batch1_bytes",
                   "memory_peak_bytes", "gpu_peak_allocated_bytes")  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One value of a metric."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class TrackedRecord:
    """The metrics of one record."""

    id: str
    at: datetime
    points: tuple[Point, ...]


@dataclass(frozen=True)
class TrackedTrial:
    """One fit with its parameters and the metrics of its records.

    The record of the fit itself comes first, then evaluations, then measurements.
    """

    fit_id: str
    run_id: str
    model: str
    dataset: str
    seed: int
    started_at: datetime
    params: Mapping[str, str]
    records: list[TrackedRecord] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Short display name."""
        return f"{self.model} · {self.dataset} · seed {self.seed}"


def tracked_trials(store: Store) -> list[TrackedTrial]:
    """Return every fit of `store` with its records, oldest first."""
    trials: dict[str, TrackedTrial] = {}
    for fit in _rows(store, "fits"):
        trials[fit["fit_id"]] = TrackedTrial(
            fit_id=fit["fit_id"],
            run_id=fit["run_id"] or "",
            model=fit["model"],
            dataset=fit["dataset"],
            seed=int(fit["seed"]),
            started_at=fit["started_at"],
            params=parameters(fit),
            records=[TrackedRecord(fit["fit_id"], fit["ended_at"], _fit_points(fit))],
        )
    for kind, id_, columns in (
        ("evaluations", "evaluation_id", _OF_EVALUATION),
        ("measurements", "measurement_id", {name: name for name in _OF_MEASUREMENT}),
    ):
        for row in _rows(store, kind):
            if row["fit_id"] in trials:
                points = tuple(Point(name, float(row[c])) for name, c in columns.items() if _present(row[c]))
                trials[row["fit_id"]].records.append(TrackedRecord(row[id_], row["ended_at"], points))
    return list(trials.values())


def parameters(fit: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a fit record under their common names: model_name, lora_rank, learning_rate, ..."""
    found = {"model_name": fit["model"]} | {name: fit[name] for name in _FACTS}
    for part, fields in json.loads(fit["hparams"] or "{}").items():
        prefix = _PREFIX.get(part, f"{part}_")
        for name, value in fields.items() if isinstance(fields, dict) else [(part, fields)]:
            long: str = name if name.startswith(prefix) or name == part else prefix + name
            found[_RENAMED.get(long, long)] = value
    return {name: _text(value) for name, value in found.items() if _present(value)}


def _fit_points(fit: Mapping[str, Any]) -> tuple[Point, ...]:
    points = [Point(name, float(fit[name])) for name in _OF_FIT if _present(fit[name])]
    for point in fit["curve"] if fit["curve"] is not None else ():
        if _present(point["loss"]):
            points.append(Point("loss", float(point["loss"]), int(point["step"])))
        if _present(point["validation_score"]):
            points.append(Point(f"validation_{point['metric']}", float(point["validation_score"]), int(point["step"])))
    return tuple(points)


def _rows(store: Store, kind: str) -> list[dict[Any, Any]]:
    rows = store.records(kind).sort_values("ended_at", kind="stable").astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def _present(value: Any) -> bool:
    if value is None or value is pd.NaT:
        return False
    return not (isinstance(value, float) and not math.isfinite(value))


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value, default=str)
