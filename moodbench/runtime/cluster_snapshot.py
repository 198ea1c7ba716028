"""Snapshot of a Ray cluster's total and free resources, taken by a separate process that does not join the cluster."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moodbench.errors import MoodBenchError
from moodbench.runtime.ray_cluster import check_address
from moodbench.runtime.ray_internals import query

ANSWER_S = 10.0
"""Time limit for the head's answer, including the start of Python."""
EVERY_S = 15.0
"""Shortest interval between snapshots: each costs about a second of one core."""


@dataclass(frozen=True)
class NodeSnapshot:
    """A node as the head of its cluster reports it."""

    name: str
    address: str
    status: str
    """running, idle, dead or draining."""
    total: Mapping[str, float]
    """Resource -> amount; memory in bytes. The same holds for `free`."""
    free: Mapping[str, float]


@dataclass(frozen=True)
class ClusterSnapshot:
    """A cluster at one moment."""

    address: str
    nodes: tuple[NodeSnapshot, ...] = ()
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
    return ClusterSnapshot(address, tuple(NodeSnapshot(**node) for node in json.loads(done.stdout)))


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
