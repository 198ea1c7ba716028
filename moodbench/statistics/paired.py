"""Difference of two models on the same examples, with its interval, p-value and verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.bootstrap import Floats, f1_of_confusion, joint_draws
from moodbench.statistics.equivalence import Verdict, exact_ends, judge, reviews_needed
from moodbench.statistics.intervals import Estimand, two_way_variance, wilson
from moodbench.statistics.ranks import minimum_detectable_effect, step_down

ROPE = 0.01
"""Differences within one point of accuracy do not matter in practice (region of practical equivalence)."""


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


def paired_accuracy(
    correct_a: npt.ArrayLike, correct_b: npt.ArrayLike, level: float = 0.95, rope: float = ROPE
) -> PairedDifference:
    """Return the difference in accuracy of A and B from booleans `(items,)` or `(items, seeds)`, rows and seeds paired.

    One seed: McNemar's mid-p and Newcombe's interval, for these checkpoints. In the rare case that the two disagree
    about 0 (by less than 0.1 points at 200 examples), the end of the interval nearer to 0 is moved to 0.
    Several seeds: the two-way t interval of the differences and its p-value, for the recipes; seed s of A is compared
    with seed s of B.
    Equivalence: both one-sided tests at 1 - `level` reject, that is, the interval at level 2 `level` - 1 lies within
    +-`rope`, and so does the one of `settling.exact_ends`: with hardly any discordant examples the first alone errs in
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
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    both = int((right_a & right_b).sum())
    estimand: Estimand
    if num_seeds > 1:
        found = two_way_variance(right_a.astype(np.float64) - right_b)
        delta, item_variance, seed_variance = found.mean, found.item_variance, found.seed_variance
        p_value, method, estimand = found.p_value(), "two-way items x seeds, t", "recipe"
        smallest = found.half_width(level) + float(scipy.special.ndtri(0.8)) * math.sqrt(found.variance)

        def interval(level: float) -> tuple[float, float]:
            half = found.half_width(level)
            return max(-1.0, delta - half), min(1.0, delta + half)
    else:
        delta = (only_a - only_b) / num_items
        item_variance, seed_variance = ((only_a + only_b) / num_items - delta**2) / num_items, 0.0
        p_value = mcnemar_mid_p(only_a, only_b)
        smallest = minimum_detectable_effect(num_items, (only_a + only_b) / num_items, alpha=1 - level)
        method, estimand = "Newcombe paired score (method 10), McNemar mid-p", "checkpoint"

        def interval(level: float) -> tuple[float, float]:
            return newcombe_paired(both, only_a, only_b, num_items - both - only_a - only_b, level)

    separated = p_value <= 1 - level
    low, high = _agreeing(*interval(level), delta, separated)
    narrower = max(2 * level - 1, 0.01)
    exact = exact_ends((right_a & ~right_b).mean(axis=1), (right_b & ~right_a).mean(axis=1), narrower)
    seen = interval(narrower)
    rope_low, rope_high = min(seen[0], exact[0]), max(seen[1], exact[1])
    said = judge(delta, separated, rope_low, rope_high, rope)
    needed = None
    if said == "undecided":
        needed = reviews_needed(
            delta,
            (only_a + only_b) / num_seeds,
            num_items,
            num_items * item_variance,
            seed_variance,
            num_seeds,
            rope,
            level,
        )
    return PairedDifference(
        delta=delta,
        low=low,
        high=high,
        level=level,
        num_items=num_items,
        only_a=only_a,
        only_b=only_b,
        p_value=p_value,
        method=method,
        estimand=estimand,
        rope=rope,
        rope_low=rope_low,
        rope_high=rope_high,
        verdict=said,
        detectable=smallest,
        num_items_needed=None if needed is None else needed.num_items,
        needed_at_most=needed is not None and needed.at_most,
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
    low: float
    high: float
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
    predictions of every example with probability 1/2. Several seeds: p by the paired bootstrap with its seed effect.
    Exchanging A and B flips the signs and changes nothing else: both orders use the same draws.
    Source: Yeh 2000; Noreen 1989.
    """
    truth = np.asarray(labels, dtype=np.int64)
    a, b = (np.asarray(p, dtype=np.int64) for p in (predicted_a, predicted_b))
    forth, back = _pattern_counts(truth, a, b), _pattern_counts(truth, b, a)
    if back < forth:
        found = paired_f1(truth, b, a, num_classes, level=level, num_draws=num_draws, seed=seed)
        delta, low, high = (0.0 - x for x in (found.delta, found.high, found.low))  # not -x, which would be -0.0
        return replace(found, delta=delta, low=low, high=high)
    joint = joint_draws(truth, [a, b], ["a", "b"], num_classes, num_draws=num_draws, seed=seed)
    delta = float(joint.f1_macro[0] - joint.f1_macro[1])
    drawn = joint.f1_draws[:, 0] - joint.f1_draws[:, 1]
    low, high = difference_interval(drawn, level)
    if forth == back:  # A and B are interchangeable
        low, high = (low - high) / 2, (high - low) / 2
    if joint.estimand == "recipe":
        p_value = float(step_down(np.array([delta]), drawn[:, None] - delta, len(truth))[0][0])
        method = "joint bootstrap with t-distributed seeds"
    else:
        p_value = _randomisation_p(truth, a.ravel(), b.ravel(), num_classes, 5 * num_draws, seed)
        method = "stratified bootstrap, paired approximate randomisation"
    return F1Difference(delta, low, high, level, p_value, method, joint.estimand)


def _pattern_counts(
    truth: npt.NDArray[np.int64], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]
) -> list[list[int]]:
    """Return the distinct rows of class and predictions, sorted, with their counts: the data without row order."""
    rows = np.column_stack([truth, a, b])
    patterns, counts = np.unique(rows, axis=0, return_counts=True)
    return np.column_stack([patterns, counts]).tolist()  # type: ignore[no-any-return]


def difference_interval(drawn: Floats, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of a difference from its bootstrap draws `(B,)`."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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


def _outcomes(correct: npt.ArrayLike) -> npt.NDArray[np.bool_]:
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
