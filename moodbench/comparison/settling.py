"""When two models count as equivalent, and how many reviews would settle a pair that is still undecided."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

Verdict = Literal["better", "worse", "equivalent", "undecided"]
FEW_APART = 10
"""With fewer reviews on which only one is right, how often that happens is hardly known: its upper limit is used instead."""
POWER = 0.8


class Needed(NamedTuple):
    """Reviews that would settle an undecided pair with 80 % power if the difference stays."""

    num_items: int
    at_most: bool
    """Whether the two differ on so few reviews that only a limit is known: `num_items` is then worked out from the upper limit."""


def judge(delta: float, separated: bool, rope_low: float, rope_high: float, rope: float) -> Verdict:
    """The verdict on A from the difference, whether its test rejects, and the narrower interval for equivalence."""
    if separated:
        return "better" if delta > 0 else "worse"
    return "equivalent" if -rope < rope_low and rope_high < rope else "undecided"


def exact_ends(alone_a: npt.ArrayLike, alone_b: npt.ArrayLike, level: float) -> tuple[float, float]:
    """Ends (low, high) for P(A right) - P(B right) that hold where hardly any review tells the two apart.

    `alone_a` `(items,)` is in which share of the seeds only A is right on each review, `alone_b` likewise. The exact limits of the two
    means, joined by distances squared and added. With no such review the ends are the exact ones, +-3.0 / n at level 0.90, where an
    interval from the variance seen would be next to 0 wide. Source: Clopper & Pearson 1934; Zou & Donner 2008 (MOVER).
    """
    a, low_a, high_a = _mean_with_limits(np.asarray(alone_a, dtype=np.float64), (1 - level) / 2)
    b, low_b, high_b = _mean_with_limits(np.asarray(alone_b, dtype=np.float64), (1 - level) / 2)
    return a - b - math.hypot(a - low_a, high_b - b), a - b + math.hypot(high_a - a, b - low_b)


def _mean_with_limits(shares: npt.NDArray[np.float64], tail: float) -> tuple[float, float, float]:
    """The mean of shares 0 ... 1 over reviews and its limits, as if counted over n / d reviews.

    d, at most 1, is the variance of the shares over that of right and wrong with the same mean: seeds that err on different reviews
    tell more than one. Where fewer than FEW_APART are above 0, d is hardly known, and is 1.
    """
    mean, n = float(shares.mean()), len(shares)
    effect = float((shares**2).sum() / shares.sum()) if np.count_nonzero(shares) >= FEW_APART else 1.0
    low, high = _clopper_pearson(mean * n / effect, n / effect, tail)
    return mean, low, high


def _clopper_pearson(count: float, n: float, tail: float) -> tuple[float, float]:
    """The limits of a share seen `count` times of `n`, each wrong in `tail` of cases."""
    low = 0.0 if count <= 0 else float(scipy.special.betaincinv(count, n - count + 1, tail))
    high = 1.0 if count >= n else float(scipy.special.betaincinv(count + 1, n - count, 1 - tail))
    return low, high


def reviews_needed(
    delta: float, num_apart: float, num_items: int, item_sd2: float, seed_variance: float, num_seeds: int, rope: float, level: float
) -> Needed | None:  # fmt: skip
    """How many reviews would settle a pair that `num_items` leave undecided; None where only more seeds could.

    `num_apart` is on how many of them only one is right, the mean over seeds. Where it is below FEW_APART, the variance of one review
    is no less than with the upper limit of that share (Clopper & Pearson, one-sided of `level`).
    """
    few = num_apart < FEW_APART
    if few:
        item_sd2 = max(item_sd2, _clopper_pearson(num_apart, num_items, 1 - level)[1] - delta**2)
    found = items_needed(delta, item_sd2, seed_variance, rope, level, num_seeds)
    return None if found is None else Needed(max(found, num_items + 1), few)


def items_needed(
    delta: float, item_sd2: float, seed_variance: float, rope: float, level: float = 0.95, num_seeds: int = 1
) -> int | None:
    """How many reviews would separate the two, or show them equivalent, with 80 % power if the difference stays `delta`.

    `item_sd2` is the variance of the difference over single reviews, `seed_variance` that of the mean over `num_seeds` trainings,
    whose t quantile counts as in the interval. The smaller of the two numbers; None where the seeds alone vary too much for either.
    """
    targets = [(abs(delta), (1 + level) / 2, POWER)]
    if abs(delta) < rope:
        targets.append((rope - abs(delta), level, (1 + POWER) / 2))
    variances = [_item_variance(gap, quantile, power, seed_variance, num_seeds) for gap, quantile, power in targets]
    needed = [item_sd2 / v for v in variances if v > 0]
    return max(2, math.ceil(min(needed))) if needed else None


def _item_variance(gap: float, quantile: float, power: float, seed_variance: float, num_seeds: int) -> float:
    """The variance v from new items with which a true `gap` is found: sqrt(z^2 v + t^2 s) + z_power sqrt(v + s) = gap; 0 if none."""
    z, z_power = scipy.special.ndtri([quantile, power])
    if seed_variance == 0:
        return float((gap / (z + z_power)) ** 2)
    t = float(scipy.special.stdtrit(num_seeds - 1, quantile))

    def beyond(v: float) -> float:
        half_width = math.sqrt(z**2 * v + t**2 * seed_variance)
        return float(half_width + z_power * math.sqrt(v + seed_variance) - gap)

    return 0.0 if beyond(0.0) >= 0 else float(scipy.optimize.brentq(beyond, 0.0, (gap / (z + z_power)) ** 2))
