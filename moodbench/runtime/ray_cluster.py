"""Executor on an existing Ray cluster: each command is pinned to a node, and an exclusive one leases the whole node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psutil

from moodbench.errors import PrerequisiteError, UsageError
from moodbench.runtime.executor import Command, Ended, Hear, Isolation
from moodbench.runtime.ray_phases import Phases, own_sigterm
from moodbench.runtime.ray_settings import core_with_settings, set_up_environment, set_up_token
from moodbench.schedule.resources import GIB

EXCLUSIVE = "exclusive"
SLIVER = 0.001
"""Share of the resource `exclusive` that every packed command holds, so that none runs beside one that holds it all."""
NODES_EVERY_S = 2.0
HEAD_SILENCE_S = 30.0
"""A head that has not answered for this long is considered lost."""
ASK_S = 15.0
"""Time limit for the head to list its nodes."""


@dataclass(frozen=True)
class RayNode:
    """A living node as Ray describes it."""

    id: str
    name: str
    address: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]

    @property
    def leasable(self) -> bool:
        """Whether it declares the resource that makes a measurement exclusive."""
        return self.resources.get(EXCLUSIVE, 0) >= 1


class ClusterExecutor:
    """Driver on the cluster at `address` (HOST:PORT of its head, or auto).

    Raises:
        PrerequisiteError: If the head cannot be reached, refuses the token, or has another version of Ray or Python.
    """

    def __init__(self, address: str, *, said: str = "--address") -> None:
        """Connect to the cluster; `said` names the option that gave the address, for messages."""
        self._address = address
        self._ray = connect(address, said)
        self._phases = Phases(self._ray)
        self._nodes: dict[str, RayNode] = {}
        self._free: dict[str, Mapping[str, float]] = {}
        self._where: dict[str, str] = {}
        self._heard = time.monotonic()
        self._closed = threading.Event()
        self._look()
        threading.Thread(target=self._watch, daemon=True).start()

    def alive(self) -> Mapping[str, RayNode]:
        """Return the living nodes by id, as of a few seconds ago at most.

        Raises:
            PrerequisiteError: If the head no longer answers.
        """
        silence = time.monotonic() - self._heard
        if silence > HEAD_SILENCE_S:
            raise PrerequisiteError(
                f"the cluster at {self._address}: its head has not answered for {silence:.0f} s. What was committed is "
                "in the store; start the cluster again and give the same command, which does the rest"
            )
        return self._nodes

    def isolation(self, node_id: str) -> Isolation:
        """Return "resource" if the node has the resource `exclusive`, otherwise "pg": a group over the whole node."""
        node = self._nodes.get(node_id)
        return "resource" if node is None or node.leasable else "pg"

    def start(self, command: Command, node_id: str) -> None:
        """Create an actor on the node that runs the command as soon as its resources are free there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = self._nodes.get(node_id)
        self._where[command.key] = node_id
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        if command.exclusive and node is not None and not node.leasable:
            self._start_in_group(command, node)
            return
        options: dict[str, Any] = {"scheduling_strategy": here}
        if node is not None and node.leasable and command.num_cpus:
            options["resources"] = {EXCLUSIVE: 1.0 if command.exclusive else SLIVER}
        if command.memory_bytes:
            options["memory"] = command.memory_bytes
        self._phases.start(command, **options)

    def poll(self, timeout_s: float, hear: Hear) -> list[Ended]:
        """Return the commands that ended and pass events to `hear`; wait up to `timeout_s` for the first."""
        if not self._phases:
            time.sleep(min(timeout_s, 0.5))
        return [self._with_room(each) for each in self._phases.poll(timeout_s, hear)]

    def begun(self, key: str) -> bool:
        """Return whether this command has sent a message; until then Ray has no free resources for it on its node."""
        return self._phases.begun(key)

    def free(self, node_id: str) -> str:
        """Return what Ray had free on this node a few seconds ago, as text."""
        node, free = self._nodes.get(node_id), self._free.get(node_id)
        return "" if node is None or free is None else free_text(node, free)

    def forget(self, key: str) -> None:
        """Kill the command's actor."""
        self._where.pop(key, None)
        self._phases.forget(key)

    def close(self) -> None:
        """Disconnect this driver from the cluster, which ends its actors."""
        self._closed.set()
        # Disconnecting waits for a lost head; a few seconds are enough.
        leaving = threading.Thread(target=self._leave, daemon=True)
        leaving.start()
        leaving.join(timeout=10)

    def _with_room(self, ended: Ended) -> Ended:
        """Return `ended`; if the command did not start, add what Ray had free on its node."""
        node_id = self._where.pop(ended.key, "")
        if ended.outcome.kind != "not started" or not (free := self.free(node_id)):
            return ended
        node = self._nodes.get(node_id)  # it may have left the cluster since
        name = node.name if node else "it"
        detail = f"{ended.outcome.detail}: others use {name}, where Ray has {free} free"
        return replace(ended, outcome=replace(ended.outcome, detail=detail))

    def _leave(self) -> None:
        self._phases.clear()
        self._ray.shutdown()

    def _start_in_group(self, command: Command, node: RayNode) -> None:
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        whole = {name: node.resources[name] for name in ("CPU", "GPU") if node.resources.get(name)}
        group = placement_group([whole], strategy="STRICT_PACK", bundle_label_selector=[{"ray.io/node-id": node.id}])
        strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=0)
        self._phases.start(command, release=lambda: remove_placement_group(group), scheduling_strategy=strategy)

    def _watch(self) -> None:
        while not self._closed.wait(NODES_EVERY_S):
            try:
                self._look()
            except Exception:  # noqa: BLE001 - whatever Ray raises, the head did not answer; `alive` raises in time
                continue

    def _look(self) -> None:
        from ray._private.state import available_resources_per_node

        found = [node_of_ray(row) for row in self._ray.nodes() if row["Alive"]]
        self._nodes = {node.id: node for node in found}
        self._free = available_resources_per_node()
        self._heard = time.monotonic()


def node_of_ray(row: Mapping[str, Any]) -> RayNode:
    """Convert a row of Ray's node table."""
    resources = {k: float(v) for k, v in row["Resources"].items()}
    return RayNode(row["NodeID"], row["NodeManagerHostname"], row["NodeManagerAddress"], resources, dict(row["Labels"]))


def free_text(node: RayNode, free: Mapping[str, float]) -> str:
    """Return the free CPUs, memory and GPUs of `node` as text."""
    parts = [f"{free.get('CPU', 0):g} of {node.resources.get('CPU', 0):g} CPUs"]
    if "memory" in node.resources:
        parts.append(f"{free.get('memory', 0) / GIB:.1f} GiB of memory")
    if "GPU" in node.resources:
        parts.append(f"{free.get('GPU', 0):g} of {node.resources['GPU']:g} GPUs")
    return ", ".join(parts)


def connect(address: str, said: str = "--address") -> Any:
    """Connect as a driver and return the module ray.

    Raises:
        UsageError: If `address` is not the address of a head.
        PrerequisiteError: If the connection fails.
    """
    check_address(address, said)
    set_up_environment()
    set_up_token()
    if address != "auto":
        fault = _fault(address)
        if fault is not None:
            raise PrerequisiteError(f"{said} {address}: {fault}")
    ray = core_with_settings()

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
        raise PrerequisiteError(f"{said} {address}: {text[:500]}") from error
    return ray


def _fault(address: str) -> str | None:
    """Return why a driver here cannot join the cluster at `address`, or None.

    A separate process asks the head: Ray's core reports a refused token only in its output, and blocks for minutes,
    without handling signals, if the head does not answer or this machine is not a node.
    """
    command = [sys.executable, "-c", _ASK_FOR_NODES, address]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=False)
        printed, answer = bytes(done.stderr).decode(errors="replace"), bytes(done.stdout).decode()
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


_ASK_FOR_NODES = """
import json, sys
from ray._raylet import GcsClient
nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5).values()
print(json.dumps([node.node_manager_address for node in nodes if node.state == 0]))
"""


def check_form(address: str, said: str = "--address") -> None:
    """Check the form of the address.

    Raises:
        UsageError: If it is not the address of a head.
    """
    host, _, port = address.rpartition(":")
    if address != "auto" and ("://" in address or not host or not port.isdigit()):
        raise UsageError(
            f"{said} {address!r}: expected HOST:PORT of Ray's head, such as 10.0.0.1:6379, or auto on a node of the "
            "cluster; from elsewhere use `moodbench submit --address http://HEAD:8265 -- run ...`"
        )


def check_address(address: str, said: str = "--address") -> None:
    """Check the form of the address, and that something listens there.

    Raises:
        UsageError: If it is not the address of a head.
        PrerequisiteError: If nothing listens there.
    """
    check_form(address, said)
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise PrerequisiteError(
            f"{said} {address}: nothing answers there ({error}); start the cluster with "
            "`ray start --head`, see cluster/README.md, or give none to run on this machine"
        ) from error
