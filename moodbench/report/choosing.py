"""Which model to use under limits: the pick, the runner-up, why, and what the limits cost.

A limit must hold at the unfavourable end of a confidence interval. Among the models within the limits, those whose
accuracy the data do not separate from the best accuracy are tied, and the fastest of the tied models is picked. Nothing
is extrapolated to a machine that was not measured. A measurement does not count if the timed model gave other labels
than the evaluated one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from moodbench.report.formatting import mebibytes, milliseconds, missing, on_all, percent, valid

Tied = Callable[[str, str], bool]
"""Function of two model names: whether the data do not separate their accuracy."""


@dataclass(frozen=True)
class Limits:
    """Limits that a model must keep; None means no limit."""

    p99_s: float | None = None
    memory_bytes: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen model with reasons; `pick` is None where no model is within the limits."""

    pick: str | None
    runner_up: str | None
    num_fitting: int
    num_rows: int
    why: str
    costs: tuple[str, ...] = ()
    """Costs of single limits in accuracy or speed, in sentences."""
    nearest: str | None = None
    """Without a pick: the model that misses the limits by least."""
    misses: tuple[str, ...] = ()
    """Limits that `nearest` misses, and by how much."""


def choose(rows: pd.DataFrame, limits: Limits, tied: Tied) -> Choice:
    """Choose among the `rows` of one track."""
    given, rows = len(rows), on_all(valid(rows))
    if given and rows.empty:
        return Choice(None, None, 0, given, "No entry was run on all of these datasets: look at one of them.")
    fitting = rows[_within(rows, limits)]
    if fitting.empty:
        return _nothing_fits(rows, limits)
    best = fitting.sort_values("accuracy", ascending=False).iloc[0]
    equals = [
        row for _, row in fitting.iterrows() if row["name"] == best["name"] or tied(str(row["name"]), str(best["name"]))
    ]
    equals.sort(key=_fastest_first)
    pick = equals[0]
    rest = equals[1:] or [
        row for _, row in fitting.sort_values("accuracy", ascending=False).iterrows() if row["name"] != pick["name"]
    ]
    runner_up = str(rest[0]["name"]) if rest else None
    return Choice(
        pick=str(pick["name"]),
        runner_up=runner_up,
        num_fitting=len(fitting),
        num_rows=len(rows),
        why=_why(pick, best, len(equals), len(fitting)),
        costs=tuple(_costs(rows, limits, pick, float(best["accuracy"]))),
    )


def _fastest_first(row: pd.Series[Any]) -> tuple[float, float]:
    """Return a sort key: by latency, unmeasured models last, then by accuracy."""
    seconds = math.inf if missing(row["latency_p50_s"]) else float(row["latency_p50_s"])
    return seconds, -float(row["accuracy"])


def overlap(rows: pd.DataFrame) -> Tied:
    """Return a rule that ties models whose accuracy intervals overlap.

    It is conservative, for use where examples cannot be paired. A model without an interval is tied with every other.
    """
    low, high = (dict(zip(rows["name"], rows[f"accuracy_{end}"], strict=True)) for end in ("low", "high"))

    def tied(a: str, b: str) -> bool:
        if any(missing(end[name]) for end in (low, high) for name in (a, b)):
            return True
        return bool(low[a] <= high[b] and low[b] <= high[a])

    return tied


def _worst_p99(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the upper end of the interval of the 99th percentile, or the percentile where it has none.

    The upper end is known before there are enough requests to report the percentile itself.
    """
    return rows["latency_p99_high_s"].fillna(rows["latency_p99_s"]).astype(float)


def _within(rows: pd.DataFrame, limits: Limits) -> pd.Series[bool]:
    keep = rows["accuracy"].notna()
    if limits.p99_s is not None:
        keep &= _worst_p99(rows) <= limits.p99_s
    if limits.memory_bytes is not None:
        keep &= rows["memory_peak_batch1_bytes"].astype(float) <= limits.memory_bytes
    if limits.accuracy is not None:
        keep &= rows["accuracy_low"].astype(float) >= limits.accuracy
    return keep


def _why(pick: pd.Series[Any], best: pd.Series[Any], num_equals: int, num_fitting: int) -> str:
    if num_fitting == 1:
        return "It is the only one within the limits."
    if num_equals == 1:
        return "It is the most accurate of those within the limits, and the data separate it from the others."
    others = f"{num_equals - 1} other{'s' if num_equals > 2 else ''} within the limits"
    if pick["name"] == best["name"]:
        text = f"It is the most accurate of those within the limits, not separated from {others}"
        if missing(pick["latency_p50_s"]):
            return f"{text}; which of these is the fastest was not measured."
        return f"{text}, and the fastest of these."
    if missing(best["latency_p50_s"]):  # the pick has a latency, or it would sort last
        faster = f"; the speed of {best['name']} was not measured"
    else:
        faster = f", and it answers {best['latency_p50_s'] / pick['latency_p50_s']:.1f} times as fast"
    return (
        f"The data do not separate its accuracy from that of {best['name']}, the most accurate within the limits "
        f"({percent(best['accuracy'])} %){faster}."
    )


def _costs(rows: pd.DataFrame, limits: Limits, pick: pd.Series[Any], accuracy: float) -> list[str]:
    """Describe what lifting each single limit would gain, for the limits that bind.

    Without a limit on time or memory another model may be more accurate; without one on accuracy another may be faster.
    """
    said = []
    for lifted in ("p99_s", "memory_bytes", "accuracy"):
        if getattr(limits, lifted) is None:
            continue
        wider = rows[_within(rows, replace(limits, **{lifted: None})) & ~_within(rows, limits)]
        if wider.empty:
            continue
        gain = _speed_gain(wider, pick) if lifted == "accuracy" else _accuracy_gain(wider, lifted, accuracy)
        said += [gain] if gain else []
    return said


def _accuracy_gain(wider: pd.DataFrame, lifted: str, accuracy: float) -> str | None:
    """Describe the most accurate of `wider`; None where it is not more accurate than `accuracy`."""
    better = wider.sort_values("accuracy", ascending=False).iloc[0]
    gain = float(better["accuracy"]) - accuracy
    if gain <= 0:
        return None
    worst = _worst_p99(wider)[wider["name"] == better["name"]].iloc[0]
    needed = "without that limit"
    if lifted == "p99_s" and not missing(worst):
        needed = f"with up to {milliseconds(worst)} ms at the 99th percentile"
    elif lifted == "memory_bytes" and not missing(better["memory_peak_batch1_bytes"]):
        needed = f"with {mebibytes(better['memory_peak_batch1_bytes'])} MiB"
    return f"+{100 * gain:.1f} points of accuracy {needed} ({better['name']})"


def _speed_gain(wider: pd.DataFrame, pick: pd.Series[Any]) -> str | None:
    """Describe the fastest of `wider`; None where it is not faster than the pick."""
    measured = wider[wider["latency_p50_s"].notna()]
    if measured.empty or missing(pick["latency_p50_s"]):
        return None
    fastest = measured.sort_values("latency_p50_s").iloc[0]
    ratio = float(pick["latency_p50_s"]) / float(fastest["latency_p50_s"])
    if ratio <= 1:
        return None
    low = fastest["accuracy_low"]
    lost = f"accuracy {percent(fastest['accuracy'])} %, " + (
        "its interval not known" if missing(low) else f"from {percent(low)} %"
    )
    return f"{ratio:.1f} times as fast with less accuracy ({fastest['name']}: {lost})"


def _nothing_fits(rows: pd.DataFrame, limits: Limits) -> Choice:
    """Return the model whose worst excess over a limit, as a ratio, is smallest, with the limits it misses."""
    measures: list[tuple[float, str, list[str]]] = []
    worst = _worst_p99(rows)
    for place, (_, row) in enumerate(rows.iterrows()):
        if missing(row["accuracy"]):
            continue
        found = [
            _miss(limits.p99_s, worst.iloc[place], milliseconds, "ms at the 99th percentile"),
            _miss(limits.memory_bytes, row["memory_peak_batch1_bytes"], mebibytes, "MiB"),
        ]
        found.append(_shortfall(limits.accuracy, row["accuracy_low"]))
        over = [miss for miss in found if miss is not None]
        measures.append(
            (max((excess for excess, _ in over), default=0.0), str(row["name"]), [text for _, text in over])
        )
    if not measures:
        return Choice(None, None, 0, len(rows), "No entry has been evaluated here.")
    _, name, misses = min(measures, key=lambda m: m[0])
    why = "No measured entry keeps to all limits."
    return Choice(None, None, 0, len(rows), why, nearest=name, misses=tuple(misses))


def _shortfall(limit: float | None, low: Any) -> tuple[float, str] | None:
    """Return by what log ratio the lower end of an accuracy misses `limit`, and in words; None where it does not."""
    if limit is None:
        return None
    if missing(low):
        return math.inf, "the interval of its accuracy is not known"
    if low >= limit:
        return None
    low = max(float(low), 1e-6)
    return math.log(limit / low), f"accuracy at least {percent(low)} %, {100 * (limit - low):.1f} points short"


def _miss(limit: float | None, value: Any, show: Callable[[Any], str], unit: str) -> tuple[float, str] | None:
    """Return by what log ratio `value` exceeds `limit`, and in words; None where it does not."""
    if limit is None:
        return None
    if missing(value):
        return math.inf, f"{unit} not known, for want of a measurement or of enough undisturbed requests"
    if value <= limit:
        return None
    return math.log(value / limit), f"{show(value)} {unit}, {show(value - limit)} over"
