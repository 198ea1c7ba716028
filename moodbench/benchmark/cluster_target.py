"""A Ray cluster as the target of a run; every node checks itself before it gets tasks."""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, override

from moodbench.benchmark.node_check import versions
from moodbench.benchmark.target import POLL_S, Deadlines, node_of
from moodbench.config.cluster import ClusterFile
from moodbench.errors import PrerequisiteError
from moodbench.hardware import Gpu, Hardware
from moodbench.runtime.executor import Command, Ended, Executor, Isolation, OnEvent, Progress
from moodbench.runtime.ray_cluster import ClusterExecutor, RayNode
from moodbench.schedule import Node
from moodbench.schedule.resources import GIB
from moodbench.store import Store
from moodbench.store.location import LocalLocation

CHECK_S = 120.0
"""Maximum seconds that a node may take for its check."""
KNOWN_DEAD_S = 10
"""Maximum seconds until the head notices that a node died."""
_CHECK = "check-of-node-"


class ClusterTarget(Executor):
    """The nodes of a cluster that have passed their check.

    It is its own executor, so that it receives the answers to the checks.

    Raises: PrerequisiteError if there is no usable node, or one fails its check at the start (see `node_check`).
    """

    def __init__(
        self,
        cluster: ClusterExecutor,
        store: Store,
        rules: ClusterFile,
        *,
        address: str,
        check_s: float = CHECK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._store, self._rules, self._address = cluster, store, rules, address
        self.executor: Executor = self
        self.alone = False
        self.drain_at: int | None = rules.drain_at
        self.deadlines = Deadlines(**rules.deadline.model_dump())
        self.node_return_s, self.poll_s = rules.node_return_s, POLL_S
        self._secret = secrets.token_hex(16)
        self._checking: dict[str, str] = {}
        self._found: dict[str, Mapping[str, Any]] = {}
        self._refused: dict[str, str] = {}
        self._lost_in_check: set[str] = set()
        self._names: dict[str, str] = {}
        self._known: dict[str, Node] = {}
        self._news: list[Mapping[str, Any]] = []
        self._stack = ExitStack()
        self._stack.callback(cluster.close)
        try:
            self._marker = self._leave_marker()
            self._check_all(clock() + check_s, clock)
            self.machine = self._reference()
        except BaseException:
            self._stack.close()
            raise

    def machines(self) -> Sequence[Hardware]:
        """Return one machine of each kind in the cluster."""
        found = [_hardware(self._found[node_id]) for node_id in self._known]
        return list({machine.machine_key: machine for machine in found}.values())

    def nodes(self) -> Sequence[Node]:
        """Return the live nodes that have passed their check; start the check of new ones."""
        alive = self._workers()
        for node_id in alive.keys() - self._found.keys() - self._refused.keys() - set(self._checking.values()):
            self._ask(alive[node_id])
        now = {i: self._known.get(i) or self._node(alive[i]) for i in alive if i in self._found}
        for node_id in now.keys() - self._known.keys():
            self._news.append({"event": "node_joined", "node": now[node_id].name, "kind": now[node_id].kind})
        for node_id in self._known.keys() - now.keys():
            self._news.append({"event": "node_left", "node": self._known[node_id].name})
        self._known = now
        return tuple(now.values())

    def news(self) -> list[Mapping[str, Any]]:
        """Return events for the nodes that joined, left or were refused since the last call."""
        news, self._news = self._news, []
        return news

    @override
    def isolation(self, node_id: str) -> Isolation:
        return self._cluster.isolation(node_id)

    @override
    def start(self, command: Command, node_id: str) -> None:
        self._cluster.start(command, node_id)

    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended; answers to node checks are handled here."""

        def listen(progress: Progress) -> None:
            if progress.key in self._checking:
                self._found_out(self._checking[progress.key], progress.event)
            else:
                on_event(progress)

        ended = self._cluster.poll(timeout_s, listen)
        for each in ended:
            node_id = self._checking.pop(each.key, None)
            if node_id is not None and node_id not in self._found.keys() | self._refused.keys():
                if each.outcome.kind == "infrastructure":
                    self._lost_in_check.add(node_id)
                detail = each.outcome.detail.splitlines()[-1:] or [each.outcome.kind]
                self._refuse(node_id, f"could not look at itself: {detail[0]}")
        return [each for each in ended if not each.key.startswith(_CHECK)]

    @override
    def has_started(self, key: str) -> bool:
        return self._cluster.has_started(key)

    @override
    def free_resources(self, node_id: str) -> str:
        return self._cluster.free_resources(node_id)

    @override
    def cancel(self, key: str) -> None:
        self._cluster.cancel(key)

    def close(self) -> None:
        """Disconnect this driver from the cluster."""
        self._stack.close()

    def without_lease(self) -> list[str]:
        """Return the names of nodes without the resource `exclusive`."""
        return sorted(node.name for node in self._workers().values() if not node.leasable)

    def machine_of(self, node_id: str) -> Hardware:
        """Return the hardware that the node reported in its check."""
        return _hardware(self._found[node_id])

    def _workers(self) -> dict[str, RayNode]:
        """Return the live nodes with CPUs; a head without CPUs runs no tasks."""
        return {i: node for i, node in self._cluster.alive().items() if node.resources.get("CPU", 0) > 0}

    def _leave_marker(self) -> str | None:
        if not isinstance(self._store.location, LocalLocation):
            return None
        attempt = self._stack.enter_context(self._store.attempt())
        marker = attempt.folder / "seen-by-every-node"
        marker.write_text(self._secret, encoding="utf-8")
        return str(marker)

    def _ask(self, node: RayNode) -> None:
        asked = {"store": self._store.uri, "marker": self._marker, "secret": self._secret}
        key = f"{_CHECK}{node.id}"
        self._checking[key] = node.id
        self._names[node.id] = node.name
        argv = ("-m", "moodbench.benchmark.node_check")
        command = Command(key, argv, json.dumps(asked), 0, exclusive=False, deadline_s=CHECK_S)
        self._cluster.start(command, node.id)

    def _found_out(self, node_id: str, event: Mapping[str, Any]) -> None:
        ours, theirs = versions(), event.get("versions", {})
        other = [name for name in ours if theirs.get(name) != ours[name]]
        if event["store"] is not None:
            self._refuse(node_id, event["store"])
        elif other:
            there, here = (
                ", ".join(f"{name} {has.get(name) or 'of no version'}" for name in other) for has in (theirs, ours)
            )
            self._refuse(node_id, f"has {there}, this driver has {here}")
        else:
            self._found[node_id] = event

    def _refuse(self, node_id: str, why: str) -> None:
        self._refused[node_id] = why
        self._news.append({"event": "node_refused", "node": self._names[node_id], "detail": why})

    def _check_all(self, end: float, clock: Callable[[], float]) -> None:
        if not self._workers():
            raise PrerequisiteError(
                f"--address {self._address}: the cluster has no node with processors; "
                "start some with `ray start --address`"
            )
        self.nodes()
        while self._checking and clock() < end:
            self.poll(1.0, lambda progress: None)
        silent = set(self._checking.values())
        for key, node_id in self._checking.items():
            self._cluster.cancel(key)
            self._refuse(node_id, f"did not look at itself within {CHECK_S:.0f} s")
        self._checking.clear()
        self._forget_the_dead()
        if self._refused:
            reasons = "; ".join(f"{self._names[i]} {why}" for i, why in sorted(self._refused.items()))
            advice = (
                "Give a folder that all nodes share, or a URI such as s3://bucket/folder, with --store; "
                "install the same moodbench on every node"
            )
            if silent == self._refused.keys():
                advice = (
                    "They are overloaded, or Ray starts no worker there: free them, or take them out of the cluster"
                )
            raise PrerequisiteError(
                f"not every node can work for this store ({self._store.uri}): {reasons}. {advice}. Nothing was started"
            )
        if not self.nodes():
            raise PrerequisiteError(
                f"--address {self._address}: every node of the cluster died while it looked at itself. "
                "Nothing was started"
            )
        self._news = [event for event in self._news if event["event"] == "node_left"]

    def _forget_the_dead(self) -> None:
        """Drop nodes that died during their check, instead of refusing them.

        The head needs some seconds to notice that a node died.
        """
        for _ in range(KNOWN_DEAD_S):
            if self._lost_in_check.isdisjoint(self._workers()):
                break
            self._cluster.poll(1.0, lambda progress: None)
        alive = self._workers()
        for node_id in self._refused.keys() - alive.keys():
            del self._refused[node_id]
            self._news.append({"event": "node_left", "node": self._names[node_id]})

    def _node(self, ray_node: RayNode) -> Node:
        machine = _hardware(self._found[ray_node.id])
        kind = self._rules.class_of(dict(ray_node.labels))
        rule = self._rules.devices.get(kind)
        whole = node_of(ray_node.id, ray_node.name, machine)
        vram = whole.gpu_memory_bytes or int((rule.gpu_memory_gib or 0) * GIB if rule else 0)
        gpus = int(ray_node.resources.get("GPU", 0))
        return replace(
            whole,
            kind=kind,
            num_cpus=ray_node.resources["CPU"],
            memory_bytes=min(ray_node.resources.get("memory", whole.memory_bytes), whole.memory_bytes),
            num_gpus=gpus,
            gpu_memory_bytes=vram,
            devices=whole.devices if gpus else whole.devices - {"cuda"},
            price_per_hour=rule.price_per_hour if rule else None,
        )

    def _reference(self) -> Hardware:
        """Return the machine that the measurements of this run are bound to.

        Its class is in `measure_on`, if that is given. Nodes with CUDA come first, then the most frequent kind of
        machine, then the most memory.
        """
        wanted = self._rules.measure_on
        able = [node for node in self._known.values() if not wanted or node.kind in wanted]
        if not able:
            kinds = ", ".join(sorted({node.kind for node in self._known.values()}))
            raise PrerequisiteError(
                f"--cluster: measure_on is {', '.join(wanted)}, and the nodes that are there are of class {kinds}"
            )
        counts = Counter(node.machine_key for node in able)
        best = max(able, key=lambda n: ("cuda" in n.devices, counts[n.machine_key], n.memory_bytes, n.machine_key))
        return _hardware(self._found[best.id])


def _hardware(event: Mapping[str, Any]) -> Hardware:
    facts = event["hardware"]
    return Hardware(**{**facts, "gpus": tuple(Gpu(**gpu) for gpu in facts["gpus"])})
