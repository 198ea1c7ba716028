"""Outcome of a process: how it ended, and the exit code by which a child process reports it to its parent."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from moodbench.errors import DISK_ERRORS, is_of_disk

OutcomeKind = Literal["ok", "program error", "crash", "out of memory", "deadline", "infrastructure", "not started"]
PROGRAM_ERROR = 1
CODES: dict[int, tuple[OutcomeKind, bool]] = {
    0: ("ok", False),
    PROGRAM_ERROR: ("program error", False),
    3: ("out of memory", False),
    4: ("infrastructure", False),
    5: ("out of memory", True),
    6: ("crash", False),
}
"""Exit code -> kind, and whether it was the GPU. The larger code is the worse one."""
CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that native code causes itself; any other signal comes from outside."""
MACHINE_ERRORS = DISK_ERRORS | {
    getattr(errno, name)
    for name in (
        "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPIPE",
        "EAGAIN", "EMFILE", "ENFILE",
    )
    if hasattr(errno, name)
}  # fmt: skip
"""Error numbers of an OSError that another machine may not meet.

The disk is full, broken or unreachable, or the machine has run out of processes or open files.
"""


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    kind: OutcomeKind
    detail: str = ""
    """Known cause, such as the end of standard error."""
    peak_bytes: int = 0
    """Observed peak memory; 0 if unknown."""
    on_gpu: bool = False
    """Whether it was the GPU that ran out of memory, not the machine."""

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ends this way by itself."""
        return next((code for code, end in CODES.items() if end == (self.kind, self.on_gpu)), PROGRAM_ERROR)

    @classmethod
    def of_exit(cls, return_code: int, stderr_tail: str, peak_bytes: int = 0) -> Outcome:
        """Return the outcome of a process that ended with `return_code`; the negative number of a signal if killed."""
        if return_code >= 0:
            kind, on_gpu = CODES.get(return_code, CODES[PROGRAM_ERROR])
            return cls(kind, "" if kind == "ok" else stderr_tail, peak_bytes, on_gpu)
        name = next((each.name for each in signal.Signals if each == -return_code), "unknown")
        detail = f"{stderr_tail}\nended by signal {-return_code} ({name})".strip()
        return cls("crash" if -return_code in CRASHES else "infrastructure", detail, peak_bytes)

    @classmethod
    def of_error(cls, error: Exception) -> Outcome:
        """Return the outcome of an exception: memory ran out, this machine is at fault, or the program is."""
        if isinstance(error, ProcessError):
            return error.outcome
        if type(error).__name__ == "OutOfMemoryError":  # torch raises it on an accelerator, and RuntimeError on the CPU
            return cls("out of memory", on_gpu=True)
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.ENOMEM or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            return cls("out of memory")
        # The S3 client sets no errno.
        of_object_store = isinstance(error, OSError) and number is None and "AWS Error" in str(error)
        if number in MACHINE_ERRORS or of_object_store or is_of_disk(error):
            return cls("infrastructure")
        return cls("program error")


class ProcessError(RuntimeError):
    """A child process ended without its result."""

    def __init__(self, name: str, outcome: Outcome) -> None:
        super().__init__(f"the {name} process ended: {outcome.kind}\n{outcome.detail}".strip())
        self.outcome = outcome


@contextmanager
def exit_with_outcome() -> Iterator[None]:
    """Exit with the code of the outcome if the context raises, after printing the traceback."""
    # The edge of a process: what no phase has recorded.
    try:
        yield
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        sys.exit(Outcome.of_error(error).exit_code)
