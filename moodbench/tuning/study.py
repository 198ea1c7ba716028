"""What a search says: scores that can be compared, the value of a budget, and which hyper-parameters mattered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.tuning.axes import Axis, points
from moodbench.tuning.fanova import variance_shares
from moodbench.tuning.records import SearchTrial, sign

NUM_RESAMPLES = 100
NUM_BAND = 1000
NUM_TREES = 8
"""Of each forest; a resample has one."""
LEAST_TRIALS = 8
"""Fewer tell nothing of importance."""
REACHED_SHARE = 0.9
"""Scores are compared after as many texts as this share of the trials reached."""
LEVEL = 0.95
"""Of the interval of a cell's mean."""
Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class EqualScores:
    """Validation scores of trials after equally many texts."""

    trials: tuple[SearchTrial, ...]
    scores: tuple[float, ...]
    """In the metric's unit, one for each of `trials`."""
    texts: int | None
    """Texts after which they stand; None where every trial was trained to its end."""
    num_left_out: int
    """Trials with a score that ended before."""

    @property
    def cost(self) -> float:
        """Mean number of texts that one of these scores took."""
        ends = [min(t.texts_trained, self.texts or t.texts_trained) for t in self.trials]
        return float(np.mean(ends)) if ends else 0.0


def equal_scores(trials: Sequence[SearchTrial]) -> EqualScores:
    """The best validation score of each trial up to the most texts that nine tenths of the trials reached.

    A stopped trial's last score is no score of a full training, and those that were trained to their end are the ones
    that began well; so all are compared after equally many texts. A trial that finished counts as having reached any
    number: it would have trained no further.
    """
    scored = [t for t in trials if t.score is not None and t.status != "failed" and t.curve]
    ends = sorted((t.curve[-1][0] for t in scored if t.status != "finished"), reverse=True)
    if not ends:
        final = tuple(t.score for t in scored if t.score is not None)
        return EqualScores(tuple(scored), final, None, 0)
    num_finished = len(scored) - len(ends)
    wanted = int(np.ceil(REACHED_SHARE * len(scored)))
    texts = ends[max(0, min(len(ends), wanted - num_finished) - 1)]
    kept, scores = [], []
    for trial in scored:
        up_to = [score for at, score in trial.curve if at <= texts]
        if up_to and (trial.status == "finished" or trial.curve[-1][0] >= texts):
            kept.append(trial)
            scores.append(max(up_to, key=lambda score: sign(trial.metric) * score))
    return EqualScores(tuple(kept), tuple(scores), texts, len(scored) - len(kept))


def best_so_far(trials: Sequence[SearchTrial]) -> list[tuple[int, float]]:
    """Texts trained in all up to the end of a trial that has a score, and the best score of those so far."""
    spent, best, found = 0, None, list[tuple[int, float]]()
    for trial in trials:
        spent += trial.texts_trained
        if trial.status != "failed" and trial.score is not None:
            direction = sign(trial.metric)
            best = trial.score if best is None else direction * max(direction * best, direction * trial.score)
            found.append((spent, best))
    return found


def expected_best(scores: Sequence[float] | Array, direction: int = 1) -> Array:
    """The expected best of 1 to N configurations drawn as these N were. Shape (N,), or (draws, N) for rows of scores.

    Dodge et al. (2019), Show Your Work: E[max of n] = sum over the distinct scores v of v (F(v)^n - F(v-)^n), F the
    empirical distribution; with `direction` -1 the smallest is best. It describes random draws; a guided search does
    better at equal cost, if it works.
    """
    values = np.sort(direction * np.asarray(scores, dtype=float), axis=-1)
    num = values.shape[-1]
    upto = np.arange(1, num + 1) / num
    budgets = np.arange(1, num + 1)[:, None]
    result: Array = direction * (values @ (upto**budgets - (upto - 1 / num) ** budgets).T)
    return result


@dataclass(frozen=True)
class ExpectedBest:
    """The expected best score of 1 to N configurations."""

    middle: Array
    low: Array
    high: Array
    """5 % and 95 % quantile over bootstrap samples of the trials."""
    scores: EqualScores


def expected_curve(trials: Sequence[SearchTrial], seed: int = 0) -> ExpectedBest | None:
    """What a budget of 1 to N random draws is worth, from scores after equally many texts; None with fewer than two."""
    equal = equal_scores(trials)
    if len(equal.scores) < 2:
        return None
    direction = sign(equal.trials[0].metric)
    values = np.array(equal.scores)
    drawn = np.random.default_rng(seed).choice(values, size=(NUM_BAND, len(values)))
    low, high = np.quantile(expected_best(drawn, direction), (0.05, 0.95), axis=0)
    return ExpectedBest(expected_best(values, direction), low, high, equal)


@dataclass(frozen=True)
class Cell:
    """Trials that share rank and alpha over rank."""

    mean: float
    num_trials: int
    interval: Interval | None
    """Student's t interval of the mean at 95 %, so far as scores can reach; one trial has none."""


def cells(equal: EqualScores, x: str, y: str) -> dict[tuple[Any, Any], Cell]:
    """(x, y) -> its trials' mean score; the trials of a cell differ in all else that is searched."""
    grouped: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for trial, score in zip(equal.trials, equal.scores, strict=True):
        if {x, y} <= trial.configuration.keys():
            grouped[trial.configuration[x], trial.configuration[y]].append(score)
    highest = np.inf if equal.trials and equal.trials[0].metric == "nll" else 1.0
    return {k: Cell(float(np.mean(values)), len(values), _t_interval(values, highest)) for k, values in grouped.items()}


def _t_interval(values: Sequence[float], highest: float) -> Interval | None:
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(max(0.0, float(np.mean(values)) - half), min(highest, float(np.mean(values)) + half))


@dataclass(frozen=True)
class Importance:
    """Share of the variance of the validation score that one hyper-parameter explains alone."""

    parameter: str
    share: float
    """Median over bootstrap samples of the trials."""
    low: float
    high: float
    """5 % and 95 % quantile over them."""


def importances(
    axes: Sequence[Axis], trials: Sequence[SearchTrial], defaults: Mapping[str, Any], seed: int = 0
) -> list[Importance]:
    """fANOVA importances of all parameters from scores after equally many texts, most important first.

    A conditional parameter counts with its value in `defaults` where it is not used, so its share is over the whole
    space. Empty with fewer than 8 such scores, or where all are equal: nothing could be told.
    """
    equal = equal_scores(trials)
    if len(equal.scores) < LEAST_TRIALS or len(set(equal.scores)) == 1 or not axes:
        return []
    places = points(axes, equal.trials, defaults)
    found = _shares(tuple(map(tuple, places)), equal.scores, seed)
    results = [
        Importance(axis.name, *(float(np.quantile(found[:, column], q)) for q in (0.5, 0.05, 0.95)))
        for column, axis in enumerate(axes)
    ]
    return sorted(results, key=lambda i: -i.share)


@lru_cache(maxsize=32)  # a page draws the same search again and again
def _shares(places: tuple[tuple[float, ...], ...], scores: tuple[float, ...], seed: int) -> Array:
    """A row per resample of the trials, a column per parameter."""
    generator = np.random.default_rng(seed)
    where, values = np.array(places), np.array(scores)
    found: list[Array] = []
    while len(found) < NUM_RESAMPLES:
        drawn = generator.integers(len(values), size=len(values))
        shares = variance_shares(where[drawn], values[drawn], NUM_TREES, int(generator.integers(2**31)))
        if shares is not None:  # a sample whose scores are all equal says nothing
            found.append(shares)
    return np.array(found)
