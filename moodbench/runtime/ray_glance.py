"""Snapshot of a Ray cluster's total and free resources, taken by a separate process.

The observer neither joins the cluster nor waits for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moodbench.errors import MoodBenchError
from moodbench.runtime.ray_cluster import check_address
from moodbench.runtime.ray_settings import cluster_environment

ANSWER_S = 10.0
"""Time limit for the head's answer, including the start of Python."""
EVERY_S = 15.0
"""Shortest interval between snapshots: each costs about a second of one core."""
_ASK = """
import json, sys
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply, NodeStatus
given = sys.argv[1]
client = GcsClient(address=canonicalize_bootstrap_address_or_die(given) if given == "auto" else given)
names = {key.hex(): node.node_manager_hostname for key, node in client.get_all_node_info(timeout=5).items()}
reply = GetClusterResourceStateReply.FromString(client.get_cluster_resource_state(timeout_s=5))
print(json.dumps([
    {"name": names.get(node.node_id.hex(), ""), "address": node.node_ip_address, \
"status": NodeStatus.Name(node.status).lower(),
     "total": dict(node.total_resources), "free": dict(node.available_resources)}
    for node in reply.cluster_resource_state.node_states
]))
"""


@dataclass(frozen=True)
class NodeNow:
    """A node as the head of its cluster reports it."""

    name: str
    address: str
    status: str
    """running, idle, dead or draining."""
    total: Mapping[str, float]
    """Resource -> amount; memory in bytes. The same holds for `free`."""
    free: Mapping[str, float]


@dataclass(frozen=True)
class ClusterNow:
    """A cluster at one moment."""

    address: str
    nodes: tuple[NodeNow, ...] = ()
    problem: str = ""
    """Why it could not be queried; empty if it answered."""


def look(address: str, timeout_s: float = ANSWER_S) -> ClusterNow:
    """Return a snapshot of the cluster at `address` (HOST:PORT of its head, or auto), or why it failed.

    It raises no MoodBenchError and does not take much longer than `timeout_s`.
    """
    try:
        check_address(address)
        done = subprocess.run(
            [sys.executable, "-c", _ASK, address],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env=cluster_environment(),
        )
    except MoodBenchError as error:
        return ClusterNow(address, problem=str(error))
    except subprocess.TimeoutExpired:
        return ClusterNow(address, problem=f"no answer in {timeout_s:.0f} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return ClusterNow(address, problem=lines[-1][:300] if lines else f"asking ended with {done.returncode}")
    return ClusterNow(address, tuple(NodeNow(**node) for node in json.loads(done.stdout)))


class Lookout:
    """Takes snapshots of one cluster in the background, for as long as somebody asks for the latest one."""

    def __init__(
        self,
        address: str,
        look: Callable[[str], ClusterNow] = look,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._look, self._clock = address, look, clock
        self._lock = threading.Lock()
        self._latest: ClusterNow | None = None
        self._began = -float("inf")
        self._thread: threading.Thread | None = None

    def latest(self) -> ClusterNow | None:
        """Return the latest snapshot without waiting; None before the first. Start a new one every EVERY_S."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if not busy and self._clock() - self._began >= EVERY_S:
                self._began = self._clock()
                self._thread = threading.Thread(target=self._see, name="moodbench-ray-glance", daemon=True)
                self._thread.start()
        return self._latest

    def wait(self, timeout_s: float) -> None:
        """Wait until the current snapshot is complete, at most `timeout_s`."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _see(self) -> None:
        self._latest = self._look(self._address)
