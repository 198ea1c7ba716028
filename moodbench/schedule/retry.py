"""What becomes of a task that ended badly: tried again elsewhere, with more memory, once, or never."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from moodbench.schedule.resources import Task

OutcomeKind = Literal["ok", "program error", "crash", "out of memory", "deadline", "infrastructure", "not started"]
MAX_RETRIES: dict[str, int] = {
    "infrastructure": 3,
    "out of memory": 2,
    "deadline": 1,
    "crash": 1,
    "program error": 0,
    "not started": 40,
}
"""How often a task is tried again after each kind of end. A program error is the program's: it would come again. A crash of
native code may be the machine's (an instruction that its processor lacks), so another one is asked once. What never began,
because others filled its node, has not failed: 40 waits are two hours."""
MEMORY_FACTOR = 1.5
"""How much more memory a task asks for after it ran out of it."""
QUARANTINE_AFTER = 2
"""A node gets nothing more after so many infrastructure failures in a row, as long as others will do."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    kind: OutcomeKind
    detail: str = ""
    """What is known of the cause, the end of standard error for instance."""
    peak_bytes: int = 0
    """The most memory it was seen to use; 0: not known."""
    on_gpu: bool = False
    """Out of memory: it was the GPU's that ran out, not the machine's."""


def next_attempt(
    task: Task,
    outcome: Outcome,
    node_id: str,
    share_bytes: float = 0.0,
    gpu_bytes: float = 0.0,
    *,
    may_grow: bool = True,
) -> Task | None:
    """The task to try after `task` ended so on `node_id`; None when it has failed for good.

    `share_bytes` is what each task there had of the node's memory, `gpu_bytes` what this one had of its GPUs': not enough
    for one that ran out of it and said no more. Unless it `may_grow`, it asks for the same again: it shared a process with
    others, and whose fault it was is not known.
    """
    if Counter(task.failed)[outcome.kind] >= MAX_RETRIES[outcome.kind]:
        return None
    again = replace(task, failed=(*task.failed, outcome.kind), avoid=task.avoid | {node_id})
    if not may_grow:
        return again
    if outcome.kind == "out of memory" and outcome.on_gpu:
        return again.with_gpu_memory(int(max(task.need.gpu_memory_bytes, gpu_bytes) * MEMORY_FACTOR))
    if outcome.kind == "out of memory":
        used = max(task.need.memory_bytes, outcome.peak_bytes)
        if not used and share_bytes != math.inf:
            used = int(share_bytes)
        return again.with_memory(int(used * MEMORY_FACTOR))
    return again


class Quarantine:
    """Counts each node's infrastructure failures in a row."""

    def __init__(self) -> None:
        self._in_a_row: Counter[str] = Counter()

    def note(self, node_id: str, kind: OutcomeKind) -> bool:
        """Whether `node_id` is in quarantine from now on, after a task ended so there."""
        if kind == "not started":  # tells nothing about the node, only that others use it
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
