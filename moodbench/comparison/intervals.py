"""Intervals for one number: Wilson for a share, and items x seeds for a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, t

Estimand = Literal["checkpoint", "recipe"]
"""checkpoint: these weights on new reviews. recipe: the recipe trained again, on new reviews."""


@dataclass(frozen=True)
class Interval:
    """A number with its interval, and what the interval is about."""

    point: float
    low: float
    high: float
    level: float
    """Nominal coverage, two-sided."""
    method: str
    estimand: Estimand
    n: int
    """Items, whatever the number of seeds."""


class TwoWay(NamedTuple):
    """The mean of an items x seeds table and how it varies."""

    mean: float
    variance: float
    """Of the mean, items and seeds both drawn anew."""
    df: float
    """Satterthwaite's degrees of freedom; infinite when nothing varies."""


def wilson(num_correct: int, n: int, level: float = 0.95) -> Interval:
    """The share `num_correct / n` with Wilson's score interval. Source: Wilson 1927, without continuity correction."""
    if not 0 <= num_correct <= n or n < 1:
        raise ValueError(f"num_correct is {num_correct} of n = {n}; needed is 0 <= num_correct <= n and n >= 1")
    ends = binomtest(num_correct, n).proportion_ci(confidence_level=_level(level), method="wilson")
    return Interval(num_correct / n, float(ends.low), float(ends.high), level, "wilson", "checkpoint", n)


def two_way(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """The mean of `values` (items, seeds) with a t interval for new items and new seeds.

    Not clipped: where the values are shares the interval may pass 0 or 1.
    """
    table = np.asarray(values, dtype=np.float64)
    mean, variance, df = two_way_variance(table)
    half = float(t.ppf((1 + _level(level)) / 2, df) * np.sqrt(variance))
    return Interval(mean, mean - half, mean + half, level, "two-way items x seeds", "recipe", len(table))


def two_way_variance(values: npt.ArrayLike) -> TwoWay:
    """The mean over items and seeds of `values` (items, seeds), its variance and degrees of freedom.

    V = V_item + V_seed - V_cell, at least the larger of V_item and V_seed, where V_item = var(item means) / n,
    V_seed = var(seed means) / S, both with n-1 or S-1 below, and V_cell = sum (d - mean)^2 / (nS)^2, which is in
    both. df = V^2 / (V_item^2 / (n-1) + V_seed^2 / (S-1)). In simulations (n = 300, normal effects) a nominal 95 %
    interval covers 92-97 % with 3 or more seeds, least where seeds vary about as much as or more than items; with 2
    seeds down to 89 %.
    Source: Cameron, Gelbach & Miller 2011 (two-way clustering) and Satterthwaite 1946; the floor is ours.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 2:
        raise ValueError(f"values have shape {table.shape}; needed is (items, seeds) with at least 2 of each")
    if not np.isfinite(table).all():
        raise ValueError("values hold NaN or infinity; every item needs a value for every seed")
    n, num_seeds = table.shape
    item = float(table.mean(axis=1).var(ddof=1)) / n
    seed = float(table.mean(axis=0).var(ddof=1)) / num_seeds
    cell = float(((table - table.mean()) ** 2).sum()) / (n * num_seeds) ** 2
    variance = max(item + seed - cell, item, seed)
    spread = item**2 / (n - 1) + seed**2 / (num_seeds - 1)
    return TwoWay(float(table.mean()), variance, variance**2 / spread if spread > 0 else float("inf"))


def _level(level: float) -> float:
    """`level` itself; ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed is between 0 and 1")
    return level
