"""Tracking starts where a store has records that were not tracked, whoever made them, and nowhere else."""

import subprocess
from pathlib import Path

import pytest
from toy_store import toy_fit, write_toy_store, write_toy_trial

from moodbench import tracking
from moodbench.tracking import is_tracked, note_tracked, record_ids


@pytest.fixture
def started(monkeypatch):
    """The commands that were started, none of which does anything."""
    commands = []

    def run(command, **options):
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv(tracking.SWITCH, "on")
    monkeypatch.setattr(tracking.subprocess, "run", run)
    return commands


def test_a_run_that_commits_nothing_tracks_what_a_killed_one_has_left(tmp_path, started):
    store = write_toy_store(tmp_path / "results")
    tracking.track(store, has_new=False)
    assert started == [["-m", "moodbench", "track", "sync", "--store", store.uri]]
    folder = Path(store.uri, "tracking")
    folder.mkdir()
    note_tracked(folder, record_ids(store))
    tracking.track(store, has_new=False)
    tracking.track(store, has_new=True)
    assert len(started) == 1, "all of it is noted as tracked"
    write_toy_trial(store, toy_fit(seed=1), "e1" + "0" * 18, "c1" + "0" * 18)
    assert not is_tracked(store)
    tracking.track(store, has_new=False)
    assert len(started) == 2


def test_an_empty_store_and_tracking_that_is_off_start_nothing(tmp_path, started, monkeypatch):
    from moodbench.store import Store

    tracking.track(Store.open(tmp_path / "none"), has_new=False)
    monkeypatch.setenv(tracking.SWITCH, "off")
    tracking.track(write_toy_store(tmp_path / "results"), has_new=True)
    assert started == []
