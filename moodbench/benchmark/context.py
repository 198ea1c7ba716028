"""Run context: from a spec to a plan to a store with all its records; and a run in the background, for the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Any, Literal

import pyarrow as pa

from moodbench.benchmark.data_report import DataReport, data_reports
from moodbench.benchmark.driver import Listener, RunSummary, run_plan
from moodbench.benchmark.estimates import estimates_of
from moodbench.benchmark.plan import Plan, plan_of
from moodbench.benchmark.preflight import check_preflight
from moodbench.benchmark.resolve import resolve
from moodbench.benchmark.target import Cancelled, ClusterTarget, LocalTarget, Target
from moodbench.config import Catalogue
from moodbench.config.cluster import ClusterFile
from moodbench.data.loader import Sources
from moodbench.errors import MoodBenchError, UsageError
from moodbench.hardware import Hardware
from moodbench.runtime.executor import Executor, InlineExecutor
from moodbench.runtime.process import Outcome
from moodbench.runtime.ray_cluster import ClusterExecutor
from moodbench.runtime.ray_local import end_abandoned
from moodbench.spec import BenchmarkSpec, TrialSpec
from moodbench.spec.job import Job, PhaseName, checkpoint_interval_s
from moodbench.store import Store
from moodbench.tracking import track

ExecutorName = Literal["ray", "inline"]
RunState = Literal["idle", "running", "cancelling", "ended", "cancelled", "failed"]


def ignore(event: Mapping[str, Any]) -> None:
    """Ignore an event; the store keeps every event of a run too."""


@dataclass(frozen=True)
class RunContext:
    """Where trials run, and where their results go.

    The machine is the one that measurements are bound to, and this machine if there is no `target`. The caller closes
    the `target`.
    """

    store: Store
    catalogue: Catalogue
    machine: Hardware
    target: Target | None = None
    """A cluster, or another target than this machine with the `executor`."""
    executor: ExecutorName = "ray"
    listen: Listener = ignore
    """Called with every event of a run."""
    sources: Sources = field(default_factory=Sources)
    """The loaded datasets."""
    stop: Event | None = None
    """Ends a run on this machine once it is set."""

    def resolve(self, spec: BenchmarkSpec, *, with_baseline: bool = True) -> list[TrialSpec]:
        """Return the trials of `spec`.

        Raises: MoodBenchError for everything that is wrong with the request.
        """
        return resolve(spec, self.catalogue, self.machine, sources=self.sources, with_baseline=with_baseline)

    def plan(self, trials: Sequence[TrialSpec], until: PhaseName = "measure") -> Plan:
        """Return the plan of what the store lacks of `trials`, up to the phase `until`.

        Raises: StoreError if the store cannot be written, or has a record that cannot be read.
        """
        self.store.check_writable()
        return plan_of(trials, self.store, until)

    def reports(self, plan: Plan) -> list[DataReport]:
        """Return a report on each dataset of `plan` from a file, Kaggle or the hub; none if nothing is missing."""
        return data_reports(plan.requested, self.catalogue, self.sources) if plan.trials else []

    def run(self, plan: Plan, reports: Sequence[DataReport] = ()) -> RunSummary:
        """Run what is missing and return the outcome; if nothing is missing, start nothing.

        The `reports` are the first events of the run.

        Raises: PrerequisiteError if a model cannot be loaded, this machine lacks disk or memory, or the store of a
        cluster lacks disk space.
        """
        if not plan.trials:
            self._remove_abandoned()
            self._store_examples(plan)
            track(self.store, has_new=False)
            return RunSummary(run_id="")
        checkpoint_interval_s()  # raises for an invalid setting before anything is written
        num_cpus = (
            self.machine.num_cores if self.target is None else sum(int(node.num_cpus) for node in self.target.nodes())
        )
        notes = check_preflight(
            plan,
            self,
            num_fits_at_once=1 if self.executor == "inline" else max(1, num_cpus),
            here=self.target is None or self.target.alone,
        )
        self._remove_abandoned()
        self._store_examples(plan)
        with self._open_target() as target:
            estimates = estimates_of(plan, self.catalogue, self.store, target.machines(), self.sources)
            preface = [report.as_event() for report in reports]
            preface += [{"event": "note", "detail": note} for note in notes]
            summary = run_plan(plan, self.store, target, estimates=estimates, preface=preface, listen=self.listen)
        self._remove_abandoned()  # again: workers of a killed run may have lived on when this one began
        track(self.store, has_new=summary.num_committed > 0)
        return summary

    def _remove_abandoned(self) -> None:
        """Remove what killed runs left on this machine: processes of their Ray, and their part of the staging area."""
        end_abandoned()
        self.store.remove_abandoned()

    @contextmanager
    def _open_target(self) -> Iterator[Target]:
        """Yield the target; this machine's own is closed in the end."""
        if self.target is not None:
            yield self.target
            return
        executor, one_at_a_time = _executor(self.executor, self.machine), self.executor == "inline"
        with closing(LocalTarget(executor, self.machine, one_at_a_time=one_at_a_time, stop=self.stop)) as here:
            yield here

    def _store_examples(self, plan: Plan) -> None:
        for data in {t.fit.dataset.revision: t.fit.dataset for t in plan.requested}.values():
            if self.store.has_examples(data.name, data.revision):
                continue
            examples = self.sources.load(data.name, data)
            frame = examples.frame.assign(private=examples.private)
            self.store.put_examples(data.name, data.revision, pa.Table.from_pandas(frame, preserve_index=False))


def cluster_target(address: str, store: Store, rules: ClusterFile, *, source: str = "--address") -> ClusterTarget:
    """Return the Ray cluster at `address` as the target of a run, to be closed by the caller.

    Raises: PrerequisiteError, which says why the cluster cannot be used.
    """
    store.check_writable()
    return ClusterTarget(ClusterExecutor(address, source=source), store, rules, address=address)


def _executor(name: ExecutorName, machine: Hardware) -> Executor:
    if name == "ray":
        from moodbench.runtime.ray_local import LocalRayExecutor

        return LocalRayExecutor(machine.num_cores)

    from moodbench.worker import run_job

    def entry(stdin: str, emit: Listener) -> Outcome:
        with redirect_stdout(sys.stderr):  # libraries must not print into the command's own output
            return run_job(Job.model_validate_json(stdin), emit)

    return InlineExecutor(entry)


class BackgroundRun:
    """At most one run at a time; its records and events are stored like those of any other run."""

    def __init__(self, store: Store, catalogue: Catalogue, machine: Hardware, executor: ExecutorName = "ray") -> None:
        self.catalogue = catalogue
        self._store, self._machine, self._executor = store, machine, executor
        self._lock = Lock()
        self._stop = Event()
        self._thread: Thread | None = None
        self._state: RunState = "idle"
        self._message = ""
        self._run_id = ""

    @property
    def state(self) -> tuple[RunState, str]:
        """State of the run, and a sentence about it."""
        return self._state, self._message

    @property
    def is_busy(self) -> bool:
        """Whether a run is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, spec: BenchmarkSpec) -> None:
        """Start the run that `spec` asks for.

        Raises: UsageError if another run is in progress.
        """
        with self._lock:
            if self.is_busy:
                raise UsageError("a run is already in progress; wait until it ends, or cancel it")
            self._stop = Event()
            self._run_id = ""
            self._set_state("running", f"preparing {', '.join(spec.models)} on {', '.join(spec.datasets)}")
            self._thread = Thread(target=self._go, args=(spec, self._stop), name="moodbench-run", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """Ask the run to end; committed records are kept, unfinished work is lost."""
        with self._lock:
            if self.is_busy:
                self._stop.set()
                self._set_state("cancelling", "Stopping the running trials.")

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s` seconds for the run, and return whether none is in progress."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.is_busy

    def _set_state(self, state: RunState, message: str) -> None:
        self._state, self._message = state, message

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started":
            self._run_id = str(event["run_id"])
            self._set_state("running", f"Run {self._run_id} is in progress.")

    def _go(self, spec: BenchmarkSpec, stop: Event) -> None:
        try:
            context = RunContext(
                self._store, self.catalogue, self._machine, executor=self._executor, listen=self._on_event, stop=stop
            )
            plan = context.plan(context.resolve(spec))
            summary = context.run(plan, context.reports(plan))
        except Cancelled:
            now = datetime.now(UTC).isoformat()
            self._store.write_event_line(self._run_id, {"at": now, "event": "run_ended", "cancelled": True})
            self._set_state(
                "cancelled", "Cancelled. Committed results are in the store; start the run again to resume."
            )
        except MoodBenchError as error:
            self._set_state("failed", str(error))
        else:
            if not summary.run_id:
                self._set_state("ended", "Nothing to do: all results are in the store.")
            elif summary.failures:
                self._set_state("failed", f"{len(summary.failures)} trials failed: {'; '.join(summary.failures[:3])}")
            else:
                self._set_state("ended", f"Run {summary.run_id} ended, {summary.num_committed} records were committed.")
        finally:
            if (fault := sys.exception()) is not None:  # not a refusal: its traceback goes to the page's log
                self._set_state("failed", f"{type(fault).__name__}: {fault}")
