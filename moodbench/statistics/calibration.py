"""Calibration of predicted probabilities: CORP decomposition, ECE with its null distribution, temperature.

Everything is computed from logits and labels. Each figure refers to one of two events and names it:
*top label*: the predicted label is right; its probability is the confidence. ECE and the reliability diagram.
*every class*: each class against the rest, summed over the classes. The Brier score and its decomposition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.metrics.classification import FloatArray, IntArray, Predictions, brier, calibration_bins, ece, nll

NUM_DRAWS = 500
LEVEL = 0.95
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.02, 50.0
"""Search limits, beyond which a model is fully certain (every validation example is right) or fully uncertain."""
MAX_POINTS = 60
"""Maximum number of points of the reliability diagram."""
CHUNK = 2**22
"""Simulated outcomes held at once, which bounds memory."""


class Decomposition(NamedTuple):
    """Brier score in three parts: brier = miscalibration - discrimination + uncertainty, exactly."""

    brier: float
    miscalibration: float
    """Gain from recalibration by the best increasing function; 0 for a calibrated forecast."""
    discrimination: float
    """Gain of that recalibrated forecast over always predicting the class shares."""
    uncertainty: float
    """Brier score of always predicting the class shares of these examples."""


class EceNull(NamedTuple):
    """ECE, and the ECE that a perfectly calibrated model with the same confidences would have."""

    ece: float
    expected: float
    """Mean of the null distribution."""
    low: float
    """2.5 % quantile of the null distribution."""
    high: float
    """97.5 % quantile of the null distribution."""
    p_value: float
    """One-sided probability of an ECE as large, (1 + draws as large) / (1 + draws)."""


class ReliabilityCurve(NamedTuple):
    """Share of right predictions at each confidence, by isotonic regression, with a consistency band."""

    stated: FloatArray
    """Confidences, increasing, `(points,)`."""
    right: FloatArray
    """Share of right predictions there: CORP's recalibrated probability."""
    low: FloatArray
    """Pointwise 2.5 % quantile of the curve of a calibrated model."""
    high: FloatArray
    """Pointwise 97.5 % quantile; a curve inside the band is no sign of miscalibration."""
    num_texts: int


class Temperature(NamedTuple):
    """Divisor of the logits, fitted on other examples than those it is evaluated on."""

    value: float
    """Above 1 if the model was overconfident, below 1 if it was underconfident."""
    num_texts: int
    at_limit: bool
    """Whether no finite temperature is best, as when every prediction was right or all logits are equal."""


def corp_binary(stated: npt.ArrayLike, happened: npt.ArrayLike) -> Decomposition:
    """Return the decomposition of the mean of (stated - happened)^2 for probabilities `(n,)` and 0/1 outcomes `(n,)`.

    Recalibration uses the pool-adjacent-violators algorithm on the distinct probabilities.
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
    """Return the decomposition of the metric `brier`, 0 to 2: each class against the rest, summed over the classes."""
    probabilities = np.exp(predictions.log_probabilities)
    parts = [corp_binary(probabilities[:, c], predictions.labels == c) for c in range(predictions.num_classes)]
    return Decomposition(*np.sum(parts, axis=0).tolist())


def ece_null(predictions: Predictions, rng: np.random.Generator, num_draws: int = NUM_DRAWS) -> EceNull:
    """Return the metric `ece` with its null distribution by consistency resampling.

    Each draw keeps the confidences and the bins, and lets each prediction be right with a probability equal to its
    confidence. The ECE of a calibrated model is above 0 too: only one above the null distribution is a sign of
    miscalibration.
    Source: Broecker & Smith 2007 (consistency resampling); Vaicenavicius et al. 2019 (the test).
    """
    confidence, _ = top_label(predictions)
    order = np.argsort(calibration_bins(confidence), kind="stable")
    sizes = np.bincount(calibration_bins(confidence))
    starts = np.cumsum([0, *sizes[sizes > 0][:-1]])
    ordered = confidence[order]
    draws = [
        np.abs(np.add.reduceat(right - ordered, starts, axis=1)).sum(axis=1) / len(ordered)
        for right in _calibrated_outcomes(ordered, rng, num_draws)
    ]
    null = np.concatenate(draws)
    observed = ece(predictions)
    low, high = np.quantile(null, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    as_large = int((null >= observed - 1e-12).sum())
    return EceNull(observed, float(null.mean()), float(low), float(high), (1 + as_large) / (1 + num_draws))


def reliability_curve(
    predictions: Predictions, rng: np.random.Generator, num_draws: int = NUM_DRAWS
) -> ReliabilityCurve:
    """Return the reliability diagram of the top label: CORP's curve and the band of a calibrated model.

    It has at most MAX_POINTS points. For the band the confidences are kept, the right predictions are redrawn as in
    `ece_null`, and the curve is fitted again.
    Source: Dimitriadis, Gneiting & Jordan 2021 (consistency bands).
    """
    confidence, right = top_label(predictions)
    values, where = np.unique(confidence, return_inverse=True)
    counts = np.bincount(where)
    by_value = np.argsort(where, kind="stable")
    starts = np.cumsum([0, *counts[:-1]])
    line = _increasing(np.bincount(where, weights=right) / counts, counts)
    # Points are equally spaced over the sorted examples, both ends included.
    shown = np.unique(np.sort(where)[np.linspace(0, len(where) - 1, MAX_POINTS).round().astype(int)])
    simulated = [
        _increasing(shares / counts, counts)[shown]
        for outcomes in _calibrated_outcomes(confidence[by_value], rng, num_draws)
        for shares in np.add.reduceat(outcomes, starts, axis=1)
    ]
    low, high = np.quantile(simulated, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ReliabilityCurve(values[shown], line[shown], low, high, len(confidence))


def top_label(predictions: Predictions) -> tuple[FloatArray, FloatArray]:
    """Return the confidence of each prediction `(n,)` and whether it is right, 0.0 or 1.0 `(n,)`."""
    confidence = np.exp(predictions.log_probabilities.max(axis=1))
    return confidence, (predictions.predicted == predictions.labels).astype(np.float64)


def fit_temperature(predictions: Predictions) -> Temperature:
    """Return the temperature that minimises the metric `nll` of `predictions` on validation examples.

    The loss is convex in 1 / temperature, so that the search has one minimum.
    Source: Guo et al. 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return nll(tempered(predictions, float(np.exp(log_temperature))))

    ends = (float(np.log(MIN_TEMPERATURE)), float(np.log(MAX_TEMPERATURE)))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-7})
    num_texts = len(predictions.labels)
    losses = [loss(end) for end in ends]
    if max(losses) - min(losses) < 1e-12:  # equal logits: the temperature has no effect
        return Temperature(1.0, num_texts, at_limit=True)
    if min(losses) <= loss(float(found.x)) + 1e-9:
        return Temperature(float(np.exp(ends[int(np.argmin(losses))])), num_texts, at_limit=True)
    return Temperature(float(np.exp(found.x)), num_texts, at_limit=False)


def tempered(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions with logits divided by `temperature`; the predicted labels do not change.

    Raises: ValueError unless `temperature` is above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; needed is a number above 0")
    return Predictions(predictions.logits / temperature, predictions.labels)


class Scores(NamedTuple):
    """Scores that the temperature changes."""

    nll: float
    brier: float
    ece: float


def scores(predictions: Predictions) -> Scores:
    """Return NLL (nats), Brier score (0 to 2, summed over classes) and ECE (top label) of `predictions`."""
    return Scores(nll(predictions), brier(predictions), ece(predictions))


def _increasing(shares: FloatArray, weights: IntArray) -> FloatArray:
    """Return the increasing sequence nearest to `shares` in weighted squares, by pool-adjacent-violators."""
    from scipy.optimize import isotonic_regression

    fitted: FloatArray = isotonic_regression(shares, weights=weights).x
    return fitted


def _calibrated_outcomes(confidence: FloatArray, rng: np.random.Generator, num_draws: int) -> Iterator[FloatArray]:
    """Yield chunks of simulated outcomes, 0.0 or 1.0 `(draws, n)`, which are 1 with probability `confidence` `(n,)`."""
    size = max(1, CHUNK // len(confidence))
    for start in range(0, num_draws, size):
        yield (rng.random((min(size, num_draws - start), len(confidence))) < confidence).astype(np.float64)
