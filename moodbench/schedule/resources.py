"""Resources of nodes and needs of tasks: whether a task fits on a node, and what follows if it fails there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from moodbench.hardware import GIB
from moodbench.runtime.process import Outcome, OutcomeKind

EVENNESS = 0.8
"""A model spread over k GPUs has at most 1 / (k x EVENNESS) of its memory on one of them: layers are not split."""
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


@dataclass(frozen=True)
class Node:
    """A machine that runs workers."""

    id: str
    """Unique for the node's lifetime; a restarted machine is another node."""
    name: str
    kind: str = "cpu"
    """Class in the cluster file: a kind of accelerator, or a name given there."""
    num_cpus: float = 1
    memory_bytes: float = math.inf
    num_gpus: int = 0
    gpu_memory_bytes: int = 0
    """Memory of each GPU."""
    devices: frozenset[str] = frozenset({"cpu"})
    """Devices that a phase may request: cpu, cuda, mps."""
    machine_key: str = ""
    """Speeds are comparable between nodes with the same key."""
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Need:
    """Resources that a task needs on its node."""

    num_cpus: float = 1
    memory_bytes: int = 0
    device: str = "cpu"
    gpu_memory_bytes: int = 0
    machine_key: str | None = None
    """Key of the machines that it may run on; None for any."""
    gpu_fixed_bytes: int | None = None
    """Part of `gpu_memory_bytes` that every GPU holds if the task is spread over several of a node; None: it cannot be
    spread."""

    def gpus_on(self, node: Node) -> float:
        """Return the share of one GPU of `node`, or the number of GPUs if one is too small.

        A share is in steps of 1/10,000, and a whole GPU above one half. inf if the node has too few GPUs, or if all of
        them together are too small.
        """
        if self.device != "cuda":
            return 0.0
        if not node.num_gpus:
            return math.inf
        if self.gpu_memory_bytes > node.gpu_memory_bytes > 0:
            return self._spread_over(node)
        share = self.gpu_memory_bytes / node.gpu_memory_bytes if node.gpu_memory_bytes else 1.0
        return 1.0 if share > 0.5 or not share else math.ceil(share * 1e4) / 1e4

    def _spread_over(self, node: Node) -> float:
        if self.gpu_fixed_bytes is None or node.gpu_memory_bytes <= self.gpu_fixed_bytes:
            return math.inf
        usable_bytes = EVENNESS * (node.gpu_memory_bytes - self.gpu_fixed_bytes)
        number = math.ceil((self.gpu_memory_bytes - self.gpu_fixed_bytes) / usable_bytes)
        return float(number) if number <= node.num_gpus else math.inf

    def lacks(self, node: Node) -> str | None:
        """Return what an empty `node` lacks to run the task, or None if it can run it."""
        if self.machine_key is not None and node.machine_key != self.machine_key:
            return "is not the kind of machine that the measurements of this run are bound to"
        if self.device not in node.devices:
            return f"has no device {self.device}"
        if self.num_cpus > node.num_cpus:
            return f"has {node.num_cpus:g} CPUs"
        if self.memory_bytes > node.memory_bytes:
            return f"has {node.memory_bytes / GIB:.1f} GiB of memory"
        if math.isinf(self.gpus_on(node)):
            if self.gpu_fixed_bytes is None:
                return f"has GPUs of {node.gpu_memory_bytes / GIB:.0f} GiB"
            return f"has {node.num_gpus} GPU{'s' * (node.num_gpus != 1)} of {node.gpu_memory_bytes / GIB:.0f} GiB"
        return None

    def text(self) -> str:
        """Return the need as text."""
        parts = [f"{self.num_cpus:g} CPUs" if self.num_cpus != 1 else "1 CPU"]
        if self.memory_bytes:
            parts.append(f"{self.memory_bytes / GIB:.1f} GiB of memory")
        if self.device != "cpu":
            parts.append(f"device {self.device}")
        if self.gpu_memory_bytes:
            where = "one GPU" if self.gpu_fixed_bytes is None else "one GPU or spread over several"
            parts.append(f"{self.gpu_memory_bytes / GIB:.1f} GiB on {where}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Task:
    """One job for one worker: the packed phases of a trial, or its measurement."""

    key: str
    need: Need
    exclusive: bool = False
    """Whether it is a measurement, so that no other task of ours may run on its node at the same time."""
    seconds: float = 1.0
    """Expected duration, alone on its CPUs, on an unknown kind of machine; without estimates only good for ordering."""
    seconds_at: Mapping[str, float] = field(default_factory=dict)
    """Expected duration per kind of machine, by `machine_key`; empty if unknown."""
    after: str | None = None
    """Key of the task that must succeed first."""
    label: str = ""
    group: str = ""
    """Measurements of the same group are placed in the same block, one after another, if possible."""
    failed: tuple[str, ...] = ()
    """Outcome kinds of the failed attempts so far."""
    avoid: frozenset[str] = field(default_factory=frozenset)
    """Ids of the nodes where an attempt failed."""

    def seconds_on(self, node: Node) -> float:
        """Return the expected duration on `node`."""
        return self.seconds_at.get(node.machine_key, self.seconds)

    def with_memory(self, memory_bytes: int) -> Task:
        """Return the same task with this memory need."""
        return replace(self, need=replace(self.need, memory_bytes=memory_bytes))

    def with_gpu_memory(self, gpu_memory_bytes: int) -> Task:
        """Return the same task with this need of GPU memory."""
        return replace(self, need=replace(self.need, gpu_memory_bytes=gpu_memory_bytes))


def dominant_share(need: Need, nodes: Iterable[Node]) -> float:
    """Return the largest share, over CPUs, memory and GPUs, that `need` takes of all `nodes` together."""
    nodes = list(nodes)
    cpus = sum(node.num_cpus for node in nodes)
    memory = sum(node.memory_bytes for node in nodes)
    gpus = sum(node.num_gpus for node in nodes)
    shares = [need.gpus_on(node) for node in nodes]
    least = min((share for share in shares if not math.isinf(share)), default=0.0)
    return max(
        need.num_cpus / cpus if cpus else 0.0,
        need.memory_bytes / memory if memory else 0.0,
        least / gpus if gpus else 0.0,
    )


def impossible(tasks: Iterable[Task], nodes: Iterable[Node]) -> dict[str, str]:
    """Return, by key, a message for each task that no node can run: what each node lacks."""
    nodes = list(nodes)
    found: dict[str, str] = {}
    sentences: dict[Need, str | None] = {}
    for task in tasks:
        if task.need not in sentences:
            sentences[task.need] = _why_nowhere(task.need, nodes)
        sentence = sentences[task.need]
        if sentence is not None:
            found[task.key] = f"{task.label or task.key}: {sentence}"
    return found


def _why_nowhere(need: Need, nodes: list[Node]) -> str | None:
    if not nodes:
        return f"needs {need.text()}, but there is no node"
    lacks: Mapping[str, str | None] = {node.name: need.lacks(node) for node in nodes}
    if any(reason is None for reason in lacks.values()):
        return None
    return f"needs {need.text()}; " + ", ".join(f"{name} {reason}" for name, reason in lacks.items())


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
