"""One command as a process: its JSON events as it prints them, heartbeats, then its outcome."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from moodbench.hardware import num_oom_kills
from moodbench.runtime.executor import outcome_of
from moodbench.schedule import Outcome

STDERR_LINES = 20
MAX_DETAIL_CHARS = 8_000
"""Characters kept of the end of standard error; they are sent with the outcome, which must stay small."""
ALIVE: dict[str, Any] = {"event": "alive"}
"""Heartbeat event, yielded when a process has sent no event for a while."""


class RunningProcess:
    """A running Python process with these arguments, whose libraries use `num_threads` threads."""

    def __init__(self, argv: tuple[str, ...], stdin: str, num_threads: int) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"OMP_NUM_THREADS": str(num_threads), "MKL_NUM_THREADS": str(num_threads)}
        self._oom_kills = num_oom_kills()
        self._errors = tempfile.TemporaryFile(  # noqa: SIM115 - closed by messages()
            "w+", encoding="utf-8", errors="replace"
        )
        self._process = subprocess.Popen(
            (sys.executable, *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it ended before it read its input; its exit code has the reason
            self._process.stdin.write(stdin)
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def messages(self, *, beat_s: float | None = None, deadline_s: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield each event that the command prints, one per line, then its outcome.

        The outcome is `{"outcome": kind, "detail": ..., "peak_bytes": ..., "on_gpu": ...}`. ALIVE is yielded whenever
        `beat_s` pass without an event. The process is killed after `deadline_s`.
        """
        end = None if deadline_s is None else time.monotonic() + deadline_s
        overdue = False
        stray: deque[str] = deque(maxlen=STDERR_LINES)
        with self._errors:
            lines = self._lines()
            while True:
                left = None if end is None or overdue else max(0.0, end - time.monotonic())
                try:
                    line = lines.get(timeout=min((t for t in (beat_s, left) if t is not None), default=None))
                except queue.Empty:
                    if left is not None and end is not None and time.monotonic() >= end:
                        overdue = True
                        self.kill()
                    else:
                        yield dict(ALIVE)
                    continue
                if line is None:
                    break
                event = _event(line)
                if event is not None:
                    yield event
                else:  # a library printed it before the worker took over the stream
                    stray.append(line.rstrip())
            outcome = self._outcome(f"no end after {deadline_s:.0f} s" if deadline_s and overdue else None, stray)
        yield {"outcome": outcome.kind, **{k: v for k, v in asdict(outcome).items() if k != "kind"}}

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def _lines(self) -> queue.SimpleQueue[str | None]:
        """Return a queue of the lines of standard output as they come, then None."""
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

        def read() -> None:
            assert self._process.stdout is not None
            with self._process.stdout as stdout:
                for line in stdout:
                    lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        return lines

    def _outcome(self, overdue: str | None, stray: Iterable[str]) -> Outcome:
        peak_bytes = self._wait()
        return_code = self._process.returncode
        self._errors.seek(0)
        tail = "\n".join([*stray, *self._errors.read().splitlines()][-STDERR_LINES:])[-MAX_DETAIL_CHARS:]
        if overdue is not None:
            return Outcome("deadline", overdue, peak_bytes)
        if sys.platform == "linux" and return_code == -signal.SIGKILL and num_oom_kills() > self._oom_kills:
            return Outcome("out of memory", "killed by the system, as memory ran out", peak_bytes)
        outcome = outcome_of(return_code, tail)
        return replace(outcome, peak_bytes=peak_bytes)

    def _wait(self) -> int:
        """Wait for the process to end and return its peak memory in bytes; 0 if the system does not report it."""
        if sys.platform != "linux":
            self._process.wait()
            return 0
        try:
            _, status, usage = os.wait4(self._process.pid, 0)
        except ChildProcessError:  # its return code was read already
            self._process.wait()
            return 0
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * 1024


def _event(line: str) -> dict[str, Any] | None:
    """Parse the event in a line; None if it is not an event."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def ended(message: dict[str, Any]) -> Outcome | None:
    """Return the outcome in the last message of a process; None for an event."""
    if "outcome" not in message:
        return None
    return Outcome(message["outcome"], message["detail"], message.get("peak_bytes", 0), message.get("on_gpu", False))
