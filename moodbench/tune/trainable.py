"""Trainable of Ray Tune: the fit phases of a trial's configurations, in a separate process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moodbench.config.search_space import Configuration
from moodbench.runtime.forkserver import ADDRESS
from moodbench.runtime.process import Outcome, RunningProcess
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import steps_of
from moodbench.spec.job import FitPhase, Job
from moodbench.store import Store
from moodbench.tune.search import Search
from moodbench.tune.trials import sign

MEMBERS = "members"
"""Key of a trial's config with its configurations."""
TRIES = 3
"""Number of attempts if a process ends for an external reason, such as a full disk."""
WAIT_S = 5.0
"""Wait before the next attempt."""
NOT_FINAL = "infrastructure"
WORST = {1: 0.0, -1: 1e9}
"""Score reported to the scheduler for a trial that never reached one, by `sign` of the metric."""


def members_of(config: Mapping[str, Any]) -> Sequence[Configuration]:
    """Return the configurations that a Ray Tune trial with this `config` trains."""
    found: Sequence[Configuration] = config[MEMBERS]
    return found


class Reporter:
    """Validation scores and errors of a trial's configurations, and their reports to Ray Tune."""

    def __init__(self, specs: Sequence[FitSpec], report: Callable[[dict[str, Any]], None], node: str = "") -> None:
        first = specs[0].train
        assert first is not None
        self._specs, self._send, self.metric, self._node = specs, report, first.select_by, node
        self._best: dict[str, float] = {}
        self._points: dict[str, set[tuple[int, float]]] = {}
        self._memory: dict[str, int] = {}
        self.errors: dict[str, tuple[str, str]] = {}
        """Fit id -> kind and detail of the error that ended it."""
        self._last: tuple[str, int] | None = None

    def add_memory(self, fit_id: str, memory_bytes: int | None) -> None:
        """Record the peak memory of a fit's training so far; ignored if fits share a process, as it is then unknown."""
        if memory_bytes is not None and len(self._specs) == 1:
            self._memory[fit_id] = max(self._memory.get(fit_id, 0), memory_bytes)

    def add_point(self, fit_id: str, texts: int, score: float) -> None:
        """Report a point of a learning curve, once."""
        if (texts, score) in self._points.setdefault(fit_id, set()):
            return
        self._points[fit_id].add((texts, score))
        direction, known = sign(self.metric), self._best.get(fit_id)
        self._best[fit_id] = score if known is None or direction * score > direction * known else known
        self._report(fit_id, texts, score)

    def add_error(self, fit_id: str, kind: str, detail: str) -> None:
        """Record the error that ended a configuration."""
        self.errors[fit_id] = (kind, detail)

    def close(self) -> None:
        """Report the failures, which may have come after the last point."""
        if self.errors:
            fit_id, texts = self._last or (self._specs[0].fit_id, 0)
            self._report(fit_id, texts, None)

    def _report(self, fit_id: str, texts: int, score: float | None) -> None:
        self._last = (fit_id, texts)
        direction = sign(self.metric)
        top = max(self._best.values(), key=lambda value: direction * value, default=WORST[direction])
        self._send(
            {
                "texts": texts,
                "score": top,
                "raw_score": score,
                "fit_id": fit_id,
                "memory_bytes": self._memory.get(fit_id),
                "errors": dict(self.errors),
                "node": self._node,
            }
        )


def train(config: dict[str, Any], search: Search, store_uri: str, deadline_s: float | None) -> None:
    """Train the configurations that the store lacks, and report each validation to Ray Tune.

    The last point of a training is reported only after the fit is committed, so that no scheduler discards it.
    `deadline_s` limits the time of each configuration, after which the process is killed.
    """
    import ray
    from ray import tune

    specs = [search.fit(each) for each in members_of(config)]
    reporter = Reporter(specs, tune.report, ray.get_runtime_context().get_node_id())
    store = Store.open(store_uri)
    missing = {}
    for spec in specs:
        record = store.record("fits", spec.fit_id)
        if record is None:
            missing[spec.fit_id] = spec
            continue
        reporter.add_memory(spec.fit_id, record["train_peak_memory_bytes"])
        for texts, score in committed_curve(spec, record):
            reporter.add_point(spec.fit_id, texts, score)
    for number in range(TRIES):
        if not missing:
            break
        if number:
            time.sleep(WAIT_S)
        for fit_id in missing:
            reporter.errors.pop(fit_id, None)
        _run(search, store_uri, missing, reporter, None if deadline_s is None else deadline_s * len(missing))
        missing = {
            fit_id: spec
            for fit_id, spec in missing.items()
            if reporter.errors.get(fit_id, ("", ""))[0] == NOT_FINAL and store.record("fits", fit_id) is None
        }
    reporter.close()


def committed_curve(spec: FitSpec, record: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the learning curve in the `record` of a fit: pairs of texts trained and validation score."""
    return [
        (_texts(spec, record["num_train"], point["step"]), point["validation_score"])
        for point in record["curve"]
        if point["validation_score"] is not None
    ]


def _run(
    search: Search, store_uri: str, missing: Mapping[str, FitSpec], reporter: Reporter, deadline_s: float | None
) -> None:
    """Run one process for the fits of `missing`; afterwards each fit is committed or has an error."""
    job = Job(
        run_id=f"search-{search.search_id}",
        store=store_uri,
        phases=tuple(FitPhase(spec=spec) for spec in missing.values()),
        device=search.device,
        num_threads=1,
        together=len(missing) > 1,
    )
    held: dict[str, tuple[int, float]] = {}
    committed: set[str] = set()
    process = RunningProcess(
        ("-m", "moodbench.worker"),
        job.model_dump_json(),
        1,
        deadline_s=deadline_s,
        fork_server=os.environ.get(ADDRESS) if job.forkable else None,
    )
    try:
        for message in process.messages():
            if isinstance(message, Outcome):
                ending = message.kind if message.kind != "ok" else NOT_FINAL
                lines = (message.detail or "ended without a record").strip().splitlines()
                for fit_id in missing.keys() - committed - reporter.errors.keys():
                    reporter.add_error(fit_id, ending, lines[-1])
                break
            kind, fit_id = message.get("event"), message.get("id", "")
            if kind == "progress":
                spec = missing[fit_id]
                reporter.add_memory(fit_id, message["peak_memory_bytes"])
                for step, score in message.get("earlier", ()):
                    reporter.add_point(fit_id, _texts(spec, search.num_train, step), score)
                score = message.get(f"eval_{reporter.metric}")
                if score is None:
                    continue
                point = (_texts(spec, search.num_train, message["step"]), score)
                if message["step"] >= message["num_steps"]:
                    held[fit_id] = point
                else:
                    reporter.add_point(fit_id, *point)
            elif kind in ("committed", "skipped"):
                committed.add(fit_id)
                if fit_id in held:
                    reporter.add_point(fit_id, *held.pop(fit_id))
            elif kind == "failed":
                reporter.add_error(fit_id, message["kind"], message["error"])
    finally:
        process.close()


def _texts(spec: FitSpec, num_train: int, step: int) -> int:
    assert spec.train is not None
    return steps_of(spec.train, num_train).texts_at(step)
