"""Analysis of a search: comparable scores, the value of a budget, and the importance of hyper-parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.tune.encoding import Axis, points
from moodbench.tune.trials import SearchTrial, sign

NUM_RESAMPLES = 100
NUM_BAND = 1000
NUM_TREES = 8
"""Trees per forest; one forest is fitted per resample."""
LEAST_TRIALS = 8
"""Fewest scores from which importances are estimated."""
REACHED_SHARE = 0.9
"""Scores are compared after the number of texts that this share of the trials reached."""
LEVEL = 0.95
"""Confidence level of the interval of a cell's mean."""
Array = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Ends of an interval."""

    low: float
    high: float


@dataclass(frozen=True)
class EqualScores:
    """Validation scores of trials after equally many texts."""

    trials: tuple[SearchTrial, ...]
    scores: tuple[float, ...]
    """In the metric's unit, one per trial."""
    texts: int | None
    """Number of texts after which the scores are compared; None if every trial was trained to its end."""
    num_left_out: int
    """Number of trials that have a score but ended earlier."""

    @property
    def cost(self) -> float:
        """Mean number of texts trained per score."""
        ends = [min(t.texts_trained, self.texts or t.texts_trained) for t in self.trials]
        return float(np.mean(ends)) if ends else 0.0


def equal_scores(trials: Sequence[SearchTrial]) -> EqualScores:
    """Return the best validation score of each trial within the number of texts that 90 % of the trials reached.

    The last score of a stopped trial is not the score of a full training, and the trials that were trained to their end
    are those that started well. So all trials are compared after equally many texts. A finished trial counts as having
    reached any number of texts: it would not have trained further.
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
    """Return the total of texts trained and the best score so far, at the end of each trial that has a score."""
    spent, best, found = 0, None, list[tuple[int, float]]()
    for trial in trials:
        spent += trial.texts_trained
        if trial.status != "failed" and trial.score is not None:
            direction = sign(trial.metric)
            best = trial.score if best is None else direction * max(direction * best, direction * trial.score)
            found.append((spent, best))
    return found


def expected_best(scores: Sequence[float] | Array, direction: int = 1) -> Array:
    """Return the expected best score of 1 to N configurations drawn from the distribution of these N.

    The result has shape `(N,)`, or `(draws, N)` for rows of scores. With `direction` -1 the smallest score is best.
    E[max of n] = sum over the distinct scores v of v (F(v)^n - F(v-)^n), where F is the empirical distribution. It
    describes random draws: a guided search that works does better at equal cost.

    Source: Dodge et al. (2019), Show Your Work.
    """
    values = np.sort(direction * np.asarray(scores, dtype=float), axis=-1)
    num = values.shape[-1]
    upto = np.arange(1, num + 1) / num
    budgets = np.arange(1, num + 1)[:, None]
    result: Array = direction * (values @ (upto**budgets - (upto - 1 / num) ** budgets).T)
    return result


@dataclass(frozen=True)
class ExpectedBest:
    """Expected best score of 1 to N configurations."""

    middle: Array
    low: Array
    high: Array
    """`low` and `high`: 5 % and 95 % quantile over bootstrap samples of the trials."""
    scores: EqualScores


def expected_curve(trials: Sequence[SearchTrial], seed: int = 0) -> ExpectedBest | None:
    """Return the expected best score of 1 to N random draws, from scores after equally many texts.

    None with fewer than two scores.
    """
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
    """Trials that share the values of two parameters, such as rank and alpha over rank."""

    mean: float
    num_trials: int
    interval: Interval | None
    """95 % Student's t interval of the mean, clipped to the range of the score; None for a single trial."""


def cells(equal: EqualScores, x: str, y: str) -> dict[tuple[Any, Any], Cell]:
    """Return the cell of each pair of values of the parameters `x` and `y`.

    The trials of a cell differ in all other searched parameters.
    """
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
    """`low` and `high`: 5 % and 95 % quantile over these samples."""


def importances(
    axes: Sequence[Axis], trials: Sequence[SearchTrial], defaults: Mapping[str, Any], seed: int = 0
) -> list[Importance]:
    """Return the fANOVA importances of all parameters, from scores after equally many texts, most important first.

    An inactive conditional parameter has its value in `defaults`, so its share is over the whole space. The result is
    empty if there are fewer than LEAST_TRIALS scores, or if all scores are equal.
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


@lru_cache(maxsize=32)  # the page draws the same search repeatedly
def _shares(places: tuple[tuple[float, ...], ...], scores: tuple[float, ...], seed: int) -> Array:
    """Return the variance shares `(resamples, parameters)` over bootstrap samples of the trials."""
    generator = np.random.default_rng(seed)
    where, values = np.array(places), np.array(scores)
    found: list[Array] = []
    while len(found) < NUM_RESAMPLES:
        drawn = generator.integers(len(values), size=len(values))
        shares = variance_shares(where[drawn], values[drawn], NUM_TREES, int(generator.integers(2**31)))
        if shares is not None:  # None for a sample whose scores are all equal
            found.append(shares)
    return np.array(found)


def variance_shares(places: Array, scores: Array, num_trees: int, seed: int) -> Array | None:
    """Return the share of the variance that each parameter explains, as the mean over the trees of a random forest.

    `places` has shape `(trials, parameters)`, with values from 0 to 1. The shares add up to at most 1; interactions
    explain the rest. None if every tree is constant.

    A tree is constant on boxes, so its mean over all other parameters and the variance of that mean are exact sums over
    leaves. Unlike in the source, the values of a list keep their order on one axis, and callers refit the forest for an
    interval.

    Source: Hutter, Hoos and Leyton-Brown 2014, An Efficient Approach for Assessing Hyperparameter Importance.
    """
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(num_trees, random_state=seed, n_jobs=1).fit(places, scores)
    found = [shares for each in forest.estimators_ if (shares := tree_shares(each.tree_, places.shape[1])) is not None]
    return np.mean(found, axis=0) if found else None


def tree_shares(tree: object, num_parameters: int) -> Array | None:
    """Return each parameter's share of a scikit-learn tree's variance over the unit cube; None if it is constant."""
    lows, highs, values = _leaves(tree, num_parameters)
    widths = highs - lows
    volumes = widths.prod(axis=1)
    mean = float(volumes @ values)
    total = float(volumes @ (values - mean) ** 2)
    if total <= 1e-18:
        return None
    shares = np.zeros(num_parameters)
    for parameter in range(num_parameters):
        edges = np.unique(np.concatenate([lows[:, parameter], highs[:, parameter]]))
        middles, lengths = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
        inside = (lows[:, parameter] < middles[:, None]) & (middles[:, None] < highs[:, parameter])
        marginal = inside @ (values * np.delete(widths, parameter, axis=1).prod(axis=1))
        shares[parameter] = float(lengths @ (marginal - mean) ** 2) / total
    return shares


def _leaves(tree: object, num_parameters: int) -> tuple[Array, Array, Array]:
    """Return the boxes on which the tree is constant: lower and upper corners `(leaves, parameters)`, and values."""
    left: Sequence[int] = tree.children_left  # type: ignore[attr-defined]
    right: Sequence[int] = tree.children_right  # type: ignore[attr-defined]
    split, threshold, value = tree.feature, tree.threshold, tree.value  # type: ignore[attr-defined]
    lows, highs, values = [], [], []
    waiting = [(0, np.zeros(num_parameters), np.ones(num_parameters))]
    while waiting:
        node, low, high = waiting.pop()
        if left[node] < 0:
            lows.append(low)
            highs.append(high)
            values.append(float(value[node].ravel()[0]))
            continue
        below, above = high.copy(), low.copy()
        below[split[node]] = above[split[node]] = threshold[node]
        waiting += [(left[node], low, below), (right[node], above, high)]
    return np.array(lows), np.array(highs), np.array(values)
