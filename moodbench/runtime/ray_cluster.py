"""Executor on an existing Ray cluster: each command is pinned to a node, and an exclusive one leases the whole node.

Snapshots of its total and free resources are taken by separate processes, which do not join the cluster.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, override

import psutil

from moodbench.errors import MoodBenchError, PrerequisiteError, UsageError
from moodbench.hardware import GIB
from moodbench.runtime.executor import Command, Ended, Executor, Isolation, OnEvent
from moodbench.runtime.ray_actors import CommandActors, own_sigterm
from moodbench.runtime.ray_internals import (
    available_resources,
    query,
    ray_with_settings,
    set_up_environment,
    set_up_token,
)

EXCLUSIVE = "exclusive"
SLIVER = 0.001
"""Share of the resource `exclusive` that every packed command holds, so that none runs beside one that holds it all."""
NODES_EVERY_S = 2.0
HEAD_SILENCE_S = 30.0
"""A head that has not answered for this long is considered lost."""
QUERY_S = 15.0
"""Time limit for the head to list its nodes."""
ANSWER_S = 10.0
"""Time limit for the head's answer, including the start of Python."""
EVERY_S = 15.0
"""Shortest interval between snapshots: each costs about a second of one core."""


@dataclass(frozen=True)
class RayNode:
    """A living node as Ray describes it."""

    id: str
    name: str
    address: str
    resources: Mapping[str, float]
    """Resource -> amount; memory in bytes. The same holds for `free`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, float] | None = None
    """None if unknown."""
    status: str = "running"
    """running, idle, dead or draining."""

    @property
    def leasable(self) -> bool:
        """Whether it declares the resource that makes a measurement exclusive."""
        return self.resources.get(EXCLUSIVE, 0) >= 1

    def free_text(self) -> str:
        """Return the free CPUs, memory and GPUs as text; empty if unknown."""
        if self.free is None:
            return ""
        parts = [f"{self.free.get('CPU', 0):g} of {self.resources.get('CPU', 0):g} CPUs"]
        if "memory" in self.resources:
            parts.append(f"{self.free.get('memory', 0) / GIB:.1f} GiB of memory")
        if "GPU" in self.resources:
            parts.append(f"{self.free.get('GPU', 0):g} of {self.resources['GPU']:g} GPUs")
        return ", ".join(parts)


class ClusterExecutor(Executor):
    """Driver on the cluster at `address` (HOST:PORT of its head, or auto).

    Raises:
        PrerequisiteError: If the head cannot be reached, refuses the token, or has another version of Ray or Python.
    """

    def __init__(self, address: str, *, source: str = "--address") -> None:
        """Connect to the cluster; `source` names the option that gave the address, for messages."""
        self._address = address
        self._ray = connect(address, source)
        self._actors = CommandActors(self._ray)
        self._nodes: dict[str, RayNode] = {}
        self._node_of: dict[str, str] = {}
        self._answered_at = time.monotonic()
        self._closed = threading.Event()
        self._refresh()
        threading.Thread(target=self._watch, daemon=True).start()

    def alive(self) -> Mapping[str, RayNode]:
        """Return the living nodes by id, as of a few seconds ago at most.

        Raises:
            PrerequisiteError: If the head no longer answers.
        """
        silence = time.monotonic() - self._answered_at
        if silence > HEAD_SILENCE_S:
            raise PrerequisiteError(
                f"the cluster at {self._address}: its head has not answered for {silence:.0f} s. What was committed is "
                "in the store; start the cluster again and give the same command, which does the rest"
            )
        return self._nodes

    @override
    def isolation(self, node_id: str) -> Isolation:
        node = self._nodes.get(node_id)
        return "resource" if node is None or node.leasable else "pg"

    @override
    def start(self, command: Command, node_id: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._nodes.get(node_id)
        self._node_of[command.key] = node_id
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        if command.exclusive and node is not None and not node.leasable:
            self._start_in_group(command, node)
            return
        options: dict[str, Any] = {"scheduling_strategy": here}
        if node is not None and node.leasable and command.num_cpus:
            options["resources"] = {EXCLUSIVE: 1.0 if command.exclusive else SLIVER}
        if command.memory_bytes:
            options["memory"] = command.memory_bytes
        self._actors.start(command, **options)

    @override
    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        if not self._actors:
            time.sleep(min(timeout_s, 0.5))
        return [self._with_free_resources(each) for each in self._actors.poll(timeout_s, on_event)]

    @override
    def has_started(self, key: str) -> bool:
        return self._actors.has_started(key)

    @override
    def free_resources(self, node_id: str) -> str:
        node = self._nodes.get(node_id)
        return "" if node is None else node.free_text()

    @override
    def cancel(self, key: str) -> None:
        self._node_of.pop(key, None)
        self._actors.cancel(key)

    @override
    def close(self) -> None:
        self._closed.set()
        # Disconnecting waits for a lost head; a few seconds are enough.
        leaving = threading.Thread(target=self._leave, daemon=True)
        leaving.start()
        leaving.join(timeout=10)

    def _with_free_resources(self, ended: Ended) -> Ended:
        """Return `ended`; if the command did not start, add what Ray had free on its node."""
        node_id = self._node_of.pop(ended.key, "")
        if ended.outcome.kind != "not started" or not (free := self.free_resources(node_id)):
            return ended
        node = self._nodes.get(node_id)  # it may have left the cluster since
        name = node.name if node else "it"
        detail = f"{ended.outcome.detail}: others use {name}, where Ray has {free} free"
        return replace(ended, outcome=replace(ended.outcome, detail=detail))

    def _leave(self) -> None:
        self._actors.clear()
        self._ray.shutdown()

    def _start_in_group(self, command: Command, node: RayNode) -> None:
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        whole = {name: node.resources[name] for name in ("CPU", "GPU") if node.resources.get(name)}
        group = placement_group([whole], strategy="STRICT_PACK", bundle_label_selector=[{"ray.io/node-id": node.id}])
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        self._actors.start(command, release=lambda: remove_placement_group(group), scheduling_strategy=strategy)

    def _watch(self) -> None:
        while not self._closed.wait(NODES_EVERY_S):
            try:
                self._refresh()
            except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError):
                continue  # the head did not answer; `alive` raises in time

    def _refresh(self) -> None:
        free, nodes = available_resources(), {}
        for row in self._ray.nodes():
            if row["Alive"]:
                id_, name, address = row["NodeID"], row["NodeManagerHostname"], row["NodeManagerAddress"]
                resources = {k: float(v) for k, v in row["Resources"].items()}
                nodes[id_] = RayNode(id_, name, address, resources, dict(row["Labels"]), free.get(id_))
        self._nodes = nodes
        self._answered_at = time.monotonic()


def connect(address: str, source: str = "--address") -> Any:
    """Connect as a driver and return the module ray.

    Raises:
        UsageError: If `address` is not the address of a head.
        PrerequisiteError: If the connection fails.
    """
    check_address(address, source)
    set_up_environment()
    set_up_token()
    if address != "auto":
        fault = _fault(address)
        if fault is not None:
            raise PrerequisiteError(f"{source} {address}: {fault}")
    ray = ray_with_settings()

    try:
        with own_sigterm():
            ray.init(
                address=address,
                namespace="moodbench",
                log_to_driver=False,
                logging_level="ERROR",
                include_dashboard=False,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        text = " ".join(str(error).split())
        if "mismatch" in text.lower():
            text = (
                f"the cluster runs another Ray or Python: {text[:400]}. Install the same versions here and on every "
                "node"
            )
        raise PrerequisiteError(f"{source} {address}: {text[:500]}") from error
    return ray


def _fault(address: str) -> str | None:
    """Return why a driver here cannot join the cluster at `address`, or None.

    Ray's core reports a refused token only in its output, and blocks if this machine is not a node.
    """
    try:
        done = query("addresses", address, QUERY_S)
        printed, answer = done.stderr, done.stdout
    except subprocess.TimeoutExpired as error:
        printed, answer = bytes(error.stderr or b"").decode(errors="replace"), ""
    if "InvalidAuthToken" in printed or "Unauthenticated" in printed:
        mode, where = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
        seen = f"the one in {where}" if mode == "token" else f"none, as RAY_AUTH_MODE is {mode}"
        return (
            f"the cluster refuses this token ({seen}). Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file "
            "that the head was started with"
        )
    if not answer:
        return "something listens there, but it does not answer as Ray's head does; is this its port (6379)?"
    here = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
    nodes = json.loads(answer)
    if here.isdisjoint(nodes):
        return (
            f"this machine is no node of that cluster (its nodes are {', '.join(nodes[:5])}). Run on one of them, or "
            "from here `moodbench submit --address http://HEAD:8265 -- run ...`"
        )
    return None


def check_form(address: str, source: str = "--address") -> None:
    """Check the form of the address.

    Raises:
        UsageError: If it is not the address of a head.
    """
    host, _, port = address.rpartition(":")
    if address != "auto" and ("://" in address or not host or not port.isdigit()):
        raise UsageError(
            f"{source} {address!r}: expected HOST:PORT of Ray's head, such as 10.0.0.1:6379, or auto on a node of the "
            "cluster; from elsewhere use `moodbench submit --address http://HEAD:8265 -- run ...`"
        )


def check_address(address: str, source: str = "--address") -> None:
    """Check the form of the address, and that something listens there.

    Raises:
        UsageError: If it is not the address of a head.
        PrerequisiteError: If nothing listens there.
    """
    check_form(address, source)
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise PrerequisiteError(
            f"{source} {address}: nothing answers there ({error}); start the cluster with "
            "`ray start --head`, see cluster/README.md, or give none to run on this machine"
        ) from error


@dataclass(frozen=True)
class ClusterSnapshot:
    """A cluster at one moment."""

    address: str
    nodes: tuple[RayNode, ...] = ()
    problem: str = ""
    """Why it could not be queried; empty if it answered."""


def take_snapshot(address: str, timeout_s: float = ANSWER_S) -> ClusterSnapshot:
    """Return a snapshot of the cluster at `address` (HOST:PORT of its head, or auto), or why it failed.

    It raises no MoodBenchError and does not take much longer than `timeout_s`.
    """
    try:
        check_address(address)
        done = query("state", address, timeout_s)
    except MoodBenchError as error:
        return ClusterSnapshot(address, problem=str(error))
    except subprocess.TimeoutExpired:
        return ClusterSnapshot(address, problem=f"no answer in {timeout_s:.0f} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return ClusterSnapshot(address, problem=lines[-1][:300] if lines else f"the query ended with {done.returncode}")
    return ClusterSnapshot(address, tuple(RayNode(**node) for node in json.loads(done.stdout)))


class ClusterMonitor:
    """Takes snapshots of one cluster in the background, for as long as somebody asks for the latest one."""

    def __init__(
        self,
        address: str,
        take: Callable[[str], ClusterSnapshot] = take_snapshot,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._take, self._clock = address, take, clock
        self._lock = threading.Lock()
        self._latest: ClusterSnapshot | None = None
        self._started_at = -float("inf")
        self._thread: threading.Thread | None = None

    def latest(self) -> ClusterSnapshot | None:
        """Return the latest snapshot without waiting; None before the first. Start a new one every EVERY_S."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if not busy and self._clock() - self._started_at >= EVERY_S:
                self._started_at = self._clock()
                self._thread = threading.Thread(target=self._update, name="moodbench-cluster-snapshot", daemon=True)
                self._thread.start()
        return self._latest

    def wait(self, timeout_s: float) -> None:
        """Wait until the current snapshot is complete, at most `timeout_s`."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _update(self) -> None:
        self._latest = self._take(self._address)
