"""Where a run takes place: an executor, the nodes it reaches, and the machine that measurements are bound to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from moodbench.execution.executor import HERE, Executor
from moodbench.hardware import Hardware, node_name
from moodbench.schedule import Node

POLL_S = 5.0
"""Longest wait for news; a busier driver would disturb what it measures."""


@dataclass(frozen=True)
class Deadlines:
    """How long a task may run, from how long it is expected to."""

    factor: float = 10.0
    extra_s: float = 900.0
    without_estimate_s: float = 86_400.0

    def of(self, expected_s: float | None) -> float:
        """Seconds after which a task is given up; None: nobody knows how long it takes."""
        return self.without_estimate_s if expected_s is None else self.factor * expected_s + self.extra_s


class Site(Protocol):
    """What the driver needs to know of a place."""

    executor: Executor
    machine: Hardware
    drain_at: int | None
    """So many waiting measurements stop packed tasks on a node; None: they wait until no packed task does."""
    deadlines: Deadlines
    node_return_s: float
    """How long tasks wait for a node that left when no other can run them."""
    poll_s: float
    alone: bool
    """One machine, and no other to try."""

    def machines(self) -> Sequence[Hardware]:
        """One machine of each kind that is there."""

    def nodes(self) -> Sequence[Node]:
        """The nodes that can run tasks now."""

    def news(self) -> list[Mapping[str, Any]]:
        """Events about nodes since the last call."""

    def close(self) -> None:
        """Nothing; commands still running are ended."""


@dataclass
class LocalSite:
    """This machine alone."""

    executor: Executor
    machine: Hardware
    drain_at: int | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    node_return_s: float = 0.0
    poll_s: float = POLL_S
    one_at_a_time: bool = False
    alone: bool = True

    def machines(self) -> Sequence[Hardware]:
        """The one machine."""
        return (self.machine,)

    def nodes(self) -> Sequence[Node]:
        """The one node."""
        node = node_of(HERE, node_name(), self.machine)
        return (replace(node, num_cpus=1) if self.one_at_a_time else node,)

    def news(self) -> list[Mapping[str, Any]]:
        """Never any."""
        return []

    def close(self) -> None:
        """Nothing; commands still running are ended."""
        self.executor.close()


def node_of(id_: str, name: str, machine: Hardware) -> Node:
    """The node that `machine` is when all of it may be used."""
    return Node(
        id=id_,
        name=name,
        kind=machine.gpus[0].name if machine.gpus else "cpu",
        num_cpus=machine.num_cores,
        memory_bytes=machine.memory_bytes,
        num_gpus=len(machine.gpus),
        gpu_memory_bytes=min((gpu.memory_bytes for gpu in machine.gpus), default=0),
        devices=frozenset[str](machine.devices),
        machine_key=machine.machine_key,
    )
