"""Child processes: their JSON events as they print them, heartbeats and a deadline, and in the end their outcome."""

from __future__ import annotations

import errno
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from moodbench.errors import DISK_ERRORS, is_of_disk
from moodbench.hardware import num_oom_kills
from moodbench.runtime.forkserver import ForkedProcess

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
STDERR_LINES = 20
MAX_DETAIL_CHARS = 8_000
"""Characters kept of the end of standard error; they are sent with the outcome, which must stay small."""
ALIVE: Mapping[str, Any] = {"event": "alive"}
"""Heartbeat event, yielded when a process has sent no event for a while."""
STARTED = "MOODBENCH_PROCESS"
"""Variable that tells a child process how it was started: forked, or as a new process."""


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


Message = Mapping[str, Any] | Outcome
"""An event of a process, or its outcome, which is the last message."""


class _NewProcess:
    """A new Python process."""

    def __init__(self, argv: tuple[str, ...], environment: Mapping[str, str], stderr: int) -> None:
        self._process = subprocess.Popen(
            (sys.executable, *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(environment),
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self.kill = self._process.kill

    def wait(self) -> tuple[int, int]:
        """Wait for the end; return the exit code, the negative number of a signal if killed, and the peak in bytes.

        The peak is 0 if the system does not report it.
        """
        if sys.platform != "linux":
            return self._process.wait(), 0
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        except ChildProcessError:  # its return code was read already
            return self._process.wait(), 0
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode, usage.ru_maxrss * 1024


def environment_of(num_threads: int) -> dict[str, str]:
    """Return the environment of a child process whose libraries use `num_threads` threads."""
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    variables.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # that of nvidia-smi, from which `hardware` knows the GPUs
    return variables | {"OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}


class RunningProcess:
    """A running Python process with these arguments, whose libraries use `num_threads` threads.

    It is killed after `deadline_s`, as long as somebody asks for its messages. `environment` adds variables. It is
    a child of the fork server at that address, if that has the same environment, and otherwise a new process.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        stdin: str,
        num_threads: int,
        *,
        deadline_s: float | None = None,
        environment: Mapping[str, str] | None = None,
        fork_server: str | None = None,
    ) -> None:
        variables = environment_of(num_threads) | dict(environment or {})
        self._stdin = stdin
        self._deadline_s, self._overdue = deadline_s, False
        self._end = math.inf if deadline_s is None else time.monotonic() + deadline_s
        self._oom_kills = num_oom_kills()
        self._printed: deque[str] = deque(maxlen=STDERR_LINES)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115 - closed with the outcome
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = _start(argv, variables, self._errors.fileno(), fork_server)
        try:
            threading.Thread(target=self._communicate, daemon=True).start()
        except RuntimeError:  # no thread available
            self.close()
            raise

    def message(self, timeout_s: float | None = None) -> Message | None:
        """Return the next event that the process prints, one per line, or in the end its outcome.

        None if there is no event within `timeout_s`.
        """
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            wait_s = min(until, self._end) - time.monotonic()
            try:
                line = self._lines.get(timeout=max(0.0, wait_s) if wait_s < math.inf else None)
            except queue.Empty:
                if time.monotonic() < self._end:
                    return None
                self._end, self._overdue = math.inf, True
                self._process.kill()
                continue
            if line is None:
                return self._outcome()
            event = _event(line)
            if event is not None:
                return event
            self._printed.append(line.rstrip())  # by a library, before the process took over the stream

    def messages(self, *, beat_s: float | None = None) -> Iterator[Message]:
        """Yield the events, and ALIVE whenever `beat_s` pass without one, then the outcome.

        The process is killed if the caller stops before that.
        """
        try:
            while True:
                message = self.message(beat_s)
                yield ALIVE if message is None else message
                if isinstance(message, Outcome):
                    break
        finally:
            self.close()

    def close(self) -> None:
        """Kill the process, unless it has ended; it has no more messages then."""
        self._process.kill()
        self._errors.close()

    def _communicate(self) -> None:
        """Write standard input, then queue the lines of standard output as they come, and in the end None."""
        with suppress(BrokenPipeError), self._process.stdin as stdin:  # it may end before it reads its input
            stdin.write(self._stdin)
        with self._process.stdout as stdout:
            for line in stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _outcome(self) -> Outcome:
        return_code, peak_bytes = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            tail = "\n".join([*self._printed, *self._errors.read().splitlines()][-STDERR_LINES:])[-MAX_DETAIL_CHARS:]
        if self._overdue:
            return Outcome("deadline", f"no end after {self._deadline_s:.0f} s", peak_bytes)
        if sys.platform == "linux" and return_code == -signal.SIGKILL and num_oom_kills() > self._oom_kills:
            return Outcome("out of memory", "killed by the system, as memory ran out", peak_bytes)
        return Outcome.of_exit(return_code, tail, peak_bytes)


def _start(
    argv: tuple[str, ...], environment: Mapping[str, str], stderr: int, fork_server: str | None
) -> _NewProcess | ForkedProcess:
    if fork_server is not None:
        with suppress(OSError):  # there is no server any more, or it has another environment
            return ForkedProcess(fork_server, argv, {**environment, STARTED: "forked"}, stderr)
    return _NewProcess(argv, {**environment, STARTED: "new process"}, stderr)


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def take_over_stdout() -> Callable[[Mapping[str, Any]], None]:
    """Return a function that prints an event; anything else that this process prints goes to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)

    def send(event: Mapping[str, Any]) -> None:
        events.write(json.dumps({"time": time.time(), **event}) + "\n")

    return send
