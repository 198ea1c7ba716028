"""A page reads its store in the background, and keeps what was worked out of a large one."""

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import toy_store
from generated_store import generate

from moodbench.analysis import cache
from moodbench.analysis.cache import cached_results, record_stamps
from moodbench.analysis.results import read_results
from moodbench.app import snapshot
from moodbench.app.snapshot import CHECK_EVERY_S, SnapshotReader
from moodbench.cli import main
from moodbench.errors import StoreError
from moodbench.hardware import hardware
from moodbench.report.leaderboard_view import StoreView
from moodbench.store import Store


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def add_trial(store, seed):
    toy_store.write_toy_trial(store, toy_store.toy_fit(seed=seed), f"e{seed}" + "0" * 18, f"c{seed}" + "0" * 18)


def test_a_changed_store_is_read_in_the_background_while_the_previous_snapshot_is_shown(tmp_path, monkeypatch):
    store, clock, go_on = toy_store.write_toy_store(tmp_path / "results"), Clock(), threading.Event()
    reader = SnapshotReader(store, hardware(), clock)
    first = reader.current()
    assert reader.current() is first, "nothing has changed"

    def slow(*given):
        go_on.wait(30)
        return cached_results(*given)

    monkeypatch.setattr(snapshot, "cached_results", slow)
    monkeypatch.setattr(snapshot, "REFRESH_TIMEOUT_S", 0.0)
    add_trial(store, 1)
    clock.now += CHECK_EVERY_S
    assert reader.current() is first and reader.current() is first, "it is being read, and nobody waits"
    monkeypatch.setattr(snapshot, "REFRESH_TIMEOUT_S", 30.0)
    assert reader.current(timeout_s=0) is first, "a slider has no patience at all"
    go_on.set()
    reader._thread.join()
    later = reader.current()
    assert len(later.results.records.fits) == 2 and len(first.results.records.fits) == 1


def test_a_store_that_is_slow_to_list_is_checked_less_often(tmp_path, monkeypatch):
    store, clock, looks = toy_store.write_toy_store(tmp_path / "results"), Clock(), []

    def slow(of):
        clock.now += 1.0
        looks.append(clock.now)
        return record_stamps(of)

    monkeypatch.setattr(snapshot, "record_stamps", slow)
    reader = SnapshotReader(store, hardware(), clock)
    for _ in range(100):
        reader.current()
        clock.now += 1.0
    assert 4 <= len(looks) <= 6, "a twentieth of the time at most"


def test_a_damaged_record_is_reported_until_it_is_repaired(tmp_path, monkeypatch):
    store, clock = toy_store.write_toy_store(tmp_path / "results"), Clock()
    reader = SnapshotReader(store, hardware(), clock)
    reader.current()
    path = toy_store.path_of(store, "evaluations/**/*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    clock.now += CHECK_EVERY_S
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot be read as Parquet"):
            reader.current()
    path.write_bytes(whole)
    clock.now += CHECK_EVERY_S
    assert len(reader.current().results.records.evaluations) == 1


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A store of which what is worked out is kept."""
    monkeypatch.setenv("MOODBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "FROM_RECORDS", 1)
    return generate(tmp_path / "results", num_models=3, num_datasets=2, num_seeds=2, num_test=40)


def known_already(monkeypatch):
    monkeypatch.setattr(cache, "compute", None)  # calling it would fail


def assert_same(a, b):
    views = [StoreView(results).leaderboard() for results in (a, b)]
    assert views[0].to_records() == views[1].to_records() and views[0].notes == views[1].notes
    a, b = a.computed, b.computed
    pd.testing.assert_frame_equal(a.entries, b.entries)
    pd.testing.assert_frame_equal(a.ties, b.ties)
    assert a.covered == b.covered and a.pairs == b.pairs and list(a.draws) == list(b.draws)
    for name, joint in a.draws.items():
        other = b.draws[name]
        for field in fields(joint):
            value, kept = getattr(joint, field.name), getattr(other, field.name)
            assert type(value) is type(kept) and np.array_equal(value, kept), field.name
    assert np.array_equal(a.overall_draws.f1_draws, b.overall_draws.f1_draws)


def test_a_small_store_keeps_nothing(large, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FROM_RECORDS", 500)
    cached_results(large, hardware())
    assert not (tmp_path / "cache").exists()


def test_what_is_kept_is_what_would_be_worked_out(large, tmp_path, monkeypatch):
    made = cached_results(large, hardware())
    (path,) = (tmp_path / "cache" / "boards").iterdir()
    assert not (Path(large.uri) / "snapshots" / "board.npz").exists(), "looking at a store changes nothing in it"
    np.load(path, allow_pickle=False)["about"]
    known_already(monkeypatch)
    assert_same(cached_results(large, hardware()), made)


def test_compacting_keeps_it_in_the_store_for_every_reader(large, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        main(["store", "compact", "--store", large.uri])
    assert ended.value.code == 0
    assert not (tmp_path / "cache" / "boards").exists()
    made = read_results(large, hardware())
    known_already(monkeypatch)
    assert_same(cached_results(Store.open(large.uri), hardware()), made)


def test_what_is_kept_counts_only_while_nothing_changes(large):
    cached_results(large, hardware(), in_store=True)
    gone = next((Path(large.uri) / "measurements").rglob("*.parquet"))
    gone.unlink()
    fewer = cached_results(large, hardware())
    assert_same(fewer, read_results(large, hardware()))
    assert len(fewer.records.measurements) == 11


@pytest.mark.parametrize("content", [b"", b"torn", b"pickle"])
def test_a_kept_file_that_cannot_be_used_is_worked_out_again_and_never_run(large, tmp_path, content):
    made = cached_results(large, hardware(), in_store=True)
    kept = Path(large.uri) / "snapshots" / "board.npz"
    if content == b"pickle":
        ran = tmp_path / "ran"
        np.savez(kept, about=np.array([Runs(ran)], dtype=object))
    else:
        kept.write_bytes(content)
    assert_same(cached_results(large, hardware()), made)
    assert not (tmp_path / "ran").exists()


class Runs:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
