"""Simultaneous comparison of all pairs: significant differences, rank intervals, ties with the best, groups."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations, islice

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used; scipy.stats alone takes a second

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
MIN_DATASETS = 10
"""With fewer datasets, tests over datasets have no power and are omitted."""

PAIRS_AT_ONCE = 2048
"""Number of pairs whose draws fit into the processor's caches."""
MAX_LETTERS = 26 + 26 * 26
"""Number of significance groups that one or two letters can name."""

MANY, FEW_DRAWS = 20, 500
"""With more than MANY entries, all pairs are compared in FEW_DRAWS draws, so that a slider responds at once."""
VERY_MANY, FEWEST_DRAWS = 100, 200
"""Likewise with tens of thousands of pairs; the smallest p-value is then 1 / 201."""


def num_draws_of_pairs(num_entries: int) -> int | None:
    """Return the number of bootstrap draws in which all pairs of entries are compared; None means all draws."""
    return None if num_entries <= MANY else FEW_DRAWS if num_entries <= VERY_MANY else FEWEST_DRAWS


@dataclass(frozen=True)
class Ranking:
    """Result of all pairwise comparisons of M entries; entries are in the order given."""

    names: tuple[str, ...]
    point: Floats
    """`(M,)`, higher is better."""
    p_adjusted: Floats
    """Romano-Wolf adjusted p-value of each pair, `(M, M)`, symmetric, 1 on the diagonal."""
    low: npt.NDArray[np.int64]
    """Lower end of the rank interval `(M,)`, the best rank: 1 + the number of entries that are significantly better."""
    high: npt.NDArray[np.int64]
    """Upper end of the rank interval `(M,)`, the worst rank: M - the number of entries that are significantly worse."""
    alpha: float

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Compact letter display, computed on demand: two entries that share a letter do not differ significantly."""
        return compact_letters(self.point, self.p_adjusted <= self.alpha)

    @property
    def tied_best(self) -> npt.NDArray[np.bool_]:
        """Whether each entry may be first, `(M,)`."""
        return np.asarray(self.low == 1)

    def separated(self, a: str, b: str) -> bool:
        """Return whether `a` and `b` differ significantly, adjusted for all pairs."""
        return bool(self.p_adjusted[self.names.index(a), self.names.index(b)] <= self.alpha)


def rank_all(
    names: Sequence[str], point: npt.ArrayLike, draws: npt.ArrayLike, num_items: int, alpha: float = 0.05
) -> Ranking:
    """Return the ranking of entries by scores `point` `(M,)` from bootstrap `draws` `(B, M)` over `num_items` examples.

    Step-down max-T over all pairs: T = |difference| / scale, and its null distribution is the deviation of the draws
    from the point. The scale of a pair is half the distance between the 15.9 % and 84.1 % quantiles of its draws, which
    the heavy tails of few seeds do not inflate. A rank interval counts the significantly different entries; all
    intervals hold simultaneously with probability 1 - alpha.
    Raises: ValueError for other shapes.
    Source: Romano & Wolf 2005 (step-down); Mogstad, Romano, Shaikh & Wilhelm 2024 (ranks); Piepho 2004 (letters).
    """
    score, drawn = np.asarray(point, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    m = len(names)
    if score.shape != (m,) or drawn.ndim != 2 or drawn.shape[1] != m:
        raise ValueError(f"{m} names with point {score.shape} and draws {drawn.shape}; needed are (M,) and (B, M)")
    first, second = np.triu_indices(m, 1)
    difference = score[first] - score[second]
    lanes = np.ascontiguousarray(drawn.T)

    def errors(pairs: Indices) -> Floats:
        return np.asarray(lanes[first[pairs]] - lanes[second[pairs]] - difference[pairs, None])

    adjusted = np.ones((m, m))
    adjusted[first, second] = adjusted[second, first] = _step_down(difference, errors, len(drawn), num_items)[1]
    sure = adjusted <= alpha
    better = sure & (score[:, None] > score[None])  # row is significantly better than column
    return Ranking(
        names=tuple(names),
        point=score,
        p_adjusted=adjusted,
        low=1 + better.sum(axis=0),
        high=m - better.sum(axis=1),
        alpha=alpha,
    )


def step_down(difference: Floats, error: Floats, num_items: int) -> tuple[Floats, Floats]:
    """Return unadjusted and step-down adjusted p-values of `difference` `(P,)` under null draws `error` `(B, P)`.

    A p-value is (1 + number of draws as large) / (B + 1); a difference of exactly 0 has p = 1. The variance of the
    draws is (b + c - n d^2) / n^2, Wald's variance of a difference d over n examples; under equality it is
    (b + c) / n^2, McNemar's. The observed T is converted to the latter, T / sqrt(1 + T^2 / n): without that, 15 pairs
    with 200 examples err in 5.7 % of simulations.
    """
    lanes = np.asarray(error, dtype=np.float64).T
    return _step_down(difference, lambda pairs: np.asarray(lanes[pairs]), len(error), num_items)


def _step_down(
    difference: Floats, errors: Callable[[Indices], Floats], num: int, num_items: int
) -> tuple[Floats, Floats]:
    """Return the p-values of `step_down`, where `errors` returns the `num` null draws of the given pairs, one row each.

    With hundreds of entries the pairs are processed in blocks of PAIRS_AT_ONCE, the least extreme first, with the
    maximum over the earlier blocks carried along.
    """
    count = len(difference)
    blocks = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, count, PAIRS_AT_ONCE)]
    scale, raw, stepped = np.empty(count), np.empty(count), np.empty(count)
    every = np.arange(count)
    for block in blocks:
        scale[block] = pair_scales(errors(every[block]))
    observed = np.abs(difference) / scale
    observed = observed / np.sqrt(1 + observed**2 / num_items)
    rising = np.argsort(-observed, kind="stable")[::-1]
    largest = np.zeros(num)
    for block in blocks:
        pairs = rising[block]
        reached = observed[pairs, None] - 1e-12
        null = np.abs(errors(pairs))
        null /= scale[pairs, None]
        raw[pairs] = (1 + (null >= reached).sum(axis=1)) / (num + 1)
        np.maximum(null[0], largest, out=null[0])
        np.maximum.accumulate(null, axis=0, out=null)  # over this pair and all less extreme ones
        largest = null[-1].copy()
        stepped[pairs] = (1 + (null >= reached).sum(axis=1)) / (num + 1)
    adjusted = np.empty(count)
    adjusted[rising] = np.maximum.accumulate(stepped[rising][::-1])[::-1]
    same = np.abs(difference) < 1e-12
    return np.where(same, 1.0, raw), np.where(same, 1.0, adjusted)


def pair_scales(error: Floats) -> Floats:
    """Return the scale `(P,)` of null draws `(P, B)`: half the distance between their 15.9 % and 84.1 % quantiles.

    If that is 0, the scale is their standard deviation.
    """
    places = scipy.special.ndtr([-1, 1]) * (error.shape[1] - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, error.shape[1] - 1)
    ordered = np.partition(error, np.unique([below, above]), axis=1)  # row by row, which np.quantile is not
    low, high = ordered[:, below].T + (places - below)[:, None] * (ordered[:, above] - ordered[:, below]).T
    scale = (high - low) / 2
    flat = scale <= 1e-12
    scale[flat] = np.maximum(error[flat].std(axis=1), 1e-12)
    return np.asarray(scale)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return Holm's adjusted p-values.

    Source: Holm 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def compact_letters(point: npt.ArrayLike, separated: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """Return the compact letter display: two entries share a letter unless they are `separated` `(M, M)`.

    One string of letters per entry, with `a` for the best. There is one letter for each maximal set of entries without
    a significant difference, as by insert-and-absorb. Hundreds of entries can need more than MAX_LETTERS, which nobody
    could read: then all strings are empty.
    Source: Piepho 2004.
    """
    score = np.asarray(point, dtype=np.float64)
    groups = list(islice(_maximal_cliques(~np.asarray(separated, dtype=np.bool_)), MAX_LETTERS + 1))
    if len(groups) > MAX_LETTERS:
        return ("",) * len(score)
    members = {g: sorted((-score[x], x) for x in _members(g)) for g in groups}
    groups.sort(key=members.__getitem__)
    letters = [""] * len(score)
    for k, group in enumerate(groups):
        for x in _members(group):
            letters[x] += _letter(k)
    return tuple(letters)


def _maximal_cliques(tied: npt.NDArray[np.bool_]) -> Iterator[int]:
    """Yield the maximal cliques of the graph `tied` `(M, M)`, each as an integer with the bits of its members set.

    Source: Bron & Kerbosch 1973, with the pivot of Tomita et al. 2006.
    """
    near = [sum(1 << int(j) for j in np.flatnonzero(row) if j != i) for i, row in enumerate(tied)]
    waiting = [(0, (1 << len(near)) - 1, 0)]  # clique, candidates, candidates already tried
    while waiting:
        group, may, tried = waiting.pop()
        if not may:
            if not tried:
                yield group
            continue
        pivot = max(_members(may | tried), key=lambda x: (may & near[x]).bit_count())
        for x in _members(may & ~near[pivot]):
            waiting.append((group | 1 << x, may & near[x], tried & near[x]))
            may &= ~(1 << x)
            tried |= 1 << x


def _members(group: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set."""
    while group:
        lowest = group & -group
        yield lowest.bit_length() - 1
        group ^= lowest


def _letter(k: int) -> str:
    return chr(97 + k) if k < 26 else chr(97 + k // 26 - 1) + chr(97 + k % 26)


def tied_fastest(latency_s: npt.ArrayLike, noise: Floats) -> list[bool | None]:
    """Return for each entry whether no other one is significantly faster; None if its latency is unknown.

    All pairs are tested together at 5 %. `latency_s` `(M,)` are the medians shown, `noise` `(B, M)` are draws of the
    error of their logs, 0 for an entry with unknown processes. With three processes each, one of six equal entries is
    excluded in 9 % of simulations.
    Source: as `rank_all`, whose correction for the number of examples does not apply to times.
    """
    logs = np.log(np.asarray(latency_s, dtype=np.float64))
    known = np.flatnonzero(np.isfinite(logs))
    names = [str(m) for m in known]
    ranking = rank_all(names, -logs[known], -(logs + noise)[:, known], num_items=sys.maxsize)
    tied = dict(zip(known.tolist(), ranking.tied_best.tolist(), strict=True))
    return [tied.get(m) for m in range(len(logs))]


def minimum_detectable_effect(num_items: int, discordance: float, num_pairs: int = 1, alpha: float = 0.05) -> float:
    """Return the smallest true difference in accuracy (share) detected with 80 % power: (z + z_.8) sqrt(d / n).

    d is the share of discordant examples; z is Bonferroni-corrected for the number of pairs.
    """
    z = scipy.special.ndtri(1 - alpha / (2 * num_pairs)) + scipy.special.ndtri(0.8)
    return float(z * np.sqrt(discordance / num_items))


@dataclass(frozen=True)
class AcrossDatasets:
    """Tests with datasets as the sample, at least MIN_DATASETS of them."""

    mean_ranks: Floats
    """Mean rank of each entry, `(M,)`; 1 is best."""
    friedman_p: float
    p_wilcoxon_holm: Floats
    """Wilcoxon p-value of each pair with Holm's correction, `(M, M)`."""
    critical_difference: float
    """Nemenyi's critical difference of two mean ranks, for the diagram only."""


def across_datasets(scores: npt.ArrayLike, alpha: float = 0.05) -> AcrossDatasets | None:
    """Return the tests for `scores` `(datasets, entries)`; None with fewer than MIN_DATASETS datasets or 3 entries.

    Source: Demsar 2006; Benavoli et al. 2016 for Wilcoxon in place of mean-rank post-hoc tests.
    """
    table = np.asarray(scores, dtype=np.float64)
    num, m = table.shape
    if num < MIN_DATASETS or m < 3:
        return None
    ranks = (table[:, None, :] > table[:, :, None]).sum(axis=2) + (
        (table[:, None, :] == table[:, :, None]).sum(axis=2) + 1
    ) / 2
    pairs = list(combinations(range(m), 2))
    raw = [
        1.0 if (table[:, i] == table[:, j]).all() else scipy.stats.wilcoxon(table[:, i], table[:, j]).pvalue
        for i, j in pairs
    ]
    p = np.ones((m, m))
    for (i, j), value in zip(pairs, holm(raw), strict=True):
        p[i, j] = p[j, i] = value
    constant = (ranks == ranks[:, :1]).all()
    return AcrossDatasets(
        mean_ranks=ranks.mean(axis=0),
        friedman_p=1.0 if constant else float(scipy.stats.friedmanchisquare(*table.T).pvalue),
        p_wilcoxon_holm=p,
        critical_difference=_nemenyi(m, alpha) * float(np.sqrt(m * (m + 1) / (6 * num))),
    )


@cache
def _nemenyi(m: int, alpha: float) -> float:
    return float(scipy.stats.studentized_range.ppf(1 - alpha, m, np.inf) / np.sqrt(2))
