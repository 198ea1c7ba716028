"""Which job starts next: the policy, pure, shared by every executor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

OutcomeKind = Literal["ok", "program error", "out of memory", "infrastructure"]
MAX_INFRASTRUCTURE_RETRIES = 2


class Schedulable(Protocol):
    """What the policy needs to know of a job."""

    @property
    def num_cpus(self) -> int:
        """Processors it uses."""

    @property
    def exclusive(self) -> bool:
        """True for a measurement: nothing else of ours may run beside it."""


@dataclass(frozen=True)
class Capacity:
    """What jobs may use together."""

    num_cpus: int


def startable[J: Schedulable](waiting: Sequence[J], running: Sequence[Schedulable], capacity: Capacity) -> list[J]:
    """The jobs to start now, in the order of `waiting`.

    Fits and evaluations are packed side by side; a measurement starts alone, and only when no packed job waits, so that
    measurements run back to back and none of them starves. One job always fits, however much it asks for.
    """
    if any(job.exclusive for job in running):
        return []
    packed = [job for job in waiting if not job.exclusive]
    if not packed:
        return [] if running else list(waiting[:1])
    chosen: list[J] = []
    free = capacity.num_cpus - sum(job.num_cpus for job in running)
    for job in packed:
        if job.num_cpus <= free or not (running or chosen):
            chosen.append(job)
            free -= job.num_cpus
    return chosen


def may_retry(outcome: OutcomeKind, num_attempts: int) -> bool:
    """Whether a job that ended so after so many attempts is started again: only the machine's faults pass."""
    return outcome == "infrastructure" and num_attempts <= MAX_INFRASTRUCTURE_RETRIES
