"""What one trial of Ray Tune runs: the fit phases of its configurations, in a process of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moodbench.config.schema import LoraDefaults, NumberFormat, Quantization
from moodbench.config.search_space import SearchSpace, values_of
from moodbench.execution.process import RunningProcess
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.spec.fit_schedule import steps_of
from moodbench.store import Store
from moodbench.tuning.proposals import members_of
from moodbench.tuning.records import sign
from moodbench.tuning.request import SearchRequest, fit_of
from moodbench.worker import FitPhase, Job

TRIES = 3
"""Of a process that ended for a reason outside of it, such as a full disk."""
WAIT_S = 5.0
"""Before it is tried again."""
NOT_FINAL = "infrastructure"
WORST = {1: 0.0, -1: 1e9}
"""The score that schedulers are told of a slot that never reached one, by whether more is better."""


@dataclass(frozen=True)
class Sent:
    """What a slot needs to know, as plain values that any node with the same package can read."""

    base: str
    space: str
    targets: Mapping[str, tuple[str, ...]]
    formats: Mapping[Quantization, NumberFormat]
    store: str
    search_id: str
    device: Device
    deadline_s: float | None
    """After so many seconds per configuration a process is given up."""
    num_train: int
    """Texts that an epoch goes through."""

    @classmethod
    def of(cls, request: SearchRequest, store: Store, deadline_s: float | None) -> Sent:
        """What is sent of a request."""
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
        """The fit that a configuration stands for; as SearchRequest.fit."""
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
    """What the configurations of a slot have reached, and how Ray Tune is told."""

    def __init__(self, specs: list[FitSpec], tell: Callable[[dict[str, Any]], None], node: str = "") -> None:
        first = specs[0].train
        assert first is not None
        self._specs, self._tell, self.metric, self._node = specs, tell, first.select_by, node
        self._best: dict[str, float] = {}
        self._points: dict[str, set[tuple[int, float]]] = {}
        self._memory: dict[str, int] = {}
        self.errors: dict[str, tuple[str, str]] = {}
        """Fit -> kind and detail of what ended it."""
        self._last: tuple[str, int, float | None] | None = None

    def took(self, fit_id: str, memory_bytes: int | None) -> None:
        """Nothing; the training of that fit took so much memory so far. Of fits that share a process nothing is known."""
        if memory_bytes is not None and len(self._specs) == 1:
            self._memory[fit_id] = max(self._memory.get(fit_id, 0), memory_bytes)

    def reached(self, fit_id: str, texts: int, score: float) -> None:
        """Nothing; tells a point of a learning curve, once."""
        if (texts, score) in self._points.setdefault(fit_id, set()):
            return
        self._points[fit_id].add((texts, score))
        direction, known = sign(self.metric), self._best.get(fit_id)
        self._best[fit_id] = score if known is None or direction * score > direction * known else known
        self._report(fit_id, texts, score)

    def failed(self, fit_id: str, kind: str, detail: str) -> None:
        """Nothing; that configuration ended so."""
        self.errors[fit_id] = (kind, detail)

    def close(self) -> None:
        """Nothing; tells the failures, which may have come after the last point."""
        if self.errors:
            fit_id, texts, _ = self._last or (self._specs[0].fit_id, 0, None)
            self._report(fit_id, texts, None)

    def _report(self, fit_id: str, texts: int, score: float | None) -> None:
        self._last = (fit_id, texts, score)
        direction = sign(self.metric)
        top = max(self._best.values(), key=lambda value: direction * value, default=WORST[direction])
        # Pairs, as Ray Tune flattens the mappings of a result before its searcher gets it.
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
    """Nothing; trains what the store lacks, telling Ray Tune each validation.

    The point at a training's very end is told when the fit is committed, so that no scheduler throws it away.
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
    """Texts trained and the validation score then, as the `record` of the fit has them."""
    return [
        (_texts(spec, record["num_train"], point["step"]), point["validation_score"])
        for point in record["curve"]
        if point["validation_score"] is not None
    ]


def _run(sent: Sent, missing: Mapping[str, FitSpec], progress: Progress) -> None:
    """Nothing; one process for the fits of `missing`, each of which is committed or in the errors afterwards."""
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
