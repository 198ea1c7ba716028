"""Where the processors' time of a run went: tasks, failed attempts, and why the rest stood idle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from moodbench.schedule.bound import Spent, efficiency, lower_bound_s
from moodbench.schedule.capacity import Capacity
from moodbench.schedule.resources import Node, Task

Idle = Literal["drain", "no fit", "tail"]
"""Why CPUs stand idle: kept free for measurements that wait; no waiting task fits there now, or each waits for its fit; nothing
waits any more."""


@dataclass(frozen=True)
class Accounting:
    """How well a run used its nodes."""

    makespan_s: float = 0.0
    lower_bound_s: float = 0.0
    """No schedule of the same tasks, as long as they took, ends sooner; a measurement counts as using its whole node."""
    efficiency: float = 0.0
    """Share of the nodes' CPU time that tasks held which ended well."""
    failed_attempts_s: float = 0.0
    """Seconds of tasks that ended badly, each attempt's added up."""
    wasted: float = 0.0
    """Share of the nodes' CPU time that those held."""
    starting: float = 0.0
    """Share of the nodes' CPU time that was given to tasks whose process had not begun, or had no room yet."""
    idle: Mapping[Idle, float] = field(default_factory=dict)
    """Share of the nodes' CPU time that stood idle, by the reason."""


class Ledger:
    """Takes in what happens in a run. Knows no clock: each call says at which second of the run it is."""

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
        """The tasks that ended well."""
        return self._spent

    def nodes(self, at_s: float, nodes: Iterable[Node]) -> None:
        """Nothing; these nodes are there from now on."""
        self._capacity = self._capacity.then(at_s, nodes)

    def idle(self, at_s: float, num_cpus: Mapping[Idle, float]) -> None:
        """Nothing; from now on so many CPUs stand idle, by the reason."""
        for reason, number in self._idle.items():
            self._idle_cpu_s[reason] = self._idle_cpu_s.get(reason, 0.0) + number * (at_s - self._seen_at)
        self._idle, self._seen_at = num_cpus, at_s

    def ended(self, task: Task, seconds: float, *, well: bool, waited_s: float = 0.0) -> None:
        """Nothing; an attempt at a task took so long, after it had `waited_s` for its process to begin."""
        self._starting.append(Spent(task, waited_s))
        (self._spent if well else self._wasted).append(Spent(task, seconds))

    def not_started(self, task: Task, waited_s: float) -> None:
        """Nothing; a task was given to a node and taken back without having begun."""
        self._starting.append(Spent(task, waited_s))

    def closed(self, at_s: float) -> Accounting:
        """The account of the run that ended now."""
        self.idle(at_s, {})
        whole = self._capacity.total("num_cpus", at_s)
        return Accounting(
            makespan_s=at_s,
            # The run itself is a schedule; nodes that left as a task ended could make the sum come out above it.
            lower_bound_s=min(lower_bound_s(self._spent, self._capacity), at_s),
            efficiency=efficiency(self._spent, self._capacity, at_s),
            failed_attempts_s=sum(each.seconds for each in self._wasted),
            wasted=efficiency(self._wasted, self._capacity, at_s),
            starting=efficiency(self._starting, self._capacity, at_s),
            idle={reason: cpu_s / whole for reason, cpu_s in self._idle_cpu_s.items() if whole},
        )
