"""Recommendation of a model under limits: the pick, the runner-up, and what each limit costs.

A limit must hold at the unfavourable end of a confidence interval. Among the models within the limits, those whose
accuracy does not differ significantly from the best accuracy are tied, and the fastest of the tied models is picked.
Nothing is extrapolated to a machine that was not measured. A measurement does not count if the timed model gave other
labels than the evaluated one, and a model that is no better than the majority baseline is never recommended.

Other load can only lengthen a latency. One that it disturbed therefore keeps to a limit that it is within, but is
unknown above it, and is not compared with undisturbed ones; where the tied models have no other, CPU times are
compared, as for the score. A model that is set aside for this alone is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import on_all, valid, without_trivial
from moodbench.statistics.bootstrap import BootstrapDraws
from moodbench.statistics.overall import separated

type Row = pd.Series[Any]
"""A row of the leaderboard."""
Tied = Callable[[str, str], bool]
"""Function of two model names: whether their accuracy does not differ significantly."""


@dataclass(frozen=True)
class Limits:
    """Limits that a model must keep; None means no limit."""

    p99_s: float | None = None
    memory_bytes: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Cost:
    """Gain without one limit: in accuracy (a share) without one on time or memory, in speed without one on accuracy."""

    limit: str
    gain: float
    """Difference in accuracy, or ratio of latencies."""
    row: Row
    """The model that the limit excludes."""


@dataclass(frozen=True)
class Miss:
    """A limit that a model misses."""

    limit: str
    allowed: float
    value: float
    """Value at the unfavourable end of its interval; NaN if unknown."""

    @property
    def excess(self) -> float:
        """Log ratio by which the limit is missed, infinite if the value is unknown."""
        if pd.isna(self.value):
            return math.inf
        if self.limit == "accuracy":
            return math.log(self.allowed / max(self.value, 1e-6))
        return math.log(self.value / self.allowed)


@dataclass(frozen=True)
class Recommendation:
    """The recommended model with the reasons; `pick` is None where no model is within the limits."""

    num_given: int
    """Number of models on the leaderboard."""
    num_rows: int
    """Number of these that cover all datasets and are better than chance, which are compared."""
    num_trivial: int
    """Number of these that cover all datasets and are no better than chance."""
    num_fitting: int = 0
    """Number of models within the limits."""
    num_tied: int = 0
    """Number of models within the limits that are tied with the most accurate one, itself included."""
    pick: Row | None = None
    most_accurate: Row | None = None
    """The most accurate model within the limits."""
    runner_up: Row | None = None
    costs: tuple[Cost, ...] = ()
    nearest: Row | None = None
    """Without a pick: the model that misses the limits by least."""
    misses: tuple[Miss, ...] = ()
    """Limits that `nearest` misses."""
    disturbed: tuple[str, ...] = ()
    """Models that were not compared, or do not keep to the limit on time, only because other load disturbed them."""


def recommend(rows: pd.DataFrame, limits: Limits, tied: Tied) -> Recommendation:
    """Recommend one of the `rows` of one track."""
    covering = on_all(valid(rows)).astype({"latency_p50_s": "float64"})
    num_given, rows = len(rows), _without_long_disturbed(without_trivial(covering), limits)
    counts = num_given, len(rows), len(covering) - len(rows)
    fitting = rows[_within(rows, limits)].sort_values("accuracy", ascending=False, kind="stable")
    unknown = rows[_disturbed(rows) & _within(rows, replace(limits, p99_s=None)) & ~_within(rows, limits)]
    if fitting.empty:
        nearest, misses = _nearest(rows, limits)
        return Recommendation(*counts, nearest=nearest, misses=misses, disturbed=tuple(unknown["name"]))
    best = fitting.iloc[0]
    is_tied = [name == best["name"] or tied(str(name), str(best["name"])) for name in fitting["name"]]
    fastest_first = _with_compared_latency(fitting[is_tied]).sort_values(
        ["latency_compared_s", "accuracy"], ascending=[True, False], na_position="last"
    )
    best, pick = fastest_first[fastest_first["name"] == best["name"]].iloc[0], fastest_first.iloc[0]
    set_aside = fastest_first[_disturbed(fastest_first) & fastest_first["latency_compared_s"].isna()]
    set_aside = set_aside.head(0) if pd.isna(pick["latency_compared_s"]) else set_aside
    others = fastest_first.iloc[1:] if len(fastest_first) > 1 else fitting[fitting["name"] != pick["name"]]
    return Recommendation(
        *counts,
        num_fitting=len(fitting),
        num_tied=len(fastest_first),
        pick=pick,
        most_accurate=best,
        runner_up=None if others.empty else others.iloc[0],
        costs=tuple(_costs(rows, limits, pick, float(best["accuracy"]))),
        disturbed=(*set_aside["name"], *unknown["name"]),
    )


def _disturbed(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return in which rows other load disturbed the clock."""
    return rows["provisional"].eq(True) if "provisional" in rows else pd.Series(False, index=rows.index)


def _without_long_disturbed(rows: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Return `rows` without the disturbed latencies that exceed the limit."""
    if limits.p99_s is None:
        return rows
    unknown = _disturbed(rows) & ~(_values(rows, "p99_s") <= limits.p99_s)
    columns = ("latency_p99_s", "latency_p99_high_s")
    return rows.assign(**{column: rows[column].astype("float64").mask(unknown) for column in columns})


def _with_compared_latency(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with `latency_compared_s`: undisturbed latencies, or CPU times where there are none."""
    latency = rows["latency_p50_s"].mask(_disturbed(rows))
    if latency.isna().all() and "cpu_time_p50_s" in rows:
        latency = rows["cpu_time_p50_s"].astype("float64")
    return rows.assign(latency_compared_s=latency)


def ties(rows: pd.DataFrame, bootstrap: BootstrapDraws | None) -> Tied:
    """Return the rule that ties models of `rows` by the bootstrap draws, which are paired by example.

    Models without draws are tied if their accuracy intervals overlap, which is conservative. A model without an
    interval is tied with every other.
    """
    low, high = (dict(zip(rows["name"], rows[f"accuracy_{end}"], strict=True)) for end in ("low", "high"))

    def tied(a: str, b: str) -> bool:
        if bootstrap is not None and {a, b} <= set(bootstrap.names):
            return not separated(bootstrap, a, b)
        if any(pd.isna(end[name]) for end in (low, high) for name in (a, b)):
            return True
        return bool(low[a] <= high[b] and low[b] <= high[a])

    return tied


def _values(rows: pd.DataFrame, limit: str) -> pd.Series[float]:
    """Return the values of the rows that are compared with the `limit`, at the unfavourable end of their intervals.

    The upper end of the 99th percentile is known before there are enough requests to report the percentile itself.
    """
    if limit == "p99_s":
        return rows["latency_p99_high_s"].fillna(rows["latency_p99_s"]).astype(float)
    return rows[{"memory_bytes": "memory_peak_batch1_bytes", "accuracy": "accuracy_low"}[limit]].astype(float)


def _given(limits: Limits) -> dict[str, float]:
    """Return the limits that are set, by name."""
    return {name: value for name, value in asdict(limits).items() if value is not None}


def _within(rows: pd.DataFrame, limits: Limits) -> pd.Series[bool]:
    keep = rows["accuracy"].notna()
    for limit, allowed in _given(limits).items():
        keep &= _keeps(limit, _values(rows, limit), allowed)
    return keep


def _keeps(limit: str, value: Any, allowed: float) -> Any:
    """Return whether a value, or each of a series, keeps to the limit; an unknown one (NaN) does not."""
    return value >= allowed if limit == "accuracy" else value <= allowed


def _costs(rows: pd.DataFrame, limits: Limits, pick: Row, accuracy: float) -> list[Cost]:
    """Return what dropping each single limit would gain, for the limits that bind.

    Without a limit on time or memory another model may be more accurate; without one on accuracy another may be faster.
    """
    found = []
    rows = rows.assign(latency_undisturbed_s=rows["latency_p50_s"].mask(_disturbed(rows)))
    for limit in _given(limits):
        wider = rows[_within(rows, replace(limits, **{limit: None})) & ~_within(rows, limits)]
        if wider.empty:
            continue
        if limit == "accuracy":
            row = wider.sort_values("latency_undisturbed_s").iloc[0]
            own = rows.loc[rows["name"] == pick["name"], "latency_undisturbed_s"].iloc[0]
            gain = float(own) / float(row["latency_undisturbed_s"])  # NaN if one was not measured
            found += [Cost(limit, gain, row)] if gain > 1 else []
        else:
            row = wider.sort_values("accuracy", ascending=False).iloc[0]
            gain = float(row["accuracy"]) - accuracy
            found += [Cost(limit, gain, row)] if gain > 0 else []
    return found


def _nearest(rows: pd.DataFrame, limits: Limits) -> tuple[Row | None, tuple[Miss, ...]]:
    """Return the row whose worst excess over a limit is smallest, with the limits it misses; None without any row."""
    evaluated = rows[rows["accuracy"].notna()]
    if evaluated.empty:
        return None, ()
    values = {limit: _values(evaluated, limit) for limit in _given(limits)}
    missed: list[list[Miss]] = []
    for at in range(len(evaluated)):
        misses = [Miss(limit, allowed, float(values[limit].iloc[at])) for limit, allowed in _given(limits).items()]
        missed.append([miss for miss in misses if not _keeps(miss.limit, miss.value, miss.allowed)])
    worst = [max((miss.excess for miss in misses), default=0.0) for misses in missed]
    at = worst.index(min(worst))
    return evaluated.iloc[at], tuple(missed[at])
