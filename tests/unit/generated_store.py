"""A large store of made-up records, written past the commit protocol so that it takes a minute and not an hour."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from moodbench.hardware import hardware
from moodbench.store import PREDICTIONS, Store, stamped
from moodbench.store.commit import record_key
from moodbench.store.schema import RECORDS
from moodbench.store.snapshots import compact

NUM_TEST = 500
METHODS = ("lora", "baseline", "linear-probe")


def generate(root: Path, *, num_models: int, num_datasets: int, num_seeds: int, predictions: bool) -> Store:
    """Trials of made-up models, named synthetic-N but for the baseline of the score; with a current snapshot."""
    rng = np.random.default_rng(1)
    machine = hardware().machine_key
    began = datetime(2026, 1, 1, tzinfo=UTC)
    skill, size = np.sort(rng.normal(1.2, 0.5, num_models)), np.exp(rng.uniform(11, 19, num_models))
    number = 0
    for dataset in range(num_datasets):
        labels = rng.integers(0, 2, NUM_TEST).astype(np.int32)
        ease = rng.normal(0, 1, NUM_TEST)
        ids = [f"{dataset:02x}{i:030x}" for i in range(NUM_TEST)]
        for model in range(num_models):
            name = "tfidf-logreg" if model == 0 else f"synthetic-{model}"
            for seed in range(num_seeds):
                number += 1
                when = began + timedelta(seconds=number)
                fit, evaluation, measurement = (_id(kind, dataset, model, seed) for kind in "abc")
                margin = skill[model] + ease + rng.normal(0, 0.7, NUM_TEST)
                predicted = np.where(margin > 0, labels, 1 - labels).astype(np.int32)
                trial = {
                    "run_id": "generated", "fit_id": fit, "config_id": _id("d", dataset, model, 0), "model": name,
                    "dataset": f"set-{dataset}", "seed": seed, "started_at": when, "ended_at": when, "node": "none",
                }  # fmt: skip
                scores = classification_metrics(labels, predicted)
                files = []
                if predictions:
                    key = f"predictions/dataset=set-{dataset}/{evaluation}.parquet"
                    logits = np.where(predicted[:, None] == np.arange(2), 1.0, 0.0).astype(np.float32)
                    columns = {
                        "evaluation_id": [evaluation] * NUM_TEST, "example_id": ids, "label": labels,
                        "predicted": predicted, "logits": logits.tolist(), "num_tokens": np.full(NUM_TEST, 20, np.int32),
                        "truncated": [False] * NUM_TEST, "failed": [False] * NUM_TEST,
                    }  # fmt: skip
                    files = [
                        {
                            "path": key,
                            "bytes": _write(root / key, pa.table(columns, schema=stamped(PREDICTIONS))),
                            "sha256": "",
                        }
                    ]
                speed = 1e-4 * (size[model] / 1e5) ** 0.5 * float(np.exp(rng.normal(0, 0.05)))
                records = {
                    "fits": (fit, {
                        "status": "ok", "method": METHODS[1 if model == 0 else model % 3], "family": f"family-{model % 4}",
                        "num_params": int(size[model]), "num_trainable": int(size[model] / 50), "dataset_revision": f"r{dataset}",
                        "num_train": 1000, "train_time_s": 60 * speed * 1e3, "validation_f1_macro": scores["f1_macro"],
                    }),
                    "evaluations": (evaluation, {
                        "num_test": NUM_TEST, "num_classes": 2, "files": files,
                        **scores,
                    }),
                    "measurements": (measurement, {
                        "machine_key": machine, "perf_key": "generated", "device_name": "made up", "num_threads": 2,
                        "verdict": "clean", "quick": False, "latency_p50_s": speed, "latency_p99_s": 2 * speed,
                        "latency_p99_high_s": 2.2 * speed, "throughput_texts_per_s": 3 / speed, "cpu_time_p50_s": speed,
                        "memory_peak_batch1_bytes": int(5e7 + 5 * size[model]),
                    }),
                }  # fmt: skip
                for kind, (id_, record) in records.items():
                    schema, id_column = RECORDS[kind]
                    row = {"schema_version": "1.0", **trial, **record, id_column: id_}
                    row = {key: row.get(key) for key in schema.names}
                    _write(root / record_key(kind, id_), pa.Table.from_pylist([row], schema=stamped(schema)))
    store = Store.open(root)
    for kind in RECORDS:
        compact(store.location, kind)
    return store


def classification_metrics(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": accuracy_score(labels, predicted),
        **{f"{n}_macro": f(labels, predicted, average="macro", zero_division=0.0)
           for n, f in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score))},
    }  # fmt: skip


def _id(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]


def _write(path: Path, table: pa.Table) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    return path.stat().st_size
