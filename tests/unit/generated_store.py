"""A large store of made-up records, as whole as real ones, written past the commit protocol so that it takes a minute and not an hour.

Every trial has a fit with its spec, an evaluation with its predictions and a measurement with its requests; every dataset
has its texts; the snapshots are current. What is made up says so in its model's name.
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.hardware import hardware
from moodbench.statistics.bootstrap import f1_of_confusion
from moodbench.store import PREDICTIONS, SAMPLES, Store, stamped
from moodbench.store.commit import record_key
from moodbench.store.reading import KEY, STAMP, snapshot_key
from moodbench.store.schema import EXAMPLES, RECORDS

NUM_REQUESTS = 60
METHODS = ("lora", "baseline", "linear-probe")
LABELS = ("negative", "positive")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = [
    "the",
    "film",
    "was",
    "a",
    "fine",
    "dull",
    "long",
    "bright",
    "slow",
    "moving",
    "and",
    "funny",
    "story",
    "of",
    "two",
    "friends",
]


def generate(
    root: Path,
    *,
    num_models: int,
    num_datasets: int,
    num_seeds: int,
    num_test: int = 500,
    num_processes: int = 3,
    predictions: bool = True,
) -> Store:
    """Trials of made-up models, named synthetic-N but for the baseline of the score; with current snapshots.

    Without `predictions` only the scores are known, as where their files were moved away with their records' lists.
    """
    rng = np.random.default_rng(1)
    skill, size = np.sort(rng.normal(1.2, 0.5, num_models)), np.sort(np.exp(rng.uniform(11, 19, num_models)))
    rows: dict[str, list[dict]] = {kind: [] for kind in RECORDS}
    for dataset in range(num_datasets):
        labels = rng.integers(0, 2, num_test).astype(np.int32)
        ease = rng.normal(0, 1, num_test)
        ids = [f"{dataset:02x}{i:030x}" for i in range(num_test)]
        _write_examples(root, dataset, ids, labels, rng)
        for model in range(num_models):
            for seed in range(num_seeds):
                margin = skill[model] + ease + rng.normal(0, 0.7, num_test)
                speed = 1e-4 * (size[model] / 1e5) ** 0.5 * float(np.exp(rng.normal(0, 0.05)))
                trial = _trial(dataset, model, seed, len(rows["fits"]))
                evaluated = _evaluation(root if predictions else None, trial, ids, labels, margin)
                rows["evaluations"].append(trial | evaluated)
                rows["measurements"].append(
                    trial | _measurement(root, trial, speed, size[model], ids, num_processes, rng)
                )
                rows["fits"].append(trial | _fit(trial, model, size[model], speed, evaluated["f1_macro"]))
    for kind, made in rows.items():
        _write_records(root, kind, made)
    return Store.open(root)


def _trial(dataset: int, model: int, seed: int, number: int) -> dict:
    when = BEGAN + timedelta(seconds=number)
    return {
        "schema_version": "2", "run_id": "generated", "fit_id": _id("a", dataset, model, seed),
        "config_id": _id("d", dataset, model, 0), "model": "tfidf-logreg" if model == 0 else f"synthetic-{model}",
        "dataset": f"set-{dataset}", "seed": seed, "started_at": when, "ended_at": when, "node": "none",
    }  # fmt: skip


def _fit(trial: dict, model: int, size: float, speed: float, f1: float) -> dict:
    method = METHODS[1 if model == 0 else model % 3]
    spec = {
        "model": {"name": trial["model"], "method": method, "baseline": "tfidf-logreg" if method == "baseline" else None},
        "dataset": {"name": trial["dataset"], "labels": LABELS, "neutral_band": 0.0}, "preparation": [],
    }  # fmt: skip
    curve = [{"step": s, "loss": 0.7 * 0.9**s, "metric": "f1_macro", "validation_score": None} for s in range(10)]
    return {
        "status": "ok", "method": method, "quantization": "none", "family": f"family-{model % 4}", "num_params": int(size),
        "num_trainable": int(size / 50), "dataset_revision": f"r{trial['dataset'][4:]}", "num_train": 1000,
        "num_validation": 100, "train_fingerprint": "f" * 32, "spec": json.dumps(spec), "curve": curve if method == "lora" else None,
        "train_time_s": 60 * speed * 1e3, "validation_f1_macro": f1, "devices": "made up", "hparams": "{}",
    }  # fmt: skip


def _evaluation(root: Path | None, trial: dict, ids: list[str], labels: np.ndarray, margin: np.ndarray) -> dict:
    """The scores, with the predictions written; the logit of the true label is larger by `margin`."""
    evaluation = "b" + trial["fit_id"][1:]
    logits = np.where(labels[:, None] == np.arange(2), margin[:, None], 0.0).astype(np.float32)
    predicted = logits.argmax(axis=1).astype(np.int32)
    n = len(labels)
    columns = [
        pa.array([evaluation] * n), pa.array(ids), pa.array(labels), pa.array(predicted),
        pa.ListArray.from_arrays(pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32)), pa.array(logits.ravel())),
        pa.array(np.full(n, 20, np.int32)), pa.array(np.zeros(n, bool)), pa.array(np.zeros(n, bool)),
    ]  # fmt: skip
    key = f"predictions/dataset={trial['dataset']}/{evaluation}.parquet"
    files = []
    if root is not None:
        size = _write(root / key, pa.Table.from_arrays(columns, schema=stamped(PREDICTIONS)))
        files = [{"path": key, "bytes": size, "sha256": ""}]
    confusion = np.zeros((2, 2))
    np.add.at(confusion, (labels, predicted), 1)
    right = float(np.mean(labels == predicted))
    return {
        "evaluation_id": evaluation, "num_test": n, "num_classes": 2, "confusion": confusion.astype(int).tolist(),
        "accuracy": right, "f1_macro": float(f1_of_confusion(confusion[None])[0]), "precision_macro": right, "recall_macro": right,
        "files": files,
    }  # fmt: skip


def _measurement(
    root: Path, trial: dict, speed: float, size: float, ids: list[str], num_processes: int, rng: np.random.Generator
) -> dict:
    measurement = "c" + trial["fit_id"][1:]
    n = NUM_REQUESTS
    latencies = speed * np.exp(rng.normal(0, 0.2, n))
    columns = [
        pa.array([measurement] * n), pa.array(np.zeros(n, np.int32)), pa.array(["single_stream"] * n),
        pa.array(np.arange(n, dtype=np.int32)), pa.array([ids[i % len(ids)] for i in range(n)]), pa.array(np.full(n, 20, np.int32)),
        pa.array(latencies), pa.array(latencies), pa.array(np.zeros(n)), pa.array(np.zeros(n, np.int32)), pa.array(np.ones(n, bool)),
    ]  # fmt: skip
    key = f"samples/{measurement}.parquet"
    written = _write(root / key, pa.Table.from_arrays(columns, schema=stamped(SAMPLES)))
    points = [
        {"batch_size": b, "texts_per_s": b**0.3 / speed, "tokens_per_s": 20 * b**0.3 / speed, "texts_per_cpu_s": b**0.3 / speed,
         "useful_share": 1.0, "num_texts": 100, "seconds": 1.0}
        for b in (1, 8, 32)
    ]  # fmt: skip
    cold = {f"cold_{part}_s": 0.5 for part in ("interpreter", "import", "load", "first_label")}
    ends = {f"latency_p50_{end}_s": factor * speed for end, factor in (("low", 0.97), ("high", 1.03))}
    processes = [
        {"latency_p50_s": factor * speed, "texts_per_s": points[-1]["texts_per_s"] / factor}
        for factor in np.linspace(0.96, 1.05, num_processes).tolist()
    ]
    return {
        "measurement_id": measurement, "machine_key": hardware().machine_key, "perf_key": "generated", "device_name": "made up",
        "num_threads": 2, "verdict": "clean", "quick": False, "num_processes": num_processes,
        "process_speed": processes, "clean_share": 1.0, "num_requests": n, "num_clean_requests": n,
        "latency_p50_s": speed, **ends, "latency_p99_s": 2 * speed, "latency_p99_high_s": 2.2 * speed, "cpu_time_p50_s": speed,
        "throughput_texts_per_s": points[-1]["texts_per_s"], "throughput_batch_size": 32, "throughput_points": points, **cold,
        "cold_start_s": 2.0, "weights_bytes": int(4 * size), "memory_imports_bytes": int(3e7),
        "memory_loaded_bytes": int(4e7 + 4 * size), "memory_peak_batch1_bytes": int(5e7 + 5 * size),
        "memory_peak_bytes": int(6e7 + 6 * size), "files": [{"path": key, "bytes": written, "sha256": ""}],
    }  # fmt: skip


def _write_examples(root: Path, dataset: int, ids: list[str], labels: np.ndarray, rng: np.random.Generator) -> None:
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(3, 20))) for _ in ids]
    rows = [
        {"example_id": i, "text": t, "label": int(y), "split": "test", "private": False}
        for i, t, y in zip(ids, texts, labels, strict=True)
    ]
    key = f"examples/dataset=set-{dataset}/revision=r{dataset}.parquet"
    _write(root / key, pa.Table.from_pylist(rows, schema=stamped(EXAMPLES)))


def _write_records(root: Path, kind: str, rows: list[dict]) -> None:
    """One file per record, and the snapshot that `moodbench store compact` would make of them."""
    schema, id_column = RECORDS[kind]
    rows = sorted(rows, key=lambda row: record_key(kind, row[id_column]))
    keys = [record_key(kind, row[id_column]) for row in rows]
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in rows], schema=stamped(schema)
    )
    stamps = []
    for number, key in enumerate(keys):
        _write(root / key, table.slice(number, 1))
        fact = (root / key).stat()
        stamps.append(f"{fact.st_size}-{fact.st_mtime_ns}")
    sourced = table.append_column(KEY, pa.array(keys)).append_column(STAMP, pa.array(stamps))
    _write(root / snapshot_key(kind), sourced.replace_schema_metadata(stamped(schema).metadata))


def _id(*parts: object) -> str:
    return str(parts[0]) + hashlib.sha256(repr(parts[1:]).encode()).hexdigest()[:19]


def _write(path: Path, table: pa.Table) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    return path.stat().st_size
