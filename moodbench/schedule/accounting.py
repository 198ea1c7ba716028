"""Time accounting of a run: capacity of the nodes, lower bound of the makespan, use of the CPU time, and ETA."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from moodbench.schedule.resources import Need, Node, Task

Idle = Literal["drain", "no fit", "tail"]
"""Why CPUs are idle. drain: kept free for waiting measurements; no fit: no waiting task fits on the node now, or each
waits for the fit of its trial; tail: no task is waiting."""
Resource = Literal["num_cpus", "memory_bytes", "num_gpus"]
RESOURCES: tuple[Resource, ...] = ("num_cpus", "memory_bytes", "num_gpus")


@dataclass(frozen=True)
class Capacity:
    """The nodes of a run over time."""

    since: tuple[tuple[float, tuple[Node, ...]], ...]
    """Pairs of seconds since the run began, ascending from 0, and the nodes from then on."""

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Capacity:
        """Return the capacity of nodes that do not change."""
        return cls(((0.0, tuple(nodes)),))

    def then(self, at_s: float, nodes: Iterable[Node]) -> Capacity:
        """Return the same capacity until `at_s`, followed by that of `nodes`."""
        return Capacity((*self.since, (at_s, tuple(nodes))))

    @property
    def nodes(self) -> Sequence[Node]:
        """Every node that was ever present, once."""
        return list({node.id: node for _, nodes in self.since for node in nodes}.values())

    def total(self, resource: Resource, until_s: float) -> float:
        """Return the capacity up to `until_s`, as `resource` times seconds."""
        spans = self._spans(resource, None)
        return sum(rate * max(0.0, min(end, until_s) - begin) for begin, end, rate in spans if rate)

    def seconds_for(self, amount: float, resource: Resource, among: Set[str]) -> float:
        """Return the earliest second by which the nodes `among` provide `amount` of `resource` times seconds.

        inf if they never do.
        """
        if amount <= 0:
            return 0.0
        left = amount
        for begin, end, rate in self._spans(resource, among):
            if rate == math.inf:
                return 0.0
            if rate and left <= rate * (end - begin):
                return begin + left / rate
            left -= rate * (end - begin) if rate else 0.0
        return math.inf

    def _spans(self, resource: Resource, among: Set[str] | None) -> list[tuple[float, float, float]]:
        """Return begin, end and amount of the resource for each span between node changes; the last ends at inf."""
        ends = [*(begin for begin, _ in self.since[1:]), math.inf]
        return [
            (begin, end, sum(getattr(node, resource) for node in nodes if among is None or node.id in among))
            for (begin, nodes), end in zip(self.since, ends, strict=True)
        ]


@dataclass(frozen=True)
class Spent:
    """A task that ran, and for how long."""

    task: Task
    seconds: float


def lower_bound_s(spent: Sequence[Spent], capacity: Capacity) -> float:
    """Return a lower bound of the makespan of these tasks on the nodes of `capacity`; 0 for no tasks.

    It is the largest of: the longest chain of a task and the task it follows; and, for each set of nodes that some task
    is confined to, the time in which the set, as its nodes join and leave, can provide what all tasks confined within
    it hold (CPUs, memory, GPUs). A measurement counts as holding its whole node.

    Source: the average-load and longest-job bounds of R. L. Graham, SIAM J. Appl. Math. 17 (1969), applied per set.
    """
    by_key = {each.task.key: each.seconds for each in spent}
    chains = [each.seconds + by_key.get(each.task.after or "", 0.0) for each in spent]
    nodes = capacity.nodes
    seconds = _seconds_by_kind(spent)
    confined = {need: frozenset(node.id for node in _able(need, nodes)) for need, _ in seconds}
    loads = [0.0]
    for names in set(confined.values()):
        inside = [kind for kind in seconds if confined[kind[0]] <= names]
        for resource in RESOURCES:
            work = sum(seconds[kind] * _held(*kind, nodes, resource) for kind in inside)
            loads.append(capacity.seconds_for(work, resource, names))
    return max([*chains, *loads], default=0.0)


def efficiency(spent: Sequence[Spent], capacity: Capacity, makespan_s: float) -> float:
    """Return the share of all CPU time over `makespan_s` that tasks held; a measurement holds its whole node."""
    total = capacity.total("num_cpus", makespan_s)
    held = sum(seconds * _held(*kind, capacity.nodes, "num_cpus") for kind, seconds in _seconds_by_kind(spent).items())
    return held / total if total else 0.0


def _seconds_by_kind(spent: Sequence[Spent]) -> dict[tuple[Need, bool], float]:
    """Return the total seconds of tasks with equal needs, with measurements apart."""
    found: dict[tuple[Need, bool], float] = {}
    for each in spent:
        kind = (each.task.need, each.task.exclusive)
        found[kind] = found.get(kind, 0.0) + each.seconds
    return found


def _able(need: Need, nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if need.lacks(node) is None]


def _held(need: Need, exclusive: bool, nodes: Sequence[Node], resource: Resource) -> float:
    """Return the least of the resource that such a task holds on any node that can run it."""
    able = _able(need, nodes)
    if not able:
        return 0.0
    if exclusive:
        return float(min(getattr(node, resource) for node in able))
    if resource == "num_gpus":
        return min(need.gpus_on(node) for node in able)
    return float(getattr(need, resource))


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


class Eta:
    """ETA of a run, from the ratio of observed to estimated durations so far; measurements have their own ratio."""

    def __init__(self) -> None:
        self._took = {False: 0.0, True: 0.0}
        self._expected = {False: 0.0, True: 0.0}

    def learn(self, task: Task, node: Node, seconds: float) -> None:
        """Record that `task` took `seconds` on `node`."""
        self._took[task.exclusive] += seconds
        self._expected[task.exclusive] += task.seconds_on(node)

    def pace(self, task: Task) -> float | None:
        """Return the observed seconds per estimated second for tasks of this kind.

        Before a task of this kind has ended, it is 1, or None if `task` has no estimate.
        """
        expected = self._expected[task.exclusive]
        if expected:
            return self._took[task.exclusive] / expected
        return 1.0 if task.seconds_at else None

    def eta_s(
        self,
        waiting: Iterable[Task],
        running: Iterable[tuple[Task, Node, float]],
        nodes: Sequence[Node],
    ) -> float | None:
        """Return a lower bound of the remaining seconds; None if a task has no pace, or no node can run it.

        `running` holds each running task with its node and the seconds that it has run. A waiting task is assumed to
        run on the node where it is fastest.
        """
        rest = []
        for task in waiting:
            pace = self.pace(task)
            if pace is None:
                return None
            rest.append(Spent(task, pace * min((task.seconds_on(node) for node in nodes), default=task.seconds)))
        for task, node, elapsed_s in running:
            pace = self.pace(task)
            if pace is None:
                return None
            rest.append(Spent(task, max(0.0, pace * task.seconds_on(node) - elapsed_s)))
        found = lower_bound_s(rest, Capacity.of(nodes)) if rest else None
        return None if found == math.inf else found
