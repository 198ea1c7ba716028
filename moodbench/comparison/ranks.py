"""All pairs at once: which contenders the data separate, rank intervals, who ties with the best, letters."""

from __future__ import annotations

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
"""Below this many data sets, tests over data sets have no power and are not made."""

PAIRS_AT_ONCE = 2048
"""Their draws stay in the processor's caches."""
MAX_LETTERS = 26 + 26 * 26
"""As many groups as letters and pairs of letters name."""

MANY, FEW_DRAWS = 20, 500
"""With more contenders than MANY, all pairs are compared in fewer draws, so that a slider is answered at once."""
VERY_MANY, FEWEST_DRAWS = 100, 200
"""Likewise, where pairs count by ten thousands: the smallest p-value is then 1 / 201."""


def num_draws(num_contenders: int) -> int | None:
    """How many joint draws all pairs of so many contenders are compared in; None is all."""
    return None if num_contenders <= MANY else FEW_DRAWS if num_contenders <= VERY_MANY else FEWEST_DRAWS


@dataclass(frozen=True)
class Ranking:
    """What all pairwise differences of M contenders say together; order of contenders as given."""

    names: tuple[str, ...]
    point: Floats
    """`(M,)`, higher is better."""
    p_adjusted: Floats
    """`(M, M)`, symmetric, 1 on the diagonal: Romano-Wolf's adjusted p-value of each pair."""
    low: npt.NDArray[np.int64]
    """`(M,)`: best rank that the data allow, 1 + the number of contenders that are better for sure."""
    high: npt.NDArray[np.int64]
    """`(M,)`: worst rank that the data allow."""
    alpha: float

    @cached_property
    def letters(self) -> tuple[str, ...]:
        """Compact letter display, made when asked for: two contenders that share a letter are not separated."""
        return compact_letters(self.point, self.p_adjusted <= self.alpha)

    @property
    def tied_best(self) -> npt.NDArray[np.bool_]:
        """`(M,)`: who may be first."""
        return np.asarray(self.low == 1)

    def separated(self, a: str, b: str) -> bool:
        """Whether the data separate `a` from `b`, all pairs taken together."""
        return bool(self.p_adjusted[self.names.index(a), self.names.index(b)] <= self.alpha)


def rank_all(
    names: Sequence[str], point: npt.ArrayLike, draws: npt.ArrayLike, num_items: int, alpha: float = 0.05
) -> Ranking:
    """The ranking of contenders with scores `point` `(M,)` from joint `draws` `(B, M)` over `num_items` reviews.

    Step-down max-T over all pairs: T = |difference| / scale, and its null is the draws' deviation from the point. The
    scale of a pair is half the distance of the 15.9 % and 84.1 % quantiles of its draws, which a heavy tail of few seeds does
    not blow up. A rank interval counts the contenders that are separated; all intervals hold together with 1 - alpha.
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
    better = sure & (score[:, None] > score[None])  # row is better than column for sure
    return Ranking(
        names=tuple(names),
        point=score,
        p_adjusted=adjusted,
        low=1 + better.sum(axis=0),
        high=m - better.sum(axis=1),
        alpha=alpha,
    )


def step_down(difference: Floats, error: Floats, num_items: int) -> tuple[Floats, Floats]:
    """Unadjusted and step-down adjusted p-values, each `(P,)`, of `difference` `(P,)` under null draws `error` `(B, P)`.

    (1 + number of draws as large) / (B + 1); a difference of exactly 0 has p = 1. The draws vary by (b + c - n d^2) / n^2, which is
    Wald's variance of a difference d of n items; under equality it is (b + c) / n^2, McNemar's. The observed T is brought
    to the latter, T / sqrt(1 + T^2 / n): without that, 15 pairs of 200 items err in 5.7 % of worlds.
    """
    lanes = np.asarray(error, dtype=np.float64).T
    return _step_down(difference, lambda pairs: np.asarray(lanes[pairs]), len(error), num_items)


def _step_down(
    difference: Floats, errors: Callable[[Indices], Floats], num: int, num_items: int
) -> tuple[Floats, Floats]:
    """`step_down` where `errors` gives the `num` null draws of the pairs it is asked for, a row for each.

    The pairs of hundreds of contenders are taken PAIRS_AT_ONCE, the least extreme first, beside the largest of those before.
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
        np.maximum.accumulate(null, axis=0, out=null)  # over this pair and all less extreme
        largest = null[-1].copy()
        stepped[pairs] = (1 + (null >= reached).sum(axis=1)) / (num + 1)
    adjusted = np.empty(count)
    adjusted[rising] = np.maximum.accumulate(stepped[rising][::-1])[::-1]
    same = np.abs(difference) < 1e-12
    return np.where(same, 1.0, raw), np.where(same, 1.0, adjusted)


def pair_scales(error: Floats) -> Floats:
    """`(P,)`: half the distance of the 15.9 % and 84.1 % quantiles of null draws `(P, B)`, their sd where that is 0."""
    places = scipy.special.ndtr([-1, 1]) * (error.shape[1] - 1)
    below = places.astype(np.int64)
    above = np.minimum(below + 1, error.shape[1] - 1)
    ordered = np.partition(error, np.unique([below, above]), axis=1)  # a row at a time, as np.quantile does not
    low, high = ordered[:, below].T + (places - below)[:, None] * (ordered[:, above] - ordered[:, below]).T
    scale = (high - low) / 2
    flat = scale <= 1e-12
    scale[flat] = np.maximum(error[flat].std(axis=1), 1e-12)
    return np.asarray(scale)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Holm's adjusted p-values. Source: Holm 1979."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def compact_letters(point: npt.ArrayLike, separated: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """A string of letters for each contender, `a` with the best: two share a letter unless they are `separated` `(M, M)`.

    The letters of insert-and-absorb, Piepho 2004: one for each largest set of contenders of which no two are separated. Hundreds
    of contenders can need more than MAX_LETTERS, which nobody could read: then all strings are empty.
    """
    score = np.asarray(point, dtype=np.float64)
    groups = list(islice(_largest_sets(~np.asarray(separated, dtype=np.bool_)), MAX_LETTERS + 1))
    if len(groups) > MAX_LETTERS:
        return ("",) * len(score)
    members = {g: sorted((-score[x], x) for x in _members(g)) for g in groups}
    groups.sort(key=members.__getitem__)
    said = [""] * len(score)
    for k, group in enumerate(groups):
        for x in _members(group):
            said[x] += _letter(k)
    return tuple(said)


def _largest_sets(alike: npt.NDArray[np.bool_]) -> Iterator[int]:
    """As bits, every set whose members are all `alike` `(M, M)` and that lies in no larger one: the maximal cliques.

    Bron and Kerbosch 1973, with the pivot of Tomita et al. 2006.
    """
    near = [sum(1 << int(j) for j in np.flatnonzero(row) if j != i) for i, row in enumerate(alike)]
    waiting = [(0, (1 << len(near)) - 1, 0)]  # a set, who may still join it, who could but was tried before
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
    """The numbers of the bits that are set."""
    while group:
        lowest = group & -group
        yield lowest.bit_length() - 1
        group ^= lowest


def _letter(k: int) -> str:
    return chr(97 + k) if k < 26 else chr(97 + k // 26 - 1) + chr(97 + k % 26)


def minimum_detectable_effect(num_items: int, discordance: float, num_pairs: int = 1, alpha: float = 0.05) -> float:
    """The smallest true difference in accuracy found with 80 % power: (z + z_.8) sqrt(d / n), Bonferroni over the pairs."""
    z = scipy.special.ndtri(1 - alpha / (2 * num_pairs)) + scipy.special.ndtri(0.8)
    return float(z * np.sqrt(discordance / num_items))


@dataclass(frozen=True)
class AcrossDatasets:
    """Tests with data sets as the sample; from MIN_DATASETS on."""

    mean_ranks: Floats
    """`(M,)`, 1 is best."""
    friedman_p: float
    p_wilcoxon_holm: Floats
    """`(M, M)`."""
    critical_difference: float
    """Of two mean ranks (Nemenyi), for the diagram only."""


def across_datasets(scores: npt.ArrayLike, alpha: float = 0.05) -> AcrossDatasets | None:
    """The tests for `scores` `(data sets, contenders)`; None below MIN_DATASETS data sets or 3 contenders.

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
