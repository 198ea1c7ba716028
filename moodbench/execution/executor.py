"""What every executor does: start commands on nodes, hand back their events and neutral outcomes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from moodbench.schedule import Outcome
from moodbench.schedule.retry import OutcomeKind

Isolation = Literal["none", "alone", "resource", "pg"]
"""What keeps other commands of ours away from an exclusive one: nothing; no Ray beside it on this machine; the node's
resource `exclusive`; a placement group over the whole node."""


@dataclass(frozen=True)
class Command:
    """A process to run: the arguments of its Python, its standard input, and what it needs."""

    key: str
    argv: tuple[str, ...]
    stdin: str
    num_cpus: float
    exclusive: bool
    """Nothing else of ours runs on the node meanwhile."""
    num_threads: int = 1
    memory_bytes: int = 0
    num_gpus: float = 0.0
    """A share of one GPU, or so many whole ones."""
    deadline_s: float | None = None
    """It is ended when it has run for so long."""


@dataclass(frozen=True)
class Progress:
    """One event that a running command told."""

    key: str
    event: Mapping[str, Any]


@dataclass(frozen=True)
class Ended:
    """A command ended."""

    key: str
    outcome: Outcome
    seconds: float | None = None
    """How long it ran, without what it waited for room; None where that is not known."""


Hear = Callable[[Progress], None]
"""Receives each event of a running command."""
HERE = "here"
"""The id of the one node that executors without a cluster have."""


class Executor(Protocol):
    """Where commands run."""

    def isolation(self, node_id: str) -> Isolation:
        """What keeps others away from an exclusive command on this node."""

    def start(self, command: Command, node_id: str) -> None:
        """Nothing; the command runs on that node, now or as soon as there is room."""

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Commands that ended since the last call; `hear` gets events as they come. Waits up to `timeout_s` for news."""

    def begun(self, key: str) -> bool:
        """Whether this started command runs by now; False while it waits for room on its node."""

    def free(self, node_id: str) -> str:
        """What the node has free by the executor's own account, in words; nothing where that is not known."""

    def forget(self, key: str) -> None:
        """Nothing; the command is ended if it still runs, and nothing more is heard of it."""

    def close(self) -> None:
        """Nothing; commands still running are ended."""


CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
"""Signals that native code brings upon itself; any other comes from outside."""


def outcome_of(return_code: int, stderr_tail: str) -> Outcome:
    """The neutral outcome of a process.

    Workers exit with 0, 1 (a recorded failure), 3 (out of memory), 4 (this machine's fault: its disk is full, say), 5 (out of
    the GPU's memory) or 6 (native code of a process that measured for them crashed).
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
