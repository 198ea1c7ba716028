"""A complete store of one small trial, whose figures can be worked out by hand, and ways to tamper with it.

Eight test texts, of which the toy model gets six right; 40 requests of 2, 3, 4 and 5 ms, ten each.
"""

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.data.examples import Examples
from moodbench.evaluation.measuring import judge, samples_of, summarise
from moodbench.evaluation.predicting import figures_of_predictions
from moodbench.metrics import score_all
from moodbench.spec import FitSpec, ResolvedDataset, ResolvedModel, SeedSpec
from moodbench.store import PREDICTIONS, SAMPLES, Store, stamped, write_table
from moodbench.store.integrity import CHECKSUM_KEY, sealed

LABELS = ("negative", "positive")
TEST_LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
LOGITS = [[2.0, 0.0], [1.0, 0.0], [3.0, 0.5], [0.0, 1.0], [0.0, 2.0], [0.5, 1.0], [1.0, 0.0], [0.0, 3.0]]
"""Right but for the fourth and the seventh."""
EVALUATION_ID, MEASUREMENT_ID = "e0" + "0" * 18, "c0" + "0" * 18
SECRET = "the text of a private review"


def toy_examples() -> Examples:
    labels = [0, 1, 0, 1, *TEST_LABELS]
    frame = pd.DataFrame(
        {
            "example_id": [f"{i:032x}" for i in range(12)],
            "text": [f"{SECRET} {i}" for i in range(12)],
            "label": np.array(labels, dtype=np.int32),
            "split": ["train"] * 2 + ["validation"] * 2 + ["test"] * 8,
        }
    )
    return Examples("toy-set", LABELS, 0.0, frame)


def toy_fit(model="toy", seed=0, max_train_examples=None) -> FitSpec:
    examples = toy_examples()
    prints = {f"{split}_fingerprint": examples.fingerprint(split) for split in ("train", "validation", "test")}
    dataset = ResolvedDataset(
        name="toy-set",
        embedded="toy",
        revision=examples.revision,
        labels=LABELS,
        neutral_band=0.0,
        max_train_examples=max_train_examples,
        **prints,
    )
    seeds = SeedSpec(init=seed, data_order=seed, subsample=seed)
    return FitSpec(
        model=ResolvedModel(name=model, method="baseline", baseline="majority"), dataset=dataset, seeds=seeds
    )


def toy_process() -> dict:
    tokens = [10 * (1 + i % 4) for i in range(40)]
    latency = [0.001 + 0.0001 * n for n in tokens]
    requests = {
        "latency_s": latency,
        "cpu_s": [x / 2 for x in latency],
        "run_delay_s": [0.1 * x if i < 4 else 0.0 for i, x in enumerate(latency)],
        "num_tokens": tokens,
        "window": [i // 4 for i in range(40)],
        "predicted": [int(np.argmax(LOGITS[i % 8])) for i in range(40)],
    }
    points = [
        {"batch_size": b, "texts_per_s": t, "tokens_per_s": 25 * t, "texts_per_cpu_s": t, "useful_share": 1.0,
         "num_texts": 100, "seconds": 1.0}
        for b, t in ((1, 285.0), (8, 390.0), (32, 400.0))
    ]  # fmt: skip
    cold = dict.fromkeys(
        ("cold_start_s", "cold_interpreter_s", "cold_import_s", "cold_load_s", "cold_first_label_s"), 1.0
    )
    sizes = ("weights", "memory_imports", "memory_loaded", "memory_peak_load", "memory_peak_batch1", "memory_peak")
    memory = {f"{name}_bytes": 3_000_000 for name in sizes}
    memory |= {"gpu_peak_allocated_bytes": None, "gpu_peak_reserved_bytes": None}
    rows = [i % 8 for i in range(40)]
    return {"requests": requests, "request_rows": rows, "throughput_points": points, **cold, **memory}


def toy_processes() -> list[dict]:
    return [toy_process()]


def write_toy_store(root: Path, validation_logits=None) -> Store:
    """A store with one fit, its evaluation (with predictions on the validation texts if given) and its measurement."""
    if validation_logits is None:
        shutil.copytree(_written_once(str(LOGITS), toy_processes), root, dirs_exist_ok=True)
        return Store.open(root)
    return _write(root, validation_logits)


@cache
def _written_once(logits: str, processes: object) -> Path:
    """The store without predictions on the validation texts, which every test of this process copies.

    It depends on `logits` and `processes`, which a few tests replace.
    """
    folder = Path(tempfile.mkdtemp(prefix="moodbench-toy-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write(folder, None)
    return folder


def _write(root: Path, validation_logits) -> Store:
    store = Store.open(root)
    examples = toy_examples()
    store.put_examples("toy-set", examples.revision, _table(examples.frame, "examples"))
    write_toy_trial(store, toy_fit(), EVALUATION_ID, MEASUREMENT_ID, validation_logits)
    return store


def write_toy_trial(
    store: Store, fit: FitSpec, evaluation_id: str, measurement_id: str, validation_logits=None
) -> None:
    test = toy_examples().split("test")
    when = {"started_at": datetime(2026, 1, 1, tzinfo=UTC), "ended_at": datetime(2026, 1, 1, 0, 1, tzinfo=UTC)}
    trial = {"config_id": fit.config_id, "model": fit.model.name, "dataset": "toy-set", "seed": fit.seeds.init, **when}
    predictions = _said(evaluation_id, test, LOGITS)
    processes = toy_processes()
    verdict, samples = judge(samples_of(processes, test["example_id"].to_numpy()), 1)
    measured = summarise(None, processes, samples, verdict, predictions)
    with store.attempt() as attempt:
        artifact = attempt.folder / "artifact"
        artifact.mkdir()
        (artifact / "model.json").write_text(fit.model_dump_json())
        fitted = {"status": "ok", "method": "baseline", "dataset_revision": fit.dataset.revision, "num_train": 2}
        fitted |= {
            "train_fingerprint": fit.dataset.train_fingerprint,
            "spec": fit.model_dump_json(),
            "train_time_s": 36.0,
            "devices": "cpu",
        }
        if validation_logits is not None:
            scores = score_all(validation_logits, toy_examples().split("validation")["label"])
            fitted |= {f"validation_{name}": scores[name] for name in ("accuracy", "f1_macro")} | {"num_validation": 2}
        attempt.commit("fits", fit.fit_id, trial | fitted, {f"artifacts/{fit.fit_id}": artifact})
        evaluated = {"fit_id": fit.fit_id, "test_fingerprint": fit.dataset.test_fingerprint}
        files = {
            f"predictions/dataset=toy-set/{evaluation_id}.parquet": write_table(
                _table(predictions, PREDICTIONS), attempt.folder / "predictions.parquet"
            )
        }
        if validation_logits is not None:
            said = _said(evaluation_id, toy_examples().split("validation"), validation_logits)
            path = write_table(_table(said, PREDICTIONS), attempt.folder / "validation.parquet")
            files[f"validation/dataset=toy-set/{evaluation_id}.parquet"] = path
        attempt.commit(
            "evaluations",
            evaluation_id,
            trial | evaluated | figures_of_predictions(predictions),
            files,
        )
        rows = samples.drop(columns="predicted").assign(measurement_id=measurement_id)
        path = write_table(_table(rows, SAMPLES), attempt.folder / "samples.parquet")
        machine = {"num_threads": 1, "quick": False, "machine_key": "toy", "device_name": "toy CPU", "perf_key": "toy"}
        record = trial | {"fit_id": fit.fit_id} | machine | measured
        attempt.commit("measurements", measurement_id, record, {f"samples/{measurement_id}.parquet": path})


def path_of(store: Store, pattern: str) -> Path:
    """The one file of the store that matches."""
    (path,) = Path(store.uri).glob(pattern)
    return path


def change_row(store: Store, pattern: str, row: int = 0, *, seal=True, **values) -> None:
    """Rewrites one row of a Parquet file, as no program of ours would; a record has the right checksum if `seal`."""
    path = path_of(store, pattern)
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    rows[row] |= values
    changed = pa.Table.from_pylist(rows, schema=table.schema)
    pq.write_table(
        sealed(changed) if seal and CHECKSUM_KEY in table.schema.metadata else changed, path, compression="zstd"
    )


def _said(evaluation_id: str, rows: pd.DataFrame, logits: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "evaluation_id": evaluation_id,
            "example_id": rows["example_id"],
            "label": rows["label"],
            "predicted": [int(np.argmax(x)) for x in logits],
            "logits": [np.float32(x) for x in logits],
            "num_tokens": 10,
            "truncated": [True, *[False] * (len(rows) - 1)],
            "failed": False,
        }
    )


def _table(frame: pd.DataFrame, schema: pa.Schema | str) -> pa.Table:
    if schema == "examples":
        from moodbench.store.schema import EXAMPLES

        return pa.Table.from_pylist(frame.to_dict("records"), schema=EXAMPLES)
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(
        stamped(schema).metadata
    )
