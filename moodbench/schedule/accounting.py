"""Use of a run's CPU time: tasks, failed attempts, and idle time by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from moodbench.schedule.bound import Spent, efficiency, lower_bound_s
from moodbench.schedule.capacity import Capacity
from moodbench.schedule.resources import Node, Task

Idle = Literal["drain", "no fit", "tail"]
"""Why CPUs are idle. drain: kept free for waiting measurements; no fit: no waiting task fits on the node now, or each
waits for the fit of its trial; tail: no task is waiting."""


@dataclass(frozen=True)
class Accounting:
    """How well a run used its nodes."""

    makespan_s: float = 0.0
    lower_bound_s: float = 0.0
    """Lower bound of the makespan of the same tasks with the same durations; a measurement counts as its whole node."""
    efficiency: float = 0.0
    """Share of the nodes' CPU time held by tasks that succeeded."""
    failed_attempts_s: float = 0.0
    """Total seconds of failed attempts."""
    wasted: float = 0.0
    """Share of the nodes' CPU time held by failed attempts."""
    starting: float = 0.0
    """Share of the nodes' CPU time assigned to tasks whose process had not started yet or was waiting for room."""
    idle: Mapping[Idle, float] = field(default_factory=dict)
    """Share of the nodes' CPU time that was idle, by reason."""


class Ledger:
    """Accumulates the events of a run. It reads no clock: each call passes the second of the run."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._capacity = Capacity.of(nodes)
        self._spent: list[Spent] = []
        self._wasted: list[Spent] = []
        self._starting: list[Spent] = []
        self._idle: Mapping[Idle, float] = {}
        self._idle_cpu_s: dict[Idle, float] = {}
        self._seen_at = 0.0

    @property
    def spent(self) -> list[Spent]:
        """The tasks that succeeded."""
        return self._spent

    def nodes(self, at_s: float, nodes: Iterable[Node]) -> None:
        """Set the nodes available from `at_s` on."""
        self._capacity = self._capacity.then(at_s, nodes)

    def idle(self, at_s: float, num_cpus: Mapping[Idle, float]) -> None:
        """Set the number of idle CPUs from `at_s` on, by reason."""
        for reason, number in self._idle.items():
            self._idle_cpu_s[reason] = self._idle_cpu_s.get(reason, 0.0) + number * (at_s - self._seen_at)
        self._idle, self._seen_at = num_cpus, at_s

    def ended(self, task: Task, seconds: float, *, well: bool, waited_s: float = 0.0) -> None:
        """Record an attempt at a task that ran for `seconds`, after waiting `waited_s` for its process to start."""
        self._starting.append(Spent(task, waited_s))
        (self._spent if well else self._wasted).append(Spent(task, seconds))

    def not_started(self, task: Task, waited_s: float) -> None:
        """Record a task that was assigned to a node and withdrawn before it started."""
        self._starting.append(Spent(task, waited_s))

    def closed(self, at_s: float) -> Accounting:
        """Return the accounting of the run, which ends at `at_s`."""
        self.idle(at_s, {})
        whole = self._capacity.total("num_cpus", at_s)
        return Accounting(
            makespan_s=at_s,
            # The run itself is a schedule, but nodes that leave as a task ends could push the bound above its makespan.
            lower_bound_s=min(lower_bound_s(self._spent, self._capacity), at_s),
            efficiency=efficiency(self._spent, self._capacity, at_s),
            failed_attempts_s=sum(each.seconds for each in self._wasted),
            wasted=efficiency(self._wasted, self._capacity, at_s),
            starting=efficiency(self._starting, self._capacity, at_s),
            idle={reason: cpu_s / whole for reason, cpu_s in self._idle_cpu_s.items() if whole},
        )
