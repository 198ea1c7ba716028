"""Executor that runs commands one after another inside this process, for debugging."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from moodbench.runtime.executor import Command, Ended, Hear, Isolation, Progress, outcome_of

Entry = Callable[[str, Callable[[Mapping[str, Any]], None]], int]
"""The function behind a command: takes standard input and an event callback, and returns the exit code."""


class InlineExecutor:
    """Executor that runs a command's function when polled, so that a breakpoint in any phase works."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._queue: deque[Command] = deque()

    def isolation(self, node_id: str) -> Isolation:
        """Return "none": nothing keeps other commands away, but there are no others."""
        return "none"

    def start(self, command: Command, node_id: str) -> None:
        """Queue the command for `poll`."""
        self._queue.append(command)

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Run the next command here and return its end; `hear` receives its events as they come."""
        if not self._queue:
            return []
        command = self._queue.popleft()
        with _lasting_interrupts() as check:

            def tell(event: Mapping[str, Any]) -> None:
                check()
                hear(Progress(command.key, event))

            code = self._entry(command.stdin, tell)
            check()
        return [Ended(command.key, outcome_of(code, ""))]

    def begun(self, key: str) -> bool:
        """Return True: a started command runs here."""
        return True

    def free(self, node_id: str) -> str:
        """Return an empty string: no command waits for resources."""
        return ""

    def forget(self, key: str) -> None:
        """Remove the command from the queue, if it has not started."""
        self._queue = deque(command for command in self._queue if command.key != key)

    def close(self) -> None:
        """Clear the queue."""
        self._queue.clear()


@contextmanager
def _lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Yield a check that raises again what SIGINT or SIGTERM raised inside the context.

    Python drops an exception that a signal handler raises during a finaliser or a callback from native code. A training
    runs many of these, so that an interrupt could be lost.
    """
    came: list[tuple[Callable[[int, FrameType | None], Any], int]] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        came.append((before[number], number))
        before[number](number, frame)

    def check() -> None:
        if came:
            handler, number = came[0]
            handler(number, None)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in before.items() if callable(handler)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
