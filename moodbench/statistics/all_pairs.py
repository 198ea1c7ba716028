"""Tests of all pairs of entries on one dataset, and the differences that they can detect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.bootstrap import BootstrapDraws, Floats
from moodbench.statistics.intervals import Estimand, mid_p
from moodbench.statistics.rank_intervals import (
    holm,
    minimum_detectable_effect,
    num_draws_of_pairs,
    pair_scales,
)
from moodbench.statistics.seeds import DETERMINISTIC, SeedPrior, seed_priors

LOG_P = np.linspace(np.log(1e-12), 0.0, 2**15 + 1)
"""Log of the p-values with tabulated critical values of t; interpolation has a relative error below 1e-5."""
POWER = 0.8


@dataclass(frozen=True)
class AllPairs:
    """Results of all pairs of a dataset, or of the datasets together, in accuracy."""

    num_pairs: int
    num_separated: int
    """Pairs that differ by the step-down max-T test of the bootstrap, on which rank intervals and groups are based."""
    num_holm: int | None
    """Pairs that differ by Holm on each pair's own test (`pair_p_values`), as a cross-check.

    None over several datasets, which have no such test.
    """
    one_pair: float
    """True difference (share) that the test of one pair detects with 80 % power, median over the pairs."""
    all_pairs: float
    """True difference (share) detected with 80 % power if all pairs are tested together, median over the pairs."""
    estimand: Estimand


def all_pairs(bootstrap: BootstrapDraws, p_values: Floats | None) -> AllPairs:
    """Return the results of all pairs of `bootstrap`; `p_values` `(M, M)` are those of `pair_p_values`.

    Raises: ValueError for fewer than two entries.
    """
    m = len(bootstrap.names)
    if m < 2:
        raise ValueError(f"{m} entries; needed are 2 or more")
    first, second = np.triu_indices(m, 1)
    draws = bootstrap.accuracy_draws[: num_draws_of_pairs(m)]
    ranking = bootstrap.accuracy_ranking
    one, every = detectable(bootstrap, draws, formula=p_values is not None and bootstrap.estimand == "checkpoint")
    return AllPairs(
        num_pairs=len(first),
        num_separated=int((ranking.p_adjusted[first, second] <= ranking.alpha).sum()),
        num_holm=None if p_values is None else int((holm(p_values[first, second]) <= ranking.alpha).sum()),
        one_pair=one,
        all_pairs=every,
        estimand=bootstrap.estimand,
    )


def detectable(bootstrap: BootstrapDraws, draws: Floats, *, formula: bool) -> tuple[float, float]:
    """Return the difference in accuracy detected with 80 % power by the test of one pair, and of all pairs together.

    With `formula`, for one seed each: (z + z_.8) sqrt(d / n), with Bonferroni over the pairs: see
    `rank_intervals.minimum_detectable_effect`. Else, with seeds or over several datasets: (c + z_.8) x scale, the
    median over pairs, where c is the 95 % quantile of |error| / scale in the bootstrap draws of one pair, or of
    its maximum over all pairs. Few trainings thus have the same effect as in the rank intervals.
    """
    m = len(bootstrap.names)
    num_pairs = m * (m - 1) // 2
    if formula:
        one, every = (minimum_detectable_effect(bootstrap.num_items, bootstrap.discordance, n) for n in (1, num_pairs))
        return one, every
    first, second = np.triu_indices(m, 1)
    lanes, point = np.ascontiguousarray(draws.T), bootstrap.accuracy
    error = lanes[first] - lanes[second] - (point[first] - point[second])[:, None]
    scale = pair_scales(error)
    size = np.abs(error) / scale[:, None]
    z = float(scipy.special.ndtri(POWER))
    own, largest = np.quantile(size, 0.95, axis=1), float(np.quantile(size.max(axis=0), 0.95))
    return float(np.median((own + z) * scale)), float(np.median((largest + z) * scale))


class _Kind(NamedTuple):
    """Common properties of entries whose pairs are tested at once."""

    seeds: tuple[int, ...]
    prior: SeedPrior
    """Prior of the variance between seeds, from comparable entries."""


def pair_p_values(
    labels: npt.ArrayLike,
    predicted: Sequence[npt.ArrayLike],
    seeds: Sequence[Sequence[int]],
    methods: Sequence[str] | None = None,
) -> Floats:
    """Return the p-value of no difference in accuracy of each pair, by its own test, `(M, M)` with 1 on the diagonal.

    `predicted[m]` is `(n, S_m)` and `seeds[m]` are the seeds of its columns. With two or more common seeds: the two-way
    t test over those, for the recipes, with the variance between seeds moderated by the entries of the same method in
    `methods` (by default of none). Else McNemar's mid-p on the first common seed, or on the first seed of each, for the
    checkpoints.
    """
    truth = np.asarray(labels, dtype=np.int64)
    right = [np.asarray(p).reshape(len(truth), -1) == truth[:, None] for p in predicted]
    kinds: dict[_Kind, list[int]] = {}
    for m, prior in enumerate(_priors(right, methods or [str(m) for m in range(len(right))])):
        kinds.setdefault(_Kind(tuple(seeds[m]), prior), []).append(m)
    found = np.ones((len(right), len(right)))
    for a, b in combinations_with_replacement(kinds, 2):
        common = sorted(set(a.seeds) & set(b.seeds))
        rows, columns = np.ix_(kinds[a], kinds[b])
        if len(common) > 1 and len(truth) > 1:
            sides = [
                np.stack([right[m][:, [kind.seeds.index(s) for s in common]] for m in kinds[kind]], axis=1)
                for kind in (a, b)
            ]
            of_a, of_b = (side.astype(np.float64) for side in sides)
            p = _two_way_p(of_a, of_b, a.prior.of_difference(b.prior))
        else:
            at = [kind.seeds.index(common[0]) if common else int(np.argmin(kind.seeds)) for kind in (a, b)]
            firsts = [
                np.stack([right[m][:, i] for m in kinds[kind]], axis=1) for kind, i in zip((a, b), at, strict=True)
            ]
            of_a, of_b = (side.astype(np.float64) for side in firsts)
            p = mid_p(np.rint(of_a.T @ (1 - of_b)), np.rint((1 - of_a).T @ of_b))
        found[rows, columns] = p
        found[columns.T, rows.T] = p.T
    np.fill_diagonal(found, 1.0)
    return found


def _priors(right: Sequence[npt.NDArray[np.bool_]], methods: Sequence[str]) -> list[SeedPrior]:
    """Return the prior of the variance between seeds of each entry, from the outcomes `(n, seeds)` of all."""
    varies = [bool((own != own[:, :1]).any()) for own in right]
    priors = seed_priors([own.mean(axis=0) for own in right], methods, varies)
    return [prior if v else DETERMINISTIC for prior, v in zip(priors, varies, strict=True)]


def _two_way_p(a: Floats, b: Floats, prior: SeedPrior) -> Floats:
    """Return the p-values `(A, B)` of `intervals.TwoWay` for outcomes `(n, A, S)` and `(n, B, S)`, to 1e-5 relative.

    A p-value is 1 - the level whose interval ends at 0, found by bisection. The critical values are the same for all
    pairs and come from a table.
    """
    n, _, num_seeds = a.shape
    delta = np.abs(a.mean(axis=(0, 2))[:, None] - b.mean(axis=(0, 2))[None])
    item = _difference_variance(a.mean(axis=2), b.mean(axis=2)) / n
    between = _difference_variance(a.mean(axis=0).T, b.mean(axis=0).T)
    seed = prior.moderated(between, num_seeds) / num_seeds
    of_items, of_seeds = _squared_critical_values(n - 1), _squared_critical_values(num_seeds - 1 + prior.df)

    def width(at: npt.NDArray[np.int64]) -> Floats:
        """Return the squared half width of the interval at the level of each pair."""
        return np.asarray(of_items[at] * item + of_seeds[at] * seed)

    low, high = np.zeros(delta.shape, np.int64), np.full(delta.shape, len(LOG_P) - 1)
    while (high - low).max() > 1:
        middle = (low + high) // 2
        beyond = width(middle) < delta**2  # the interval of this level excludes 0
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    wide, narrow = width(low), width(high)
    with np.errstate(invalid="ignore"):  # division by 0 without variance: p is the smallest of the table
        share = np.clip(np.nan_to_num((wide - delta**2) / (wide - narrow)), 0, 1)
    log_p = LOG_P[low] + share * (LOG_P[1] - LOG_P[0])
    return np.asarray(np.where(delta < 1e-12, 1.0, np.exp(log_p)))


@cache
def _squared_critical_values(df: float) -> Floats:
    """Return the squared two-sided critical value of t at each of LOG_P."""
    return np.asarray(scipy.special.stdtrit(df, np.exp(LOG_P) / 2) ** 2)


def _difference_variance(a: Floats, b: Floats) -> Floats:
    """Return the variance over rows (ddof 1) of each column of `a` minus each column of `b`, `(A, B)`."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    summed = (a**2).sum(axis=0)[:, None] + (b**2).sum(axis=0)[None] - 2 * a.T @ b
    return np.asarray(np.maximum(summed, 0) / (len(a) - 1))
