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

from moodbench.metrics.measurement import expanded_tail
from moodbench.statistics.intervals import Estimand, Interval, percentile_interval
from moodbench.statistics.rank_intervals import Ranking, num_draws_of_pairs, rank_all
from moodbench.statistics.seeds import SeedNoise
from moodbench.statistics.smoothed import CHANCE_LEVEL, CHUNK, f1_of_confusion, own_draws

Floats = npt.NDArray[np.float64]
FEW_TEXTS = 5
"""Fewest texts of the rarest class with which macro-F1 has an interval."""
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
    """`(B, M)`, paired between the entries, for their differences and ranks."""
    num_items: int
    num_seeds: tuple[int, ...]
    discordance: float
    """Median over pairs of the share of discordant examples, on which only one of the two is right (first seeds)."""
    f1_own_draws: Floats | None = None
    """`(B, M)`, smoothed, not paired, for the interval of each entry; by default `f1_draws`."""
    rarest_class: int | None = None
    """Number of texts of the rarest class, if known."""
    num_f1_items: int | None = None
    """Number of texts that macro-F1 rests on, if known: of a test set whose classes all are as rare as the rarest.

    With `num_items`, six equal entries differed in macro-F1 in 10 % of worlds with 10 texts of 200 in a class.
    """
    p_above_chance: tuple[float, ...] | None = None
    """Probability that the balanced accuracy of each entry is above chance, that of an answer which ignores the text.
    0 if the one found is not, as that of the majority baseline; None if unknown."""
    speed_noise: Floats | None = None
    """`(B, M, 2)`: error of ln latency and ln throughput in each draw: see `speed_noise`."""

    @cached_property
    def accuracy_ranking(self) -> Ranking:
        """Ranking of the entries by accuracy, from all pairs."""
        return self._ranking(self.accuracy, self.accuracy_draws, self.num_items)

    @cached_property
    def f1_ranking(self) -> Ranking:
        """Ranking of the entries by macro-F1, from all pairs; with a tiny class, no pair is separated."""
        if self.has_tiny_class:
            return self._ranking(np.zeros_like(self.f1_macro), np.zeros_like(self.f1_draws), self.f1_items)
        return self._ranking(self.f1_macro, self.f1_draws, self.f1_items)

    def _ranking(self, point: Floats, draws: Floats, num_items: int) -> Ranking:
        return rank_all(self.names, point, draws[: num_draws_of_pairs(len(self.names))], num_items)

    @property
    def f1_items(self) -> int:
        """Number of texts that macro-F1 rests on, or of all if that is unknown."""
        return self.num_items if self.num_f1_items is None else self.num_f1_items

    @property
    def trivial(self) -> tuple[bool, ...]:
        """Whether each entry is no better than chance in balanced accuracy, one-sided at 2.5 % for all together.

        If none is better, those are trivial that were not even found better on these texts. False if unknown.
        """
        found = self.p_above_chance or (1.0,) * len(self.names)
        return tuple(p < self._needed if self.beats_chance else p == 0 for p in found)

    @property
    def beats_chance(self) -> bool:
        """Whether any entry is better than chance at that level, or nothing is known about it."""
        return self.p_above_chance is None or max(self.p_above_chance) >= self._needed

    @property
    def _needed(self) -> float:
        """Bonferroni's probability for all entries."""
        return 1 - CHANCE_LEVEL / len(self.names)

    @property
    def has_tiny_class(self) -> bool:
        """Whether the rarest class has fewer than FEW_TEXTS texts."""
        return self.rarest_class is not None and self.rarest_class < FEW_TEXTS

    @property
    def estimand(self) -> Estimand:
        """Estimand of the draws: recipe if any entry has several seeds, else checkpoint."""
        return "recipe" if max(self.num_seeds) > 1 else "checkpoint"

    def interval(self, name: str, metric: str = "accuracy", level: float = 0.95) -> Interval:
        """Return the expanded percentile interval of `accuracy` or `f1_macro` of one entry, extended to the point.

        That of macro-F1 is from draws of its own, which are smoothed: see `smoothed.own_draws`. Its ends are NaN where
        the rarest class has fewer than FEW_TEXTS texts. Source: see `expanded_tail`.
        """
        m = self.names.index(name)
        several = self.num_seeds[m] > 1
        point, draws, method = self.accuracy[m], self.accuracy_draws, "bootstrap"
        if metric != "accuracy":
            point, method = self.f1_macro[m], "smoothed bootstrap"
            draws = self.f1_draws if self.f1_own_draws is None else self.f1_own_draws
        low, high = percentile_interval(draws[:, m], 1 - 2 * expanded_tail(self.num_items, level))
        if metric != "accuracy" and self.has_tiny_class:
            low = high = np.nan
        return Interval(
            float(point),
            float(np.minimum(low, point)),  # NaN if either is
            float(np.maximum(high, point)),
            level,
            method + (" with t-distributed seeds" if several else ""),
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
    kinds: Sequence[str] | None = None,
    num_draws: int = 2000,
    seed: int = 0,
) -> BootstrapDraws:
    """Return bootstrap draws of entries with classes `predicted[m]`, `(n,)` or `(n, S_m)`, paired with `labels` `(n,)`.

    Examples are drawn with replacement from all classes together, so that class shares vary as they would on a new test
    set: with fixed shares, entries whose errors depend on the class are separated too often. Examples with the same
    label and the same predictions of all entries are exchangeable. Drawing how often each such *pattern* occurs is
    therefore the same as drawing examples, and the confusion counts of all entries are one matrix product per class.
    For an entry with S > 1 seeds a draw adds a seed effect from a multivariate t distribution, whose scale is the
    covariance of the seed means / S; entries share the parts of the seeds that both have. The variance is moderated by
    the other entries of the same kind in `kinds` (by default none is comparable), which adds degrees of freedom to the
    S-1 of the entry: see `seeds.seed_prior`.
    `seeds[m]` are the seeds of the columns of `predicted[m]` (by default 0, 1, ...): equal seeds of two entries are
    paired, whatever their columns. Seeds also vary the observed predictions, so the draws are rather too wide than too
    narrow. The order of examples, entries and seeds does not change the result.
    Raises: ValueError for other shapes, repeated names or repeated seeds.
    Source: Efron & Tibshirani 1993, ch. 6; Behrens-Fisher for the sum of the two parts.
    """
    truth, tables, numbers = _checked(labels, predicted, names, seeds)
    order = sorted(range(len(names)), key=lambda m: names[m])
    own = [tables[m][:, np.argsort(numbers[m])] for m in order]
    edges = np.cumsum([table.shape[1] for table in own])[:-1]
    rng = np.random.default_rng(seed)
    point, draws = _confusions(truth, np.concatenate(own, axis=1), num_classes, num_draws, rng)
    noise = SeedNoise.drawn(
        rng,
        num_draws,
        seeds=[sorted(numbers[m]) for m in order],
        kinds=[names[m] if kinds is None else kinds[m] for m in order],
        varies=[bool((table != table[:, :1]).any()) for table in own],
    )
    occurs = point.sum(axis=-1) + point.sum(axis=-2) > 0
    scores = [np.split(score, edges) for score in (_accuracy(point), f1_of_confusion(point), _recall(point))]
    effects = [noise.effects(per_seed) for per_seed in scores]
    drawn = [
        np.stack([each.mean(axis=1) for each in np.split(score, edges, axis=1)], axis=1)
        for score in (_accuracy(draws), f1_of_confusion(draws, occurs))
    ]
    smooth = [  # random numbers of its own, so that the interval of an entry does not depend on the others
        own_draws(truth, table, num_classes, num_draws, np.random.default_rng([seed, zlib.crc32(names[m].encode())]))
        for m, table in zip(order, own, strict=True)
    ]
    balanced = np.stack([each.balanced_accuracy for each in smooth], axis=1) + effects[2]
    found_above = np.array([each.mean() for each in scores[2]]) > smooth[0].chance + 1e-12
    above = np.where(found_above, (balanced > smooth[0].chance).mean(axis=0), 0.0)
    back, of_classes = np.argsort(order), np.unique(truth, return_counts=True)[1]
    first_seeds = [t[:, int(np.argmin(s))] == truth for t, s in zip(tables, numbers, strict=True)]
    return BootstrapDraws(
        names=tuple(names),
        accuracy=np.array([each.mean() for each in scores[0]])[back],
        f1_macro=np.array([each.mean() for each in scores[1]])[back],
        accuracy_draws=(drawn[0] + effects[0])[:, back],
        f1_draws=(drawn[1] + effects[1])[:, back],
        num_items=len(truth),
        num_seeds=tuple(t.shape[1] for t in tables),
        discordance=_discordance(np.stack(first_seeds, axis=1)),
        f1_own_draws=(np.stack([each.f1_macro for each in smooth], axis=1) + effects[1])[:, back],
        rarest_class=int(of_classes.min()),
        num_f1_items=int(of_classes.min()) * len(of_classes),
        p_above_chance=tuple(above[back].tolist()),
    )


def _checked(
    labels: npt.ArrayLike,
    predicted: Sequence[npt.ArrayLike],
    names: Sequence[str],
    seeds: Sequence[Sequence[int]] | None,
) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]], list[list[int]]]:
    """Return labels `(n,)`, and for each entry its table `(n, seeds)` and the seeds of its columns.

    Raises: ValueError as `bootstrap_draws`.
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
    return truth, tables, numbers


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
    patterns, counts = np.unique(np.column_stack([truth, columns]), axis=0, return_counts=True)
    hot = np.concatenate([patterns[:, 1:] == j for j in range(k)], axis=1).astype(np.float64)
    edges = np.searchsorted(patterns[:, 0], np.arange(k + 1))  # patterns are sorted by their true class
    for start in range(0, num_draws, CHUNK):
        size = min(CHUNK, num_draws - start)
        times = _multiplicities(counts, size, rng)
        for c, (low, high) in enumerate(pairwise(edges)):
            drawn = (times[:, low:high] @ hot[low:high]).reshape(size, k, num_columns)
            draws[start : start + size, :, c, :] = drawn.transpose(0, 2, 1)
    for c, (low, high) in enumerate(pairwise(edges)):
        point[:, c, :] = (counts[low:high] @ hot[low:high]).reshape(k, num_columns).T
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


def _recall(confusion: Floats) -> Floats:
    """Return the mean recall of the classes that occur among the labels."""
    texts = confusion.sum(axis=-1)
    recall = np.divide(np.diagonal(confusion, axis1=-2, axis2=-1), texts, out=np.zeros_like(texts), where=texts > 0)
    return np.asarray(recall.sum(axis=-1) / (texts > 0).sum(axis=-1))


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
