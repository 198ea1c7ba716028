"""Consequences of a failure: another attempt of the task, or a node that gets no more tasks."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

from moodbench.runtime.process import Outcome, OutcomeKind
from moodbench.schedule.resources import Task

MAX_RETRIES: dict[str, int] = {
    "infrastructure": 3,
    "out of memory": 2,
    "deadline": 1,
    "crash": 1,
    "program error": 0,
    "not started": 40,
}
"""Number of retries after each kind of outcome. A program error would only repeat. A crash of native code may be caused
by the machine (an instruction that its CPU lacks), so it is retried once on another node. A task that never started,
because other users filled its node, has not failed: 40 waits are two hours."""
MEMORY_FACTOR = 1.5
"""Factor by which a task's memory need grows after it ran out of memory."""
QUARANTINE_AFTER = 2
"""Number of infrastructure failures in a row after which a node gets no more tasks, as long as others can run them."""


def next_attempt(
    task: Task,
    outcome: Outcome,
    node_id: str,
    share_bytes: float = 0.0,
    gpu_bytes: float = 0.0,
    *,
    may_grow: bool = True,
) -> Task | None:
    """Return the task to try after `task` ended on `node_id`; None if it has failed for good.

    `share_bytes` is each task's share of the node's memory, `gpu_bytes` this task's share of its GPUs' memory: what was
    too little for a task that ran out of memory, if nothing better is known. Unless `may_grow`, the memory need stays
    the same: the task shared a process with others, and which of them ran out of memory is unknown.
    """
    if Counter(task.failed)[outcome.kind] >= MAX_RETRIES[outcome.kind]:
        return None
    retry = replace(task, failed=(*task.failed, outcome.kind), avoid=task.avoid | {node_id})
    if not may_grow:
        return retry
    if outcome.kind == "out of memory" and outcome.on_gpu:
        return retry.with_gpu_memory(int(max(task.need.gpu_memory_bytes, gpu_bytes) * MEMORY_FACTOR))
    if outcome.kind == "out of memory":
        used = max(task.need.memory_bytes, outcome.peak_bytes)
        if not used and share_bytes != math.inf:
            used = int(share_bytes)
        return retry.with_memory(int(used * MEMORY_FACTOR))
    return retry


class Quarantine:
    """Counter of each node's consecutive infrastructure failures."""

    def __init__(self) -> None:
        self._in_a_row: Counter[str] = Counter()

    def note(self, node_id: str, kind: OutcomeKind) -> bool:
        """Note how a task ended on `node_id`; return whether this puts the node in quarantine."""
        if kind == "not started":  # says nothing about the node, only that others use it
            return False
        if kind != "infrastructure":
            self._in_a_row.pop(node_id, None)
            return False
        self._in_a_row[node_id] += 1
        return self._in_a_row[node_id] == QUARANTINE_AFTER

    @property
    def nodes(self) -> frozenset[str]:
        """The nodes in quarantine."""
        return frozenset(node for node, count in self._in_a_row.items() if count >= QUARANTINE_AFTER)
