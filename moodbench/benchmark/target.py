"""Target of a run: an executor, the nodes it reaches, and the machine that measurements are bound to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Event
from typing import Any

from moodbench.config.cluster import Deadlines
from moodbench.hardware import Hardware, node_name
from moodbench.runtime.executor import HERE, Ended, Executor, OnEvent
from moodbench.schedule import Node

POLL_S = 5.0
"""Maximum seconds of one poll for events; a busier driver would disturb the measurements."""


class Target(ABC):
    """Target of a run, as the driver sees it."""

    executor: Executor
    machine: Hardware
    """The machine that measurements are bound to."""
    drain_at: int | None = None
    """Number of waiting measurements at which a node takes no more packed tasks.

    None: measurements wait until no packed task is waiting.
    """
    deadlines = Deadlines()
    node_return_s = 0.0
    """Seconds that tasks wait for a lost node to return when no other node can run them."""
    poll_s = POLL_S
    alone = True
    """Whether the target is a single machine, with no other to try."""

    @abstractmethod
    def machines(self) -> Sequence[Hardware]:
        """Return one machine of each kind in the target."""

    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """Return the nodes that can run tasks now."""

    def node_events(self) -> list[Mapping[str, Any]]:
        """Return the node events since the last call; none for a target whose nodes neither join nor leave."""
        return []

    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended since the last call; see `Executor.poll`."""
        return self.executor.poll(timeout_s, on_event)

    @abstractmethod
    def close(self) -> None:
        """End the commands that are still running."""


class Cancelled(Exception):
    """Raised inside the driver to leave it."""


class LocalTarget(Target):
    """This machine as the only node, with a single CPU if `one_at_a_time`.

    Once `stop` is set, the driver leaves when it next asks for node events, and running commands are ended.
    """

    def __init__(
        self, executor: Executor, machine: Hardware, *, one_at_a_time: bool = False, stop: Event | None = None
    ) -> None:
        self.executor, self.machine, self._one_at_a_time, self._stop = executor, machine, one_at_a_time, stop

    def node_events(self) -> list[Mapping[str, Any]]:
        """Return no events; raise `Cancelled` if the run is to end."""
        if self._stop is not None and self._stop.is_set():
            raise Cancelled
        return []

    def machines(self) -> Sequence[Hardware]:
        """Return this machine."""
        return (self.machine,)

    def nodes(self) -> Sequence[Node]:
        """Return this machine as a node."""
        node = node_of(HERE, node_name(), self.machine)
        return (replace(node, num_cpus=1) if self._one_at_a_time else node,)

    def close(self) -> None:
        """End the commands that are still running."""
        self.executor.close()


def node_of(id_: str, name: str, machine: Hardware) -> Node:
    """Return `machine` as a node whose resources may all be used."""
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
