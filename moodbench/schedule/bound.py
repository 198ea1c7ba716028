"""Lower bound of the makespan of any schedule, as a reference for a run's real time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moodbench.schedule.capacity import RESOURCES, Capacity, Resource
from moodbench.schedule.resources import Need, Node, Task


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
