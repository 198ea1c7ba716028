"""Records of searches: one file per configuration under searches/ID/ in the store, written once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from moodbench.store import Store, stamped, write_table
from moodbench.store.reading import read_table

Status = Literal["finished", "stopped", "failed", "unfinished"]
SEARCH_TRIALS = pa.schema(
    [
        ("search_id", pa.string()),
        ("fit_id", pa.string()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("space", pa.string()),
        ("configuration", pa.string()),  # JSON: parameter -> value
        ("status", pa.string()),
        ("metric", pa.string()),
        ("score", pa.float64()),
        ("texts_trained", pa.int64()),
        ("curve", pa.list_(pa.struct([("texts", pa.int64()), ("score", pa.float64())]))),
        ("train_time_s", pa.float64()),
        ("elapsed_s", pa.float64()),
        ("error", pa.string()),
        ("memory_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class SearchTrial:
    """One configuration that a search tried."""

    search_id: str
    fit_id: str
    model: str
    dataset: str
    space: str
    configuration: dict[str, Any]
    status: Status
    """finished: trained to the end, the fit is in the store; stopped: stopped early by the trial scheduler; failed;
    unfinished: still running, or interrupted when a command ended and resumed by the next command. Only the first three
    are written to the store."""
    metric: str
    """Name of the validation score."""
    score: float | None
    """Best validation score; None if the trial failed before the first validation."""
    texts_trained: int
    """Number of texts processed in training, repetitions included: a cost that does not depend on the machine."""
    curve: tuple[tuple[int, float], ...]
    """Learning curve: pairs of texts trained and validation score."""
    train_time_s: float
    elapsed_s: float
    """Seconds that the search had run when the trial ended, including earlier interrupted commands."""
    error: str | None = None
    memory_bytes: int | None = None
    """Peak memory of the training process; None if several configurations shared it, or in older records."""


def put_trial(store: Store, trial: SearchTrial) -> None:
    """Write `trial`, unless the search already has a record of that fit."""
    row = asdict(trial) | {
        "configuration": json.dumps(trial.configuration, sort_keys=True),
        "curve": [{"texts": texts, "score": score} for texts, score in trial.curve],
    }
    with store.attempt() as attempt:
        path = write_table(pa.Table.from_pylist([row], schema=stamped(SEARCH_TRIALS)), attempt.folder / "trial.parquet")
        store.location.create(path, f"searches/{trial.search_id}/{trial.fit_id}.parquet")


def search_trials(store: Store, search_id: str | None = None) -> list[SearchTrial]:
    """Return the recorded trials of one search or of all, each search's in the order in which they ended."""
    keys = store.location.keys(f"searches/{search_id}" if search_id else "searches")
    rows = [
        row
        for key in keys
        if key.endswith(".parquet")
        for row in read_table(store.location, key, SEARCH_TRIALS).to_pylist()
    ]
    trials = [
        SearchTrial(
            **{name: row[name] for name in SEARCH_TRIALS.names if name not in ("configuration", "curve")},
            configuration=json.loads(row["configuration"]),
            curve=tuple((point["texts"], point["score"]) for point in row["curve"]),
        )
        for row in rows
    ]
    return sorted(trials, key=lambda t: (t.search_id, t.elapsed_s, t.fit_id))


def sign(metric: str) -> int:
    """Return 1 if a higher `metric` is better, -1 if a lower one is."""
    return -1 if metric == "nll" else 1
