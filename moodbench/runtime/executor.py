"""Executor interface: start commands on nodes, and return their events and outcomes; and the inline executor."""

from __future__ import annotations

import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, override

from moodbench.runtime.process import Outcome

Isolation = Literal["none", "alone", "resource", "pg"]
"""Protection of an exclusive command from our other ones. none: nothing; alone: no Ray runs beside it on this
machine; resource: the node's resource `exclusive`; pg: a placement group over the whole node."""


@dataclass(frozen=True)
class Command:
    """A process to run: its Python arguments, its standard input, and the resources it needs."""

    key: str
    argv: tuple[str, ...]
    stdin: str
    num_cpus: float
    exclusive: bool
    """Whether no other command of ours may run on the node at the same time."""
    num_threads: int = 1
    memory_bytes: int = 0
    num_gpus: float = 0.0
    """Share of one GPU, or a number of whole GPUs."""
    deadline_s: float | None = None
    """Time limit after which it is killed; None for no limit."""
    forkable: bool = False
    """Whether it may run in a child of the fork server."""


@dataclass(frozen=True)
class Progress:
    """One event of a running command."""

    key: str
    event: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """End of a command."""

    key: str
    outcome: Outcome
    seconds: float | None = None
    """Run time without the wait for resources; None if unknown."""


OnEvent = Callable[[Progress], None]
"""Callback that receives each event of a running command."""
HERE = "here"
"""Id of the only node of executors without a cluster."""


class Executor(ABC):
    """Runs commands on nodes."""

    def isolation(self, node_id: str) -> Isolation:
        """Return what keeps other commands away from an exclusive one on this node."""
        return "none"

    @abstractmethod
    def start(self, command: Command, node_id: str) -> None:
        """Start the command on the node, now or as soon as its resources are free."""

    @abstractmethod
    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended since the last call, and pass events to `on_event` as they arrive.

        Wait up to `timeout_s` for the first event or end.
        """

    def has_started(self, key: str) -> bool:
        """Return whether this command is running; False while it waits for resources on its node."""
        return True

    def free_resources(self, node_id: str) -> str:
        """Return the node's free resources, as the executor sees them, as text; empty if unknown."""
        return ""

    @abstractmethod
    def cancel(self, key: str) -> None:
        """Kill the command if it still runs, and report nothing more of it."""

    @abstractmethod
    def close(self) -> None:
        """Kill the commands that still run and release resources."""


Entry = Callable[[str, Callable[[Mapping[str, Any]], None]], Outcome]
"""The function behind a command: takes standard input and an event callback, and returns the outcome."""


class InlineExecutor(Executor):
    """Executor that runs one command after another in this process when polled, so that breakpoints work."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._queue: deque[Command] = deque()

    @override
    def start(self, command: Command, node_id: str) -> None:
        self._queue.append(command)

    @override
    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        if not self._queue:
            return []
        command = self._queue.popleft()
        with _lasting_interrupts() as check:

            def emit(event: Mapping[str, Any]) -> None:
                check()
                on_event(Progress(command.key, event))

            outcome = self._entry(command.stdin, emit)
            check()
        return [Ended(command.key, outcome)]

    @override
    def cancel(self, key: str) -> None:
        self._queue = deque(command for command in self._queue if command.key != key)

    @override
    def close(self) -> None:
        self._queue.clear()


@contextmanager
def _lasting_interrupts() -> Iterator[Callable[[], None]]:
    """Yield a check that raises again what SIGINT or SIGTERM raised inside the context.

    Python drops an exception that a signal handler raises during a finaliser or a callback from native code. A training
    runs many of these, so that an interrupt could be lost.
    """
    received: list[tuple[Callable[[int, FrameType | None], Any], int]] = []
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append((before[number], number))
        before[number](number, frame)

    def check() -> None:
        if received:
            handler, number = received[0]
            handler(number, None)

    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
