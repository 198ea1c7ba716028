"""The registry of metrics, and their input: labels and logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

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


def metric(name: str, *, higher_is_better: bool) -> Callable[[Compute], Compute]:
    """Return a decorator that registers a function as the metric `name` and returns it unchanged.

    Raises: ValueError if the name is taken.
    """

    def register(compute: Compute) -> Compute:
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
