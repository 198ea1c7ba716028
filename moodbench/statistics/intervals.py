"""Intervals of shares, of their paired differences, and two-way items x seeds for a recipe. Items are test examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.seeds import NO_PRIOR, SeedPrior

Estimand = Literal["checkpoint", "recipe"]
"""checkpoint: these weights on new examples. recipe: the recipe trained again, on new examples."""

TWO_WAY = "two-way items x seeds"
FEW_DISCORDANT = 10
"""With fewer discordant examples (only one model is right), their share is uncertain and its upper limit is used."""


@dataclass(frozen=True)
class Interval:
    """Estimate with its interval, method and estimand."""

    point: float
    low: float
    high: float
    level: float
    """Nominal two-sided coverage."""
    method: str
    estimand: Estimand
    n: int
    """Number of items, whatever the number of seeds."""


class TwoWay(NamedTuple):
    """Mean of an items x seeds table and its variance."""

    mean: float
    item_variance: float
    """Variance of the mean over new items."""
    seed_variance: float
    """Variance of the mean over new seeds."""
    num_items: int
    num_seeds: float
    """Number of seeds; comparable entries add the degrees of freedom that they lend to `seed_variance`."""

    @property
    def variance(self) -> float:
        """Variance of the mean over new items and new seeds."""
        return self.item_variance + self.seed_variance

    def half_width(self, level: float) -> float:
        """Return half the width of the two-sided interval: sqrt(t_(n-1)^2 V_item + t_df^2 V_seed).

        Here df is `num_seeds` - 1. This covers 94 % or more. A t quantile with Satterthwaite's degrees of freedom
        on the summed variance covers only 86 to 92 % with 2 or 3 seeds and a seed effect that matters.
        Source: Howe 1974 and Zou & Donner 2008 (the two intervals squared and added).
        """
        quantile = (1 + _level(level)) / 2
        item, seed = scipy.special.stdtrit([self.num_items - 1, self.num_seeds - 1], quantile)
        return float(np.sqrt(item**2 * self.item_variance + seed**2 * self.seed_variance))

    def p_value(self) -> float:
        """Return the two-sided p-value of mean 0: 1 - the level at which the interval touches 0.

        If nothing varies it is 1 for mean 0, else 0.
        """
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
    """Return the share `num_correct / n` with Wilson's score interval.

    Source: Wilson 1927, without continuity correction.
    """
    if not 0 <= num_correct <= n or n < 1:
        raise ValueError(f"num_correct is {num_correct} of n = {n}; needed is 0 <= num_correct <= n and n >= 1")
    share, z2 = num_correct / n, float(scipy.special.ndtri((1 + _level(level)) / 2)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n) / (1 + z2 / n)
    low = 0.0 if num_correct == 0 else middle - half  # exact, without a rounding error of 1e-17
    high = 1.0 if num_correct == n else middle + half
    return Interval(share, low, high, level, "wilson", "checkpoint", n)


def two_way(values: npt.ArrayLike, level: float = 0.95, prior: SeedPrior = NO_PRIOR) -> Interval:
    """Return the mean of `values` `(items, seeds)` with a t interval for new items and new seeds.

    `prior` is what comparable entries say about the variance between seeds: see `two_way_variance`.
    Not clipped: if the values are shares, the interval may exceed 0 or 1; see `clipped`.
    """
    table = np.asarray(values, dtype=np.float64)
    found = two_way_variance(table, prior)
    half = found.half_width(level)
    method = moderated_method(TWO_WAY, found, table.shape[1])
    return Interval(found.mean, found.mean - half, found.mean + half, level, method, "recipe", len(table))


def moderated_method(method: str, found: TwoWay, num_seeds: int) -> str:
    """Return the name of the `method`, which says whether the variance between `num_seeds` seeds is moderated."""
    return f"{method}, seed variance moderated by comparable entries" if found.num_seeds > num_seeds else method


def percentile_interval(drawn: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of bootstrap draws `(B,)`: those of rank (B + 1) (1 +- level) / 2.

    With few draws, the linear interpolation of ranks 1 to B would be too narrow: 94.5 % of 400 draws for 95 %.
    Source: Hyndman & Fan 1996, type 6; Davison & Hinkley 1997, section 5.2.
    """
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="weibull")
    return float(low), float(high)


def clipped(interval: Interval) -> Interval:
    """Return the interval of a share, clipped to 0 ... 1."""
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def mean_of_independent(parts: Sequence[Interval]) -> Interval:
    """Return the unweighted mean of independent estimates, such as of several datasets, with its interval.

    The distances to the ends are squared and added.
    Raises: ValueError if levels or estimands differ.
    Source: Zou & Donner 2008, Statistics in Medicine 27(10), 1693-1702 (MOVER).
    """
    if len({(p.level, p.estimand) for p in parts}) != 1:
        raise ValueError(f"levels and estimands are {[(p.level, p.estimand) for p in parts]}; needed is one of each")
    point = sum(p.point for p in parts) / len(parts)
    below = math.hypot(*(p.point - p.low for p in parts)) / len(parts)
    above = math.hypot(*(p.high - p.point for p in parts)) / len(parts)
    n = sum(p.n for p in parts)
    return Interval(point, point - below, point + above, parts[0].level, "mover", parts[0].estimand, n)


def two_way_variance(values: npt.ArrayLike, prior: SeedPrior = NO_PRIOR) -> TwoWay:
    """Return the mean over items and seeds of `values` `(items, seeds)` and its variances.

    V_item = var(item means) / n, V_seed = var(seed means) / S, where var divides by n-1 and S-1. The variance of the
    cells is in both and is not subtracted: the sum is rather too large, which an interval from few seeds needs.
    var(seed means) is moderated by `prior`, unless all seeds have the same values, as those of a deterministic entry.
    Raises: ValueError unless there are two or more items and seeds and all values are finite.
    Source: Cameron, Gelbach & Miller 2011 (two-way clustering); not subtracting is our choice.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 2:
        raise ValueError(f"values have shape {table.shape}; needed is (items, seeds) with at least 2 of each")
    if not np.isfinite(table).all():
        raise ValueError("values hold NaN or infinity; every item needs a value for every seed")
    n, num_seeds = table.shape
    item = float(table.mean(axis=1).var(ddof=1)) / n
    own = float(table.mean(axis=0).var(ddof=1))
    varies = bool((table != table[:, :1]).any())
    used = prior if varies else NO_PRIOR
    return TwoWay(float(table.mean()), item, used.moderated(own, num_seeds) / num_seeds, n, num_seeds + used.df)


def mcnemar_mid_p(b: int, c: int) -> float:
    """Return the two-sided mid-p of McNemar's test for b examples only A got right and c only B.

    With k = min(b, c) and N = b + c: 2 BinomCDF(k; N, 1/2) - BinomPMF(k; N, 1/2). For b = c: 1 - BinomPMF / 2,
    and 1 for b = c = 0.
    Raises: ValueError for negative counts.
    Source: Fagerland, Lydersen & Laake 2013.
    """
    if b < 0 or c < 0:
        raise ValueError(f"b is {b} and c is {c}; counts are not negative")
    return float(mid_p(np.float64(b), np.float64(c)))


def mid_p(b: npt.NDArray[np.float64] | np.float64, c: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    """Return the mid-p of `mcnemar_mid_p` for arrays of counts that broadcast."""
    total, least = np.asarray(b + c, dtype=np.int64), np.minimum(b, c)
    up_to = scipy.special.bdtr(least, total, 0.5)
    below = np.where(least > 0, scipy.special.bdtr(np.maximum(least - 1, 0), total, 0.5), 0.0)
    # For b = c both tails share the middle term, and mid-p counts half of it once.
    equal = np.where(total == 0, 1.0, 1 - (up_to - below) / 2)
    return np.asarray(np.where(b == c, equal, up_to + below))


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval (low, high) for P(A right) - P(B right) from the paired 2x2 table.

    The distances of the two Wilson intervals are squared and added with the correlation phi; n/2 is subtracted from the
    numerator of phi if that is positive.
    Source: Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10.
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
    """Return the length of the difference of two errors x and y with correlation phi."""
    return math.sqrt(x * x - 2 * phi * x * y + y * y)


def clopper_pearson(count: float, n: float, tail: float) -> tuple[float, float]:
    """Return the exact limits of a share of `count` in `n`; each limit errs with probability `tail`."""
    low = 0.0 if count <= 0 else float(scipy.special.betaincinv(count, n - count + 1, tail))
    high = 1.0 if count >= n else float(scipy.special.betaincinv(count + 1, n - count, 1 - tail))
    return low, high


def exact_ends(alone_a: npt.ArrayLike, alone_b: npt.ArrayLike, level: float) -> tuple[float, float]:
    """Return an interval (low, high) for P(A right) - P(B right) that holds with few discordant examples too.

    `alone_a` `(items,)` is the share of the seeds in which only A is right on each example, `alone_b` likewise for B.
    The exact limits of the two means are combined by MOVER: distances squared and added. Without any discordant
    example the ends are exact, +-3.0 / n at level 0.90, where an interval from the observed variance would have
    almost no width.
    Source: Clopper & Pearson 1934; Zou & Donner 2008 (MOVER).
    """
    a, low_a, high_a = _mean_with_limits(np.asarray(alone_a, dtype=np.float64), (1 - level) / 2)
    b, low_b, high_b = _mean_with_limits(np.asarray(alone_b, dtype=np.float64), (1 - level) / 2)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def _mean_with_limits(shares: npt.NDArray[np.float64], tail: float) -> tuple[float, float, float]:
    """Return the mean of shares (0 to 1) over the examples, and its limits as if counted over n / d examples.

    The design effect d, at most 1, is the variance of the shares divided by that of 0/1 outcomes with the same mean:
    seeds that err on different examples carry more information than one seed. With fewer than FEW_DISCORDANT shares
    above 0 the estimate of d is too uncertain, and d is 1.
    """
    mean, n = float(shares.mean()), len(shares)
    effect = float((shares**2).sum() / shares.sum()) if np.count_nonzero(shares) >= FEW_DISCORDANT else 1.0
    low, high = clopper_pearson(mean * n / effect, n / effect, tail)
    return mean, low, high


def widened(ends: tuple[float, float], point: float, num_items: int, level: float) -> tuple[float, float]:
    """Return the `ends` of an interval around `point`, moved outwards as `rank_intervals.step_down` converts T.

    T / sqrt(1 + T^2 / n) = z at T = z / sqrt(1 - z^2 / n).
    """
    z2 = float(scipy.special.ndtri((1 + level) / 2)) ** 2
    factor = 1 / math.sqrt(1 - min(z2 / num_items, 0.75))
    return point - factor * (point - ends[0]), point + factor * (ends[1] - point)


def _level(level: float) -> float:
    """Return `level`.

    Raises: ValueError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; allowed is between 0 and 1")
    return level
