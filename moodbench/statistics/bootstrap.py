"""Paired bootstrap of accuracy and macro-F1 over all entries of a dataset, bootstrap of their speed, and all pairs.

Every draw uses the same examples for all entries, so that differences, ranks and scores computed from it keep the
pairing by example_id. If entries have several seeds, a draw varies the seeds too. Beside the draws, each pair of
entries has a test of its own, with Holm's correction, and the difference that it detects.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # its parts load when first used; scipy.stats alone takes a second

from moodbench.statistics.intervals import Estimand, Interval, mid_p
from moodbench.statistics.rank_intervals import (
    Ranking,
    holm,
    minimum_detectable_effect,
    num_draws_of_pairs,
    pair_scales,
    rank_all,
)

Floats = npt.NDArray[np.float64]
CHUNK = 500
"""Draws computed at once, which bounds memory."""
SPEEDS = ("latency_p50_s", "texts_per_s")
QUICKER = 8
"""Drawing one example is about this many times faster than drawing one binomial number."""
POWER = 0.8
LOG_P = np.linspace(np.log(1e-12), 0.0, 2**15 + 1)
"""Log of the p-values with tabulated critical values of t; interpolation has a relative error below 1e-5."""


@dataclass(frozen=True)
class BootstrapDraws:
    """Scores of M entries on one test set and B bootstrap draws of them; entries are in the order given."""

    names: tuple[str, ...]
    accuracy: Floats
    """`(M,)`, the mean over seeds."""
    f1_macro: Floats
    """`(M,)`, the mean over seeds of macro-F1."""
    accuracy_draws: Floats
    """`(B, M)`."""
    f1_draws: Floats
    """`(B, M)`."""
    num_items: int
    num_seeds: tuple[int, ...]
    discordance: float
    """Median over pairs of the share of discordant examples, on which only one of the two is right (first seeds)."""
    speed_noise: Floats | None = None
    """`(B, M, 2)`: error of ln latency and ln throughput in each draw: see `speed_noise`."""

    @cached_property
    def accuracy_ranking(self) -> Ranking:
        """Ranking of the entries by accuracy, from all pairs."""
        return self._ranking(self.accuracy, self.accuracy_draws)

    @cached_property
    def f1_ranking(self) -> Ranking:
        """Ranking of the entries by macro-F1, from all pairs."""
        return self._ranking(self.f1_macro, self.f1_draws)

    def _ranking(self, point: Floats, draws: Floats) -> Ranking:
        return rank_all(self.names, point, draws[: num_draws_of_pairs(len(self.names))], self.num_items)

    @property
    def estimand(self) -> Estimand:
        """Estimand of the draws: recipe if any entry has several seeds, else checkpoint."""
        return "recipe" if max(self.num_seeds) > 1 else "checkpoint"

    def interval(self, name: str, metric: str = "accuracy", level: float = 0.95) -> Interval:
        """Return the percentile interval of `accuracy` or `f1_macro` of one entry."""
        m = self.names.index(name)
        point, draws = (self.accuracy, self.accuracy_draws) if metric == "accuracy" else (self.f1_macro, self.f1_draws)
        low, high = np.quantile(draws[:, m], [(1 - level) / 2, (1 + level) / 2])
        several = self.num_seeds[m] > 1
        return Interval(
            float(point[m]),
            float(low),
            float(high),
            level,
            "stratified bootstrap" + (" with t-distributed seeds" if several else ""),
            "recipe" if several else "checkpoint",
            self.num_items,
        )


def bootstrap_draws(
    labels: npt.ArrayLike,
    predicted: Sequence[npt.ArrayLike],
    names: Sequence[str],
    num_classes: int,
    *,
    seeds: Sequence[Sequence[int]] | None = None,
    num_draws: int = 2000,
    seed: int = 0,
) -> BootstrapDraws:
    """Return bootstrap draws of entries with classes `predicted[m]`, `(n,)` or `(n, S_m)`, paired with `labels` `(n,)`.

    Examples are drawn with replacement within each true class. Examples with the same label and the same predictions of
    all entries are exchangeable. Drawing how often each such *pattern* occurs is therefore the same as drawing
    examples, and the confusion counts of all entries are one matrix product per class.
    For an entry with S > 1 seeds a draw adds a seed effect from the multivariate t distribution with S-1 degrees of
    freedom, whose scale is the covariance of the seed means / S; entries share the parts of the seeds that both have.
    `seeds[m]` are the seeds of the columns of `predicted[m]` (by default 0, 1, ...): equal seeds of two entries are
    paired, whatever their columns. Seeds also vary the observed predictions, so the draws are rather too wide than too
    narrow. The order of examples, entries and seeds does not change the result.
    Raises: ValueError for other shapes, repeated names or repeated seeds.
    Source: Efron & Tibshirani 1993, ch. 8 (stratified); Behrens-Fisher for the sum of the two parts.
    """
    truth = np.asarray(labels, dtype=np.int64)
    tables = [np.atleast_2d(np.asarray(p, dtype=np.int64).T).T for p in predicted]
    if len(set(names)) != len(tables) or not tables or any(t.shape[0] != len(truth) for t in tables):
        raise ValueError(
            f"{len(tables)} tables of {[t.shape for t in tables]} for {len(truth)} labels and names {list(names)}; "
            "needed is one table (n,) or (n, seeds) for each of the different names"
        )
    numbers = [list(range(t.shape[1])) for t in tables] if seeds is None else [list(s) for s in seeds]
    if [len(set(s)) for s in numbers] != [t.shape[1] for t in tables]:
        raise ValueError(
            f"seeds {numbers} for tables of {[t.shape for t in tables]}; needed is a different one for each column"
        )
    order = sorted(range(len(names)), key=lambda m: names[m])
    sizes = [tables[m].shape[1] for m in order]
    columns = np.concatenate([tables[m][:, np.argsort(numbers[m])] for m in order], axis=1)
    rng = np.random.default_rng(seed)
    point, draws = _confusions(truth, columns, num_classes, num_draws, rng)
    every = sorted({s for own in numbers for s in own})
    places = [[every.index(s) for s in sorted(numbers[m])] for m in order]
    normals, chi = rng.standard_normal((num_draws, len(every))), rng.standard_normal((num_draws, max(sizes)))
    back = np.argsort(order)
    found = []
    for metric in (_accuracy, f1_of_confusion):
        per_seed, drawn = metric(point), metric(draws)  # (columns,), (B, columns)
        edges = np.cumsum([0, *sizes])
        means, moved = [], []
        for (start, end), at in zip(pairwise(edges), places, strict=True):
            means.append(per_seed[start:end].mean())
            moved.append(drawn[:, start:end].mean(axis=1) + _seed_effect(per_seed[start:end], normals[:, at], chi))
        found.append((np.array(means)[back], np.stack(moved, axis=1)[:, back]))
    (accuracy, accuracy_draws), (f1, f1_draws) = found
    first_seeds = [t[:, int(np.argmin(s))] == truth for t, s in zip(tables, numbers, strict=True)]
    return BootstrapDraws(
        names=tuple(names),
        accuracy=accuracy,
        f1_macro=f1,
        accuracy_draws=accuracy_draws,
        f1_draws=f1_draws,
        num_items=len(truth),
        num_seeds=tuple(t.shape[1] for t in tables),
        discordance=_discordance(np.stack(first_seeds, axis=1)),
    )


def _discordance(right: npt.NDArray[np.bool_]) -> float:
    """Return the median over pairs of columns of the share of rows of `right` `(n, M)` on which they differ."""
    outcomes = right.astype(np.float64)
    both = outcomes.T @ outcomes
    discordant = (both.diagonal()[:, None] + both.diagonal()[None] - 2 * both)[np.triu_indices(right.shape[1], 1)]
    return float(np.median(discordant)) / len(right) if len(discordant) else 0.0


def _confusions(
    truth: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], k: int, num_draws: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return confusion counts `(columns, k, k)` of the data and `(B, columns, k, k)` of the draws, true class first."""
    num_columns = columns.shape[1]
    point = np.zeros((num_columns, k, k))
    draws = np.zeros((num_draws, num_columns, k, k))
    for c in range(k):
        rows = columns[truth == c]
        if len(rows) == 0:
            continue
        patterns, counts = np.unique(rows, axis=0, return_counts=True)
        hot = np.concatenate([(patterns == j) for j in range(k)], axis=1).astype(np.float64)
        point[:, c, :] = (counts @ hot).reshape(k, num_columns).T
        for start in range(0, num_draws, CHUNK):
            size = min(CHUNK, num_draws - start)
            times = _multiplicities(counts, size, rng)
            draws[start : start + size, :, c, :] = (times @ hot).reshape(size, k, num_columns).transpose(0, 2, 1)
    return point, draws


def _multiplicities(counts: npt.NDArray[np.int64], num_draws: int, rng: np.random.Generator) -> Floats:
    """Return how often each pattern occurs, `(num_draws, patterns)`, in sum(counts) examples drawn with replacement.

    Multinomial either way: a binomial number per pattern is faster with few patterns, drawing the examples with many.
    """
    num_items, num_patterns = int(counts.sum()), len(counts)
    if num_patterns * QUICKER < num_items:
        return rng.multinomial(num_items, counts / num_items, size=num_draws).astype(np.float64)
    pattern = np.repeat(np.arange(num_patterns), counts)[rng.integers(0, num_items, size=(num_draws, num_items))]
    pattern += num_patterns * np.arange(num_draws)[:, None]
    times = np.bincount(pattern.ravel(), minlength=num_draws * num_patterns)
    return times.reshape(num_draws, num_patterns).astype(np.float64)


def _accuracy(confusion: Floats) -> Floats:
    return np.asarray(np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1)))


def f1_of_confusion(confusion: Floats) -> Floats:
    """Return macro-F1 `(...)` of counts `(..., k, k)`: the unweighted mean over occurring classes, as in the metric."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    below = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    present = below > 0
    f1 = np.divide(2 * hits, below, out=np.zeros_like(below), where=present)
    return np.asarray(f1.sum(axis=-1) / present.sum(axis=-1))


def _seed_effect(per_seed: Floats, normals: Floats, chi: Floats) -> Floats | float:
    """Return draws `(B,)` of the error of the mean over these seeds, from their `normals` `(B, S)`; 0 for one seed."""
    size = len(per_seed)
    if size < 2:
        return 0.0
    scale = np.sqrt((chi[:, : size - 1] ** 2).sum(axis=1) / (size - 1))
    return np.asarray(normals @ (per_seed - per_seed.mean()) / np.sqrt(size * (size - 1)) / scale)


def process_logs(processes: Sequence[Mapping[str, Any]] | None) -> Floats:
    """Return ln latency and ln throughput of each process, `(processes, 2)`; NaN if unknown or not positive."""
    rows = [] if processes is None else [[p[name] for name in SPEEDS] for p in processes]
    table = np.array(rows, dtype=np.float64).reshape(-1, len(SPEEDS))
    return np.log(np.where(table > 0, table, np.nan))


def measurement_noise(logs: Floats, measurement_id: str, num_draws: int) -> Floats:
    """Return draws `(num_draws, 2)` of the error of the median ln latency and ln throughput over processes.

    A draw is the median of processes drawn with replacement minus the median of all processes; both columns use the
    same processes. The variance between n resampled processes is (n - 1) / n of that between fresh ones, so draws are
    multiplied by sqrt(n / (n - 1)). They are 0 with fewer than two known processes: the speed is then taken as
    measured. The random numbers depend on `measurement_id` alone, so that other entries do not change the draws.
    """
    made = np.zeros((num_draws, len(SPEEDS)))
    for column, values in enumerate(logs.T):
        known = values[np.isfinite(values)]
        n = len(known)
        if n < 2:
            continue
        uniform = np.random.default_rng(zlib.crc32(measurement_id.encode())).random((num_draws, n))
        drawn = np.median(known[(uniform * n).astype(np.int64)], axis=1)
        made[:, column] = (drawn - np.median(known)) * np.sqrt(n / (n - 1))
    return made


def speed_noise(track: pd.DataFrame, num_draws: int) -> Floats:
    """Return draws `(num_draws, rows, 2)` of the error of ln latency and ln throughput of each row of `track`.

    `track` holds the leaderboard rows of one dataset. A row with several seeds shows the median of their measurements,
    and so does a draw. Draws are 0 if `process_speed` has fewer than two processes, and if other load disturbed the
    clock (`provisional`), because the speed is then computed from CPU time.
    """
    made = np.zeros((num_draws, len(track), len(SPEEDS)))
    for m, (ids, measured, provisional) in enumerate(
        zip(track["measurement_ids"], track["process_speed"], track["provisional"], strict=True)
    ):
        if provisional:
            continue
        seeds = [(str(i), process_logs(p)) for i, p in zip(ids, measured, strict=True)]
        for column in range(len(SPEEDS)):
            known = [(i, logs) for i, logs in seeds if np.isfinite(logs[:, column]).any()]
            if not known:
                continue
            middle = np.array([np.nanmedian(logs[:, column]) for _, logs in known])
            drawn = np.stack([measurement_noise(logs, i, num_draws)[:, column] for i, logs in known], axis=1) + middle
            made[:, m, column] = np.median(drawn, axis=1) - np.median(middle)
    return made


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


def detectable(bootstrap: BootstrapDraws, draws: Floats, *, formula: bool, alpha: float = 0.05) -> tuple[float, float]:
    """Return the difference in accuracy detected with 80 % power by the test of one pair, and of all pairs together.

    With `formula`, for one seed each: (z + z_.8) sqrt(d / n), with Bonferroni over the pairs: see
    `rank_intervals.minimum_detectable_effect`. Else, with seeds or over several datasets: (c + z_.8) x scale, the
    median over pairs, where c is the 1 - alpha quantile of |error| / scale in the bootstrap draws of one pair, or of
    its maximum over all pairs. Few trainings thus have the same effect as in the rank intervals.
    """
    m = len(bootstrap.names)
    num_pairs = m * (m - 1) // 2
    if formula:
        one, every = (
            minimum_detectable_effect(bootstrap.num_items, bootstrap.discordance, n, alpha) for n in (1, num_pairs)
        )
        return one, every
    first, second = np.triu_indices(m, 1)
    lanes, point = np.ascontiguousarray(draws.T), bootstrap.accuracy
    error = lanes[first] - lanes[second] - (point[first] - point[second])[:, None]
    scale = pair_scales(error)
    size = np.abs(error) / scale[:, None]
    z = float(scipy.special.ndtri(POWER))
    own, largest = np.quantile(size, 1 - alpha, axis=1), float(np.quantile(size.max(axis=0), 1 - alpha))
    return float(np.median((own + z) * scale)), float(np.median((largest + z) * scale))


def pair_p_values(labels: npt.ArrayLike, predicted: Sequence[npt.ArrayLike], seeds: Sequence[Sequence[int]]) -> Floats:
    """Return the p-value of no difference in accuracy of each pair, by its own test, `(M, M)` with 1 on the diagonal.

    `predicted[m]` is `(n, S_m)` and `seeds[m]` are the seeds of its columns. With two or more common seeds: the two-way
    t test over those, for the recipes. Else McNemar's mid-p on the first common seed, or on the first seed of each, for
    the checkpoints.
    """
    truth = np.asarray(labels, dtype=np.int64)
    right = [np.asarray(p).reshape(len(truth), -1) == truth[:, None] for p in predicted]
    kinds: dict[tuple[int, ...], list[int]] = {}
    for m, own in enumerate(seeds):
        kinds.setdefault(tuple(own), []).append(m)
    found = np.ones((len(right), len(right)))
    for a, b in combinations_with_replacement(kinds, 2):
        common = sorted(set(a) & set(b))
        rows, columns = np.ix_(kinds[a], kinds[b])
        if len(common) > 1 and len(truth) > 1:
            sides = [
                np.stack([right[m][:, [kind.index(s) for s in common]] for m in kinds[kind]], axis=1) for kind in (a, b)
            ]
            p = _two_way_p(*(side.astype(np.float64) for side in sides))
        else:
            at = [kind.index(common[0]) if common else int(np.argmin(kind)) for kind in (a, b)]
            firsts = [
                np.stack([right[m][:, i] for m in kinds[kind]], axis=1) for kind, i in zip((a, b), at, strict=True)
            ]
            p = _mid_p(*(side.astype(np.float64) for side in firsts))
        found[rows, columns] = p
        found[columns.T, rows.T] = p.T
    np.fill_diagonal(found, 1.0)
    return found


def _mid_p(a: Floats, b: Floats) -> Floats:
    """Return McNemar's mid-p `(A, B)` of outcomes `(n, A)` and `(n, B)`: see `intervals.mcnemar_mid_p`."""
    return mid_p(np.rint(a.T @ (1 - b)), np.rint((1 - a).T @ b))


def _two_way_p(a: Floats, b: Floats) -> Floats:
    """Return the p-values `(A, B)` of `intervals.TwoWay` for outcomes `(n, A, S)` and `(n, B, S)`, to 1e-5 relative.

    A p-value is 1 - the level whose interval ends at 0, found by bisection. The critical values are the same for all
    pairs and come from a table.
    """
    n, _, num_seeds = a.shape
    delta = np.abs(a.mean(axis=(0, 2))[:, None] - b.mean(axis=(0, 2))[None])
    item = _difference_variance(a.mean(axis=2), b.mean(axis=2)) / n
    seed = _difference_variance(a.mean(axis=0).T, b.mean(axis=0).T) / num_seeds
    of_items, of_seeds = _squared_critical_values(n - 1), _squared_critical_values(num_seeds - 1)

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
def _squared_critical_values(df: int) -> Floats:
    """Return the squared two-sided critical value of t at each of LOG_P."""
    return np.asarray(scipy.special.stdtrit(df, np.exp(LOG_P) / 2) ** 2)


def _difference_variance(a: Floats, b: Floats) -> Floats:
    """Return the variance over rows (ddof 1) of each column of `a` minus each column of `b`, `(A, B)`."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    summed = (a**2).sum(axis=0)[:, None] + (b**2).sum(axis=0)[None] - 2 * a.T @ b
    return np.asarray(np.maximum(summed, 0) / (len(a) - 1))
