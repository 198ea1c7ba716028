"""Contents of each figure: pure functions from results in base units to figures in display units.

Colour and symbol, or colour and dash, both identify a method or an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.leaderboard import candidates, on_all, valid, without_trivial
from moodbench.report.charts import GREY, INK, PALETTE, Axis, Chart, NoData, Series, log_axis, names_axis, style
from moodbench.report.formatting import (
    MARKS,
    count,
    duration,
    marked,
    marks,
    mebibytes,
    milliseconds,
    missing,
    three_digits,
)
from moodbench.report.leaderboard_view import CLOCKED
from moodbench.statistics.calibration import ReliabilityCurve
from moodbench.statistics.composite import pareto_set
from moodbench.statistics.rank_intervals import AcrossDatasets

METHODS: Mapping[str, tuple[str, str]] = {
    "baseline": ("#AA3377", "diamond"),
    "linear-probe": ("#E69F00", "square"),
    "lora": ("#0072B2", "circle"),
    "qlora": ("#56B4E9", "triangle-up"),
    "full": ("#009E73", "star"),
    "prompted": ("#D55E00", "cross"),
}
"""Colour and symbol of each method."""


class Cost(NamedTuple):
    """A cost of an entry, as an axis."""

    title: str
    factor: float
    """Factor from base units to those of the title."""
    better: str
    """Better end of the axis, `left` or `right`."""
    show: Callable[[Any], str]
    """Formats base units as text with a unit, as in the table."""


COSTS: Mapping[str, Cost] = {
    "latency_p50_s": Cost("median time to label, ms", 1e3, "left", lambda s: f"{milliseconds(s)} ms"),
    "latency_p99_s": Cost("99th percentile of the time to label, ms", 1e3, "left", lambda s: f"{milliseconds(s)} ms"),
    "memory_peak_batch1_bytes": Cost("memory of the process, MiB", 2.0**-20, "left", lambda b: f"{mebibytes(b)} MiB"),
    "train_time_s": Cost("training time, s", 1.0, "left", duration),
    "throughput_texts_per_s": Cost("texts per second", 1.0, "right", three_digits),
    "num_params": Cost("parameters, millions", 1e-6, "left", count),
}
"""Leaderboard column of each cost to its axis."""


def frontier(x: npt.ArrayLike, y: npt.ArrayLike, *, less_is_better: bool = True) -> npt.NDArray[np.bool_]:
    """Return whether each point is on the Pareto frontier, where a higher `y` is better.

    Points with a missing coordinate are not on it.
    """
    cost, gain = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return pareto_set(np.stack([cost if less_is_better else -cost, -gain], axis=1))


def with_trade_off(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the `rows` that the trade-off figure can show.

    They have an accuracy and a positive, validly measured cost, on every dataset.
    """
    usable = on_all(valid(rows))
    return usable[usable[cost].notna() & (usable[cost] > 0) & usable["accuracy"].notna()]


def trade_off(rows: pd.DataFrame, cost: str = "latency_p50_s", *, as_error: bool = False) -> Chart | NoData:
    """Plot accuracy, or error, with its interval against a cost, with the frontier; mark area grows with memory.

    Entries off the frontier are faint. Marks are hollow where the clock was disturbed by other load.
    """
    axis = COSTS[cost]
    known = with_trade_off(rows, cost).sort_values(cost)
    if known.empty:
        return NoData("No entry shown has both an accuracy and this measurement")
    fit = known[candidates(known)] if cost in CLOCKED else without_trivial(known)
    on = frontier(
        known[cost].where(known.index.isin(fit.index)), known["accuracy"], less_is_better=axis.better == "left"
    )
    memory = known["memory_peak_batch1_bytes"].fillna(known["memory_peak_batch1_bytes"].min()).fillna(1.0)
    low, middle, high = (100 * known[c].astype(float) for c in ("accuracy_low", "accuracy", "accuracy_high"))
    if as_error:
        low, middle, high = 100 - high, 100 - middle, 100 - low
    drawn = known.assign(
        x=axis.factor * known[cost].astype(float),
        y=middle,
        low=low,
        high=high,
        on=on,
        size=8 + 22 * np.sqrt(memory / memory.max()),
    )
    steps = "hv" if axis.better == "left" else "vh"
    series = [Series(x=drawn["x"][on], y=middle[on], name="frontier", dash="dot", steps=steps)]
    for method, group in drawn.groupby("method", sort=True):
        colour, symbol = METHODS.get(str(method), (INK, "circle"))
        each = [row for _, row in group.iterrows()]
        series.append(
            Series(
                x=group["x"],
                y=group["y"],
                name=str(method),
                colour=colour,
                symbol=symbol,
                size=group["size"],
                hollow=group["provisional"].tolist(),
                faint=(~group["on"]).tolist(),
                labels=[marked(row) for row in each],
                hover=[f"<b>{row['name']}</b><br>{_hover(row)}" for row in each],
                y_interval=(group["low"], group["high"]),
            )
        )
    title = "error, %: down is better" if as_error else "accuracy, %: up is better"
    x_axis = log_axis(f"{axis.title} (log): {axis.better} is better", drawn["x"])
    return Chart(series=series, x=x_axis, y=Axis(title=title), height=460)


def _hover(row: pd.Series[Any]) -> str:
    ends = (
        "" if missing(row["accuracy_low"]) else f" [{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}]"
    )
    lines = [f"accuracy {100 * row['accuracy']:.1f} %{ends}"]
    known = {column: axis for column, axis in COSTS.items() if not missing(row[column])}
    lines += [f"{axis.title.partition(',')[0]}: {axis.show(row[column])}" for column, axis in known.items()]
    lines += [f"{mark}: {MARKS[mark]}" for mark in marks(row)]
    return "<br>".join(lines)


def accuracy_intervals(rows: pd.DataFrame) -> Chart | NoData:
    """Plot the accuracy of each entry with its interval, best on top.

    With tied_best and accuracy_letters, entries that may be the best are in colour, and letters show the significance
    groups.
    """
    shown = rows[rows["accuracy"].notna()].sort_values("accuracy")
    if shown.empty:
        return NoData("No entry to show")
    ranked = "accuracy_letters" in shown and len(shown) > 1 and bool(shown["accuracy_letters"].notna().all())
    best = shown["tied_best"].astype(bool).to_numpy() if ranked else np.ones(len(shown), dtype=bool)
    low, middle, high = (100 * shown[c].to_numpy(dtype=float) for c in ("accuracy_low", "accuracy", "accuracy_high"))
    low, high = np.where(np.isnan(low), middle, low), np.where(np.isnan(high), middle, high)
    y = np.arange(len(shown))
    labels = [f"{value:.1f}" for value in middle]
    if ranked:
        labels = [f"{label}  {letters}" for label, letters in zip(labels, shown["accuracy_letters"], strict=True)]
    series = [
        Series(x=middle[of], y=y[of], colour=colour, symbol="circle", x_interval=(low[of], high[of]))
        for of, colour in ((~best, GREY), (best, PALETTE[0]))
    ]
    span = float(high.max() - low.min()) or 1.0
    note = "\nin colour: may be the best; a shared letter: no significant difference" if ranked else ""
    return Chart(
        series=[*series, Series(x=high, y=y, labels=labels)],
        x=Axis(title=f"accuracy, % with 95 % interval{note}", range=(low.min() - 0.05 * span, high.max() + 0.2 * span)),
        y=names_axis([marked(row) for _, row in shown.iterrows()]),
        height=130 + 36 * len(shown),
    )


def f1_by_dataset(leaderboard: pd.DataFrame) -> Chart | NoData:
    """Plot the macro-F1 of each entry on each dataset, best mean on top, with one symbol per dataset."""
    shown = leaderboard[leaderboard["f1_macro"].notna()]
    if shown.empty:
        return NoData("No entry to show")
    names = [str(name) for name in shown.groupby("name")["f1_macro"].mean().sort_values(kind="stable").index]
    noted: dict[str, dict[str, None]] = {name: {} for name in names}
    for _, row in shown.iterrows():
        noted[row["name"]] |= dict.fromkeys(marks(row))
    series = []
    for number, (track, rows) in enumerate(shown.groupby("track", sort=True)):
        colour, _, symbol = style(number)
        x, y = 100 * rows["f1_macro"].to_numpy(dtype=float), [names.index(name) for name in rows["name"]]
        hover = [f"<b>{name}</b><br>{track}: {f1:.1f} %" for name, f1 in zip(rows["name"], x, strict=True)]
        series.append(Series(x=x, y=y, name=str(track), colour=colour, symbol=symbol, hover=hover))
    labels = [f"{name} ({', '.join(found)})" if found else name for name, found in noted.items()]
    return Chart(series=series, x=Axis(title="macro-F1, %"), y=names_axis(labels), height=140 + 30 * len(names))


def latency_distribution(latencies_s: Mapping[str, npt.NDArray[np.float64]]) -> Chart | NoData:
    """Plot the share of requests answered within a time, one line per entry, with at most 200 points each."""
    if not latencies_s:
        return NoData("No timed requests are kept for the entries shown")
    series = []
    for number, (name, values) in enumerate(latencies_s.items()):
        ordered = np.sort(values)
        rows = np.unique(np.linspace(0, len(ordered) - 1, min(200, len(ordered))).round().astype(int))
        shares = 100 * (rows + 1) / len(ordered)
        hover = [
            f"{name}: {share:.1f} % within {milliseconds(s)} ms" for share, s in zip(shares, ordered[rows], strict=True)
        ]
        colour, dash, _ = style(number)
        line = Series(x=1e3 * ordered[rows], y=shares, name=name, colour=colour, dash=dash, steps="hv", hover=hover)
        series.append(line)
    every = 1e3 * np.concatenate(list(latencies_s.values()))
    axis = log_axis("time to label, ms (log)", every)
    series.append(Series(x=axis.range or (), y=[99, 99], dash="dot", labels=["99 %", ""]))
    return Chart(series=series, x=axis, y=Axis(title="requests answered, %", range=(0, 104)), height=430)


def batch_sweep(points: Mapping[str, Sequence[Mapping[str, Any]]]) -> Chart | NoData:
    """Plot texts per second against batch size, one line per entry."""
    if not points:
        return NoData("No throughput was measured for the entries shown")
    series = []
    for number, (name, sweep) in enumerate(points.items()):
        colour, dash, symbol = style(number)
        x, y = [p["batch_size"] for p in sweep], [float(p["texts_per_s"]) for p in sweep]
        hover = [f"{name}, batches of {size}: {rate:,.0f} texts/s" for size, rate in zip(x, y, strict=True)]
        series.append(Series(x=x, y=y, name=name, colour=colour, dash=dash, symbol=symbol, hover=hover))
    sizes = sorted({int(p["batch_size"]) for sweep in points.values() for p in sweep})
    rates = [rate for each in series for rate in each.y]
    axis = Axis(title="texts in a batch (log)", log=True, ticks={size: str(size) for size in sizes})
    return Chart(series=series, x=axis, y=log_axis("texts per second (log)", rates), height=400)


def stacked_parts(parts: pd.DataFrame, title: str, digits: int = 0) -> Chart | NoData:
    """Plot a bar per row of `parts`, stacked from its columns in order; all share the unit that `title` names."""
    known = parts.dropna(how="any").iloc[::-1]
    if known.empty:
        return NoData("Not measured for the entries shown")
    ends = known.cumsum(axis=1)
    series = [
        Series(
            x=ends[column],
            y=range(len(known)),
            bars_from=ends[column] - known[column],
            name=str(column),
            colour=PALETTE[number % len(PALETTE)],
            hover=[f"{name}, {column}: {value:,.{digits}f}" for name, value in known[column].items()],
        )
        for number, column in enumerate(known.columns)
    ]
    axis = Axis(title=title, range=(0, 1.02 * float(ends.to_numpy().max())))
    return Chart(series=series, x=axis, y=names_axis(map(str, known.index)), height=130 + 30 * len(known))


def learning_curves(fits: pd.DataFrame) -> Chart | NoData:
    """Plot the training loss of fits against the step: a line per fit, one colour for all seeds of a model."""
    models = list(dict.fromkeys(fits["model"]))
    series = []
    for _, fit in fits.iterrows():
        curve = [p for p in (fit["curve"] if fit["curve"] is not None else []) if p["loss"] is not None]
        if curve:
            about = f"{fit['model']} · {fit['dataset']} · seed {fit['seed']}"
            colour, dash, _ = style(models.index(fit["model"]))
            x, y = [p["step"] for p in curve], [p["loss"] for p in curve]
            hover = [f"{about}<br>step {step}: loss {loss:.3f}" for step, loss in zip(x, y, strict=True)]
            series.append(Series(x=x, y=y, name=str(fit["model"]), colour=colour, dash=dash, hover=hover))
    if not series:
        return NoData("None of the fits shown learned by steps: baselines have no loss curve")
    highest = max(max(each.y) for each in series)
    axis = Axis(title="training loss", range=(0, 1.05 * highest))
    return Chart(series=series, x=Axis(title="optimiser step"), y=axis, height=400)


def reliability(curves: Mapping[str, ReliabilityCurve]) -> Chart | NoData:
    """Plot how often the predicted label was correct at each stated probability, with the band of a calibrated model.

    The line is CORP's.
    """
    if not curves:
        return NoData("Choose entries to see how far their probabilities can be trusted")
    start = max(0.0, 100 * min(float(curve.stated[0]) for curve in curves.values()) - 3)
    lowest = max(0.0, min(start, *(100 * float(np.median(curve.right)) for curve in curves.values())) - 15)
    series = [Series(x=[start, 100], y=[start, 100], name="as stated", dash="dot")]
    for number, (name, curve) in enumerate(curves.items()):
        colour, dash, _ = style(number)
        x, y, band = 100 * curve.stated, 100 * curve.right, (100 * curve.low, 100 * curve.high)
        hover = [f"{name}: stated {at:.0f} %, correct {right:.1f} %" for at, right in zip(x, y, strict=True)]
        series.append(Series(x=x, y=y, name=name, colour=colour, dash=dash, steps="hv", band=band, hover=hover))
    axis = Axis(title="stated probability of the label, % (band: if calibrated)", range=(start, 101))
    return Chart(series=series, x=axis, y=Axis(title="correct, %", range=(lowest, 103)), height=440)


def critical_difference(names: Sequence[str], across: AcrossDatasets) -> Chart:
    """Plot mean ranks over datasets, best on the left; a bar joins entries that are not separated.

    Within a bar no pair is separated by Wilcoxon's tests with Holm's correction.
    Source: Demsar 2006, figure 1; bars from Wilcoxon with Holm instead of the critical difference (Benavoli et al.
    2016).
    """
    order = np.argsort(across.mean_ranks, kind="stable")
    ranks = across.mean_ranks[order]
    depth = -1.0 - np.arange(len(order))
    stems = [Series(x=[rank, rank], y=[0, y], dash="solid", colour=GREY) for rank, y in zip(ranks, depth, strict=True)]
    labels = [f"{names[m]}  {rank:.2f}" for m, rank in zip(order, ranks, strict=True)]
    joined = joined_ranges(across.p_wilcoxon_holm[np.ix_(order, order)])
    heights = 0.35 + 0.3 * np.arange(len(joined))
    return Chart(
        series=[
            *stems,
            Series(x=ranks, y=np.zeros(len(ranks)), symbol="circle", colour=PALETTE[0]),
            Series(x=ranks, y=depth, labels=labels),
            *(
                Series(x=[ranks[start], ranks[end]], y=[height] * 2, dash="solid", colour=PALETTE[1])
                for height, (start, end) in zip(heights, joined, strict=True)
            ),
        ],
        x=Axis(
            title="mean rank over datasets; left is better, bars join entries that are not separated",
            range=(ranks[0] - 0.3, ranks[-1] + 0.3 * len(ranks)),
        ),
        y=Axis(ticks={}),
        height=160 + 30 * len(names),
    )


def joined_ranges(p: npt.NDArray[np.float64], alpha: float = 0.05) -> list[tuple[int, int]]:
    """Return the longest ranges (first, last) of two or more ranks in which every pair has a `p` above `alpha`.

    `p` `(M, M)` is in order of rank.
    """
    m, found = len(p), list[tuple[int, int]]()
    for start in range(m):
        end = start
        while end + 1 < m and (p[start : end + 1, end + 1] > alpha).all():
            end += 1
        if end > start and not any(a <= start and end <= b for a, b in found):
            found.append((start, end))
    return found
