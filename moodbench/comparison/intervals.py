"""Intervals for one number: Wilson for a share, and items x seeds for a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

Estimand = Literal["checkpoint", "recipe"]
"""checkpoint: these weights on new reviews. recipe: the recipe trained again, on new reviews."""

TWO_WAY = "two-way items x seeds"


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
    item_variance: float
    """Of the mean, items drawn anew."""
    seed_variance: float
    """Of the mean, seeds drawn anew."""
    df: float
    """Satterthwaite's degrees of freedom of the sum of the two; infinite when nothing varies."""
    num_items: int
    num_seeds: int

    @property
    def variance(self) -> float:
        """Of the mean, items and seeds both drawn anew."""
        return self.item_variance + self.seed_variance

    def half_width(self, level: float) -> float:
        """Half the width of the two-sided interval: sqrt(t_(n-1)^2 V_item + t_(S-1)^2 V_seed).

        Source: Howe 1974 and Zou & Donner 2008 (the two intervals squared and added). A t quantile with Satterthwaite's
        degrees of freedom on the summed variance covers 86 to 92 % with 2 or 3 seeds that matter; this covers 94 % or more.
        """
        quantile = (1 + _level(level)) / 2
        item, seed = scipy.stats.t.ppf(quantile, [self.num_items - 1, self.num_seeds - 1])
        return float(np.sqrt(item**2 * self.item_variance + seed**2 * self.seed_variance))

    def p_value(self) -> float:
        """Of mean 0, two-sided: 1 - the level at which the interval touches 0; where nothing varies 1 or 0."""
        size = abs(self.mean)
        if size == 0:
            return 1.0
        if self.variance == 0 or self.half_width(1 - 1e-12) < size:
            return 0.0
        log_p = scipy.optimize.brentq(
            lambda x: self.half_width(-float(np.expm1(x))) - size, np.log(1e-12), np.log1p(-1e-12)
        )
        return float(np.exp(log_p))


def wilson(num_correct: int, n: int, level: float = 0.95) -> Interval:
    """The share `num_correct / n` with Wilson's score interval. Source: Wilson 1927, without continuity correction."""
    if not 0 <= num_correct <= n or n < 1:
        raise ValueError(f"num_correct is {num_correct} of n = {n}; needed is 0 <= num_correct <= n and n >= 1")
    share, z2 = num_correct / n, float(scipy.special.ndtri((1 + _level(level)) / 2)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n) / (1 + z2 / n)
    low = 0.0 if num_correct == 0 else middle - half  # exact ends where rounding would leave 1e-17
    high = 1.0 if num_correct == n else middle + half
    return Interval(share, low, high, level, "wilson", "checkpoint", n)


def two_way(values: npt.ArrayLike, level: float = 0.95) -> Interval:
    """The mean of `values` (items, seeds) with a t interval for new items and new seeds.

    Not clipped: where the values are shares the interval may pass 0 or 1, see `clipped`.
    """
    table = np.asarray(values, dtype=np.float64)
    found = two_way_variance(table)
    half = found.half_width(level)
    return Interval(found.mean, found.mean - half, found.mean + half, level, TWO_WAY, "recipe", len(table))


def clipped(interval: Interval) -> Interval:
    """The interval of a share without what lies outside 0 ... 1."""
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def mean_of_independent(parts: Sequence[Interval]) -> Interval:
    """The unweighted mean of independent estimates, such as of several data sets: distances to the ends squared and added.

    Source: Zou & Donner 2008, Statistics in Medicine 27(10), 1693-1702 (MOVER). ValueError where levels or estimands differ.
    """
    if len({(p.level, p.estimand) for p in parts}) != 1:
        raise ValueError(f"levels and estimands are {[(p.level, p.estimand) for p in parts]}; needed is one of each")
    point = sum(p.point for p in parts) / len(parts)
    below = math.hypot(*(p.point - p.low for p in parts)) / len(parts)
    above = math.hypot(*(p.high - p.point for p in parts)) / len(parts)
    n = sum(p.n for p in parts)
    return Interval(point, point - below, point + above, parts[0].level, "mover", parts[0].estimand, n)


def two_way_variance(values: npt.ArrayLike) -> TwoWay:
    """The mean over items and seeds of `values` (items, seeds) and its variances.

    V_item = var(item means) / n, V_seed = var(seed means) / S, with n-1 and S-1 below. The variance of the cells is in
    both and is not taken off again: the sum is rather too large, as an interval with few seeds needs it.
    df = (V_item + V_seed)^2 / (V_item^2 / (n-1) + V_seed^2 / (S-1)).
    Source: Cameron, Gelbach & Miller 2011 (two-way clustering), Satterthwaite 1946; not subtracting is ours.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 2:
        raise ValueError(f"values have shape {table.shape}; needed is (items, seeds) with at least 2 of each")
    if not np.isfinite(table).all():
        raise ValueError("values hold NaN or infinity; every item needs a value for every seed")
    n, num_seeds = table.shape
    item = float(table.mean(axis=1).var(ddof=1)) / n
    seed = float(table.mean(axis=0).var(ddof=1)) / num_seeds
    spread = item**2 / (n - 1) + seed**2 / (num_seeds - 1)
    df = (item + seed) ** 2 / spread if spread > 0 else float("inf")
    return TwoWay(float(table.mean()), item, seed, df, n, num_seeds)


def _level(level: float) -> float:
    """`level` itself; ValueError unless 0 < level < 1."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed is between 0 and 1")
    return level
