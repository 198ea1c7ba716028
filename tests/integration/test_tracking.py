"""What MLflow and TensorBoard show of a store, read back without them; and a run whose tracking fails."""

import json
import os
import sqlite3
import struct
from pathlib import Path

import pytest
from command_line import moodbench
from tensorboardX.proto.event_pb2 import Event

from moodbench.store import Store

pytestmark = pytest.mark.integration
CURVE = [
    {"step": 5, "loss": 0.7, "metric": None, "validation_score": None},
    {"step": 10, "loss": 0.5, "metric": None, "validation_score": None},
    {"step": 10, "loss": None, "metric": "f1_macro", "validation_score": 0.8},
]
HPARAMS = {"lora": {"r": 8, "lora_alpha": 16.0}, "train": {"learning_rate": 2e-4, "epochs": 3}, "chosen": {}}


@pytest.fixture
def toy(tmp_path):
    from toy_store import change_row, write_toy_store

    store = write_toy_store(tmp_path / "results")
    spec = json.loads(store.records("fits")["spec"][0])
    spec["dataset"]["file"] = {"path": "/home/ann/secret/mine.csv", "text_column": "t", "label_column": "l"}
    change_row(store, "fits/*/*.parquet", curve=CURVE, hparams=json.dumps(HPARAMS), spec=json.dumps(spec))
    return store


def in_mlflow(folder: Path, query: str) -> list[tuple]:
    connection = sqlite3.connect(folder / "results" / "tracking" / "mlflow.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def in_tensorboard(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar; a file is length, checksum, event, checksum, again and again."""
    found = []
    for path in (folder / "results" / "tracking" / "tensorboard").rglob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            data = data[16 + size :]
    return sorted(found)


def test_a_store_is_shown_once_however_often_it_is_synced(toy, tmp_path):
    said = [json.loads(moodbench("track", "sync", "--json", cwd=tmp_path).stdout) for _ in range(2)]
    assert [(s["num_trials"], s["num_new_in_mlflow"], s["num_new_in_tensorboard"]) for s in said] == [
        (1, 1, 1),
        (1, 0, 0),
    ]
    assert in_mlflow(tmp_path, "select count(*) from runs") == [(1,)]
    params = dict(in_mlflow(tmp_path, "select key, value from params"))
    shown = {
        "model_name": "toy",
        "lora_rank": "8",
        "lora_alpha": "16",
        "learning_rate": "0.0002",
        "epochs": "3",
        "seed": "0",
    }
    assert params.items() >= shown.items()
    metrics = in_mlflow(tmp_path, "select key, step, value from metrics")
    assert len(metrics) == len(set(metrics))
    evaluated, measured = (toy.records(kind).iloc[0] for kind in ("evaluations", "measurements"))
    expected = {
        ("loss", 5, 0.7), ("loss", 10, 0.5), ("validation_f1_macro", 10, 0.8), ("accuracy", 0, 0.75),
        ("f1", 0, evaluated["f1_macro"]), ("precision", 0, evaluated["precision_macro"]),
        ("recall", 0, evaluated["recall_macro"]), ("latency_p50_s", 0, measured["latency_p50_s"]),
    }  # fmt: skip
    assert expected <= set(metrics)
    assert [(tag, step, pytest.approx(value)) for tag, step, value in sorted(metrics)] == in_tensorboard(tmp_path)


def test_what_comes_later_is_added_and_what_a_person_deleted_stays_deleted(toy, tmp_path):
    from toy_store import toy_fit, write_toy_trial

    moodbench("track", "sync", cwd=tmp_path)
    connection = sqlite3.connect(tmp_path / "results" / "tracking" / "mlflow.db")
    connection.execute("update runs set lifecycle_stage = 'deleted'")
    connection.commit()
    connection.close()
    write_toy_trial(toy, toy_fit(seed=1), "e1" + "0" * 18, "c1" + "0" * 18)
    assert json.loads(moodbench("track", "sync", "--json", cwd=tmp_path).stdout)["num_new_in_mlflow"] == 1
    assert in_mlflow(tmp_path, "select lifecycle_stage from runs order by start_time, name") == [
        ("deleted",),
        ("active",),
    ]


def test_neither_texts_nor_folders_are_tracked(toy, tmp_path):
    from toy_store import SECRET

    moodbench("track", "sync", cwd=tmp_path)
    files = [p for p in (tmp_path / "results" / "tracking").rglob("*") if p.is_file()]
    assert len(files) >= 4
    for needle in (SECRET, "secret/mine.csv", str(tmp_path)):
        assert not [p for p in files if needle.encode() in p.read_bytes()]


def test_a_run_tracks_its_trials_and_goes_well_when_that_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "MOODBENCH_TRACKING", "on")
    train = ["train", "--dataset", "icwsm-tweets", "--executor", "inline", "--model"]
    monkeypatch.setitem(os.environ, "MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = moodbench(*train, "majority", cwd=tmp_path)
    assert done.stderr.count("tracking: MLflow at http://127.0.0.1:9") == 1
    assert "`moodbench track sync` tries again" in done.stderr
    assert len(Store.open(tmp_path / "results").ids("fits")) == 1
    refused = moodbench("track", "sync", cwd=tmp_path, code=2)
    assert refused.stderr.startswith("moodbench: MLflow at http://127.0.0.1:9:") and "Traceback" not in refused.stderr
    monkeypatch.delitem(os.environ, "MLFLOW_TRACKING_URI")
    assert "tracking" not in moodbench(*train, "vader", cwd=tmp_path).stderr
    both = [("majority · icwsm-tweets · seed 0",), ("vader · icwsm-tweets · seed 0",)]
    assert in_mlflow(tmp_path, "select name from runs order by start_time") == both
    (tmp_path / "results" / "tracking" / "mlflow.db").unlink()
    moodbench(*train, "vader", cwd=tmp_path)
    assert not (tmp_path / "results" / "tracking" / "mlflow.db").exists(), "all is noted as tracked: nothing is started"
    (tmp_path / "results" / "tracking" / "tracked.txt").unlink()
    moodbench(*train, "vader", cwd=tmp_path)  # as after a run that was killed before it came to tracking
    assert in_mlflow(tmp_path, "select name from runs order by start_time") == both
