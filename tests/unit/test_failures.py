"""What kind of failure an error is, and which errors mean a disk that takes no more."""

import errno
import os

import pytest

from moodbench.cli import main
from moodbench.errors import is_of_disk
from moodbench.worker import FAILED, MACHINE, OUT_OF_MEMORY, code_of


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG", "EROFS"])
def test_a_disk_that_takes_no_more_is_the_machines_fault_for_worker_and_command_alike(name, monkeypatch, capsys):
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "somewhere")
    assert is_of_disk(error) and code_of(error) == MACHINE
    monkeypatch.setattr("moodbench.cli.doctor.execute", _raises(error))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 2
    assert f"somewhere: {os.strerror(number)}. What was committed is kept" in capsys.readouterr().err


def _raises(error: Exception):
    def execute(arguments):
        raise error

    return execute


def test_a_librarys_own_error_that_quotes_the_disk_is_known_too():
    quoted = RuntimeError("Error while serializing: IoError(No space left on device (os error 28))")
    assert is_of_disk(quoted) and code_of(quoted) == MACHINE


def test_other_errors_are_not_the_disks():
    assert not is_of_disk(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "gone"))
    assert code_of(OSError(errno.EIO, "broken")) == MACHINE and not is_of_disk(OSError(errno.EIO, "broken"))
    assert code_of(ValueError("wrong")) == FAILED
    assert code_of(MemoryError()) == OUT_OF_MEMORY
