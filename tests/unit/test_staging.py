"""Sweeping the staging area: what is dead goes, what may live stays, whatever it looks like."""

import gc
import os
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from moodbench.store import Store, commit
from moodbench.store.commit import CLAIMING_S, KEEP_CHECKPOINTS_S, remove_abandoned

FIT = "ab" * 10
OWNER = "import sys, time\nfrom moodbench.store import Store\nattempt = Store.open(sys.argv[1]).attempt()\n" + (
    "attempt.__enter__()\n(attempt.folder / 'half').write_text('x')\nown, _ = attempt.checkpoints(sys.argv[2])\n"
    "(own / 'checkpoint-1').mkdir()\n(own / 'checkpoint-1' / 'state').write_text('x')\nprint(attempt.name, flush=True)\ntime.sleep(600)\n"
)


@pytest.fixture
def owned(tmp_path):
    """A store, the name of an attempt that works there, and its process."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "results"), FIT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield Store.open(tmp_path / "results"), process.stdout.readline().strip(), process
        process.kill()


def left(store: Store) -> set[str]:
    root = Path(store.uri) / "staging"
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_a_live_attempt_loses_nothing_and_a_killed_one_all_but_its_checkpoints(owned):
    store, name, process = owned
    everything = left(store)
    assert {f"{name}.lock", f"{name}/half", f"fit-{FIT}/{name}/checkpoint-1"} <= everything
    assert store.remove_abandoned() == []
    assert left(store) == everything
    process.kill()
    process.wait()
    assert store.remove_abandoned() == [name]
    own = f"fit-{FIT}/{name}"
    assert left(store) == {f"fit-{FIT}", own, f"{own}/checkpoint-1", f"{own}/checkpoint-1/state"}


def test_on_a_shared_file_system_only_this_machines_attempts_are_known_to_be_dead(owned, monkeypatch):
    store, name, process = owned
    process.kill()
    process.wait()
    monkeypatch.setattr(commit, "FILE_SYSTEMS_OF_ONE_MACHINE", frozenset())
    monkeypatch.setattr(commit, "gethostname", lambda: "another-host")
    assert store.remove_abandoned() == []
    assert f"{name}/half" in left(store)
    monkeypatch.undo()
    monkeypatch.setattr(commit, "FILE_SYSTEMS_OF_ONE_MACHINE", frozenset())
    assert store.remove_abandoned() == [name]


def interrupted_at(line: int, use) -> bool:
    """Whether `use` met the interrupt that comes before line number `line` of those it runs in the staging area's code."""
    lines = count(1)

    def trace(frame, event, argument):
        if frame.f_code.co_filename != commit.__file__:
            return None
        if event == "line" and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        use()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the lock's file, closed by nobody else
def test_an_interrupt_at_any_moment_leaves_nothing_of_an_attempt(tmp_path):
    store = Store.open(tmp_path / "results")

    def use():
        with store.attempt() as attempt:
            (attempt.folder / "half").write_text("x")
            attempt.checkpoints(FIT)

    gc.freeze()  # what was there before is not searched after each line
    for line in count(1):
        interrupted = interrupted_at(line, use)
        gc.collect()
        assert left(store) == set(), line
        if not interrupted:
            break
    assert line > 25, "of the lines of taking, working and releasing none was passed over"


def test_what_has_no_lock_is_somebody_elses_and_stays(tmp_path):
    staging = tmp_path / "staging"
    (staging / "unknown").mkdir(parents=True)
    (staging / "unknown" / "file").write_text("")
    assert remove_abandoned(staging, set()) == []
    assert (staging / "unknown" / "file").exists()


def test_a_lock_whose_maker_was_killed_before_it_had_a_name_goes_an_hour_later(tmp_path):
    abandoned, making = tmp_path / "a.lock.new", tmp_path / "b.lock.new"
    for path in (abandoned, making):
        path.write_text("")
    past = time.time() - CLAIMING_S
    os.utime(abandoned, (past - 1, past - 1))
    os.utime(making, (past + 60, past + 60))
    assert remove_abandoned(tmp_path, set()) == ["a.lock.new"]
    assert making.exists()


def checkpoint(store: Store, fit_id: str) -> Path:
    """A checkpoint left by an attempt that has ended."""
    with store.attempt() as attempt:
        own, _ = attempt.checkpoints(fit_id)
        (own / "checkpoint-5").mkdir()
        (own / "checkpoint-5" / "trainer_state.json").write_text("{}")
    return own


def test_checkpoints_of_committed_and_of_forgotten_fits_go(tmp_path):
    store = Store.open(tmp_path / "results")
    fresh, old, done = (checkpoint(store, each * 10) for each in ("aa", "bb", "cc"))
    past = time.time() - KEEP_CHECKPOINTS_S - 60
    for path in (*old.rglob("*"), old):
        os.utime(path, (past, past))
    assert remove_abandoned(tmp_path / "results" / "staging", {"cc" * 10}) == [
        f"fit-{'bb' * 10}/{old.name}",
        f"fit-{'cc' * 10}/{done.name}",
    ]
    assert fresh.exists()
    assert not old.parent.exists()


def test_a_checkpoint_that_was_only_begun_is_of_no_use_and_goes(tmp_path):
    store = Store.open(tmp_path / "results")
    whole, begun = (checkpoint(store, each * 10) for each in ("aa", "bb"))
    (begun / "checkpoint-5" / "trainer_state.json").unlink()
    assert remove_abandoned(tmp_path / "results" / "staging", set()) == [f"fit-{'bb' * 10}/{begun.name}"]
    assert whole.exists() and not begun.parent.exists()


def test_a_commit_forgets_the_checkpoints_of_all_attempts_that_ended_and_of_its_own(owned):
    store, live, _ = owned
    ended = checkpoint(store, FIT)
    with store.attempt() as attempt:
        own, others = attempt.checkpoints(FIT)
        assert [p.name for p in others] == [ended.name, live], "the newest first"
        (own / "checkpoint-9").mkdir()
        record = {"model": "toy", "dataset": "none", "seed": 0, "status": "ok"}
        assert attempt.commit("fits", FIT, record, {})
    names = {p.name for p in own.parent.iterdir()}
    assert names == {live}, "what another works with is its own"


def test_a_fit_killed_again_and_again_keeps_the_checkpoints_of_few_attempts(tmp_path):
    store = Store.open(tmp_path / "results")
    made = [checkpoint(store, FIT) for _ in range(6)]
    assert [p.exists() for p in made] == [False, False, True, True, True, True]
    with store.attempt() as attempt:
        _, others = attempt.checkpoints(FIT)
    assert others == list(reversed(made[-3:]))


def test_a_folder_without_a_lock_goes_when_nobody_can_be_about_to_lock_it(tmp_path):
    store = Store.open(tmp_path / "results")
    stray = tmp_path / "results/staging/tmp123/deep"
    stray.mkdir(parents=True)
    assert store.remove_abandoned() == []
    later = time.time() + CLAIMING_S + 10
    assert remove_abandoned(tmp_path / "results/staging", set(), later) == ["tmp123"]
    assert left(store) == set()
