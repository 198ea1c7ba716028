"""The search: an Optuna study proposes configurations, Ray Tune schedules them, and each is an ordinary fit."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher
from ray.tune.stopper import NoopStopper, Stopper

from moodbench.config.search_space import Configuration, default_configuration, values_of
from moodbench.errors import PrerequisiteError
from moodbench.store import Store
from moodbench.tune.encoding import GRID_LIMIT, grid, suggest
from moodbench.tune.schedulers import add_curves, ray_scheduler, stopping_rule
from moodbench.tune.search import Search
from moodbench.tune.trainable import NOT_FINAL, committed_curve, train
from moodbench.tune.trial_resources import Placement
from moodbench.tune.trials import Curve, Journal, SearchTrial, progress_of, put_trial, search_trials, sign

Listener = Callable[[Mapping[str, Any]], None]
MAX_UNFINISHED = 3
"""Number of configurations in a row that may end for external reasons before the search ends, as the next would too."""
MAX_LOST = 2
"""Number of times that a trial whose node was lost is restarted elsewhere."""
MAX_REPEATS = 25
"""Number of repeated proposals after which a point of the space that is left is proposed."""


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


def open_journal(search: Search, store: Store, folder: Path, num_recorded: int) -> Journal:
    """Open the study of `search`, with a sampler that does not repeat the proposals of earlier commands.

    A journal of a remote store is kept in `folder`.
    """
    seed = search.space.seed + num_recorded
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
    if search.searcher == "optuna":
        num_startup = min(10, max(4, search.num_wanted // 2))
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=num_startup, constant_liar=True)
    directions = ["maximize" if sign(search.metric) > 0 else "minimize"]
    directions += ["minimize"] if search.objective == "memory" else []
    return Journal(store, search.search_id, folder, directions, sampler)


def first_points(search: Search) -> list[Configuration]:
    """Return the configurations to propose before those of the sampler: the grid, or the default and the warm start."""
    base = search.base
    assert base.lora is not None and base.train is not None
    if search.searcher == "grid":
        return grid(search.space)
    default = default_configuration(search.space, base.lora, base.train, base.quantization)
    return [*([] if default is None else [default]), *(each.configuration for each in search.warm_points)]


class StudySearcher(Searcher):  # type: ignore[misc]
    """Ray Tune searcher that asks the study of a search for configurations; each is the config of a trial.

    Each configuration is tried once: a repeated proposal gets the known outcome, or that of the same configuration when
    its running trial ends. If the sampler only repeats itself, a point that is left of a finite space is proposed. The
    search ends when `search.num_wanted` outcomes are known.
    """

    def __init__(self, search: Search, journal: Journal, recorded: Sequence[SearchTrial]) -> None:
        super().__init__(metric="score", mode="max" if sign(search.metric) > 0 else "min")
        self._search, self._journal, self._study = search, journal, journal.study
        self._outcomes = {t.fit_id: objective_values(search, t) for t in recorded}
        self._running: dict[str, list[optuna.Trial]] = {}
        interrupted = list(progress_of(self._study).without_record(set(self._outcomes)).values())
        points = [each.configuration for each in interrupted] + first_points(search)
        self._initial, self._remaining = self._untried(points), self._untried(_every_point(search, len(recorded)))
        self._reopen(recorded)

    def __reduce__(self) -> Any:
        # Tune pickles its searcher for a restore that we never use: a search resumes from its journal.
        return Searcher, ()

    def suggest(self, trial_id: str) -> Any:
        """Return the config of a new trial, None while there is none, or FINISHED."""
        configuration = None
        if len(self._outcomes) + len(self._running) < self._search.num_wanted:
            with self._journal.writing():
                configuration = self._propose()
        if configuration is not None:
            return configuration
        return None if self._running or self._journal.problem else Searcher.FINISHED

    def report(self, fit_id: str, curve: Curve) -> None:
        """Write the learning curve of a running configuration."""
        for trial in self._running.get(fit_id, ())[:1]:
            with suppress(UpdateFinishedTrialError):  # another command resumed the search meanwhile
                trial.set_user_attr("curve", curve)

    def finish(self, fit_id: str, recorded: SearchTrial | None) -> None:
        """Tell the study the outcome of a running configuration, None if it ended without a record."""
        values = None if recorded is None else objective_values(self._search, recorded)
        self._outcomes[fit_id] = values
        for trial in self._running.pop(fit_id, ()):
            self._tell(trial, values)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: `SearchCallback` reports the outcome."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a search resumes from its journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: a search resumes from its journal."""

    def _reopen(self, recorded: Sequence[SearchTrial]) -> None:
        """Finish the trials that earlier commands left running, and add recorded ones that the journal lacks.

        The record of a configuration is written before the study is told, so a killed command may have done only that.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._tell(trial.number, self._outcomes.get(trial.user_attrs.get("fit_id", "")))
        known = progress_of(self._study).started
        for each in recorded:
            if each.fit_id not in known:
                asked, _, fit_id = self._ask(each.configuration)
                self._tell(asked, self._outcomes.get(fit_id))

    def _propose(self) -> Configuration | None:
        """Return a configuration without an outcome that is not running, or None if none is found."""
        for number in range(2 * MAX_REPEATS):
            point = next(self._initial, None)
            if point is None and number >= MAX_REPEATS:
                point = next(self._remaining, None)
                if point is None:
                    return None
            trial, configuration, fit_id = self._ask(point)
            if fit_id in self._outcomes:
                self._tell(trial, self._outcomes[fit_id])
            elif fit_id in self._running:
                self._running[fit_id].append(trial)
            else:
                self._running[fit_id] = [trial]
                return configuration
        return None

    def _ask(self, point: Configuration | None) -> tuple[optuna.Trial, Configuration, str]:
        """Ask the study for a trial, with the parameters of `point` if given."""
        if point is not None:
            self._study.enqueue_trial(point)
        trial = self._study.ask()
        configuration = suggest(trial, self._search.space)
        fit_id = self._search.fit(configuration).fit_id
        trial.set_user_attr("fit_id", fit_id)
        return trial, configuration, fit_id

    def _tell(self, trial: optuna.Trial | int, values: Sequence[float] | None) -> None:
        state = TrialState.FAIL if values is None else TrialState.COMPLETE
        self._study.tell(trial, values, state, skip_if_finished=True)

    def _untried(self, points: Iterable[Configuration]) -> Iterator[Configuration]:
        """Yield the points that have no outcome and are not running when they are needed."""
        for point in points:
            fit_id = self._search.fit(point).fit_id
            if fit_id not in self._outcomes and fit_id not in self._running:
                yield point


def objective_values(search: Search, trial: SearchTrial) -> list[float] | None:
    """Return the objective values of a trial; None if it failed or lacks one of them."""
    values = [trial.score, trial.memory_bytes] if search.objective == "memory" else [trial.score]
    if trial.status == "failed" or any(value is None for value in values):
        return None
    return [float(value) for value in values if value is not None]


def _every_point(search: Search, num_recorded: int) -> Iterator[Configuration]:
    """Yield the points of a finite space in random order.

    Yield nothing for a space with continuous ranges, where proposals do not repeat, or with over GRID_LIMIT points.
    """
    finite = all(values_of(each) is not None for each in search.space.parameters.values())
    if not finite or search.num_grid > GRID_LIMIT:
        return
    points = grid(search.space)
    random.Random(search.space.seed + num_recorded).shuffle(points)
    yield from points


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
