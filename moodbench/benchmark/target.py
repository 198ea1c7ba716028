"""Target of a run: an executor, the nodes it reaches, and the machine that measurements are bound to.

It is this machine, or a Ray cluster, of which every node checks itself before it gets tasks. The check runs on the node
(`python -m moodbench.benchmark.target`): hardware, versions, the store.
"""

from __future__ import annotations

import json
import platform
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from socket import gethostname
from threading import Event
from typing import Any

from moodbench.config.cluster import ClusterFile, Deadlines
from moodbench.errors import MoodBenchError, PrerequisiteError
from moodbench.hardware import GIB, Hardware, hardware, library_version
from moodbench.runtime.executor import HERE, Command, Ended, Executor, OnEvent, Progress
from moodbench.runtime.ray_cluster import ClusterExecutor, RayNode
from moodbench.schedule import Node
from moodbench.store import Store
from moodbench.store.location import LocalLocation

POLL_S = 5.0
"""Maximum seconds of one poll for events; a busier driver would disturb the measurements."""
CHECK_S = 120.0
"""Maximum seconds that a node may take for its check."""
KNOWN_DEAD_S = 10
"""Maximum seconds until the head notices that a node died."""
_CHECK = "check-of-node-"
LIBRARIES = ("moodbench", "torch", "transformers", "peft", "tokenizers", "scikit-learn", "numpy")


class Cancelled(Exception):
    """Raised inside the driver to leave it."""


class LocalTarget:
    """This machine as the only node, with a single CPU if `one_at_a_time`.

    Once `stop` is set, the driver leaves when it next asks for node events, and running commands are ended.
    """

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
        node = node_of(HERE, gethostname(), self.machine)
        return (replace(node, num_cpus=1) if self._one_at_a_time else node,)

    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended since the last call; see `Executor.poll`."""
        return self.executor.poll(timeout_s, on_event)

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


class ClusterTarget:
    """The nodes of a cluster that have passed their check.

    Raises: PrerequisiteError if there is no usable node, or one fails its check at the start (see `check`).
    """

    alone = False
    poll_s = POLL_S

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
        self.executor = cluster
        self.drain_at, self.node_return_s = rules.drain_at, rules.node_return_s
        self.deadlines = rules.deadline
        self._secret = secrets.token_hex(16)
        self._checking: dict[str, str] = {}
        self._passed: dict[str, Mapping[str, Any]] = {}
        self._refused: dict[str, str] = {}
        self._lost_in_check: set[str] = set()
        self._names: dict[str, str] = {}
        self._current: dict[str, Node] = {}
        self._events: list[Mapping[str, Any]] = []
        self._stack = ExitStack()
        self._stack.callback(cluster.close)
        try:
            self._marker = self._write_marker()
            self._check_all(clock() + check_s, clock)
            self.machine = self._reference()
        except BaseException:
            self._stack.close()
            raise

    def machines(self) -> Sequence[Hardware]:
        """Return one machine of each kind in the cluster."""
        found = [self.machine_of(node_id) for node_id in self._current]
        return list({machine.machine_key: machine for machine in found}.values())

    def nodes(self) -> Sequence[Node]:
        """Return the live nodes that have passed their check; start the check of new ones."""
        alive = self._workers()
        for node_id in alive.keys() - self._passed.keys() - self._refused.keys() - set(self._checking.values()):
            self._start_check(alive[node_id])
        now = {i: self._current.get(i) or self._node(alive[i]) for i in alive if i in self._passed}
        for node_id in now.keys() - self._current.keys():
            self._events.append({"event": "node_joined", "node": now[node_id].name, "kind": now[node_id].kind})
        for node_id in self._current.keys() - now.keys():
            self._events.append({"event": "node_left", "node": self._current[node_id].name})
        self._current = now
        return tuple(now.values())

    def node_events(self) -> list[Mapping[str, Any]]:
        """Return events for the nodes that joined, left or were refused since the last call."""
        news, self._events = self._events, []
        return news

    def poll(self, timeout_s: float, on_event: OnEvent) -> list[Ended]:
        """Return the commands that ended since the last call; answers to node checks are handled here."""

        def listen(progress: Progress) -> None:
            if progress.key in self._checking:
                self._judge(self._checking[progress.key], progress.event)
            else:
                on_event(progress)

        ended = self._cluster.poll(timeout_s, listen)
        for each in ended:
            node_id = self._checking.pop(each.key, None)
            if node_id is not None and node_id not in self._passed.keys() | self._refused.keys():
                if each.outcome.kind == "infrastructure":
                    self._lost_in_check.add(node_id)
                detail = each.outcome.detail.splitlines()[-1:] or [each.outcome.kind]
                self._refuse(node_id, f"failed its check: {detail[0]}")
        return [each for each in ended if not each.key.startswith(_CHECK)]

    def close(self) -> None:
        """Disconnect this driver from the cluster."""
        self._stack.close()

    def without_lease(self) -> list[str]:
        """Return the names of nodes without the resource `exclusive`."""
        return sorted(node.name for node in self._workers().values() if not node.leasable)

    def machine_of(self, node_id: str) -> Hardware:
        """Return the hardware that the node reported in its check."""
        return Hardware.from_json(self._passed[node_id]["hardware"])

    def _workers(self) -> dict[str, RayNode]:
        """Return the live nodes with CPUs; a head without CPUs runs no tasks."""
        return {i: node for i, node in self._cluster.alive().items() if node.resources.get("CPU", 0) > 0}

    def _write_marker(self) -> str | None:
        if not isinstance(self._store.location, LocalLocation):
            return None
        attempt = self._stack.enter_context(self._store.attempt())
        marker = attempt.folder / "seen-by-every-node"
        marker.write_text(self._secret, encoding="utf-8")
        return str(marker)

    def _start_check(self, node: RayNode) -> None:
        request = {"store": self._store.uri, "marker": self._marker, "secret": self._secret}
        key = f"{_CHECK}{node.id}"
        self._checking[key] = node.id
        self._names[node.id] = node.name
        argv = ("-m", "moodbench.benchmark.target")
        command = Command(key, argv, json.dumps(request), 0, exclusive=False, deadline_s=CHECK_S)
        self._cluster.start(command, node.id)

    def _judge(self, node_id: str, event: Mapping[str, Any]) -> None:
        ours, theirs = versions(), event.get("versions", {})
        other = [name for name in ours if theirs.get(name) != ours[name]]
        if event["store"] is not None:
            self._refuse(node_id, event["store"])
        elif other:
            theirs_text, ours_text = (
                ", ".join(f"{name} {has.get(name) or 'not installed'}" for name in other) for has in (theirs, ours)
            )
            self._refuse(node_id, f"has {theirs_text}, this driver has {ours_text}")
        else:
            self._passed[node_id] = event

    def _refuse(self, node_id: str, reason: str) -> None:
        self._refused[node_id] = reason
        self._events.append({"event": "node_refused", "node": self._names[node_id], "detail": reason})

    def _check_all(self, end: float, clock: Callable[[], float]) -> None:
        if not self._workers():
            raise PrerequisiteError(
                f"--address {self._address}: the cluster has no node with CPUs; start some with `ray start --address`"
            )
        self.nodes()
        while self._checking and clock() < end:
            self.poll(1.0, lambda progress: None)
        silent = set(self._checking.values())
        for key, node_id in self._checking.items():
            self._cluster.cancel(key)
            self._refuse(node_id, f"did not finish its check within {CHECK_S:.0f} s")
        self._checking.clear()
        self._drop_dead_nodes()
        if self._refused:
            reasons = "; ".join(f"{self._names[i]} {reason}" for i, reason in sorted(self._refused.items()))
            advice = (
                "Give a folder that all nodes share, or a URI such as s3://bucket/folder, with --store; "
                "install the same moodbench on every node"
            )
            if silent == self._refused.keys():
                advice = (
                    "They are overloaded, or Ray starts no worker there: free them, or remove them from the cluster"
                )
            raise PrerequisiteError(
                f"not every node can use the store {self._store.uri}: {reasons}. {advice}. Nothing was started"
            )
        if not self.nodes():
            raise PrerequisiteError(
                f"--address {self._address}: every node of the cluster died during its check. Nothing was started"
            )
        self._events = [event for event in self._events if event["event"] == "node_left"]

    def _drop_dead_nodes(self) -> None:
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
            self._events.append({"event": "node_left", "node": self._names[node_id]})

    def _node(self, ray_node: RayNode) -> Node:
        machine = self.machine_of(ray_node.id)
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

        Its class is in `measure_on`, if that is given. Nodes with CUDA come first, then the kind of machine with most
        measurements in the store, so that a resumed run repeats none when another kind is back, then the most frequent
        kind, then the most memory.
        """
        wanted = self._rules.measure_on
        able = [node for node in self._current.values() if not wanted or node.kind in wanted]
        if not able:
            kinds = ", ".join(sorted({node.kind for node in self._current.values()}))
            raise PrerequisiteError(f"--cluster: measure_on is {', '.join(wanted)}, but the nodes are of class {kinds}")
        counts = Counter(node.machine_key for node in able)
        done = Counter(self._store.sound_records("measurements")[0]["machine_key"])
        best = max(
            able,
            key=lambda n: (
                "cuda" in n.devices, done[n.machine_key], counts[n.machine_key], n.memory_bytes, n.machine_key,
            ),
        )  # fmt: skip
        return self.machine_of(best.id)


Target = LocalTarget | ClusterTarget
"""Target of a run, as the driver sees it; the docstrings of `LocalTarget` are about both."""


def check(store: str, marker: str | None, secret: str) -> dict[str, Any]:
    """Return the event `node`: hardware, versions, and in `store` what is wrong with the store here, or None."""
    return {
        "event": "node",
        "hardware": asdict(hardware()),
        "versions": versions(),
        "store": _fault(store, marker, secret),
    }


def versions() -> dict[str, str | None]:
    """Return the versions that must be equal on every node, because results depend on them.

    They are those of the program, Python, and the libraries that compute.
    """
    major, minor, _ = platform.python_version_tuple()
    found = {name: library_version(name) for name in LIBRARIES}
    # The part after a plus names the GPU that a build is for, which may differ between nodes.
    plain = {name: version and version.partition("+")[0] for name, version in found.items()}
    return plain | {"python": f"{major}.{minor}"}


def _fault(store: str, marker: str | None, secret: str) -> str | None:
    try:
        if marker is not None and not Path(marker).is_file():
            return "does not see the store's folder, or sees a different one at the same path"
        if marker is not None and Path(marker).read_text("utf-8") != secret:
            return "sees a different folder at the store's path"
        opened = Store.open(store)
        opened.check_writable()
        opened.ids("fits")
    except (MoodBenchError, OSError) as error:
        return f"cannot use the store: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps(check(**json.loads(sys.stdin.read()))), flush=True)  # noqa: T201 - the driver reads stdout
