"""Verdict on a pair of models, and the number of test examples that would decide an undecided pair."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.intervals import clopper_pearson

Verdict = Literal["better", "worse", "equivalent", "undecided"]
FEW_DISCORDANT = 10
"""With fewer discordant examples (only one model is right), their share is uncertain and its upper limit is used."""
POWER = 0.8


class Needed(NamedTuple):
    """Number of examples that would decide an undecided pair with 80 % power if the difference stays the same."""

    num_items: int
    at_most: bool
    """Whether `num_items` is only an upper limit, computed from the upper limit of the share of discordant examples."""


def decide(delta: float, separated: bool, rope_low: float, rope_high: float, rope: float) -> Verdict:
    """Return the verdict on A.

    `separated` says whether the test of the difference `delta` rejects. `rope_low` and `rope_high` are the ends of the
    narrower interval for equivalence, `rope` is half the width of the region of practical equivalence.
    """
    if separated:
        return "better" if delta > 0 else "worse"
    return "equivalent" if -rope < rope_low and rope_high < rope else "undecided"


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
    seeds that err on different examples carry more information than one seed. With fewer than FEW_APART shares above 0
    the estimate of d is too uncertain, and d is 1.
    """
    mean, n = float(shares.mean()), len(shares)
    effect = float((shares**2).sum() / shares.sum()) if np.count_nonzero(shares) >= FEW_DISCORDANT else 1.0
    low, high = clopper_pearson(mean * n / effect, n / effect, tail)
    return mean, low, high


def examples_needed(
    delta: float,
    num_discordant: float,
    num_items: int,
    item_sd2: float,
    seed_variance: float,
    num_seeds: int,
    rope: float,
    level: float,
) -> Needed | None:
    """Return the number of examples that would decide a pair that `num_items` leave undecided, or None.

    None if only more seeds could decide it. `num_apart` is the number of discordant examples, as the mean over seeds.
    If it is below FEW_APART, the variance per example is at least the one at the upper limit of their share (Clopper &
    Pearson, one-sided at `level`). For the other parameters see `items_needed`.
    """
    few = num_discordant < FEW_DISCORDANT
    if few:
        item_sd2 = max(item_sd2, clopper_pearson(num_discordant, num_items, 1 - level)[1] - delta**2)
    found = items_needed(delta, item_sd2, seed_variance, rope, level, num_seeds)
    return None if found is None else Needed(max(found, num_items + 1), few)


def items_needed(
    delta: float, item_sd2: float, seed_variance: float, rope: float, level: float = 0.95, num_seeds: int = 1
) -> int | None:
    """Return the number of examples that would show a difference or equivalence with 80 % power, or None.

    The true difference is assumed to be `delta`. `item_sd2` is the variance of the difference between single examples,
    `seed_variance` that of the mean over `num_seeds` trainings, with the same t quantile as in the interval. Of the
    number for a difference and the one for equivalence the smaller is returned; None if the seed variance alone is too
    large for both.
    """
    targets = [(abs(delta), (1 + level) / 2, POWER)]
    if abs(delta) < rope:
        targets.append((rope - abs(delta), level, (1 + POWER) / 2))
    variances = [_item_variance(gap, quantile, power, seed_variance, num_seeds) for gap, quantile, power in targets]
    needed = [item_sd2 / v for v in variances if v > 0]
    return max(2, math.ceil(min(needed))) if needed else None


def _item_variance(gap: float, quantile: float, power: float, seed_variance: float, num_seeds: int) -> float:
    """Return the item variance v of the mean at which a true `gap` is found, or 0 if there is none.

    Solves sqrt(z^2 v + t^2 s) + z_power sqrt(v + s) = gap, where s is `seed_variance`.
    """
    z, z_power = scipy.special.ndtri([quantile, power])
    if seed_variance == 0:
        return float((gap / (z + z_power)) ** 2)
    t = float(scipy.special.stdtrit(num_seeds - 1, quantile))

    def beyond(v: float) -> float:
        half_width = math.sqrt(z**2 * v + t**2 * seed_variance)
        return float(half_width + z_power * math.sqrt(v + seed_variance) - gap)

    return 0.0 if beyond(0.0) >= 0 else float(scipy.optimize.brentq(beyond, 0.0, (gap / (z + z_power)) ** 2))
