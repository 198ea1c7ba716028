"""Capacity of a run's nodes over time, as they join and leave, in units of a resource times seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from moodbench.schedule.resources import Node

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
