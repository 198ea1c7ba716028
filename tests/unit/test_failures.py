"""What kind of failure an error is, and which errors mean a disk that takes no more."""

import errno
import os
import subprocess
import sys

import pytest

from moodbench.cli import main
from moodbench.errors import is_of_disk
from moodbench.evaluation.measuring import MeasuringProcessError
from moodbench.runtime import ray_local
from moodbench.runtime.executor import Command
from moodbench.schedule import Outcome
from moodbench.worker import CRASHED, FAILED, MACHINE, OUT_OF_GPU_MEMORY, OUT_OF_MEMORY, code_of


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


@pytest.mark.parametrize(
    ("return_code", "tail", "killed", "expected"),
    [
        (-9, "", True, OUT_OF_MEMORY),
        (-9, "", False, MACHINE),
        (-15, "", False, MACHINE),
        (-11, "", False, CRASHED),
        (1, "OSError: [Errno 28] No space left on device: 'result.json'", False, MACHINE),
        (1, "OSError: [Errno 116] Stale file handle", False, MACHINE),
        (1, "SafetensorError: No space left on device", False, MACHINE),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", False, OUT_OF_GPU_MEMORY),
        (
            1,
            "RuntimeError: [enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory",
            False,
            OUT_OF_MEMORY,
        ),
        (1, "MemoryError", False, OUT_OF_MEMORY),
        (1, "ValueError: wrong", False, FAILED),
    ],
)
def test_a_measuring_process_ends_of_what_a_worker_ends_of(return_code, tail, killed, expected):
    error = MeasuringProcessError(return_code, tail, out_of_memory=killed)
    assert code_of(error) == expected and f"ended with {return_code}" in str(error)


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
    alone = ray_local._Alone(Command("k", ("-m", "x"), "", 1, exclusive=True))
    (ended,) = alone.poll(10.0, lambda progress: None)
    assert ended.key == "k" and isinstance(ended.outcome, Outcome)
    assert ended.outcome.kind == "infrastructure" and error.args[-1] in ended.outcome.detail
    alone.kill()
