"""Executor interface: start commands on nodes, and return their events and neutral outcomes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from moodbench.schedule import Outcome
from moodbench.schedule.retry import OutcomeKind

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


Hear = Callable[[Progress], None]
"""Callback that receives each event of a running command."""
HERE = "here"
"""Id of the only node of executors without a cluster."""


class Executor(Protocol):
    """Runs commands on nodes."""

    def isolation(self, node_id: str) -> Isolation:
        """Return what keeps other commands away from an exclusive one on this node."""

    def start(self, command: Command, node_id: str) -> None:
        """Start the command on the node, now or as soon as its resources are free."""

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Return the commands that ended since the last call, and pass events to `hear` as they arrive.

        Wait up to `timeout_s` for the first event or end.
        """

    def begun(self, key: str) -> bool:
        """Return whether this started command is running; False while it waits for resources on its node."""

    def free(self, node_id: str) -> str:
        """Return the node's free resources, as the executor sees them, as text; empty if unknown."""

    def forget(self, key: str) -> None:
        """Kill the command if it still runs, and report nothing more of it."""

    def close(self) -> None:
        """Kill the commands that still run and release resources."""


CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that native code causes itself; any other signal comes from outside."""


def outcome_of(return_code: int, stderr_tail: str) -> Outcome:
    """Return the neutral outcome of a process.

    Workers exit with 0, 1 (a recorded failure), 3 (out of memory), 4 (a fault of this machine, such as a full disk), 5
    (out of GPU memory) or 6 (native code crashed in a process that measured for the worker).
    """
    if return_code == 0:
        return Outcome("ok")
    if return_code == 3:
        return Outcome("out of memory", stderr_tail)
    if return_code == 5:
        return Outcome("out of memory", stderr_tail, on_gpu=True)
    if return_code == 4:
        return Outcome("infrastructure", stderr_tail)
    if return_code == 6:
        return Outcome("crash", stderr_tail)
    if return_code < 0:
        known = {each.value: each for each in signal.Signals}
        name = known[-return_code].name if -return_code in known else "unknown"
        kind: OutcomeKind = "crash" if -return_code in CRASHES else "infrastructure"
        return Outcome(kind, f"{stderr_tail}\nended by signal {-return_code} ({name})".strip())
    return Outcome("program error", stderr_tail)
