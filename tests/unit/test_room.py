"""Disk and memory that a run needs are there before it starts, or it says what is lacking and exits with 2."""

from collections import namedtuple
from pathlib import Path

import pytest

from moodbench.benchmark import room
from moodbench.cli import main

Usage = namedtuple("Usage", "total used free")
Memory = namedtuple("Memory", "total available")
RUN = ["run", "--models", "vader", "--datasets", "icwsm-tweets", "--executor", "inline", "--store"]


def refused(arguments, capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    message = refused([*RUN, tmp_path / "results"], capsys)
    assert "6 missing phases may write 0." in message
    assert "its disk has 0.00 GiB free; free some, give a folder on another disk with --store" in message
    assert not (tmp_path / "results").exists()


def test_memory_that_no_fit_finds_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: Memory(10**9, 10**8))
    message = refused([*RUN, tmp_path / "results"], capsys)
    assert "fitting needs about 0." in message
    assert "of memory, 0.09 GiB of" in message
    assert "end other programs, leave the model out" in message
    assert not (tmp_path / "results").exists()


def test_the_disk_that_a_whole_run_takes_is_less_than_was_asked_for(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        room,
        "_check_disk",
        lambda plan, sizes, root: asked.extend(
            room.disk_bytes(p, sizes[p.trial.fit.dataset.revision]) for p in plan.trials
        ),
    )
    with pytest.raises(SystemExit) as ended:
        main([*RUN, str(tmp_path / "results"), "--protocol", "quick"])
    assert ended.value.code == 0
    folders = ("fits", "evaluations", "measurements", "artifacts", "predictions", "validation", "samples")
    files = (p for name in folders for p in Path(tmp_path / "results" / name).rglob("*") if p.is_file())
    assert sum(p.stat().st_size for p in files) < sum(asked)
