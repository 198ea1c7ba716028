"""Registry of metrics, and the metrics of the leaderboard.

These are accuracy, precision, recall, F1, correlation, ranking and calibration.
The positive class is the last one, k-1; the `_positive` metrics are defined for two classes only and None for more.
Macro averages are unweighted means over the classes that occur in the labels or the predictions; a class absent from
both does not count (as in scikit-learn without `labels`). A ratio with denominator 0, such as the precision of a class
that is never predicted, is 0.0 (scikit-learn's `zero_division=0`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.errors import UnknownNameError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """Validated logits `(n, k)` and true labels `(n,)`; values shared by several metrics are cached."""

    logits: FloatArray
    """Raw scores of the model, finite, shape `(n, k)` with k >= 2."""
    labels: IntArray
    """True class of each row, 0 ... k-1, shape `(n,)`."""

    @classmethod
    def checked(cls, logits: npt.ArrayLike, labels: npt.ArrayLike) -> Predictions:
        """Return validated predictions, with logits in float64 and labels in int64.

        Raises: ValueError for invalid shapes or labels, and for logits that are not finite.
        """
        scores = np.asarray(logits, dtype=np.float64)
        classes = np.asarray(labels)
        if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
            raise ValueError(f"logits have shape {scores.shape}; needed is (n, k) with n >= 1 and k >= 2")
        if classes.shape != (len(scores),):
            raise ValueError(
                f"labels have shape {classes.shape}; needed is ({len(scores)},), one for each row of logits"
            )
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"labels have dtype {classes.dtype}; needed are integers")
        not_finite = ~np.isfinite(scores).all(axis=1)
        if not_finite.any():
            raise ValueError(
                f"{int(not_finite.sum())} of {len(scores)} rows of logits are not finite (NaN or infinite), "
                f"the first is row {int(not_finite.argmax())}; such rows are failed examples and have no score"
            )
        if classes.min() < 0 or classes.max() >= scores.shape[1]:
            raise ValueError(
                f"labels run from {classes.min()} to {classes.max()}; with {scores.shape[1]} columns of logits "
                f"allowed are 0 to {scores.shape[1] - 1}"
            )
        return cls(scores, classes.astype(np.int64))

    @property
    def num_classes(self) -> int:
        """Number of classes k, the columns of the logits."""
        return int(self.logits.shape[1])

    @cached_property
    def predicted(self) -> IntArray:
        """Predicted class of each row, `(n,)`: the one with the largest logit, the first of equal ones."""
        return self.logits.argmax(axis=1).astype(np.int64)

    @cached_property
    def log_probabilities(self) -> FloatArray:
        """Log softmax of the logits, `(n, k)`, in float64; the row maximum is subtracted first for stability."""
        shifted = self.logits - self.logits.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


Compute = Callable[[Predictions], float | None]


@dataclass(frozen=True)
class Metric:
    """A registered metric."""

    name: str
    """Also the name of the column with its scores."""
    higher_is_better: bool
    """False for losses and errors."""
    compute: Compute
    """Function from predictions to the score, or None if the score is undefined."""


METRICS: dict[str, Metric] = {}


def metric[F: Compute](name: str, *, higher_is_better: bool) -> Callable[[F], F]:
    """Return a decorator that registers a function as the metric `name` and returns it unchanged.

    Raises: ValueError if the name is taken.
    """

    def register(compute: F) -> F:
        if name in METRICS:
            raise ValueError(f"metric {name!r} is already registered by {METRICS[name].compute.__qualname__}")
        METRICS[name] = Metric(name, higher_is_better, compute)
        return compute

    return register


def get_metric(name: str) -> Metric:
    """Return the metric `name`, or raise UnknownNameError with the nearest name."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]


def score_all(logits: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | None]:
    """Return the scores of all registered metrics by name, in order of registration; None for undefined scores.

    `logits` `(n, k)` are stored as float32 and converted to float64; `labels` `(n,)` are integers 0 ... k-1.
    Raises: ValueError for invalid shapes or labels, and for logits that are not finite.
    """
    predictions = Predictions.checked(logits, labels)
    return {name: registered.compute(predictions) for name, registered in METRICS.items()}


NUM_CALIBRATION_BINS = 15


def confusion(labels: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> IntArray:
    """Return the confusion matrix, counts `(k, k)`: row = true class, column = predicted class."""
    cells = np.asarray(labels, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


class ClassRates(NamedTuple):
    """Precision, recall and F1 per class, each `(k,)`."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    present: npt.NDArray[np.bool_]
    """Whether the class occurs in the labels or the predictions, `(k,)`."""


def class_rates(predictions: Predictions) -> ClassRates:
    """Return precision, recall and F1 of every class against the rest."""
    counts = confusion(predictions.labels, predictions.predicted, predictions.num_classes)
    hits, num_true, num_predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return ClassRates(
        precision=_ratio(hits, num_predicted),
        recall=_ratio(hits, num_true),
        f1=_ratio(2 * hits, num_true + num_predicted),
        present=(num_true + num_predicted) > 0,
    )


@metric("accuracy", higher_is_better=True)
def accuracy(predictions: Predictions) -> float:
    """Return the share of rows whose predicted class is the true class."""
    return float((predictions.predicted == predictions.labels).mean())


@metric("f1_macro", higher_is_better=True)
def f1_macro(predictions: Predictions) -> float:
    """Return the unweighted mean of F1 over the classes."""
    rates = class_rates(predictions)
    return float(rates.f1[rates.present].mean())


@metric("f1_positive", higher_is_better=True)
def f1_positive(predictions: Predictions) -> float | None:
    """Return F1 of the positive class; None unless there are two classes."""
    return float(class_rates(predictions).f1[-1]) if predictions.num_classes == 2 else None


@metric("precision_macro", higher_is_better=True)
def precision_macro(predictions: Predictions) -> float:
    """Return the unweighted mean of precision over the classes."""
    rates = class_rates(predictions)
    return float(rates.precision[rates.present].mean())


@metric("precision_positive", higher_is_better=True)
def precision_positive(predictions: Predictions) -> float | None:
    """Return the share of predicted positives that are positive; None unless there are two classes."""
    return float(class_rates(predictions).precision[-1]) if predictions.num_classes == 2 else None


@metric("recall_macro", higher_is_better=True)
def recall_macro(predictions: Predictions) -> float:
    """Return the unweighted mean of recall over the classes."""
    rates = class_rates(predictions)
    return float(rates.recall[rates.present].mean())


@metric("recall_positive", higher_is_better=True)
def recall_positive(predictions: Predictions) -> float | None:
    """Return the share of positives that are predicted as such; None unless there are two classes."""
    return float(class_rates(predictions).recall[-1]) if predictions.num_classes == 2 else None


@metric("mcc", higher_is_better=True)
def mcc(predictions: Predictions) -> float:
    """Return the Matthews correlation coefficient, -1 ... 1; 0.0 if the labels or the predictions are constant.

    Source: Gorodkin 2004, the multi-class R_K, which for two classes is Matthews 1975.
    """
    counts = confusion(predictions.labels, predictions.predicted, predictions.num_classes).astype(np.float64)
    num_true, num_predicted, n = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    covariance = n * counts.trace() - num_true @ num_predicted
    spread = (n**2 - num_true @ num_true) * (n**2 - num_predicted @ num_predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


@metric("auroc", higher_is_better=True)
def auroc(predictions: Predictions) -> float | None:
    """Return the probability that a random positive scores above a random negative, with ties counted as one half.

    Two classes: positive against negative. More classes: the unweighted mean of the one-vs-rest values of all classes.
    None if a class has no row or all rows. The score of a class is its log odds, which, unlike its probability, does
    not saturate and so creates no ties for confident models.
    Source: Hanley & McNeil 1982 (the Mann-Whitney form).
    """
    k = predictions.num_classes
    areas = [_area(_log_odds(predictions, c), predictions.labels == c) for c in ([1] if k == 2 else range(k))]
    defined = [area for area in areas if area is not None]
    return float(np.mean(defined)) if len(defined) == len(areas) else None


@metric("nll", higher_is_better=False)
def nll(predictions: Predictions) -> float:
    """Return the mean negative log probability of the true class, in nats."""
    return float(-np.take_along_axis(predictions.log_probabilities, predictions.labels[:, None], axis=1).mean())


@metric("brier", higher_is_better=False)
def brier(predictions: Predictions) -> float:
    """Return the mean over rows of the sum over *all* classes of (probability - outcome)^2, 0 ... 2.

    For two classes, this is twice the value of scikit-learn's default, which uses one column only.
    Source: Brier 1950.
    """
    outcome = np.eye(predictions.num_classes)[predictions.labels]
    return float(((np.exp(predictions.log_probabilities) - outcome) ** 2).sum(axis=1).mean())


@metric("ece", higher_is_better=False)
def ece(predictions: Predictions) -> float:
    """Return the expected calibration error: the mean |accuracy - confidence| over 15 equal-mass bins.

    Confidence is the largest probability. Bins are formed by rank and weighted by their number of rows. Rows of equal
    confidence share their mean rank and therefore a bin; otherwise the score would depend on the order of the rows.
    Even a perfectly calibrated model scores above 0.
    Source: Nguyen & O'Connor 2015 (equal mass), Guo et al. 2017 (the gap).
    """
    confidence = np.exp(predictions.log_probabilities.max(axis=1))
    right = (predictions.predicted == predictions.labels).astype(np.float64)
    gaps = np.bincount(calibration_bins(confidence), weights=right - confidence)
    return float(np.abs(gaps).sum() / len(right))


def calibration_bins(confidence: FloatArray) -> IntArray:
    """Return the equal-mass bin of each row, 0 ... 14, `(n,)`; rows of equal confidence share a bin."""
    return ((_mid_ranks(confidence) - 0.5) * NUM_CALIBRATION_BINS / len(confidence)).astype(np.int64)


def _ratio(above: IntArray, below: IntArray) -> FloatArray:
    """Return `above / below`, and 0.0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _log_odds(predictions: Predictions, c: int) -> FloatArray:
    """Return the log odds of class c, log p_c - log(1 - p_c), of each row, `(n,)`, from the logits.

    The other logits are sorted before they are summed, so that equal odds are exactly equal.
    """
    rest = np.sort(np.delete(predictions.logits, c, axis=1), axis=1)
    top = rest[:, -1]
    return np.asarray(
        predictions.logits[:, c] - top - np.log(np.exp(rest - top[:, None]).sum(axis=1)), dtype=np.float64
    )


def _area(scores: FloatArray, positive: npt.NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve from rank sums; None unless there are positive and other rows."""
    num_positive = int(positive.sum())
    num_other = len(positive) - num_positive
    if num_positive == 0 or num_other == 0:
        return None
    wins = _mid_ranks(scores)[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_other))


def _mid_ranks(values: FloatArray) -> FloatArray:
    """Return the ranks 1 ... n; equal values get the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[where], dtype=np.float64)
