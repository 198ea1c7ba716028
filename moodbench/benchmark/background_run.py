"""A single run in a background thread that can be cancelled: how the page starts what `moodbench run` does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from moodbench.benchmark.context import ExecutorName, RunContext
from moodbench.benchmark.target import Cancelled
from moodbench.config import Catalogue
from moodbench.errors import MoodBenchError, UsageError
from moodbench.hardware import Hardware
from moodbench.spec import BenchmarkSpec
from moodbench.store import Store

QueueState = Literal["idle", "running", "cancelling", "ended", "cancelled", "failed"]


class BackgroundRun:
    """At most one run at a time; its records and events are stored like those of any other run."""

    def __init__(self, store: Store, catalogue: Catalogue, machine: Hardware, executor: ExecutorName = "ray") -> None:
        self.catalogue = catalogue
        self._store, self._machine, self._executor = store, machine, executor
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._state: QueueState = "idle"
        self._message = ""
        self._run_id = ""

    @property
    def state(self) -> tuple[QueueState, str]:
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
            self._stop = threading.Event()
            self._run_id = ""
            self._set_state("running", f"preparing {', '.join(spec.models)} on {', '.join(spec.datasets)}")
            self._thread = threading.Thread(target=self._go, args=(spec, self._stop), name="moodbench-run", daemon=True)
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

    def _set_state(self, state: QueueState, message: str) -> None:
        self._state, self._message = state, message

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "run_started":
            self._run_id = str(event["run_id"])
            self._set_state("running", f"Run {self._run_id} is in progress.")

    def _go(self, spec: BenchmarkSpec, stop: threading.Event) -> None:
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
