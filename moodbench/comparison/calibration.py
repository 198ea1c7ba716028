"""How far stated probabilities can be trusted: CORP decomposition, ECE with its null distribution, temperature.

Everything follows from logits and labels. Two events are judged, and each figure says which:
*top label*: the chosen label is right, stated with the largest probability; ECE and the reliability diagram.
*every class*: each class against the rest, summed over the classes; the Brier score and its decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.metrics.classification import brier, calibration_bins, ece, nll
from moodbench.metrics.predictions import FloatArray, IntArray, Predictions

NUM_DRAWS = 500
LEVEL = 0.95
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.02, 50.0
"""Beyond these a model is all certainty or none, as when every validation text was right."""
MAX_POINTS = 60
"""Points at which the reliability diagram is drawn."""
CHUNK = 2**22
"""Simulated answers held at once, which bounds memory."""


class Decomposition(NamedTuple):
    """A Brier score in three parts: brier = miscalibration - discrimination + uncertainty, exactly."""

    brier: float
    miscalibration: float
    """What recalibrating by the best increasing function would gain; 0 for a calibrated forecast."""
    discrimination: float
    """What that recalibrated forecast gains over always stating the class shares."""
    uncertainty: float
    """The Brier score of always stating the class shares of these texts."""


class EceNull(NamedTuple):
    """An ECE beside what a perfectly calibrated model of the same stated probabilities would score."""

    ece: float
    expected: float
    """Mean of the null distribution."""
    low: float
    """The null's 2.5 % quantile."""
    high: float
    """The null's 97.5 % quantile."""
    p_value: float
    """One-sided: the chance of an ECE as large, (1 + draws as large) / (1 + draws)."""


class ReliabilityCurve(NamedTuple):
    """How often the chosen label is right at each stated probability, by increasing regression, with a band."""

    stated: FloatArray
    """Stated probabilities of the chosen label, increasing, `(points,)`."""
    right: FloatArray
    """The share right there, CORP's recalibrated probability."""
    low: FloatArray
    """Pointwise 2.5 % quantile of that line if the model were calibrated."""
    high: FloatArray
    """... and its 97.5 % quantile: a line inside the band is no sign of miscalibration."""
    num_texts: int


class Temperature(NamedTuple):
    """The number by which logits are divided, chosen on other texts than those it is judged on."""

    value: float
    """Above 1 the model was too sure of itself, below 1 not sure enough."""
    num_texts: int
    at_limit: bool
    """Whether no finite temperature is best, as when each text was right or all logits are equal."""


def corp_binary(stated: npt.ArrayLike, happened: npt.ArrayLike) -> Decomposition:
    """The decomposition of the mean of (stated - happened)^2 for probabilities `(n,)` and outcomes 0 or 1 `(n,)`.

    Recalibration is by the pool-adjacent-violators algorithm on the distinct stated values.
    Source: Dimitriadis, Gneiting & Jordan 2021, PNAS 118(8), e2016191118 (CORP).
    """
    probability = np.asarray(stated, dtype=np.float64)
    outcome = np.asarray(happened, dtype=np.float64)
    where = np.unique(probability, return_inverse=True)[1]
    counts = np.bincount(where)
    recalibrated = _increasing(np.bincount(where, weights=outcome) / counts, counts)[where]
    score, best, none = (
        float(((forecast - outcome) ** 2).mean()) for forecast in (probability, recalibrated, outcome.mean())
    )
    return Decomposition(score, score - best, none - best, none)


def corp(predictions: Predictions) -> Decomposition:
    """The decomposition of the metric `brier`, 0 ... 2: each class against the rest, summed over the classes."""
    probabilities = np.exp(predictions.log_probabilities)
    parts = [corp_binary(probabilities[:, c], predictions.labels == c) for c in range(predictions.num_classes)]
    return Decomposition(*np.sum(parts, axis=0).tolist())


def ece_null(predictions: Predictions, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> EceNull:
    """The metric `ece` with its null distribution by consistency resampling.

    Each draw keeps the stated probabilities and the bins, and lets the chosen label be right with just the stated
    probability. An ECE is above 0 for a calibrated model too; it tells something only above the null.
    Source: Broecker & Smith 2007 (consistency resampling); Vaicenavicius et al. 2019 (the test).
    """
    confidence, _ = top_label(predictions)
    order = np.argsort(calibration_bins(confidence), kind="stable")
    sizes = np.bincount(calibration_bins(confidence))
    starts = np.cumsum([0, *sizes[sizes > 0][:-1]])
    ordered = confidence[order]
    draws = [
        np.abs(np.add.reduceat(right - ordered, starts, axis=1)).sum(axis=1) / len(ordered)
        for right in _calibrated_answers(ordered, rng, num_draws)
    ]
    null = np.concatenate(draws)
    observed = _number(ece(predictions))
    low, high = np.quantile(null, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    as_large = int((null >= observed - 1e-12).sum())
    return EceNull(observed, float(null.mean()), float(low), float(high), (1 + as_large) / (1 + num_draws))


def reliability_curve(
    predictions: Predictions, rng: np.random.Generator, num_draws: int = NUM_DRAWS
) -> ReliabilityCurve:
    """The reliability diagram of the top label: CORP's line with the band of a calibrated model, at most 60 points.

    The band keeps the stated probabilities and redraws what was right, as in `ece_null`, and fits the line again.
    Source: Dimitriadis, Gneiting & Jordan 2021 (consistency bands).
    """
    confidence, right = top_label(predictions)
    values, where = np.unique(confidence, return_inverse=True)
    counts = np.bincount(where)
    by_value = np.argsort(where, kind="stable")
    starts = np.cumsum([0, *counts[:-1]])
    line = _increasing(np.bincount(where, weights=right) / counts, counts)
    # Points lie at equal steps through the texts, and at the ends.
    shown = np.unique(np.sort(where)[np.linspace(0, len(where) - 1, MAX_POINTS).round().astype(int)])
    simulated = [
        _increasing(shares / counts, counts)[shown]
        for answers in _calibrated_answers(confidence[by_value], rng, num_draws)
        for shares in np.add.reduceat(answers, starts, axis=1)
    ]
    low, high = np.quantile(simulated, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ReliabilityCurve(values[shown], line[shown], low, high, len(confidence))


def top_label(predictions: Predictions) -> tuple[FloatArray, FloatArray]:
    """The stated probability of the chosen label `(n,)` and whether it is right, 0.0 or 1.0 `(n,)`."""
    confidence = np.exp(predictions.log_probabilities.max(axis=1))
    return confidence, (predictions.predicted == predictions.labels).astype(np.float64)


def fit_temperature(predictions: Predictions) -> Temperature:
    """The temperature that makes the metric `nll` of `predictions`, of validation texts, smallest.

    The loss is convex in 1 / temperature, so that the search has one minimum. Source: Guo et al. 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return _number(nll(tempered(predictions, float(np.exp(log_temperature)))))

    ends = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    num_texts = len(predictions.labels)
    losses = [loss(end) for end in ends]
    if max(losses) - min(losses) < 1e-12:  # equal logits say nothing at any temperature
        return Temperature(1.0, num_texts, at_limit=True)
    if min(losses) <= loss(float(found.x)) + 1e-9:
        return Temperature(float(np.exp(ends[int(np.argmin(losses))])), num_texts, at_limit=True)
    return Temperature(float(np.exp(found.x)), num_texts, at_limit=False)


def tempered(predictions: Predictions, temperature: float) -> Predictions:
    """The predictions with logits divided by `temperature`, above 0; which label is chosen never changes."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; needed is a number above 0")
    return Predictions(predictions.logits / temperature, predictions.labels)


class Scores(NamedTuple):
    """The three scores that temperature can change."""

    nll: float
    brier: float
    ece: float


def scores(predictions: Predictions) -> Scores:
    """NLL (nats), Brier (0 ... 2, summed over classes) and ECE (top label) of `predictions`."""
    return Scores(*(_number(score(predictions)) for score in (nll, brier, ece)))


def _increasing(shares: FloatArray, weights: IntArray) -> FloatArray:
    """The increasing sequence nearest to `shares` in weighted squares, by pool-adjacent-violators."""
    from scipy.optimize import isotonic_regression

    fitted: FloatArray = isotonic_regression(shares, weights=weights).x
    return fitted


def _number(score: float | None) -> float:
    assert score is not None
    return score


def _calibrated_answers(confidence: FloatArray, rng: np.random.Generator, num_draws: int) -> Iterator[FloatArray]:
    """Whether each text is right, 0.0 or 1.0 `(draws, n)`, had its chance been `confidence` `(n,)`; in pieces."""
    size = max(1, CHUNK // len(confidence))
    for start in range(0, num_draws, size):
        yield (rng.random((min(size, num_draws - start), len(confidence))) < confidence).astype(np.float64)
