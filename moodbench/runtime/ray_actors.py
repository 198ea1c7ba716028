"""Commands under Ray: one actor per command, which is never restarted, and the stream of its messages."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from moodbench.runtime.executor import Command, Ended, OnEvent, Progress
from moodbench.runtime.process import ALIVE, MAX_DETAIL_CHARS, Message, Outcome, RunningProcess

HEARTBEAT_S = 5.0
"""Interval of the heartbeats of a running command."""
SILENCE_S = 35.0
"""A command without a heartbeat for this long is considered lost: its node hangs, or its connection is cut."""
START_S = 180.0
"""A command that has not started after this long is withdrawn and retried: others use its node."""
GET_S = 10.0
"""Time limit to receive a message of a command: it is small, so a longer wait means that the node is lost."""


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Restore this process's SIGTERM handler after `ray.init`, which runs inside the context.

    Ray's own handler would end the process with code 1, without any cleanup.
    """
    before = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    try:
        yield
    except SystemExit:  # only Ray's handler raises it
        if is_main:
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@dataclass
class _Running:
    key: str
    actor: Any
    since: float
    started: float | None = None
    """Time of its first message; None while it waits for resources."""
    release: Callable[[], None] | None = None
    """Releases what was reserved for it."""


class CommandActors:
    """The commands that run under one Ray, each in an actor of its own."""

    def __init__(self, ray: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._ray, self._clock = ray, clock
        self._streams: dict[Any, _Running] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def start(
        self,
        command: Command,
        *,
        release: Callable[[], None] | None = None,
        fork_server: str | None = None,
        **options: Any,
    ) -> None:
        """Create an actor for `command`, with these actor options in addition to the resources of the command."""
        actor = (
            self._ray.remote(CommandActor)
            .options(
                name=None,
                num_cpus=command.num_cpus,
                num_gpus=command.num_gpus,
                max_restarts=0,
                max_task_retries=0,
                **options,
            )
            .remote()
        )
        stream = actor.run.options(num_returns="streaming", name=command.key).remote(
            command.argv, command.stdin, command.num_threads, command.deadline_s, fork_server
        )
        self._streams[stream] = _Running(command.key, actor, self._clock(), release=release)

    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended or went silent, and pass events to `on_event`.

        Wait up to `timeout_s` for the first of them.
        """
        finished: list[Ended] = []
        patience = timeout_s
        while self._streams:
            ready, _ = self._ray.wait(list(self._streams), timeout=patience, fetch_local=False)
            if not ready:
                break
            patience = 0.0
            for stream in ready:
                message = self._next(stream)
                if isinstance(message, Ended):
                    started = self._streams[stream].started
                    message = replace(message, seconds=None if started is None else self._clock() - started)
                    self._end(stream)
                    finished.append(message)
                elif message is not None:
                    on_event(message)
        return finished + self._silent()

    def has_started(self, key: str) -> bool:
        """Return whether this command has sent a message."""
        return any(running.key == key and running.started is not None for running in self._streams.values())

    def cancel(self, key: str) -> None:
        """Kill the command's actor and report nothing more of it."""
        for stream in [stream for stream, running in self._streams.items() if running.key == key]:
            self._end(stream)

    def clear(self) -> None:
        """Cancel all running commands."""
        for stream in list(self._streams):
            self._end(stream)

    def _next(self, stream: Any) -> Progress | Ended | None:
        running = self._streams[stream]
        running.since = self._clock()
        try:
            message = self._ray.get(next(stream), timeout=GET_S)
        except StopIteration:
            return Ended(running.key, Outcome("infrastructure", "its process ended without an outcome"))
        except self._ray.exceptions.GetTimeoutError:
            detail = f"its message did not arrive within {GET_S:.0f} s"
            return Ended(running.key, Outcome("infrastructure", detail))
        except self._ray.exceptions.RayError as error:
            return Ended(running.key, outcome_of_error(error))
        if running.started is None:
            running.started = self._clock()
        if isinstance(message, Outcome):
            return Ended(running.key, message)
        return None if message.get("event") == "alive" else Progress(running.key, message)

    def _silent(self) -> list[Ended]:
        now, found = self._clock(), []
        for stream, running in list(self._streams.items()):
            silence = now - running.since
            outcome = None
            if running.started is None and silence > START_S:
                outcome = Outcome("not started", f"did not begin within {silence:.0f} s")
            elif running.started is not None and silence > SILENCE_S:
                outcome = Outcome("infrastructure", f"no heartbeat for {silence:.0f} s")
            if outcome is not None:
                found.append(Ended(running.key, outcome))
                self._end(stream)
        return found

    def _end(self, stream: Any) -> None:
        running = self._streams.pop(stream)
        self._ray.kill(running.actor, no_restart=True)
        if running.release is not None:
            running.release()


def outcome_of_error(error: Exception) -> Outcome:
    """Return the neutral outcome of a Ray error.

    A kill by Ray's memory monitor is out of memory. An exception inside the actor is a program error, unless it is a
    MemoryError or the system raised it (OSError: no process, no disk space). All else is infrastructure.
    """
    text = str(error)
    if any(each.__name__ == "RayTaskError" for each in type(error).__mro__):
        cause = getattr(error, "cause", error)
        detail = f"{type(cause).__name__}: {cause}".strip()[:MAX_DETAIL_CHARS]
        if isinstance(cause, MemoryError):
            return Outcome("out of memory", detail)
        return Outcome("infrastructure" if isinstance(cause, OSError) else "program error", detail)
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "memory monitor" in text or "low on memory" in text
    summary = next(iter(text.strip().splitlines()), type(error).__name__)
    return Outcome("out of memory" if out_of_memory else "infrastructure", summary)


class CommandActor:
    """Actor that runs one process on its node."""

    def run(
        self,
        argv: tuple[str, ...],
        stdin: str,
        num_threads: int,
        deadline_s: float | None,
        fork_server: str | None,
    ) -> Iterator[Message]:
        """Yield a heartbeat, then the messages of the process, which dies with this actor."""
        yield ALIVE
        process = RunningProcess(argv, stdin, num_threads, deadline_s=deadline_s, fork_server=fork_server)
        yield from process.messages(beat_s=HEARTBEAT_S)
