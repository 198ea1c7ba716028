"""Scheduling policy: long tasks first, gaps filled, nodes drained for measurements, which run alone; and retries.

The driver implements it, because Ray has no priorities and keeps starting small tasks while a large one waits.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moodbench.runtime.process import Outcome, OutcomeKind
from moodbench.schedule.accounting import Idle
from moodbench.schedule.resources import Need, Node, Quarantine, Task, dominant_share, next_attempt

MAX_BLOCK = 4
"""Largest number of measurements that one worker runs in turn, and that are lost with it if its node dies."""
PATIENCE = 8
"""After a task was overtaken this often, a node is reserved for it."""


@dataclass(frozen=True)
class Start:
    """Tasks to start on a node: one task, or a block of measurements for one worker."""

    node: Node
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Followup:
    """Consequences of the end of a task."""

    retry: Task | None = None
    """The next attempt, which is waiting now."""
    dropped: tuple[Task, ...] = ()
    """Tasks that can no longer run, because they depend on this one."""


@dataclass(eq=False)
class _NodeUse:
    """A node and its resources in use."""

    node: Node
    num_cpus: float = 0.0
    memory_bytes: float = 0.0
    gpus: list[float] = field(default_factory=list)
    tasks: dict[str, tuple[Task, tuple[int, ...]]] = field(default_factory=dict)
    """Running tasks by key, each with the indices of its GPUs."""
    shared_worker: bool = False
    """Whether several measurements share a worker."""

    @property
    def measuring(self) -> bool:
        return any(task.exclusive for task, _ in self.tasks.values())

    def gpus_for(self, need: Need) -> tuple[int, ...] | None:
        """Return the GPUs to use if `need` fits beside the running tasks, otherwise None."""
        if self.num_cpus + need.num_cpus > self.node.num_cpus + 1e-9:
            return None
        if self.memory_bytes + need.memory_bytes > self.node.memory_bytes:
            return None
        share = need.gpus_on(self.node)
        if not share:
            return ()
        # The fullest GPU that still fits it, as Ray chooses too: this keeps whole GPUs free.
        fitting = [(-used, i) for i, used in enumerate(self.gpus) if used + min(share, 1) <= 1 + 1e-9]
        number = max(1, int(share))
        return tuple(i for _, i in sorted(fitting)[:number]) if len(fitting) >= number else None

    def add(self, task: Task, gpus: tuple[int, ...]) -> None:
        self.tasks[task.key] = (task, gpus)
        self._count(task, gpus, 1)

    def remove(self, key: str) -> Task:
        task, gpus = self.tasks.pop(key)
        self._count(task, gpus, -1)
        return task

    def _count(self, task: Task, gpus: tuple[int, ...], sign: int) -> None:
        self.num_cpus += sign * task.need.num_cpus
        self.memory_bytes += sign * task.need.memory_bytes
        for gpu in gpus:
            self.gpus[gpu] += sign * min(task.need.gpus_on(self.node), 1)


class Scheduler:
    """State of a run's schedule. It reads no clock and no file: the same calls give the same results."""

    def __init__(self, tasks: Iterable[Task], nodes: Iterable[Node], *, drain_at: int | None = None) -> None:
        """Create the schedule of `tasks` on `nodes`.

        A node on which `drain_at` waiting measurements can run takes no more packed tasks. None drains no node:
        measurements then start only when no packed task wants the node.
        """
        self._drain_at = drain_at
        self._nodes: dict[str, _NodeUse] = {}
        self._packed: dict[str, Task] = {}
        self._ready: dict[str, Task] = {}
        self._held: dict[str, list[Task]] = {}
        self._where: dict[str, str] = {}
        self._draining: set[str] = set()
        self._overtaken: tuple[str, int] = ("", 0)
        self._reserved: tuple[str, str] = ("", "")
        self._quarantine = Quarantine()
        self._able: dict[tuple[Need, frozenset[str]], list[_NodeUse]] = {}
        given = list(tasks)
        keys = {task.key for task in given}
        self._after = {task.key: str(task.after) for task in given if task.after in keys}
        self.set_nodes(nodes)
        for task in given:
            if task.after in keys:
                self._held.setdefault(str(task.after), []).append(task)
            elif task.exclusive:
                self._ready[task.key] = task
            else:
                self._packed[task.key] = task
        self._sort()

    @property
    def nodes(self) -> list[Node]:
        """The present nodes, including lost ones whose tasks have not been reported as ended."""
        return [place.node for place in self._nodes.values()]

    @property
    def waiting(self) -> list[Task]:
        """Tasks not started, in order: packed tasks, ready measurements, and tasks that wait for another task."""
        held = [task for tasks in self._held.values() for task in tasks]
        return [*self._packed.values(), *self._ready.values(), *held]

    @property
    def num_waiting(self) -> int:
        """Number of tasks that have not started."""
        return len(self._packed) + len(self._ready) + sum(map(len, self._held.values()))

    @property
    def running(self) -> dict[str, tuple[Task, Node]]:
        """Running tasks by key, with their nodes."""
        return {k: (self._nodes[n].tasks[k][0], self._nodes[n].node) for k, n in self._where.items()}

    def set_nodes(self, nodes: Iterable[Node]) -> list[str]:
        """Replace the nodes and return the keys of tasks on lost nodes; report the end of each with `ended`."""
        now = {node.id: node for node in nodes}
        lost = [key for key, node_id in self._where.items() if node_id not in now]
        changed = {i for i, place in self._nodes.items() if not place.tasks} | set(now)
        for node_id in changed - set(now):
            del self._nodes[node_id]
            self._draining.discard(node_id)
        for node_id, node in now.items():
            if node_id not in self._nodes:
                self._nodes[node_id] = _NodeUse(node, gpus=[0.0] * node.num_gpus)
        self._gone = {node_id for node_id in self._nodes if node_id not in now}
        self._able.clear()
        self._sort()
        return lost

    def start(self) -> list[Start]:
        """Return what to start now; each of these tasks counts as running from here on."""
        self._choose_drains()
        starts = self._start_packed() if self._packed else []
        return starts + (self._start_measurements() if self._ready else [])

    def note(self, node_id: str, kind: OutcomeKind) -> Node | None:
        """Note how a command on a node ended, once per command; return the node if this puts it in quarantine."""
        before = self._quarantine.nodes
        first = self._quarantine.note(node_id, kind)
        if self._quarantine.nodes != before:
            self._able.clear()
        return self._nodes[node_id].node if first and node_id in self._nodes and node_id not in self._gone else None

    def ended(self, key: str, outcome: Outcome) -> Followup:
        """Record the end of the running task `key` and return what follows; see `note` for its node."""
        place = self._nodes[self._where.pop(key)]
        share_bytes = place.node.memory_bytes / len(place.tasks)
        task, node = place.remove(key), place.node
        beside = any(not other.exclusive for other, _ in place.tasks.values())
        gpu_bytes = node.gpu_memory_bytes * task.need.gpus_on(node) if node.num_gpus else 0
        if node.id in self._gone and not place.tasks:
            del self._nodes[node.id]
            self._gone.discard(node.id)
            self._able.clear()
        if outcome.kind == "ok":
            for held in self._held.pop(key, []):
                (self._ready if held.exclusive else self._packed)[held.key] = held
            return Followup()
        may_grow = not (task.exclusive and place.shared_worker)
        retry = next_attempt(task, outcome, node.id, share_bytes, gpu_bytes, may_grow=may_grow)
        if retry is not None and beside and not outcome.on_gpu and not self._suits_any(retry.need):
            retry = self._alone_in_memory(task, retry)
        if retry is not None and (retry.need == task.need or self._suits_any(retry.need)):
            if retry.exclusive:
                self._ready[key] = retry
            else:
                self._packed[key] = retry
                self._sort()
            return Followup(retry=retry)
        return Followup(dropped=self.drop(key))

    def drop(self, key: str) -> tuple[Task, ...]:
        """Forget the task `key` and the waiting tasks that depend on it; return the latter."""
        self._packed.pop(key, None)
        self._ready.pop(key, None)
        if (after := self._after.get(key)) in self._held:  # it may itself wait for another task
            left = [task for task in self._held.pop(after) if task.key != key]
            if left:
                self._held[after] = left
        dropped: list[Task] = []
        for held in self._held.pop(key, []):
            dropped += [held, *self.drop(held.key)]
        return tuple(dropped)

    def blocked_on(self, task: Task) -> str:
        """Return, in a few words, what the waiting `task` is waiting for."""
        if task.after is not None and any(task in tasks for tasks in self._held.values()):
            return "its fit"
        able = self._eligible(task)
        if not able:
            return "a node that can run it"
        names = ", ".join(place.node.name for place in able[:3]) + ("…" if len(able) > 3 else "")
        if task.exclusive:
            return f"{names} to be empty"
        measuring = [place for place in able if place.measuring or place.node.id in self._draining]
        return f"measurements on {names}" if len(measuring) == len(able) else f"room on {names}"

    def idle(self) -> dict[Idle, float]:
        """Return the number of CPUs that are idle now, by reason."""
        found: dict[Idle, float] = {}
        for place in self._alive():
            free = 0.0 if place.measuring else place.node.num_cpus - place.num_cpus
            reason: Idle = "tail"
            if self.num_waiting:
                reason = "drain" if place.node.id in self._draining or (self._ready and place.tasks) else "no fit"
            if free:
                found[reason] = found.get(reason, 0.0) + free
        return found

    def _alone_in_memory(self, task: Task, retry: Task) -> Task:
        """Return `retry` with the memory of the largest node where `task` fits, so that nothing runs beside it.

        Return it unchanged if that is not more than `task` needs.
        """
        able = [place.node.memory_bytes for place in self._alive() if task.need.lacks(place.node) is None]
        most = max(able, default=0)
        return retry.with_memory(int(most)) if most > task.need.memory_bytes else retry

    def _suits_any(self, need: Need) -> bool:
        return any(need.lacks(place.node) is None for place in self._nodes.values())

    def _alive(self) -> list[_NodeUse]:
        return [place for node_id, place in self._nodes.items() if node_id not in self._gone]

    def _eligible(self, task: Task) -> list[_NodeUse]:
        """Return the nodes where `task` may run: not where it failed, nor in quarantine, unless no other is left."""
        key = (task.need, task.avoid)
        if key not in self._able:
            able = [place for place in self._alive() if task.need.lacks(place.node) is None]
            for excluded in (task.avoid | self._quarantine.nodes, self._quarantine.nodes, frozenset[str]()):
                self._able[key] = [place for place in able if place.node.id not in excluded]
                if self._able[key]:
                    break
        return self._able[key]

    def _sort(self) -> None:
        shares: dict[Need, float] = {}

        def size(task: Task) -> float:
            if task.need not in shares:
                shares[task.need] = dominant_share(task.need, self.nodes)
            return shares[task.need] * max(task.seconds_at.values(), default=task.seconds)

        self._packed = dict(sorted(self._packed.items(), key=lambda item: -size(item[1])))

    def _choose_drains(self) -> None:
        """Mark the nodes that take no more packed tasks until they have run measurements."""
        alive = {place.node.id for place in self._alive()}
        self._draining &= alive
        self._draining = {  # a task that avoids a node because it failed there must not keep it empty
            node_id
            for node_id in self._draining
            if any(self._nodes[node_id] in self._eligible(task) for task in self._ready.values())
        }
        if not self._ready:
            self._draining.clear()
            return
        if self._drain_at is None:
            return
        for place in sorted(self._alive(), key=lambda p: (len(p.tasks), p.node.id)):
            if place.node.id in self._draining or place.measuring:
                continue
            claimed = MAX_BLOCK * len(self._draining)
            here = sum(1 for task in self._ready.values() if place in self._eligible(task))
            if here - claimed >= self._drain_at:
                self._draining.add(place.node.id)

    def _start_packed(self) -> list[Start]:
        accepting = {p.node.id: p for p in self._alive() if not p.measuring and p.node.id not in self._draining}
        starts: list[Start] = []
        too_big: set[tuple[Need, frozenset[str]]] = set()
        first_passed: Task | None = None
        chosen: list[Task] = []
        for task in self._packed.values():
            if not any(place.num_cpus + 1e-9 < place.node.num_cpus for place in accepting.values()):
                break
            shape = (task.need, task.avoid)
            if shape in too_big:
                continue
            fitting = [
                (place, gpus)
                for place in self._eligible(task)
                if place.node.id in accepting and (gpus := place.gpus_for(task.need)) is not None
            ]
            if not fitting:
                too_big.add(shape)
                if first_passed is None:
                    first_passed = task
                    if self._overtaken[0] == task.key and self._overtaken[1] >= PATIENCE:
                        self._reserve(task, accepting)
                continue
            place, gpus = min(fitting, key=lambda each: _preference(each[0], task))
            place.add(task, gpus)
            self._where[task.key] = place.node.id
            chosen.append(task)
            starts.append(Start(place.node, (task,)))
            if first_passed is not None:
                times = self._overtaken[1] + 1 if self._overtaken[0] == first_passed.key else 1
                self._overtaken = (first_passed.key, times)
                if times == PATIENCE:
                    self._reserve(first_passed, accepting)
        for task in chosen:
            del self._packed[task.key]
        return starts

    def _reserve(self, task: Task, accepting: dict[str, _NodeUse]) -> None:
        """Remove from `accepting` the node that will fit `task` soonest; it stays reserved until the task starts."""
        able = [place for place in self._eligible(task) if place.node.id in accepting]
        if not able:
            return
        reserved = [place for place in able if (task.key, place.node.id) == self._reserved]
        soonest = min(
            reserved or able, key=lambda p: (sum(t.seconds_on(p.node) for t, _ in p.tasks.values()), p.node.id)
        )
        self._reserved = (task.key, soonest.node.id)
        del accepting[soonest.node.id]

    def _start_measurements(self) -> list[Start]:
        starts = []
        idle = [place for place in self._alive() if not place.tasks]
        for position, place in enumerate(idle):
            able = [task for task in self._ready.values() if place in self._eligible(task)]
            if not able:
                continue
            size = min(MAX_BLOCK, math.ceil(len(able) / (len(idle) - position)))
            # One that has failed before is measured alone: it may have caused the failure of the others in its block.
            fresh = [task for task in able if not task.failed]
            block = tuple(heapq.nsmallest(size, fresh, key=lambda task: task.group)) if fresh else (able[0],)
            self._begin_block(place, block)
            starts.append(Start(place.node, block))
            if not self._ready:
                self._draining.clear()
        return starts

    def _begin_block(self, place: _NodeUse, block: Sequence[Task]) -> None:
        place.shared_worker = len(block) > 1
        for task in block:
            del self._ready[task.key]
            place.add(task, ())
            self._where[task.key] = place.node.id


def _preference(place: _NodeUse, task: Task) -> tuple[bool, float, float, float, str]:
    """Return a sort key, smaller is better: keep GPU nodes free, then low cost (price x time), fast, empty."""
    node, seconds = place.node, task.seconds_on(place.node)
    idle_gpus = task.need.device != "cuda" and node.num_gpus > 0
    return idle_gpus, (node.price_per_hour or 0.0) * seconds, seconds, place.num_cpus / node.num_cpus, node.id
