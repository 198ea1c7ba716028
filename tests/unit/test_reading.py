"""A page reads its store in the background, and keeps what was worked out of a large one."""

import threading
from pathlib import Path

import pytest
import toy_store
from generated_store import generate

from moodbench.errors import StoreError
from moodbench.hardware import hardware
from moodbench.store import Store
from moodbench.visualization import kept_results
from moodbench.visualization.kept_results import results_of, stamps_of
from moodbench.visualization.page import reading
from moodbench.visualization.page.reading import LOOK_EVERY_S, Reader


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def add_trial(store, seed):
    toy_store.write_toy_trial(store, toy_store.toy_fit(seed=seed), f"e{seed}" + "0" * 18, f"c{seed}" + "0" * 18)


def test_what_changes_is_read_in_the_background_and_the_reading_before_is_shown_meanwhile(tmp_path, monkeypatch):
    store, clock, go_on = toy_store.write_toy_store(tmp_path / "results"), Clock(), threading.Event()
    reader = Reader(store, hardware(), clock)
    first = reader.current()
    assert reader.current() is first, "nothing has changed"

    def slow(*given):
        go_on.wait(30)
        return results_of(*given)

    monkeypatch.setattr(reading, "results_of", slow)
    monkeypatch.setattr(reading, "PATIENCE_S", 0.0)
    add_trial(store, 1)
    clock.now += LOOK_EVERY_S
    assert reader.current() is first and reader.current() is first, "it is being read, and nobody waits"
    go_on.set()
    reader._thread.join()
    later = reader.current()
    assert len(later.results.fits) == 2 and len(first.results.fits) == 1


def test_a_damaged_record_is_told_until_it_is_mended(tmp_path, monkeypatch):
    store, clock = toy_store.write_toy_store(tmp_path / "results"), Clock()
    reader = Reader(store, hardware(), clock)
    reader.current()
    path = toy_store.path_of(store, "evaluations/**/*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    clock.now += LOOK_EVERY_S
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be read as Parquet"):
            reader.current()
    path.write_bytes(whole)
    clock.now += LOOK_EVERY_S
    assert len(reader.current().results.evaluations) == 1


def test_what_is_kept_of_a_large_store_is_what_would_be_worked_out_and_only_while_nothing_changes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    store = generate(tmp_path / "results", num_models=3, num_datasets=2, num_seeds=2, num_test=40)
    assert results_of(store, hardware(), stamps_of(store)) and not (tmp_path / "cache").exists(), (
        "a small one is not kept"
    )
    monkeypatch.setattr(kept_results, "FROM_RECORDS", 1)
    made = results_of(store, hardware(), stamps_of(store))
    (path,) = (tmp_path / "cache" / "boards").glob("*.pickle")
    monkeypatch.setattr(kept_results, "read_results", None)  # what is kept needs no reading
    kept = results_of(store, hardware(), stamps_of(store))
    assert kept.view().to_records() == made.view().to_records()
    monkeypatch.undo()
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_results, "FROM_RECORDS", 1)
    gone = next((Path(store.uri) / "measurements").rglob("*.parquet"))
    gone.unlink()
    fewer = results_of(store, hardware(), stamps_of(store))
    assert len(fewer.measurements) == len(made.measurements) - 1
    path.write_bytes(b"torn")
    assert results_of(Store.open(store.uri), hardware(), stamps_of(store)).fits.equals(fewer.fits)
