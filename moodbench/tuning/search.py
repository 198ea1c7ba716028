"""The search itself: Ray Tune proposes configurations, each is an ordinary fit phase with its id and commit."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moodbench.config.schema import NumberFormat, Quantization
from moodbench.config.search_space import (
    Configuration,
    SearchSpace,
    default_configuration,
    values_of,
)
from moodbench.errors import MoodBenchError
from moodbench.execution.process import RunningProcess
from moodbench.execution.ray_local import start_ray
from moodbench.hardware import Device
from moodbench.spec import FitSpec
from moodbench.store import Store
from moodbench.tuning.groups import groups, members_of
from moodbench.tuning.optuna_space import DefineByRun, grid
from moodbench.tuning.records import SearchTrial, put_trial, search_trials, sign
from moodbench.tuning.request import SearchRequest
from moodbench.tuning.schedulers import scheduler_of
from moodbench.worker import FitPhase, Job

Tell = Callable[[Mapping[str, Any]], None]


def search(request: SearchRequest, store: Store, tell: Tell) -> list[SearchTrial]:
    """All recorded trials of the search, those of earlier commands included; trains what is missing.

    `tell` hears trial_ended, once per trial that this call ended, with `trial` and `num_done`. A call that is killed
    loses only what was running: the next one replays the recorded learning curves, which takes seconds, and goes on.
    """
    recorded = {t.fit_id: t for t in search_trials(store, request.search_id)}
    points = _first_points(request, list(recorded.values()))
    num_trials = request.num_wanted
    before_s = max((t.elapsed_s for t in recorded.values()), default=0.0)
    left_s = None if request.budget_s is None else request.budget_s - before_s
    if len(recorded) >= num_trials or (left_s is not None and left_s <= 0):
        return search_trials(store, request.search_id)
    ray = start_ray(request.num_cpus)
    try:
        _tune(request, store, recorded, points, num_trials, left_s, before_s, tell)
    finally:
        ray.shutdown()
    return search_trials(store, request.search_id)


def _first_points(request: SearchRequest, recorded: Sequence[SearchTrial]) -> list[Configuration]:
    """What is proposed before the searcher is asked: recorded trials, then the default recipe, or the grid's points."""
    assert request.base.lora is not None and request.base.train is not None
    points = [t.configuration for t in recorded]
    if request.searcher == "grid":
        fresh = grid(request.space)
    else:
        base = request.base
        default = default_configuration(request.space, base.lora, base.train, base.quantization)  # type: ignore[arg-type]
        fresh = [] if default is None else [default]
    known = {t.fit_id for t in recorded}
    return points + [point for point in fresh if request.fit(point).fit_id not in known]


def _tune(
    request: SearchRequest,
    store: Store,
    recorded: Mapping[str, SearchTrial],
    points: Sequence[Configuration],
    num_trials: int,
    left_s: float | None,
    before_s: float,
    tell: Tell,
) -> None:
    # Ray's own progress tables and loggers would write beside ours.
    os.environ.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", RAY_AIR_NEW_OUTPUT="0", TUNE_WARN_THRESHOLD_S="60")
    import optuna
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    mode = "max" if sign(request.metric) > 0 else "min"
    seed = request.space.seed + len(recorded)  # a searcher that starts anew must not propose the same again
    sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, num_trials // 2)), constant_liar=True)
        if request.searcher == "optuna"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    searcher: Any = OptunaSearch(
        DefineByRun(request.space), metric="score", mode=mode, points_to_evaluate=list(points), sampler=sampler
    )
    if request.together > 1:
        searcher = groups(searcher, request.together, num_trials, mode)
    on_cpu = request.device == "cpu"
    resources = {"cpu": 1} if on_cpu else {"cpu": 1, "gpu": 1}
    packed = max(1, request.num_cpus) if on_cpu else 1
    recorder = _recorder(request, store, set(recorded), before_s, tell)
    with tempfile.TemporaryDirectory(prefix="moodbench-tune-") as folder:
        tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    _train, request=_Sendable.of(request, store), recorded={k: v.curve for k, v in recorded.items()}
                ),
                resources,
            ),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler_of(request.scheduler, request.max_texts, mode),
                num_samples=-(-num_trials // request.together),
                max_concurrent_trials=packed,
                time_budget_s=left_s,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                name="search",
                verbose=0,
                callbacks=[recorder],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        ).fit()
    if recorder.problem is not None:
        raise recorder.problem


@dataclass(frozen=True)
class _Sendable:
    """What a trial's process needs of a request."""

    base: str
    space: str
    targets: dict[str, tuple[str, ...]]
    formats: dict[Quantization, NumberFormat]
    store: str
    search_id: str
    device: Device

    @classmethod
    def of(cls, request: SearchRequest, store: Store) -> _Sendable:
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
        )

    def request(self) -> SearchRequest:
        """The request, as far as fits are concerned."""
        return SearchRequest(
            base=FitSpec.model_validate_json(self.base),
            num_train=0,
            targets=lambda lora: self.targets[repr(lora.target_modules)],
            formats=self.formats,
            space_name="",
            space=SearchSpace.model_validate_json(self.space),
            searcher="random",
            scheduler="none",
            num_trials=1,
            budget_s=None,
            device=self.device,
            num_cpus=1,
        )


def _train(config: dict[str, Any], request: _Sendable, recorded: Mapping[str, tuple[tuple[int, float], ...]]) -> None:
    """The configurations of one slot: recorded curves where there are some, else fit phases in a process of their own."""
    from ray import tune

    specs = [request.request().fit(each) for each in members_of(config)]
    first = specs[0].train
    assert first is not None
    direction = sign(first.select_by)
    best: dict[str, float] = {}
    errors: dict[str, str] = {}

    def report(spec: FitSpec, texts: int, score: float) -> None:
        known = best.get(spec.fit_id)
        best[spec.fit_id] = score if known is None or direction * score > direction * known else known
        top = max(best.values(), key=lambda value: direction * value)
        scores = [best.get(each.fit_id) for each in specs]
        tune.report(
            {
                "texts": texts,
                "score": top,
                "raw_score": score,
                "fit_id": spec.fit_id,
                "scores": scores,
                "errors": errors,
            }
        )

    store = Store.open(request.store)
    missing = {}
    for spec in specs:
        done = None if spec.fit_id in recorded else store.record("fits", spec.fit_id)
        if spec.fit_id in recorded:
            for texts, score in recorded[spec.fit_id]:
                report(spec, texts, score)
        elif done is not None:
            for point in done["curve"]:
                if point["validation_score"] is not None:
                    report(spec, _texts(spec, point["step"]), point["validation_score"])
        else:
            missing[spec.fit_id] = spec
    if not missing:
        return
    job = Job(
        run_id=f"search-{request.search_id}",
        store=request.store,
        phases=tuple(FitPhase(spec=spec) for spec in missing.values()),
        device=request.device,
        num_threads=1,
        together=len(missing) > 1,
    )
    process = RunningProcess(("-m", "moodbench.worker"), job.model_dump_json(), 1)
    last: tuple[FitSpec, int, float] | None = None
    try:
        for message in process.messages():
            reached = message.get(f"eval_{first.select_by}")
            if message.get("event") == "progress" and reached is not None:
                spec = missing[message["id"]]
                last = (spec, _texts(spec, message["step"]), reached)
                report(*last)
            if message.get("event") == "failed":
                errors[message["id"]] = message["error"]
            if "outcome" in message and message["outcome"] != "ok":
                if last is not None and len(errors) < len(missing):
                    report(*last)  # tells what failed; the other configurations stand
                else:
                    detail = next(iter(errors.values()), "") or message["detail"] or message["outcome"]
                    raise RuntimeError(detail)
    finally:
        process.kill()


def _texts(spec: FitSpec, step: int) -> int:
    assert spec.train is not None
    return step * spec.train.effective_batch_size


def _recorder(request: SearchRequest, store: Store, known: set[str], before_s: float, tell: Tell) -> Any:
    """A Tune callback that writes each trial's record when it ends."""
    from ray import tune

    began = time.monotonic()

    class Recorder(tune.Callback):  # type: ignore[misc]
        problem: Exception | None = None

        def __init__(self) -> None:
            self.curves: dict[str, list[tuple[int, float]]] = {}
            self.errors: dict[str, str] = {}
            self.started: dict[str, float] = {}

        def __reduce__(self) -> Any:
            # Tune saves its settings for a restore that we never ask of it: our own records are what goes on.
            return tune.Callback, ()

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.started[trial.trial_id] = time.monotonic()

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
            point, curve = (result["texts"], result["raw_score"]), self.curves.setdefault(result["fit_id"], [])
            if point not in curve:
                curve.append(point)
            self.errors |= result["errors"]

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self._record(trial, None)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            lines = str(trial.get_error() or "failed").strip().splitlines()
            self._record(trial, lines[-1])

        def _record(self, trial: Any, error: str | None) -> None:
            for configuration in members_of(trial.config):
                self._record_one(trial, configuration, error)

        def _record_one(self, trial: Any, configuration: Configuration, error: str | None) -> None:
            spec = request.fit(configuration)
            if spec.fit_id in known:
                return
            known.add(spec.fit_id)
            error = self.errors.get(spec.fit_id, error)
            curve = tuple(self.curves.get(spec.fit_id, ()))
            num_members = len(members_of(trial.config))
            committed = store.record("fits", spec.fit_id) is not None
            scores = [sign(request.metric) * score for _, score in curve]
            ended = SearchTrial(
                search_id=request.search_id,
                fit_id=spec.fit_id,
                model=spec.model.name,
                dataset=spec.dataset.name,
                space=request.space_name,
                configuration=request.space.active(configuration),
                status="finished" if committed else "failed" if error else "stopped",
                metric=request.metric,
                score=sign(request.metric) * max(scores) if scores else None,
                texts_trained=curve[-1][0] if curve else 0,
                curve=curve,
                train_time_s=(time.monotonic() - self.started.get(trial.trial_id, began)) / num_members,
                elapsed_s=before_s + time.monotonic() - began,
                error=error,
            )
            try:
                put_trial(store, ended)
            except (OSError, MoodBenchError) as problem:
                self.problem = problem
            tell({"event": "trial_ended", "trial": ended, "num_done": len(known)})

    return Recorder()
