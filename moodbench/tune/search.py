"""The search: Ray Tune proposes configurations, and each is an ordinary fit phase, committed under its own id."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from moodbench.config.search_space import Configuration, default_configuration, values_of
from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.tune.callbacks import MAX_UNFINISHED, Tell, halt_of, recorder
from moodbench.tune.optuna_space import GRID_LIMIT, DefineByRun, grid
from moodbench.tune.records import SearchTrial, search_trials, sign
from moodbench.tune.request import SearchRequest
from moodbench.tune.schedulers import prime, scheduler_of
from moodbench.tune.searcher import MEMBERS, Known, members_of, proposals
from moodbench.tune.trainable import Sent, run_slot
from moodbench.tune.trial_resources import Place
from moodbench.tune.underway import Session, Spent, proposed, spent

MAX_LOST = 2
"""Number of times that a trial whose node was lost is restarted elsewhere."""


def search(request: SearchRequest, store: Store, place: Place, tell: Tell) -> list[SearchTrial]:
    """Train the missing configurations at `place` and return all recorded trials, including those of earlier commands.

    `tell` receives the events of the recorder. A call that is killed loses nothing: the next one starts with the
    configurations that were running, and their fits resume from their checkpoints.

    Raises:
        PrerequisiteError: If several configurations in a row end for external reasons.
    """
    recorded = search_trials(store, request.search_id)
    before = spent(store, request.search_id)
    elapsed_s = max([before.elapsed_s, *(t.elapsed_s for t in recorded)])  # records may be older than sessions
    left_s = None if request.budget_s is None else request.budget_s - elapsed_s
    if len(recorded) >= request.num_wanted or (left_s is not None and left_s <= 0):
        return recorded
    with place.ray():
        _tune(request, store, place, recorded, Spent(elapsed_s, before.open), left_s, tell)
    return search_trials(store, request.search_id)


def first_points(
    request: SearchRequest, recorded: Sequence[SearchTrial], begun: Sequence[Configuration]
) -> list[Configuration]:
    """Return the configurations to propose before the searcher's own.

    In order: recorded trials, started trials, the default recipe or the grid, and the warm-start points.
    """
    base = request.base
    assert base.lora is not None and base.train is not None
    if request.searcher == "grid":
        fresh = grid(request.space)
    else:
        default = default_configuration(request.space, base.lora, base.train, base.quantization)
        fresh = [] if default is None else [default]
    points = [t.configuration for t in recorded]
    known = {t.fit_id for t in recorded}
    for point in (*begun, *fresh, *request.warm):
        fit_id = request.fit(point).fit_id
        if fit_id not in known:
            known.add(fit_id)
            points.append(point)
    return points


def _tune(
    request: SearchRequest,
    store: Store,
    place: Place,
    recorded: Sequence[SearchTrial],
    before: Spent,
    left_s: float | None,
    tell: Tell,
) -> None:
    # Ray's progress tables and loggers would mix with ours, and its SIGINT handler would make an interrupt look like a
    # normal end.
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_WARN_THRESHOLD_S="60",
        TUNE_DISABLE_SIGINT_HANDLER="1",
    )
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    direction = sign(request.metric)
    mode = "max" if direction > 0 else "min"
    begun = list(proposed(store, request.search_id).values())
    scheduler = scheduler_of(request.scheduler, request.max_texts, mode, request.chance, default_of(request))
    prime(scheduler, [t.curve for t in recorded], direction)
    session = Session(store, request.search_id)
    watched = recorder(request, store, {t.fit_id for t in recorded}, before, session, left_s, tell)
    # An upper limit, as a trial may hold a single configuration; the searcher ends the search.
    most_slots = request.num_wanted - len(recorded)
    with store.attempt() as attempt:
        folder = place.storage(store, attempt.folder)
        try:
            tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(run_slot, sent=Sent.of(request, store, place.deadline_s)), place.bundles
                ),
                tune_config=tune.TuneConfig(
                    search_alg=_searcher(request, recorded, begun, mode),
                    scheduler=scheduler,
                    num_samples=most_slots,
                    max_concurrent_trials=place.num_slots,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    name="search",
                    verbose=0,
                    stop=halt_of(watched),
                    callbacks=[watched],
                    failure_config=tune.FailureConfig(max_failures=MAX_LOST),
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                ),
            ).fit()
        finally:
            session.write(now=True)
    if watched.problem is not None:
        raise watched.problem
    if watched.num_unfinished >= MAX_UNFINISHED:
        raise PrerequisiteError(
            f"{MAX_UNFINISHED} configurations in a row ended for reasons outside of them, the last with "
            f"{watched.last_reason!r}; see to that and give the same command, which goes on"
        )


def default_of(request: SearchRequest) -> Callable[[Any], bool]:
    """Return a predicate: whether a Ray Tune trial trains the default recipe, which is never stopped early."""
    known: dict[str, bool] = {}

    def is_default(trial: Any) -> bool:
        if trial.trial_id not in known:
            members = members_of(trial.config) if MEMBERS in trial.config else ()
            known[trial.trial_id] = any(request.fit(each).fit_id == request.base.fit_id for each in members)
        return known[trial.trial_id]

    return is_default


def _searcher(
    request: SearchRequest, recorded: Sequence[SearchTrial], begun: Sequence[Configuration], mode: str
) -> Any:
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    num = request.num_wanted
    seed = request.space.seed + len(recorded)  # a restarted searcher must not repeat its proposals
    sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(4, num // 2)), constant_liar=True)
        if request.searcher == "optuna"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    both = request.objective == "memory"
    inner = OptunaSearch(
        DefineByRun(request.space),
        metric=["score", "memory_bytes"] if both else "score",
        mode=[mode, "min"] if both else mode,
        points_to_evaluate=first_points(request, recorded, begun),
        sampler=sampler,
    )
    known = [Known(t.configuration, t.fit_id, _values(t, both=both)) for t in recorded]
    return proposals(
        inner,
        known,
        lambda point: request.fit(point).fit_id,
        size=request.together,
        num_wanted=num,
        left=_every_point(request, seed),
        mode=mode,
    )


def _values(trial: SearchTrial, *, both: bool) -> dict[str, float] | None:
    """Return the objective values of a recorded trial for the searcher; None if it failed or lacks one of them."""
    if trial.status == "failed" or trial.score is None or (both and trial.memory_bytes is None):
        return None
    return {"score": trial.score} | ({"memory_bytes": float(trial.memory_bytes or 0)} if both else {})


def _every_point(request: SearchRequest, seed: int) -> Iterator[Configuration]:
    """Yield the points of a finite space in random order.

    Yield nothing for a space with continuous ranges, where proposals do not repeat, or with over GRID_LIMIT points.
    """
    finite = all(values_of(each) is not None for each in request.space.parameters.values())
    if not finite or request.num_grid > GRID_LIMIT:
        return
    points = grid(request.space)
    random.Random(seed).shuffle(points)
    yield from points
