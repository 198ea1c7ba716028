"""The difference of two models in accuracy on the same items, with its interval and p-value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from moodbench.comparison.intervals import Estimand, two_way, two_way_variance, wilson


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of A minus accuracy of B on the same items."""

    delta: float
    """As a share, -1 ... 1; positive when A is better."""
    low: float
    high: float
    level: float
    """Nominal coverage of low ... high, two-sided."""
    num_items: int
    only_a: int
    """How often A was right and B wrong; with several seeds, counted over items x seeds."""
    only_b: int
    p_value: float
    """Two-sided, of no difference."""
    method: str
    estimand: Estimand


def mcnemar_mid_p(b: int, c: int) -> float:
    """The two-sided mid-p of McNemar's test for b items only A got right and c only B.

    With k = min(b, c) and N = b + c: 2 BinomCDF(k; N, 1/2) - BinomPMF(k; N, 1/2). For b = c: 1 - BinomPMF / 2,
    and 1 when there is no such item at all. Source: Fagerland, Lydersen & Laake 2013.
    """
    if b < 0 or c < 0:
        raise ValueError(f"b is {b} and c is {c}; counts are not negative")
    if b == c:  # the two tails share their middle term, of which mid-p counts one half once
        return 1.0 if b == 0 else float(1 - 0.5 * binom.pmf(b, b + c, 0.5))
    k = min(b, c)
    return float(2 * binom.cdf(k, b + c, 0.5) - binom.pmf(k, b + c, 0.5))


def paired_accuracy(correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, level: float = 0.95) -> PairedDifference:
    """The difference in accuracy of A and B; both `(items,)` or `(items, seeds)` of booleans, rows and seeds paired.

    One seed: McNemar's mid-p and Newcombe's interval, about these checkpoints. Several: the two-way t interval
    of the differences and its p-value, about the recipes; seed s of A is compared with seed s of B.
    """
    right_a, right_b = _outcomes(correct_a), _outcomes(correct_b)
    if right_a.shape != right_b.shape:
        raise ValueError(f"A has shape {right_a.shape} and B {right_b.shape}; needed are the same items and seeds")
    num_items, num_seeds = right_a.shape
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    if num_seeds > 1:
        difference = right_a.astype(np.float64) - right_b
        interval = two_way(difference, level)
        return PairedDifference(
            delta=interval.point,
            low=interval.low,
            high=interval.high,
            level=level,
            num_items=num_items,
            only_a=only_a,
            only_b=only_b,
            p_value=two_way_variance(difference).p_value(),
            method="two-way items x seeds, t",
            estimand="recipe",
        )
    both = int((right_a & right_b).sum())
    low, high = newcombe_paired(both, only_a, only_b, num_items - both - only_a - only_b, level)
    return PairedDifference(
        delta=(only_a - only_b) / num_items,
        low=low,
        high=high,
        level=level,
        num_items=num_items,
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar_mid_p(only_a, only_b),
        method="Newcombe paired score (method 10), McNemar mid-p",
        estimand="checkpoint",
    )


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int, level: float = 0.95) -> tuple[float, float]:
    """The ends (low, high) of the interval for P(A right) - P(B right) from the paired 2x2 table.

    The two Wilson intervals, squared and added with the correlation phi, of which n/2 is taken off a positive
    numerator. Source: Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10.
    """
    n = both + only_a + only_b + neither
    a, b = wilson(both + only_a, n, level), wilson(both + only_b, n, level)
    numerator: float = both * neither - only_a * only_b
    if numerator > 0:
        numerator = max(numerator - n / 2, 0.0)
    margins = (both + only_a) * (neither + only_b) * (both + only_b) * (neither + only_a)
    phi = numerator / math.sqrt(margins) if margins else 0.0
    delta = a.point - b.point
    return (
        delta - _square_and_add(a.point - a.low, b.high - b.point, phi),
        delta + _square_and_add(a.high - a.point, b.point - b.low, phi),
    )


def _square_and_add(x: float, y: float, phi: float) -> float:
    """The length of the difference of two errors x and y with correlation phi."""
    return math.sqrt(x * x - 2 * phi * x * y + y * y)


def _outcomes(correct: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """`correct` as booleans `(items, seeds)`; ValueError for another shape or for values besides 0 and 1."""
    table = np.asarray(correct)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"outcomes have shape {table.shape}; needed is (items,) or (items, seeds), not empty")
    if not np.isin(table, (0, 1)).all():
        raise ValueError("outcomes must be right (1) or wrong (0); leave items without a prediction out")
    return table.astype(np.bool_)
