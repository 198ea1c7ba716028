"""Run of a search: an Optuna study proposes configurations, Ray Tune schedules them, and each is an ordinary fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune

from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.tune.callbacks import MAX_UNFINISHED, HaltStopper, Listener, SearchCallback
from moodbench.tune.schedulers import add_curves, ray_scheduler, stopping_rule
from moodbench.tune.search import Search
from moodbench.tune.searcher import StudySearcher, open_journal
from moodbench.tune.trainable import train
from moodbench.tune.trial_resources import Placement
from moodbench.tune.trials import SearchTrial, search_trials, sign

MAX_LOST = 2
"""Number of times that a trial whose node was lost is restarted elsewhere."""


def run_search(search: Search, store: Store, placement: Placement, listen: Listener) -> list[SearchTrial]:
    """Train the missing configurations and return all recorded trials, including those of earlier commands.

    `listen` receives the events of `SearchCallback`. A call that is killed loses nothing: the next one starts with the
    configurations that were running, and their fits resume from their checkpoints.

    Raises: PrerequisiteError if several configurations in a row end for external reasons.
    """
    recorded = search_trials(store, search.search_id)
    if len(recorded) >= search.num_wanted:
        return recorded
    with store.attempt() as attempt:
        journal = open_journal(search, store, attempt.folder, len(recorded))
        searcher = StudySearcher(search, journal, recorded)
        callback = SearchCallback(search, store, journal, searcher, recorded, listen)
        if callback.is_over():
            return recorded
        with placement.ray():
            try:
                _tune(search, store, placement, searcher, callback, recorded, placement.storage(store, attempt.folder))
            finally:
                journal.write(now=True)
    if journal.problem is not None:
        raise journal.problem
    if callback.num_unfinished >= MAX_UNFINISHED:
        raise PrerequisiteError(
            f"{MAX_UNFINISHED} configurations in a row ended for external reasons, the last with "
            f"{callback.last_reason!r}; solve that and rerun the command to resume"
        )
    return search_trials(store, search.search_id)


def _tune(
    search: Search,
    store: Store,
    placement: Placement,
    searcher: StudySearcher,
    callback: SearchCallback,
    recorded: Sequence[SearchTrial],
    folder: str,
) -> None:
    # Ray's progress tables and loggers would mix with ours, and its SIGINT handler would make an interrupt look like a
    # normal end.
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_WARN_THRESHOLD_S="60",
        TUNE_DISABLE_SIGINT_HANDLER="1",
    )
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    direction = sign(search.metric)
    rule = stopping_rule(search.scheduler, search.max_texts, search.chance)
    add_curves(rule, [t.curve for t in recorded], direction)
    trainable = tune.with_parameters(train, search=search, store_uri=store.uri, deadline_s=placement.deadline_s)
    tune.Tuner(
        tune.with_resources(trainable, placement.resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=ray_scheduler(rule, direction, is_default_in(search)),
            num_samples=search.num_wanted - len(recorded),  # an upper limit: the searcher ends the search
            max_concurrent_trials=placement.max_concurrent,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            storage_path=folder,
            name="search",
            verbose=0,
            stop=HaltStopper(callback),
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=MAX_LOST),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    ).fit()


def is_default_in(search: Search) -> Callable[[Mapping[str, Any]], bool]:
    """Return a predicate: whether a trial with this config trains the default recipe, which is never stopped early."""
    return lambda configuration: search.fit(configuration).fit_id == search.base.fit_id
