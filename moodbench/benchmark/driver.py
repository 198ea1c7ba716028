"""Driver of a run: starts the tasks of a plan in scheduler order, and reports events to the listener and the store."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from moodbench.benchmark.plan import Plan
from moodbench.benchmark.target import Target
from moodbench.benchmark.tasks import Estimates, command_of, tasks_of
from moodbench.errors import PrerequisiteError
from moodbench.runtime.executor import Progress
from moodbench.runtime.process import Outcome
from moodbench.schedule import Node, Scheduler, Start, Task
from moodbench.schedule.accounting import Accounting, Eta, Ledger
from moodbench.schedule.resources import impossible
from moodbench.store import Store

STATE_EVERY_S = 5.0
"""Minimum seconds between two `state` events."""
WAITING_AFTER_S = 15.0
"""Seconds after which a command that has not begun counts as waiting for resources that others use."""
Listener = Callable[[Mapping[str, Any]], None]
"""Receives every event of a run.

The events are run_started, note, state, job_started, started, progress, committed, skipped, failed, job_ended,
node_joined, node_left, node_refused, node_quarantined, waiting_for_node and run_ended.
"""


@dataclass
class RunSummary:
    """Outcome of a run."""

    run_id: str
    num_committed: int = 0
    failures: list[str] = field(default_factory=list)
    """One line per trial that lacks a record, with the reason."""
    accounting: Accounting = field(default_factory=Accounting)
    """How well the run used its nodes."""


def run_plan(
    plan: Plan,
    store: Store,
    target: Target,
    *,
    estimates: Estimates | None = None,
    preface: Sequence[Mapping[str, Any]] = (),
    listen: Listener,
) -> RunSummary:
    """Run `plan` and return the outcome; whatever fails, committed records are kept.

    The `estimates` give what trials need and how long they take. `listen` receives every event, and the store keeps
    them too. The events of `preface` follow run_started.

    Raises: PrerequisiteError if no node could ever run one of the tasks; nothing is started then.
    """
    run = _Run(plan, store, target, listen, estimates)
    run.begin(preface)
    while run.scheduler.num_waiting or run.scheduler.running:
        run.update_nodes()
        for start in run.scheduler.start():
            run.launch(start)
        run.emit_state()
        for ended in target.poll(target.poll_s, run.on_progress):
            run.command_ended(ended.key, ended.outcome, ended.seconds)
    return run.end()


class _Run:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        target: Target,
        listen: Listener,
        estimates: Estimates | None,
    ) -> None:
        self._plan, self._store, self._target, self._listen = plan, store, target, listen
        self.summary = RunSummary(f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}")
        self._nodes = tuple(target.nodes())
        most_bytes = self._nodes[0].memory_bytes if target.alone and self._nodes else math.inf
        self._tasks = tasks_of(plan, target.machine.machine_key, estimates, most_bytes)
        tasks = [task for task, _ in self._tasks.values()]
        impossible_tasks = impossible(tasks, self._nodes)
        if impossible_tasks:
            raise PrerequisiteError(
                "no node can run " + "; ".join(sorted(set(impossible_tasks.values()))[:5]) + ". "
                "Nothing was started: leave these models out, or add a node that meets the needs"
            )
        self.scheduler = Scheduler(tasks, self._nodes, drain_at=target.drain_at)
        self._commands: dict[str, tuple[Start, float]] = {}
        self._command_of_task: dict[str, str] = {}
        self._labels = {p.id: work.trial.label for _, work in self._tasks.values() for p in work.phases}
        self._done: set[str] = set()
        self._errors: dict[str, tuple[str, Outcome]] = {}
        self._ledger = Ledger(self._nodes)
        self._eta = Eta()
        self._num_failed = 0
        self._missing_since: dict[str, float] = {}
        self._checked = self._nodes
        self._last_state_at = float("-inf")
        self._began = time.monotonic()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Send one event to the store and the listener."""
        self._store.write_event_line(self.summary.run_id, {"at": datetime.now(UTC).isoformat(), **event})
        self._listen(event)

    def begin(self, preface: Sequence[Mapping[str, Any]]) -> None:
        """Report the start of the run and the events of `preface`."""
        nodes = [{"name": node.name, "kind": node.kind, "num_cpus": node.num_cpus} for node in self._nodes]
        self.emit(
            {
                "event": "run_started",
                "run_id": self.summary.run_id,
                "num_jobs": len(self._tasks),
                "num_done": self._plan.num_phases_done,
                "nodes": nodes,
            }
        )
        for event in preface:
            self.emit(event)

    def update_nodes(self) -> None:
        """Update the nodes that joined or left, and fail tasks that no node will run any more."""
        for event in self._target.node_events():
            self.emit(event)
        now = tuple(self._target.nodes())
        if now != self._nodes:
            self._nodes = now
            self._ledger.nodes(time.monotonic() - self._began, now)
            lost = {self._command_of_task[key] for key in self.scheduler.set_nodes(now)}
            for key in lost:
                self._target.executor.cancel(key)
                name = self._commands[key][0].node.name
                self.command_ended(key, Outcome("infrastructure", f"node {name} left the cluster"))
        if self._missing_since or self._checked != now:
            self._checked = now
            self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        """Fail the tasks that no node has been able to run for `node_return_s`."""
        impossible_tasks = impossible(self.scheduler.waiting, self._nodes)
        clock = time.monotonic()
        new = [key for key in impossible_tasks if key not in self._missing_since]
        if new and self._target.node_return_s:
            detail = f"{impossible_tasks[new[0]]}" + (f"; and {len(new) - 1} more" if len(new) > 1 else "")
            self.emit({"event": "waiting_for_node", "detail": detail, "seconds": self._target.node_return_s})
        self._missing_since = {key: self._missing_since.get(key, clock) for key in impossible_tasks}
        dropped: set[str] = set()
        for key, since in self._missing_since.items():
            if key not in dropped and clock - since >= self._target.node_return_s:
                task = self._tasks[key][0]
                others = self.scheduler.drop(key)
                dropped |= {key, *(each.key for each in others)}
                self._num_failed += len(others)
                outcome = Outcome("infrastructure", impossible_tasks[key].removeprefix(f"{task.label}: "))
                self._fail(task, outcome)
                event = {"event": "job_ended", "job": task.key, "trial": task.label, "outcome": outcome.kind}
                self.emit({**event, "detail": outcome.detail, "retry": False})
        self._missing_since = {key: since for key, since in self._missing_since.items() if key not in dropped}

    def launch(self, start: Start) -> None:
        """Start a command on its node."""
        node = start.node
        estimated = [task.seconds_at.get(node.machine_key) for task in start.tasks]
        known = [seconds for seconds in estimated if seconds is not None]
        command = command_of(
            [(task, self._tasks[task.key][1]) for task in start.tasks],
            node,
            run_id=self.summary.run_id,
            store=self._store.uri,
            isolation=self._target.executor.isolation(node.id),
            deadline_s=self._target.deadlines.of(sum(known) if len(known) == len(estimated) else None),
        )
        self._commands[command.key] = (start, time.monotonic())
        for task in start.tasks:
            self._command_of_task[task.key] = command.key
            self._errors.pop(task.key, None)
            self.emit({"event": "job_started", "job": task.key, "trial": task.label, "node": node.name})
        self._target.executor.start(command, node.id)

    def on_progress(self, progress: Progress) -> None:
        """Handle one event of a worker."""
        start, _ = self._commands[progress.key]
        event = progress.event
        id_ = event.get("id")
        task = next((t for t in start.tasks if any(p.id == id_ for p in self._tasks[t.key][1].phases)), start.tasks[0])
        if event["event"] in ("committed", "skipped"):
            self._done.add(str(id_))
            self.summary.num_committed += event["event"] == "committed"
        elif event["event"] == "failed":
            self._errors[task.key] = (str(event["error"]), Outcome(event["kind"], on_gpu=event.get("on_gpu", False)))
        self.emit({**event, "job": task.key, "trial": task.label, "node": start.node.name})

    def command_ended(self, key: str, outcome: Outcome, seconds: float | None = None) -> None:
        """Handle the end of a command, task by task.

        `seconds` is how long it ran; if None, the time since it was handed to the executor counts.
        """
        start, began = self._commands.pop(key)
        held = time.monotonic() - began
        took = held if seconds is None else seconds
        outcomes = [(task, self._outcome(task, start, outcome)) for task in start.tasks]
        # A block of measurements is one worker, so its failure counts only once against the node.
        kinds = {each.kind for _, each in outcomes}
        quarantined = self.scheduler.note(
            start.node.id, "infrastructure" if "infrastructure" in kinds else outcome.kind
        )
        for task, each in outcomes:
            self._task_ended(task, start.node, each, took / len(start.tasks), (held - took) / len(start.tasks))
        if quarantined is not None and len(self._nodes) > 1:
            reported = (each.detail for _, each in outcomes if each.kind == "infrastructure")
            detail = next(reported, outcome.detail)  # all tasks of a block may have ended before the worker was lost
            self.emit({"event": "node_quarantined", "node": start.node.name, "detail": detail})

    def _outcome(self, task: Task, start: Start, outcome: Outcome) -> Outcome:
        """Return the outcome of `task` in a command that ended with `outcome`.

        In a block of measurements, one task may fail while the others succeed.
        """
        if len(start.tasks) == 1:
            return outcome
        if self._is_done(task):
            return Outcome("ok")
        if task.key in self._errors:
            return self._errors[task.key][1]
        return outcome if outcome.kind != "ok" else Outcome("infrastructure", "its worker ended without reporting it")

    def _is_done(self, task: Task) -> bool:
        return all(phase.id in self._done for phase in self._tasks[task.key][1].phases)

    def _task_ended(self, task: Task, node: Node, outcome: Outcome, took: float, waited_s: float) -> None:
        del self._command_of_task[task.key]
        after = self.scheduler.ended(task.key, outcome)
        event: dict[str, Any] = {"event": "job_ended", "job": task.key, "trial": task.label, "outcome": outcome.kind}
        if outcome.kind == "not started":
            self._ledger.not_started(task, took + waited_s)
        else:
            self._ledger.ended(task, took, well=outcome.kind == "ok", waited_s=waited_s)
        if outcome.kind == "ok":
            self._eta.learn(task, node, took)
            self.emit({**event, "node": node.name, "seconds": took})
            return
        detail = outcome.detail or self._errors.get(task.key, ("", outcome))[0]
        self.emit({**event, "node": node.name, "detail": detail, "retry": after.retry is not None})
        if after.retry is None:
            self._fail(task, outcome)
            self._num_failed += len(after.dropped)

    def _fail(self, task: Task, outcome: Outcome) -> None:
        self._num_failed += 1
        own = self._errors.get(task.key, ("", outcome))[0]
        reason = own or (outcome.detail.splitlines()[-1] if outcome.detail else "see its record in failures/")
        self.summary.failures.append(f"{task.label}: {outcome.kind}: {reason}")

    def emit_state(self) -> None:
        """Account for idle CPUs, and report the state of the whole run, at most every `STATE_EVERY_S` seconds."""
        clock = time.monotonic()
        self._ledger.idle(clock - self._began, self.scheduler.idle())
        if clock - self._last_state_at < STATE_EVERY_S:
            return
        self._last_state_at = clock
        waiting = self.scheduler.waiting
        blocked = Counter(self.scheduler.blocked_on(task) for task in waiting[:200])
        pending = [
            (s, began) for key, (s, began) in self._commands.items() if not self._target.executor.has_started(key)
        ]
        late = {start.node for start, began in pending if clock - began > WAITING_AFTER_S}
        blocks = [start for start, _ in self._commands.values() if len(start.tasks) > 1]
        self.emit(
            {
                "event": "state",
                "num_queued": len(waiting),
                "num_running": len(self._commands) - len(pending),
                "num_in_turns": sum(not self._is_done(task) for start in blocks for task in start.tasks),
                "num_starting": len(pending),
                "num_ended": len(self._ledger.spent),
                "num_failed": self._num_failed,
                "blocked_on": dict(blocked.most_common(5)),
                "no_room": {node.name: self._target.executor.free_resources(node.id) for node in late},
                "eta_s": self._eta.eta_s(waiting, self._running(clock), self._nodes),
            }
        )

    def _running(self, clock: float) -> Iterable[tuple[Task, Node, float]]:
        """Yield each running task with its node and how long it has run, in seconds.

        Measurements of a block take turns, so the time of the block is divided in proportion to their lengths.
        """
        for start, began in self._commands.values():
            lengths = [task.seconds_on(start.node) for task in start.tasks]
            for task, length in zip(start.tasks, lengths, strict=True):
                share = length / sum(lengths) if sum(lengths) else 1 / len(lengths)
                yield task, start.node, (clock - began) * share

    def end(self) -> RunSummary:
        """Report the end of the run and return its summary."""
        self.summary.accounting = self._ledger.closed(time.monotonic() - self._began)
        self.emit(
            {
                "event": "run_ended",
                "run_id": self.summary.run_id,
                "num_failed": len(self.summary.failures),
                **asdict(self.summary.accounting),
            }
        )
        return self.summary
