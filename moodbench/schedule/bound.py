"""The shortest time that any schedule could take, to hold a run's real time against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moodbench.schedule.capacity import RESOURCES, Capacity, Resource
from moodbench.schedule.resources import Need, Node, Task


@dataclass(frozen=True)
class Spent:
    """A task that ran, and how long."""

    task: Task
    seconds: float


def lower_bound_s(spent: Sequence[Spent], capacity: Capacity) -> float:
    """No schedule of these tasks on the nodes of `capacity` ends sooner; 0 for none. A measurement counts as using its whole node.

    The largest of: the longest chain of a task and the one it follows; and for each set of nodes that some task is
    confined to, how long the set needs to give what all tasks confined within it hold (CPUs, memory, GPUs), as its nodes
    come and go.
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
    """The share of all CPU time there was over `makespan_s` that tasks held; a measurement holds its node's whole."""
    total = capacity.total("num_cpus", makespan_s)
    held = sum(seconds * _held(*kind, capacity.nodes, "num_cpus") for kind, seconds in _seconds_by_kind(spent).items())
    return held / total if total else 0.0


def _seconds_by_kind(spent: Sequence[Spent]) -> dict[tuple[Need, bool], float]:
    """The seconds of all tasks of equal need, apart for measurements."""
    found: dict[tuple[Need, bool], float] = {}
    for each in spent:
        kind = (each.task.need, each.task.exclusive)
        found[kind] = found.get(kind, 0.0) + each.seconds
    return found


def _able(need: Need, nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if need.lacks(node) is None]


def _held(need: Need, exclusive: bool, nodes: Sequence[Node], resource: Resource) -> float:
    """The least of the resource that such a task holds while it runs, wherever it can."""
    able = _able(need, nodes)
    if not able:
        return 0.0
    if exclusive:
        return float(min(getattr(node, resource) for node in able))
    if resource == "num_gpus":
        return min(need.gpus_on(node) for node in able)
    return float(getattr(need, resource))
