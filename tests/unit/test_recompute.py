"""`moodbench store recompute`: the figures anew, in a table of their own, the records untouched."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from toy_store import EVALUATION_ID, MEASUREMENT_ID, change_row, write_toy_store

from moodbench.cli import main


def recompute(store, capsys) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main(["store", "recompute", "--store", store.uri])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_what_is_recomputed_equals_the_records_of_an_untouched_store(tmp_path, capsys):
    store = write_toy_store(tmp_path / "results")
    assert all("1 records recomputed, 0 differ" in line for line in recompute(store, capsys))
    for kind in ("evaluations", "measurements"):
        (row,) = pq.read_table(Path(store.uri) / "snapshots" / f"recomputed-{kind}.parquet").to_pylist()
        assert row == {name: store.record(kind, row[f"{kind[:-1]}_id"])[name] for name in row}


def test_a_changed_record_is_counted_and_stays_as_it_is(tmp_path, capsys):
    store = write_toy_store(tmp_path / "results")
    change_row(store, "evaluations/e0/*.parquet", accuracy=0.875)
    first, second = recompute(store, capsys)
    assert "1 differ from what is stored; `moodbench store verify` lists the differences" in first
    assert "0 differ" in second
    (row,) = pq.read_table(Path(store.uri) / "snapshots" / "recomputed-evaluations.parquet").to_pylist()
    assert row["accuracy"] == 0.75
    assert store.record("evaluations", EVALUATION_ID)["accuracy"] == 0.875
    assert store.records("evaluations")["accuracy"].tolist() == [0.875]


def test_a_changed_speed_of_a_process_differs_and_is_worked_out_again(tmp_path, capsys):
    store = write_toy_store(tmp_path / "results")
    right = store.record("measurements", MEASUREMENT_ID)["process_speed"]
    change_row(store, "measurements/c0/*.parquet", process_speed=[right[0] | {"latency_p50_s": 0.001}])
    _, measurements = recompute(store, capsys)
    assert "1 differ from what is stored" in measurements
    (row,) = pq.read_table(Path(store.uri) / "snapshots" / "recomputed-measurements.parquet").to_pylist()
    assert row["process_speed"] == right == [{"latency_p50_s": pytest.approx(0.0035), "texts_per_s": 390.0}]
