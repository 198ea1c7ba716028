"""Run of a search: an Optuna study proposes configurations, Ray Tune schedules them, and each is an ordinary fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.stopper import NoopStopper, Stopper

from moodbench.config.search_space import Configuration
from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.tune.schedulers import add_curves, ray_scheduler, stopping_rule
from moodbench.tune.search import Search
from moodbench.tune.searcher import StudySearcher, open_journal
from moodbench.tune.trainable import NOT_FINAL, committed_curve, train
from moodbench.tune.trial_resources import Placement
from moodbench.tune.trials import Curve, Journal, SearchTrial, progress_of, put_trial, search_trials, sign

MAX_LOST = 2
"""Number of times that a trial whose node was lost is restarted elsewhere."""
MAX_UNFINISHED = 3
"""Number of configurations in a row that may end for external reasons before the search ends, as the next would too."""
Listener = Callable[[Mapping[str, Any]], None]


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


class SearchCallback(tune.Callback):  # type: ignore[misc]
    """Callback that writes the records of a search and tells its searcher the outcomes.

    `listen` receives the event `trial_ended` with the trial, the number of trials and Ray's id of its node, and
    `trial_unfinished` with the fit id and the reason.
    """

    def __init__(
        self,
        search: Search,
        store: Store,
        journal: Journal,
        searcher: StudySearcher,
        recorded: Sequence[SearchTrial],
        listen: Listener,
    ) -> None:
        self._search, self._store, self._listen = search, store, listen
        self._journal, self._searcher = journal, searcher
        self._before = progress_of(journal.study)
        self._elapsed_before_s = max([self._before.elapsed_s, *(t.elapsed_s for t in recorded)])
        self._recorded = {t.fit_id for t in recorded}
        self._curves: dict[str, Curve] = {}
        self._errors: dict[str, tuple[str, str]] = {}
        self._memory: dict[str, int | None] = {}
        self._nodes: dict[str, str] = {}
        self.num_unfinished = 0
        """Number of configurations in a row that ended for external reasons."""
        self.last_reason = ""
        self._over = False

    def __reduce__(self) -> Any:
        # Tune pickles its callbacks for a restore that we never use: a search resumes from its journal.
        return tune.Callback, ()

    def is_over(self) -> bool:
        """Return whether the search is over; trials that are cut off from then on get no record.

        It is over if the budget is spent, something cannot be written, or too many configurations in a row ended for
        external reasons.
        """
        self._journal.write()
        budget_s = self._search.budget_s
        is_spent = budget_s is not None and self._elapsed_before_s + self._journal.elapsed_s >= budget_s
        problem = self._journal.problem is not None or self.num_unfinished >= MAX_UNFINISHED
        self._over = self._over or is_spent or problem
        return self._over

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Start the clock of a configuration."""
        self._journal.begin(self._search.fit(trial.config).fit_id)
        self._journal.write(now=True)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        """Add a point to the learning curve of a configuration."""
        fit_id, point = self._search.fit(trial.config).fit_id, (result["texts"], result["raw_score"])
        self._nodes[trial.trial_id] = result["node"]
        if result["error"] is not None:
            self._errors[fit_id] = result["error"]
        if result["raw_score"] is None:
            return
        self._memory[fit_id] = result["memory_bytes"]
        curve = self._curves.get(fit_id, ())
        if point not in curve:
            self._curves[fit_id] = tuple(sorted((*curve, point)))
            with self._journal.writing():
                self._searcher.report(fit_id, self._curves[fit_id])
        self._journal.write()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that ended by itself, by the scheduler or with the search."""
        self._ended(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Leave the configuration of a trial whose node was lost to the next command."""
        lines = str(trial.get_error() or "failed").strip().splitlines()
        self._ended(trial, (NOT_FINAL, lines[-1]))

    def _ended(self, trial: Any, error: tuple[str, str] | None) -> None:
        configuration: Configuration = trial.config
        fit_id = self._search.fit(configuration).fit_id
        if fit_id in self._recorded:
            return
        committed = self._store.record("fits", fit_id)
        error = self._errors.get(fit_id, error) if committed is None else None
        if error is not None and error[0] == NOT_FINAL:
            self.num_unfinished, self.last_reason = self.num_unfinished + 1, error[1]
            self._journal.give_up(fit_id)
            with self._journal.writing():
                self._searcher.finish(fit_id, None)
            self._listen({"event": "trial_unfinished", "fit_id": fit_id, "detail": error[1]})
        elif self._over and committed is None and error is None:
            self._journal.give_up(fit_id)  # interrupted: the next command resumes it
        else:
            self.num_unfinished = 0
            ended = self._trial(configuration, committed, error)
            self._recorded.add(fit_id)
            with self._journal.writing():
                put_trial(self._store, ended)
                self._searcher.finish(fit_id, ended)
            self._journal.write(now=True)
            node = self._nodes.get(trial.trial_id, "")
            self._listen({"event": "trial_ended", "trial": ended, "num_done": len(self._recorded), "node": node})

    def _trial(
        self, configuration: Configuration, committed: Mapping[str, Any] | None, error: tuple[str, str] | None
    ) -> SearchTrial:
        spec = self._search.fit(configuration)
        curve, memory = self._curves.get(spec.fit_id, ()), self._memory.get(spec.fit_id)
        if committed is not None:  # the reported curve is partial if a scheduler stopped the trial meanwhile
            curve = tuple(committed_curve(spec, committed))
            memory = None if memory is None else committed["train_peak_memory_bytes"]
        earlier = self._before.started.get(spec.fit_id)
        return self._search.trial(
            spec.fit_id,
            self._search.space.active(configuration),
            curve,
            status="failed" if error else "stopped" if committed is None else "finished",
            train_time_s=self._journal.end(spec.fit_id) + (earlier.seconds if earlier else 0.0),
            elapsed_s=self._elapsed_before_s + self._journal.elapsed_s,
            error=error[1] if error else None,
            memory_bytes=memory,
        )


class HaltStopper(Stopper):  # type: ignore[misc]
    """Ray Tune stopper that ends the search as soon as its callback says that it is over."""

    def __init__(self, callback: SearchCallback) -> None:
        self._callback = callback

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Return False: trials are stopped by their scheduler."""
        return False

    def stop_all(self) -> bool:
        """Return whether the search is over."""
        return self._callback.is_over()

    def __reduce__(self) -> Any:
        # Tune pickles its stopper for a restore that we never use.
        return NoopStopper, ()
