"""Paired bootstrap of accuracy and macro-F1 over all entries of a dataset, bootstrap of their speed, and all pairs.

Every draw uses the same examples for all entries, so that differences, ranks and scores computed from it keep the
pairing by example_id. If entries have several seeds, a draw varies the seeds too. Beside the draws, each pair of
entries has a test of its own, with Holm's correction, and the difference that it detects.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.statistics.intervals import Estimand, Interval
from moodbench.statistics.rank_intervals import (
    Ranking,
    num_draws_of_pairs,
    rank_all,
)

Floats = npt.NDArray[np.float64]
CHUNK = 500
"""Draws computed at once, which bounds memory."""
SPEEDS = ("latency_p50_s", "texts_per_s")
QUICKER = 8
"""Drawing one example is about this many times faster than drawing one binomial number."""


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
