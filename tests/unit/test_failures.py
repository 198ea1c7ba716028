"""What kind of failure an error is, and which errors mean a disk that takes no more."""

import errno
import os
import subprocess
import sys

import pytest

from moodbench.cli import main
from moodbench.errors import is_of_disk
from moodbench.runtime import process, ray_local
from moodbench.runtime.executor import HERE, Command
from moodbench.runtime.process import Outcome, ProcessError, RunningProcess, exit_with_outcome

FAILED, OUT_OF_MEMORY, MACHINE, OUT_OF_GPU_MEMORY, CRASHED = 1, 3, 4, 5, 6


def code_of(error: Exception) -> int:
    return Outcome.of_error(error).exit_code


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS"])
def test_a_disk_that_takes_no_more_is_the_machines_fault_for_worker_and_command_alike(name, monkeypatch, capsys):
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "somewhere")
    assert is_of_disk(error) and code_of(error) == MACHINE
    monkeypatch.setattr("moodbench.cli.doctor.execute", _raises(error))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    assert f"somewhere: {os.strerror(number)}. Committed results are safe" in capsys.readouterr().err


def _raises(error: Exception):
    def execute(*arguments, **options):
        raise error

    return execute


def test_a_librarys_own_error_that_quotes_the_disk_is_known_too():
    quoted = RuntimeError("Error while serializing: IoError(No space left on device (os error 28))")
    assert is_of_disk(quoted) and code_of(quoted) == MACHINE


def test_other_errors_are_not_the_disks():
    assert not is_of_disk(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone"))
    assert code_of(OSError(errno.EIO, "broken")) == MACHINE and not is_of_disk(OSError(errno.EIO, "broken"))
    for number in (errno.ESTALE, errno.ECONNRESET, errno.EAGAIN, errno.EMFILE):
        assert code_of(OSError(number, "for now")) == MACHINE
    assert code_of(OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation")) == MACHINE
    assert code_of(OSError("something else")) == FAILED
    assert code_of(OSError(errno.ENOMEM, "Cannot allocate memory")) == OUT_OF_MEMORY
    assert code_of(ValueError("wrong")) == FAILED
    assert code_of(MemoryError()) == OUT_OF_MEMORY


class OutOfMemoryError(RuntimeError):
    """As torch raises it on an accelerator."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "result.json"), MACHINE),
        (OSError(116, "Stale file handle"), MACHINE),
        (type("SafetensorError", (Exception,), {})("No space left on device"), MACHINE),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), OUT_OF_GPU_MEMORY),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"), OUT_OF_MEMORY),
        (MemoryError(), OUT_OF_MEMORY),
        (ValueError("wrong"), FAILED),
    ],
)
def test_an_error_in_a_measuring_process_is_the_outcome_of_its_worker(error, expected, capsys):
    with pytest.raises(SystemExit) as ended, exit_with_outcome():
        raise error
    printed = capsys.readouterr().err
    outcome = Outcome.of_exit(ended.value.code, printed)
    failure = ProcessError("measuring", outcome)
    assert ended.value.code == code_of(failure) == code_of(error) == expected
    assert type(error).__name__ in str(failure)


@pytest.mark.parametrize(("return_code", "expected"), [(-9, MACHINE), (-15, MACHINE), (-11, CRASHED)])
def test_a_signal_that_ends_a_measuring_process_is_the_outcome_of_its_worker(return_code, expected):
    error = ProcessError("measuring", Outcome.of_exit(return_code, ""))
    assert code_of(error) == expected and f"ended by signal {-return_code}" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the processes that it killed for memory")
@pytest.mark.parametrize(("kills", "kind"), [((3, 4), "out of memory"), ((3, 3), "infrastructure")])
def test_a_process_that_the_system_killed_as_memory_ran_out_is_out_of_memory(monkeypatch, kills, kind):
    counts = iter(kills)
    monkeypatch.setattr(process, "num_oom_kills", lambda: next(counts))
    (outcome,) = RunningProcess(("-c", "import os; os.kill(os.getpid(), 9)"), "", 1).messages()
    assert outcome.kind == kind


OUT_OF_REACH = """
import errno, sys
from moodbench import worker
from moodbench.store import Store
def gone(uri): raise OSError(errno.ESTALE, "Stale file handle", uri)
Store.open = gone
worker.main()
"""
JOB = '{"run_id": "r", "store": "/shared", "phases": [], "device": "cpu", "num_threads": 1}'


def test_a_store_that_is_out_of_reach_is_the_machines_fault():
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_REACH], input=JOB, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == MACHINE and "Stale file handle" in done.stderr


@pytest.mark.parametrize(
    "error", [OSError(errno.EAGAIN, "Resource temporarily unavailable"), RuntimeError("can't start new thread")]
)
def test_a_measurement_whose_process_cannot_be_started_ends_and_does_not_hang(monkeypatch, error):
    monkeypatch.setattr(ray_local, "RunningProcess", _raises(error))
    executor = ray_local.LocalRayExecutor(1)
    executor.start(Command("k", ("-m", "x"), "", 1, exclusive=True), HERE)
    (ended,) = executor.poll(10.0, lambda progress: None)
    assert ended.key == "k" and ended.outcome.kind == "infrastructure"
    assert error.args[-1] in ended.outcome.detail
    executor.close()
