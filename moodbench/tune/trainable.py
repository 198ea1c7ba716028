"""Trainable of Ray Tune: the fit of a trial's configuration, in a separate process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
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

TRIES = 3
"""Number of attempts if a process ends for an external reason, such as a full disk."""
WAIT_S = 5.0
"""Wait before the next attempt."""
NOT_FINAL = "infrastructure"
WORST = {1: 0.0, -1: 1e9}
"""Score reported to the scheduler for a trial that never reached one, by `sign` of the metric."""


class Reporter:
    """Learning curve, memory and error of a trial's fit, and their reports to Ray Tune."""

    def __init__(self, spec: FitSpec, report: Callable[[dict[str, Any]], None], node: str = "") -> None:
        assert spec.train is not None
        self.metric = spec.train.select_by
        self.error: tuple[str, str] | None = None
        """Kind and detail of the error that ended the fit."""
        self._send, self._node = report, node
        self._points: dict[int, float] = {}
        self._memory_bytes: int | None = None

    def add_memory(self, memory_bytes: int | None) -> None:
        """Record the peak memory of the training so far."""
        if memory_bytes is not None:
            self._memory_bytes = max(self._memory_bytes or 0, memory_bytes)

    def add_point(self, texts: int, score: float) -> None:
        """Report a point of the learning curve, once."""
        if self._points.get(texts) != score:
            self._points[texts] = score
            self._report(texts, score)

    def close(self) -> None:
        """Report the error, which may have come after the last point."""
        if self.error is not None:
            self._report(max(self._points, default=0), None)

    def _report(self, texts: int, score: float | None) -> None:
        direction = sign(self.metric)
        best = max(self._points.values(), key=lambda value: direction * value, default=WORST[direction])
        self._send(
            {
                "texts": texts,
                "score": best,
                "raw_score": score,
                "memory_bytes": self._memory_bytes,
                "error": self.error,
                "node": self._node,
            }
        )


def train(config: Configuration, search: Search, store_uri: str, deadline_s: float | None) -> None:
    """Train a configuration that the store lacks, and report each validation to Ray Tune.

    The last point of a training is reported only after the fit is committed, so that no scheduler discards it.
    `deadline_s` limits the time of the fit, after which the process is killed.
    """
    import ray
    from ray import tune

    spec = search.fit(config)
    reporter = Reporter(spec, tune.report, ray.get_runtime_context().get_node_id())
    store = Store.open(store_uri)
    record = store.record("fits", spec.fit_id)
    if record is not None:
        reporter.add_memory(record["train_peak_memory_bytes"])
        for texts, score in committed_curve(spec, record):
            reporter.add_point(texts, score)
        return
    for number in range(TRIES):
        if number:
            time.sleep(WAIT_S)
        reporter.error = None
        _run(search, store_uri, spec, reporter, deadline_s)
        unfinished = reporter.error is not None and reporter.error[0] == NOT_FINAL
        if not unfinished or store.record("fits", spec.fit_id) is not None:
            break
    reporter.close()


def committed_curve(spec: FitSpec, record: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the learning curve in the `record` of a fit: pairs of texts trained and validation score."""
    return [
        (_texts(spec, record["num_train"], point["step"]), point["validation_score"])
        for point in record["curve"]
        if point["validation_score"] is not None
    ]


def _run(search: Search, store_uri: str, spec: FitSpec, reporter: Reporter, deadline_s: float | None) -> None:
    """Run the process of the fit; afterwards it is committed or has an error."""
    job = Job(
        run_id=f"search-{search.search_id}",
        store=store_uri,
        phases=(FitPhase(spec=spec),),
        device=search.device,
        num_threads=1,
    )
    last: tuple[int, float] | None = None
    committed = False
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
                if not committed and reporter.error is None:
                    lines = (message.detail or "ended without a record").strip().splitlines()
                    reporter.error = (message.kind if message.kind != "ok" else NOT_FINAL, lines[-1])
                break
            kind = message.get("event")
            if kind == "progress":
                reporter.add_memory(message["peak_memory_bytes"])
                for step, score in message.get("earlier", ()):
                    reporter.add_point(_texts(spec, search.num_train, step), score)
                score = message.get(f"eval_{reporter.metric}")
                if score is None:
                    continue
                point = (_texts(spec, search.num_train, message["step"]), score)
                if message["step"] >= message["num_steps"]:
                    last = point
                else:
                    reporter.add_point(*point)
            elif kind in ("committed", "skipped"):
                committed = True
                if last is not None:
                    reporter.add_point(*last)
            elif kind == "failed":
                reporter.error = (message["kind"], message["error"])
    finally:
        process.close()


def _texts(spec: FitSpec, num_train: int, step: int) -> int:
    assert spec.train is not None
    return steps_of(spec.train, num_train).texts_at(step)
