"""The registry of metrics: name, direction and function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy.typing as npt

from moodbench.errors import UnknownNameError
from moodbench.metrics.predictions import Predictions

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
