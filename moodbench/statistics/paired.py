"""Difference of two models on the same examples: interval, p-value, verdict, and examples that would decide it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.all_pairs import POWER
from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.intervals import (
    FEW_DISCORDANT,
    Estimand,
    clopper_pearson,
    exact_ends,
    mcnemar_mid_p,
    moderated_method,
    newcombe_paired,
    percentile_interval,
    two_way_variance,
    widened,
)
from moodbench.statistics.rank_intervals import minimum_detectable_effect, step_down
from moodbench.statistics.seeds import NO_PRIOR, SeedPrior
from moodbench.statistics.smoothed import f1_of_confusion

Outcomes = npt.NDArray[np.bool_]
ROPE = 0.01
"""Differences within one point of accuracy do not matter in practice (region of practical equivalence)."""
Verdict = Literal["better", "worse", "equivalent", "undecided"]


class Needed(NamedTuple):
    """Number of examples that would decide an undecided pair with 80 % power if the difference stays the same."""

    num_items: int
    at_most: bool
    """Whether `num_items` is only an upper limit, computed from the upper limit of the share of discordant examples."""


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of A minus accuracy of B on the same examples."""

    delta: float
    """As a share, -1 to 1; positive if A is better."""
    low: float
    high: float
    level: float
    """Nominal two-sided coverage of the interval from `low` to `high`."""
    num_items: int
    only_a: int
    """Number of examples on which A is right and B wrong; with several seeds, counted over items x seeds."""
    only_b: int
    p_value: float
    """Two-sided p-value of no difference."""
    method: str
    estimand: Estimand
    rope: float
    """Half the width of the region of practical equivalence, as a share."""
    rope_low: float
    """Lower end of the interval at level 1 - 2 (1 - level), which shows equivalence if inside the region (TOST)."""
    rope_high: float
    verdict: Verdict
    """Verdict on A: better or worse if p is at most 1 - level, else equivalent by TOST, else undecided.

    The interval agrees: 0 lies strictly inside only if p is larger.
    """
    detectable: float
    """True difference (share) that this test detects with 80 % power at this number of examples and seeds."""
    num_items_needed: int | None
    """Examples that would decide an undecided pair with 80 % power if the difference stays the same.

    None if the pair is decided, or if only more seeds could decide it.
    """
    needed_at_most: bool
    """Whether `num_items_needed` is only an upper limit, because there are few discordant examples."""


def paired_accuracy(
    correct_a: npt.ArrayLike,
    correct_b: npt.ArrayLike,
    level: float = 0.95,
    rope: float = ROPE,
    *,
    prior: SeedPrior = NO_PRIOR,
) -> PairedDifference:
    """Return the difference in accuracy of A and B from booleans `(items,)` or `(items, seeds)`, rows and seeds paired.

    One seed: McNemar's mid-p and Newcombe's interval, for these checkpoints. In the rare case that the two disagree
    about 0 (by less than 0.1 points at 200 examples), the end of the interval nearer to 0 is moved to 0.
    Several seeds: the two-way t interval of the differences and its p-value, for the recipes; seed s of A is compared
    with seed s of B, and `prior` is what comparable entries say about the variance of a difference between seeds.
    Equivalence: both one-sided tests at 1 - `level` reject, that is, the interval at level 2 `level` - 1 lies within
    +-`rope`, and so does the one of `exact_ends`: with hardly any discordant examples the first alone errs in
    up to 13 % of cases.
    Raises: ValueError if the shapes differ, the values are not 0 or 1, or `rope` is not between 0 and 1.
    Source: Schuirmann 1987 (TOST).
    """
    right_a, right_b = _outcomes(correct_a), _outcomes(correct_b)
    if right_a.shape != right_b.shape:
        raise ValueError(f"A has shape {right_a.shape} and B {right_b.shape}; needed are the same items and seeds")
    if not 0 < rope < 1:
        raise ValueError(f"rope is {rope}; allowed is between 0 and 1, 0.01 is one point")
    num_items, num_seeds = right_a.shape
    test = _recipe_test(right_a, right_b, level, prior) if num_seeds > 1 else _checkpoint_test(right_a, right_b, level)
    separated = test.p_value <= 1 - level
    low, high = _agreeing(*test.interval(level), test.delta, separated)
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    narrower = max(2 * level - 1, 0.01)
    ends = (test.interval(narrower), exact_ends(only_a.mean(axis=1), only_b.mean(axis=1), narrower))
    rope_low, rope_high = min(low for low, _ in ends), max(high for _, high in ends)
    verdict = decide(test.delta, separated, rope_low, rope_high, rope)
    needed = None
    if verdict == "undecided":
        num_discordant = (int(only_a.sum()) + int(only_b.sum())) / num_seeds
        item_sd2 = num_items * test.item_variance
        needed = examples_needed(
            test.delta,
            num_discordant,
            num_items,
            item_sd2,
            test.seed_variance,
            test.num_seeds,
            rope,
            level,
        )
    return PairedDifference(
        delta=test.delta,
        low=low,
        high=high,
        level=level,
        num_items=num_items,
        only_a=int(only_a.sum()),
        only_b=int(only_b.sum()),
        p_value=test.p_value,
        method=test.method,
        estimand=test.estimand,
        rope=rope,
        rope_low=rope_low,
        rope_high=rope_high,
        verdict=verdict,
        detectable=test.detectable,
        num_items_needed=None if needed is None else needed.num_items,
        needed_at_most=needed is not None and needed.at_most,
    )


class _Test(NamedTuple):
    """Test of a difference in accuracy."""

    delta: float
    item_variance: float
    """Variance of `delta` over new items; `seed_variance` is that over new seeds, of which `num_seeds` count."""
    seed_variance: float
    num_seeds: float
    p_value: float
    detectable: float
    """True difference that the test detects with 80 % power."""
    interval: Callable[[float], tuple[float, float]]
    """Function from a level to the ends of the interval."""
    method: str
    estimand: Estimand


def _recipe_test(right_a: Outcomes, right_b: Outcomes, level: float, prior: SeedPrior) -> _Test:
    """Return the two-way t test over items and seeds."""
    found = two_way_variance(right_a.astype(np.float64) - right_b, prior)

    def interval(level: float) -> tuple[float, float]:
        half = found.half_width(level)
        return max(-1.0, found.mean - half), min(1.0, found.mean + half)

    detectable = found.half_width(level) + float(scipy.special.ndtri(POWER)) * math.sqrt(found.variance)
    return _Test(
        found.mean,
        found.item_variance,
        found.seed_variance,
        found.num_seeds,
        found.p_value(),
        detectable,
        interval,
        moderated_method("two-way items x seeds, t", found, right_a.shape[1]),
        "recipe",
    )


def _checkpoint_test(right_a: Outcomes, right_b: Outcomes, level: float) -> _Test:
    """Return McNemar's mid-p test, with Newcombe's interval, for one seed."""
    num_items = len(right_a)
    both, only_a, only_b = (int(x.sum()) for x in (right_a & right_b, right_a & ~right_b, right_b & ~right_a))
    delta, discordance = (only_a - only_b) / num_items, (only_a + only_b) / num_items
    return _Test(
        delta,
        (discordance - delta**2) / num_items,
        0.0,
        1.0,
        mcnemar_mid_p(only_a, only_b),
        minimum_detectable_effect(num_items, discordance, alpha=1 - level),
        lambda level: newcombe_paired(both, only_a, only_b, num_items - both - only_a - only_b, level),
        "Newcombe paired score (method 10), McNemar mid-p",
        "checkpoint",
    )


def _agreeing(low: float, high: float, delta: float, separated: bool) -> tuple[float, float]:
    """Return the ends, moved so that 0 is inside if the test does not reject, and not strictly inside if it does."""
    if not separated:
        return min(low, 0.0), max(high, 0.0)
    return (max(low, 0.0), high) if delta > 0 else (low, min(high, 0.0))


@dataclass(frozen=True)
class F1Difference:
    """Macro-F1 of A minus macro-F1 of B on the same examples."""

    delta: float
    low: float | None
    """Ends of the interval; None if the rarest class has too few texts: see `bootstrap.FEW_TEXTS`."""
    high: float | None
    level: float
    p_value: float
    method: str
    estimand: Estimand


def paired_f1(
    labels: npt.ArrayLike,
    predicted_a: npt.ArrayLike,
    predicted_b: npt.ArrayLike,
    num_classes: int,
    *,
    level: float = 0.95,
    num_draws: int = 2000,
    seed: int = 0,
) -> F1Difference:
    """Return the difference in macro-F1 of predicted classes `(n,)` or `(n, seeds)`, with its bootstrap interval.

    One seed: p by paired approximate randomisation, (1 + draws as large) / (draws + 1), where each draw swaps the two
    predictions of every example with probability 1/2. Several seeds: p by the paired bootstrap with its seed effect,
    whose variance is moderated by both.
    Exchanging A and B flips the signs and changes nothing else: both orders use the same draws.
    Source: Yeh 2000; Noreen 1989.
    """
    truth = np.asarray(labels, dtype=np.int64)
    a, b = (np.asarray(p, dtype=np.int64) for p in (predicted_a, predicted_b))
    forth, back = _pattern_counts(truth, a, b), _pattern_counts(truth, b, a)
    if back < forth:
        found = paired_f1(truth, b, a, num_classes, level=level, num_draws=num_draws, seed=seed)
        low, high = (None if x is None else 0.0 - x for x in (found.high, found.low))  # not -x, which would be -0.0
        return replace(found, delta=0.0 - found.delta, low=low, high=high)
    kinds = "ab" if forth == back else "rr"  # interchangeable models have no other to learn from
    bootstrap = bootstrap_draws(truth, [a, b], "ab", num_classes, kinds=kinds, num_draws=num_draws, seed=seed)
    delta = float(bootstrap.f1_macro[0] - bootstrap.f1_macro[1])
    drawn = bootstrap.f1_draws[:, 0] - bootstrap.f1_draws[:, 1]
    low, high = widened(percentile_interval(drawn, level), delta, bootstrap.f1_items, level)
    if forth == back:  # A and B are interchangeable
        low, high = (low - high) / 2, (high - low) / 2
    if bootstrap.estimand == "recipe":
        p_value = float(step_down(np.array([delta]), drawn[:, None] - delta, bootstrap.f1_items)[0][0])
        method = "joint bootstrap with t-distributed seeds"
    else:
        p_value = _randomisation_p(truth, a.ravel(), b.ravel(), num_classes, 5 * num_draws, seed)
        method = "bootstrap, paired approximate randomisation"
    given = None if bootstrap.has_tiny_class else low, None if bootstrap.has_tiny_class else high
    return F1Difference(delta, given[0], given[1], level, p_value, method, bootstrap.estimand)


def _pattern_counts(
    truth: npt.NDArray[np.int64], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]
) -> list[list[int]]:
    """Return the distinct rows of class and predictions, sorted, with their counts: the data without row order."""
    rows = np.column_stack([truth, a, b])
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    return np.column_stack([patterns, counts]).tolist()  # type: ignore[no-any-return]


def _randomisation_p(
    truth: npt.NDArray[np.int64],
    a: npt.NDArray[np.int64],
    b: npt.NDArray[np.int64],
    k: int,
    num_draws: int,
    seed: int,
) -> float:
    """Return the p-value of approximate randomisation.

    Only examples with different predictions of A and B matter; equal ones among them are counted and drawn together.
    """
    cells = [np.bincount(truth * k + p, minlength=k * k).astype(np.float64) for p in (a, b)]
    differ = a != b
    if not differ.any():
        return 1.0
    kinds, counts = np.unique(np.stack([truth, a, b])[:, differ], axis=1, return_counts=True)
    moves = np.zeros((kinds.shape[1], k * k))
    rows = np.arange(kinds.shape[1])
    moves[rows, kinds[0] * k + kinds[2]] += 1
    moves[rows, kinds[0] * k + kinds[1]] -= 1
    swapped = np.random.default_rng(seed).binomial(counts, 0.5, size=(num_draws, len(counts))) @ moves
    f1_a, f1_b = (
        f1_of_confusion((cell + sign * swapped).reshape(-1, k, k)) for cell, sign in zip(cells, (1, -1), strict=True)
    )
    observed = abs(float(np.subtract(*(f1_of_confusion(c.reshape(1, k, k))[0] for c in cells))))
    return float((1 + (np.abs(f1_a - f1_b) >= observed - 1e-12).sum()) / (num_draws + 1))


def _outcomes(correct: npt.ArrayLike) -> Outcomes:
    """Return `correct` as booleans `(items, seeds)`.

    Raises: ValueError for another shape or for values other than 0 and 1.
    """
    table = np.asarray(correct)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"outcomes have shape {table.shape}; needed is (items,) or (items, seeds), not empty")
    if not np.isin(table, (0, 1)).all():
        raise ValueError("outcomes must be right (1) or wrong (0); leave items without a prediction out")
    return table.astype(np.bool_)


def decide(delta: float, separated: bool, rope_low: float, rope_high: float, rope: float) -> Verdict:
    """Return the verdict on A.

    `separated` says whether the test of the difference `delta` rejects. `rope_low` and `rope_high` are the ends of the
    narrower interval for equivalence, `rope` is half the width of the region of practical equivalence.
    """
    if separated:
        return "better" if delta > 0 else "worse"
    return "equivalent" if -rope < rope_low and rope_high < rope else "undecided"


def examples_needed(
    delta: float,
    num_discordant: float,
    num_items: int,
    item_sd2: float,
    seed_variance: float,
    num_seeds: float,
    rope: float,
    level: float,
) -> Needed | None:
    """Return the number of examples that would decide a pair that `num_items` leave undecided, or None.

    None if only more seeds could decide it. `num_discordant` is the number of discordant examples, as the mean over
    seeds. If it is below FEW_DISCORDANT, the variance per example is at least the one at the upper limit of their share
    (Clopper & Pearson, one-sided at `level`). For the other parameters see `items_needed`.
    """
    few = num_discordant < FEW_DISCORDANT
    if few:
        item_sd2 = max(item_sd2, clopper_pearson(num_discordant, num_items, 1 - level)[1] - delta**2)
    found = items_needed(delta, item_sd2, seed_variance, rope, level, num_seeds)
    return None if found is None else Needed(max(found, num_items + 1), few)


def items_needed(
    delta: float, item_sd2: float, seed_variance: float, rope: float, level: float = 0.95, num_seeds: float = 1
) -> int | None:
    """Return the number of examples that would show a difference or equivalence with 80 % power, or None.

    The true difference is assumed to be `delta`. `item_sd2` is the variance of the difference between single examples,
    `seed_variance` that of the mean over the trainings, with the t quantile of `num_seeds` - 1 degrees of freedom, to
    which those of comparable entries are added as in the interval. Of the
    number for a difference and the one for equivalence the smaller is returned; None if the seed variance alone is too
    large for both.
    """
    targets = [(abs(delta), (1 + level) / 2, POWER)]
    if abs(delta) < rope:
        targets.append((rope - abs(delta), level, (1 + POWER) / 2))
    variances = [_item_variance(gap, quantile, power, seed_variance, num_seeds) for gap, quantile, power in targets]
    needed = [item_sd2 / v for v in variances if v > 0]
    return max(2, math.ceil(min(needed))) if needed else None


def _item_variance(gap: float, quantile: float, power: float, seed_variance: float, num_seeds: float) -> float:
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
