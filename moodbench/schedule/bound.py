"""The shortest time that any schedule could take, to hold a run's real time against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodbench.schedule.resources import Node, Task


@dataclass(frozen=True)
class Spent:
    """A task that ran, and how long."""

    task: Task
    seconds: float


def lower_bound_s(spent: Sequence[Spent], nodes: Sequence[Node]) -> float:
    """No schedule of these tasks on `nodes` ends sooner; 0 for none. A measurement counts as using its whole node.

    The largest of: the longest chain of a task and the one it follows; and for each set of nodes that some task is
    confined to, the work of all tasks confined within it divided by what the set has (CPUs, memory, GPUs).
    Source: the average-load and longest-job bounds of R. L. Graham, SIAM J. Appl. Math. 17 (1969), applied per set.
    """
    by_key = {each.task.key: each.seconds for each in spent}
    chains = [each.seconds + by_key.get(each.task.after or "", 0.0) for each in spent]
    confined = {each.task.need: _able(each.task, nodes) for each in spent}
    loads = [0.0]
    for names in set(confined.values()):
        inside = [each for each in spent if confined[each.task.need] <= names]
        within = {node.id: node for node in nodes if node.id in names}
        for resource in ("num_cpus", "memory_bytes", "gpus"):
            loads.append(sum(each.seconds * _load(each.task, within, resource) for each in inside))
    return max([*chains, *loads], default=0.0)


def efficiency(spent: Sequence[Spent], nodes: Sequence[Node], makespan_s: float) -> float:
    """The share of all CPU time of `nodes` over `makespan_s` that tasks held; a measurement holds its node's whole."""
    total = sum(node.num_cpus for node in nodes)
    every = {node.id: node for node in nodes}
    held = sum(each.seconds * _load(each.task, every, "num_cpus") for each in spent)
    return held / makespan_s if total and makespan_s else 0.0


def _able(task: Task, nodes: Sequence[Node]) -> frozenset[str]:
    return frozenset(node.id for node in nodes if task.need.lacks(node) is None)


def _load(task: Task, within: Mapping[str, Node], resource: str) -> float:
    """The least share of the whole set's resource that `task` holds while it runs."""
    able = [node for node in within.values() if task.need.lacks(node) is None]
    if not able:
        return 0.0
    if resource == "gpus":
        whole = sum(node.num_gpus for node in within.values())
        asked = min(task.need.gpus_on(node) if not task.exclusive else node.num_gpus for node in able)
    else:
        whole = sum(getattr(node, resource) for node in within.values())
        asked = min(getattr(node if task.exclusive else task.need, resource) for node in able)
        if whole == float("inf"):
            return 0.0
    return asked / whole if whole else 0.0
