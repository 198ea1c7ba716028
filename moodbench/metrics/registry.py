"""The one list of metrics: a name, which direction is better, and the function."""

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
    """Also the name of the column it fills."""
    higher_is_better: bool
    """False for losses and errors."""
    compute: Compute
    """Predictions to the score, or None where the score is undefined."""


METRICS: dict[str, Metric] = {}


def metric(name: str, *, higher_is_better: bool) -> Callable[[Compute], Compute]:
    """A decorator that registers a function as the metric `name` and returns it unchanged.

    ValueError when the name is taken.
    """

    def register(compute: Compute) -> Compute:
        if name in METRICS:
            raise ValueError(f"metric {name!r} is already registered by {METRICS[name].compute.__qualname__}")
        METRICS[name] = Metric(name, higher_is_better, compute)
        return compute

    return register


def get_metric(name: str) -> Metric:
    """The metric of that name; UnknownNameError, with the nearest name, when there is none."""
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    return METRICS[name]


def score_all(logits: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | None]:
    """Every registered metric by name, in order of registration; None where it is undefined.

    `logits` (n, k) as stored (float32), computed on in float64; `labels` (n,) integers 0 ... k-1.
    ValueError for impossible shapes and labels, and for logits that are not finite.
    """
    predictions = Predictions.checked(logits, labels)
    return {name: registered.compute(predictions) for name, registered in METRICS.items()}
