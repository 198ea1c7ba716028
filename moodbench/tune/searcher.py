"""Searcher of Ray Tune that asks the Optuna study of a search for configurations."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from ray.tune.search import Searcher

from moodbench.config.search_space import Configuration, default_configuration, values_of
from moodbench.store import Store
from moodbench.tune.encoding import GRID_LIMIT, grid, suggest
from moodbench.tune.search import Search
from moodbench.tune.trials import Curve, Journal, SearchTrial, progress_of, sign

MAX_REPEATS = 25
"""Number of repeated proposals after which a point of the space that is left is proposed."""


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
