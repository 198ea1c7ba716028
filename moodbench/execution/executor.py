"""What every executor does: start commands, hand back their events and neutral outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from moodbench.schedule import OutcomeKind

Isolation = Literal["none", "alone"]
"""What keeps other commands of ours away from an exclusive one."""


@dataclass(frozen=True)
class Command:
    """A process to run: its arguments, its standard input, and what it needs."""

    key: str
    argv: tuple[str, ...]
    stdin: str
    num_cpus: int
    exclusive: bool
    """Nothing else of ours runs on the node meanwhile."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    kind: OutcomeKind
    detail: str = ""
    """What is known of the cause, the end of standard error for instance."""


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


Hear = Callable[[Progress], None]
"""Receives each event of a running command."""


class Executor(Protocol):
    """Where commands run."""

    isolation: Isolation

    def start(self, command: Command) -> None:
        """Nothing; the command runs, now or as soon as there is room."""

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Commands that ended since the last call; `hear` gets events as they come. Waits up to `timeout_s` for news."""

    def close(self) -> None:
        """Nothing; commands still running are ended."""


def outcome_of(return_code: int, stderr_tail: str) -> Outcome:
    """The neutral outcome of a process: workers exit with 0, 1 (a recorded failure) or 3 (out of memory)."""
    if return_code == 0:
        return Outcome("ok")
    if return_code == 3:
        return Outcome("out of memory", stderr_tail)
    if return_code < 0:
        return Outcome("infrastructure", f"ended by signal {-return_code}\n{stderr_tail}".strip())
    return Outcome("program error", stderr_tail)
