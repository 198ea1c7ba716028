"""Trainable of Ray Tune: the fit phases of its configurations, in a separate process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moodbench.config.schema import LoraDefaults, NumberFormat, Quantization
from moodbench.config.search_space import SearchSpace, values_of
from moodbench.hardware import Device
from moodbench.runtime.process import RunningProcess
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import steps_of
from moodbench.store import Store
from moodbench.tune.records import sign
from moodbench.tune.request import SearchRequest, fit_of
from moodbench.tune.searcher import members_of
from moodbench.worker import FitPhase, Job

TRIES = 3
"""Number of attempts if a process ends for an external reason, such as a full disk."""
WAIT_S = 5.0
"""Wait before the next attempt."""
NOT_FINAL = "infrastructure"
WORST = {1: 0.0, -1: 1e9}
"""Score reported to the scheduler for a trial that never reached one, by `sign` of the metric."""


@dataclass(frozen=True)
class Sent:
    """Input of a trial, as plain values that any node with the same package can read."""

    base: str
    space: str
    targets: Mapping[str, tuple[str, ...]]
    formats: Mapping[Quantization, NumberFormat]
    store: str
    search_id: str
    device: Device
    deadline_s: float | None
    """Time limit per configuration, after which the process is killed; None for no limit."""
    num_train: int
    """Number of texts per epoch."""

    @classmethod
    def of(cls, request: SearchRequest, store: Store, deadline_s: float | None) -> Sent:
        """Return the values to send for a request."""
        lora = request.base.lora
        assert lora is not None
        named = request.space.parameters.get("lora.target_modules")
        values = (lora.target_modules, *((values_of(named) or ()) if named else ()))
        targets = {repr(value): request.targets(lora.model_copy(update={"target_modules": value})) for value in values}
        return cls(
            request.base.model_dump_json(),
            request.space.model_dump_json(),
            targets,
            dict(request.formats),
            store.uri,
            request.search_id,
            request.device,
            deadline_s,
            request.num_train,
        )

    def fit(self, configuration: Mapping[str, Any]) -> FitSpec:
        """Return the fit of a configuration, as `SearchRequest.fit` does."""
        return fit_of(
            FitSpec.model_validate_json(self.base),
            SearchSpace.model_validate_json(self.space),
            configuration,
            self._targets,
            self.formats,
        )

    def _targets(self, lora: LoraDefaults) -> tuple[str, ...]:
        return self.targets[repr(lora.target_modules)]


class Progress:
    """Progress of a trial's configurations, and its reports to Ray Tune."""

    def __init__(self, specs: list[FitSpec], tell: Callable[[dict[str, Any]], None], node: str = "") -> None:
        first = specs[0].train
        assert first is not None
        self._specs, self._tell, self.metric, self._node = specs, tell, first.select_by, node
        self._best: dict[str, float] = {}
        self._points: dict[str, set[tuple[int, float]]] = {}
        self._memory: dict[str, int] = {}
        self.errors: dict[str, tuple[str, str]] = {}
        """Fit id -> kind and detail of the error that ended it."""
        self._last: tuple[str, int, float | None] | None = None

    def took(self, fit_id: str, memory_bytes: int | None) -> None:
        """Record the peak memory of a fit's training so far; ignored if fits share a process, as it is then unknown."""
        if memory_bytes is not None and len(self._specs) == 1:
            self._memory[fit_id] = max(self._memory.get(fit_id, 0), memory_bytes)

    def reached(self, fit_id: str, texts: int, score: float) -> None:
        """Report a point of a learning curve, once."""
        if (texts, score) in self._points.setdefault(fit_id, set()):
            return
        self._points[fit_id].add((texts, score))
        direction, known = sign(self.metric), self._best.get(fit_id)
        self._best[fit_id] = score if known is None or direction * score > direction * known else known
        self._report(fit_id, texts, score)

    def failed(self, fit_id: str, kind: str, detail: str) -> None:
        """Record the error that ended a configuration."""
        self.errors[fit_id] = (kind, detail)

    def close(self) -> None:
        """Report the failures, which may have come after the last point."""
        if self.errors:
            fit_id, texts, _ = self._last or (self._specs[0].fit_id, 0, None)
            self._report(fit_id, texts, None)

    def _report(self, fit_id: str, texts: int, score: float | None) -> None:
        self._last = (fit_id, texts, score)
        direction = sign(self.metric)
        top = max(self._best.values(), key=lambda value: direction * value, default=WORST[direction])
        # Pairs, because Ray Tune flattens the mappings of a result before its searcher gets it.
        outcomes = [
            (f, {"score": value, "memory_bytes": self._memory.get(f)})
            for f, value in self._best.items()
            if f not in self.errors
        ]
        self._tell(
            {
                "texts": texts,
                "score": top,
                "raw_score": score,
                "fit_id": fit_id,
                "memory_bytes": self._memory.get(fit_id),
                "outcomes": outcomes,
                "errors": dict(self.errors),
                "node": self._node,
            }
        )


def run_slot(config: dict[str, Any], sent: Sent) -> None:
    """Train the configurations that the store lacks, and report each validation to Ray Tune.

    The last point of a training is reported only after the fit is committed, so that no scheduler discards it.
    """
    import ray
    from ray import tune

    specs = [sent.fit(each) for each in members_of(config)]
    progress = Progress(specs, tune.report, ray.get_runtime_context().get_node_id())
    store = Store.open(sent.store)
    missing = {}
    for spec in specs:
        done = store.record("fits", spec.fit_id)
        if done is None:
            missing[spec.fit_id] = spec
            continue
        _retold(progress, spec, done)
    for number in range(TRIES):
        if not missing:
            break
        if number:
            time.sleep(WAIT_S)
        for fit_id in missing:
            progress.errors.pop(fit_id, None)
        _run(sent, missing, progress)
        missing = {
            fit_id: spec
            for fit_id, spec in missing.items()
            if progress.errors.get(fit_id, ("", ""))[0] == NOT_FINAL and store.record("fits", fit_id) is None
        }
    progress.close()


def _retold(progress: Progress, spec: FitSpec, record: Mapping[str, Any]) -> None:
    progress.took(spec.fit_id, record["train_peak_memory_bytes"])
    for texts, score in committed_curve(spec, record):
        progress.reached(spec.fit_id, texts, score)


def committed_curve(spec: FitSpec, record: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the learning curve in the `record` of a fit: pairs of texts trained and validation score."""
    return [
        (_texts(spec, record["num_train"], point["step"]), point["validation_score"])
        for point in record["curve"]
        if point["validation_score"] is not None
    ]


def _run(sent: Sent, missing: Mapping[str, FitSpec], progress: Progress) -> None:
    """Run one process for the fits of `missing`; afterwards each fit is committed or has an error."""
    job = Job(
        run_id=f"search-{sent.search_id}",
        store=sent.store,
        phases=tuple(FitPhase(spec=spec) for spec in missing.values()),
        device=sent.device,
        num_threads=1,
        together=len(missing) > 1,
    )
    process = RunningProcess(("-m", "moodbench.worker"), job.model_dump_json(), 1)
    held: dict[str, tuple[int, float]] = {}
    committed: set[str] = set()
    deadline_s = None if sent.deadline_s is None else sent.deadline_s * len(missing)
    try:
        for message in process.messages(deadline_s=deadline_s):
            kind, fit_id = message.get("event"), message.get("id", "")
            if kind == "progress":
                spec = missing[fit_id]
                progress.took(fit_id, message["peak_memory_bytes"])
                for step, score in message.get("earlier", ()):
                    progress.reached(fit_id, _texts(spec, sent.num_train, step), score)
                score = message.get(f"eval_{progress.metric}")
                if score is None:
                    continue
                point = (_texts(spec, sent.num_train, message["step"]), score)
                if message["step"] >= message["num_steps"]:
                    held[fit_id] = point
                else:
                    progress.reached(fit_id, *point)
            elif kind in ("committed", "skipped"):
                committed.add(fit_id)
                if fit_id in held:
                    progress.reached(fit_id, *held.pop(fit_id))
            elif kind == "failed":
                progress.failed(fit_id, message["kind"], message["error"])
            elif "outcome" in message:
                for fit_id in missing.keys() - committed - progress.errors.keys():
                    ending = message["outcome"] if message["outcome"] != "ok" else NOT_FINAL
                    lines = (message["detail"] or "ended without a record").strip().splitlines()
                    progress.failed(fit_id, ending, lines[-1])
    finally:
        process.kill()


def _texts(spec: FitSpec, num_train: int, step: int) -> int:
    assert spec.train is not None
    return steps_of(spec.train, num_train).texts_at(step)
