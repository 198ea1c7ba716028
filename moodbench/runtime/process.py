"""Child processes: their JSON events as they print them, heartbeats and a deadline, then their outcome."""

from __future__ import annotations

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
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from moodbench.hardware import num_oom_kills
from moodbench.runtime.forkserver import ForkedProcess
from moodbench.runtime.outcome import Outcome

STDERR_LINES = 20
MAX_DETAIL_CHARS = 8_000
"""Characters kept of the end of standard error; they are sent with the outcome, which must stay small."""
ALIVE: Mapping[str, Any] = {"event": "alive"}
"""Heartbeat event, yielded when a process has sent no event for a while."""
STARTED = "MOODBENCH_PROCESS"
"""Variable that tells a child process how it was started: forked, or as a new process."""
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
    """Parse the event in a line; None if it is not an event."""
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
