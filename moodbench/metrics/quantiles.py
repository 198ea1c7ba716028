"""Quantiles of latencies with an interval that assumes no distribution, or withheld."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

CONFIDENCE_NEEDED = 0.99
"""How sure a sample must be able to bound a quantile before its point is published; MLPerf's value."""


@dataclass(frozen=True)
class QuantileEstimate:
    """A quantile of n samples, in the unit of the samples; what n cannot support is None."""

    q: float
    """Which quantile, as a share: 0.5 is the median."""
    point: float | None
    """The sample quantile (linear interpolation, Hyndman-Fan type 7); None, withheld, below `num_needed`."""
    low: float | None
    """Lower end of the interval; None where no sample is low enough to be one."""
    high: float | None
    """Upper end of the interval; None where no sample is high enough to be one."""
    level: float
    """Coverage of the interval, two-sided, at least."""
    num_samples: int
    num_needed: int
    """Samples from which on the point is published."""


def samples_needed(q: float) -> int:
    """The number of samples from which on the quantile q is published: 11 for 0.5, 64, 130, 662 for 0.9, 0.95, 0.99.

    The smallest n that leaves the tail at most one sample with probability <= 1 %, Binom(1; n, min(q, 1-q)) <= 0.01:
    then the second most extreme sample still bounds the quantile with 99 % confidence, and one outlier decides
    nothing. It is MLPerf LoadGen's early-stopping rule for single stream, which gives its 64 and 662; for the
    other quantiles, the median too, we use the same rule, as LoadGen has no number for them.
    Source: MLPerf inference, loadgen/early_stopping.cc.
    """
    tail = min(_share(q), 1 - q)
    too_few, enough = 1, 2
    while scipy.stats.binom.cdf(1, enough, tail) > 1 - CONFIDENCE_NEEDED:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if scipy.stats.binom.cdf(1, middle, tail) > 1 - CONFIDENCE_NEEDED:
            too_few = middle
        else:
            enough = middle
    return enough


def interval_ranks(num_samples: int, q: float, level: float = 0.95) -> tuple[int | None, int | None]:
    """The 1-based ranks (low, high) of the two sorted samples that hold the quantile q between them.

    l = ppf(a/2; n, q) and u = ppf(1 - a/2; n, q) + 1 with a = 1 - level; None where that rank is not 1 ... n.
    P(X(l) <= x_q <= X(u)) >= F(u-1; n, q) - F(l-1; n, q) >= level for independent samples of any distribution.
    Source: David & Nagaraja 2003, Order Statistics, section 7.1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed is between 0 and 1")
    low = int(scipy.stats.binom.ppf((1 - level) / 2, num_samples, _share(q)))
    high = int(scipy.stats.binom.ppf((1 + level) / 2, num_samples, q)) + 1
    return (low if low >= 1 else None), (high if high <= num_samples else None)


def quantile_with_interval(samples: npt.ArrayLike, q: float, level: float = 0.95) -> QuantileEstimate:
    """The quantile q of one-dimensional samples with its order-statistic interval.

    The interval holds for independent samples. Requests of one process are not quite: a caller with several
    processes also resamples those and takes the wider.
    """
    values = np.sort(np.asarray(samples, dtype=np.float64))
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"samples have shape {values.shape}; needed is one dimension, at least one, all finite")
    low, high = interval_ranks(len(values), q, level)
    num_needed = samples_needed(q)
    return QuantileEstimate(
        q=q,
        point=float(np.quantile(values, q)) if len(values) >= num_needed else None,
        low=None if low is None else float(values[low - 1]),
        high=None if high is None else float(values[high - 1]),
        level=level,
        num_samples=len(values),
        num_needed=num_needed,
    )


def _share(q: float) -> float:
    """`q` itself; ValueError unless 0 < q < 1."""
    if not (math.isfinite(q) and 0 < q < 1):
        raise ValueError(f"q is {q}; allowed is between 0 and 1, as 0.99 for the 99th percentile")
    return q
