"""Interactive figures of the page: pure functions from frames in base units to Plotly figures in display units.

Colour and marker both identify the method, in Okabe and Ito's colours, which people with colour-vision deficiencies can
distinguish. Text takes its colour from the page's CSS, so it is readable on a dark page too. A figure without data says
why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from moodbench.analysis.leaderboard import on_all, valid
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
from moodbench.statistics.calibration import ReliabilityCurve

GRID = "rgba(128,128,128,.25)"
INK = "#6b7280"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
METHODS: Mapping[str, tuple[str, str]] = {
    "baseline": ("#AA3377", "diamond"),
    "linear-probe": ("#E69F00", "square"),
    "lora": ("#0072B2", "circle"),
    "qlora": ("#56B4E9", "triangle-up"),
    "full": ("#009E73", "star"),
    "prompted": ("#D55E00", "cross"),
}
"""Colour and marker of each method."""
LOG_TICKS = [float(f"{m}e{e}") for e in range(-3, 7) for m in (1, 2, 5)]


class Cost(NamedTuple):
    """A cost of a model, as an axis."""

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


def message(text: str, height: int = 220) -> go.Figure:
    """Return a figure without data that says why it is empty."""
    figure = go.Figure()
    figure.add_annotation(text=text, showarrow=False, font_size=15)
    return styled(figure.update_xaxes(visible=False).update_yaxes(visible=False), height)


def frontier(x: npt.ArrayLike, y: npt.ArrayLike, *, less_is_better: bool = True) -> npt.NDArray[np.bool_]:
    """Return whether each point is on the Pareto frontier, where a higher `y` is better.

    A point is on it if no other is at least as good in both coordinates and better in one. Points with a missing
    coordinate are not on it. Of equal points either all are on it or none.
    """
    cost = np.asarray(x, dtype=float) * (1 if less_is_better else -1)
    gain = np.asarray(y, dtype=float)
    as_good = (cost[None, :] <= cost[:, None]) & (gain[None, :] >= gain[:, None])
    better = (cost[None, :] < cost[:, None]) | (gain[None, :] > gain[:, None])
    beaten = (as_good & better).any(axis=1)
    front: npt.NDArray[np.bool_] = ~beaten & np.isfinite(cost) & np.isfinite(gain)
    return front


def with_trade_off(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the `rows` that the trade-off figure can show.

    They have an accuracy and a positive, validly measured cost, on every dataset.
    """
    usable = on_all(valid(rows))
    return usable[usable[cost].notna() & (usable[cost] > 0) & usable["accuracy"].notna()]


def trade_off(rows: pd.DataFrame, cost: str = "latency_p50_s") -> go.Figure:
    """Plot accuracy with its interval against a cost on a log axis, with the frontier; marker area grows with memory.

    Only models on the frontier are labelled; the others are faint and show their name on hover. A row whose clock was
    disturbed by other load has an open marker.
    """
    axis = COSTS[cost]
    known = with_trade_off(rows, cost).sort_values(cost)
    if known.empty:
        return message("No entry shown has both an accuracy and this measurement")
    x, y = known[cost] * axis.factor, known["accuracy"] * 100
    on = frontier(x, y, less_is_better=axis.better == "left")
    figure = go.Figure()
    shape = "hv" if axis.better == "left" else "vh"
    line = {"shape": shape, "width": 2, "color": INK, "dash": "dot"}
    figure.add_scatter(x=x[on], y=y[on], mode="lines", line=line, name="frontier", hoverinfo="skip")
    memory = known["memory_peak_batch1_bytes"].fillna(known["memory_peak_batch1_bytes"].min()).fillna(1.0)
    sizes = 8 + 22 * np.sqrt(memory / memory.max())
    for method, group in known.groupby("method", sort=True):
        colour, symbol = METHODS.get(str(method), (INK, "circle"))
        mask = (known["method"] == method).to_numpy()
        marks = [f"{symbol}-open" if p else symbol for p in group["provisional"]]
        places = _inwards(x[mask], x)
        figure.add_scatter(
            x=x[mask],
            y=y[mask],
            mode="markers+text",
            name=str(method),
            text=np.where(on[mask], [marked(row) for _, row in group.iterrows()], ""),
            textposition=places,
            customdata=np.stack([group["name"], [_hover(row) for _, row in group.iterrows()]], axis=1),
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
            error_y={
                "type": "data",
                "array": 100 * (group["accuracy_high"] - group["accuracy"]),
                "arrayminus": 100 * (group["accuracy"] - group["accuracy_low"]),
                "thickness": 1.2,
                "width": 3,
                "color": colour,
            },
            marker={
                "color": colour,
                "symbol": marks,
                "size": sizes[mask],
                "opacity": np.where(on[mask], 0.95, np.where(group["provisional"], 0.8, 0.45)),
                "line": {"width": 1, "color": colour},
            },
        )
    _log_axis(figure, f"{axis.title} (log): {axis.better} is better", x)
    figure.update_yaxes(title="accuracy, %: up is better")
    return styled(figure, 460)


def _inwards(own: pd.Series[float], every: pd.Series[float]) -> list[str]:
    """Return the label position of each mark of `own` on a log axis over `every`.

    Labels point towards the middle, so no edge cuts them.
    """
    middle = math.sqrt(every.min() * every.max())
    return [f"{'bottom' if i % 2 else 'top'} {'right' if at < middle else 'left'}" for i, at in enumerate(own)]


def scores_by_dataset(board: pd.DataFrame, names: Sequence[str], column: str = "f1_macro") -> go.Figure:
    """Plot a score of each model (vertical axis) on each dataset, with one marker per dataset."""
    shown = board[board["name"].isin(names) & board[column].notna()]
    if shown.empty:
        return message("No entry to show")
    figure = go.Figure()
    order = list(reversed(names))
    for number, (track, rows) in enumerate(shown.groupby("track", sort=True)):
        placed = rows.set_index("name").reindex(order).dropna(subset=[column])
        figure.add_scatter(
            x=100 * placed[column],
            y=placed.index,
            mode="markers",
            name=str(track),
            marker={"size": 11, "color": PALETTE[number % len(PALETTE)], "symbol": number % 6},
            hovertemplate="<b>%{y}</b><br>%{x:.1f} %<extra>" + str(track) + "</extra>",
        )
    figure.update_xaxes(title="macro F1, %")
    found: dict[str, list[str]] = {name: [] for name in order}
    for _, row in shown.iterrows():
        found[row["name"]] += marks(row)
    labels = [f"{name} ({', '.join(dict.fromkeys(of))})" if of else name for name, of in found.items()]
    figure.update_yaxes(
        categoryorder="array", categoryarray=order, tickvals=order, ticktext=labels, tickmode="array", automargin=True
    )
    return styled(figure, 130 + 26 * len(order))


def latency_distribution(latencies_s: Mapping[str, npt.NDArray[np.float64]]) -> go.Figure:
    """Plot the share of requests answered within a time, one line per model, with at most 200 points each."""
    if not latencies_s:
        return message("No timed requests are kept for the entries shown")
    figure = go.Figure()
    for number, (name, values) in enumerate(latencies_s.items()):
        ordered = np.sort(values)
        rows = np.unique(np.linspace(0, len(ordered) - 1, min(200, len(ordered))).round().astype(int))
        figure.add_scatter(
            x=1e3 * ordered[rows],
            y=100 * (rows + 1) / len(ordered),
            mode="lines",
            name=name,
            line={"width": 2.2, "shape": "hv", "color": PALETTE[number % 6], "dash": DASHES[number % 6]},
            customdata=[milliseconds(seconds) for seconds in ordered[rows]],
            hovertemplate="%{y:.1f} % within %{customdata} ms<extra>" + name + "</extra>",
        )
    figure.add_hline(y=99, line_dash="dot", line_width=1, line_color=INK, annotation_text="99 %")
    _log_axis(figure, "time to label, ms (log)", 1e3 * np.concatenate(list(latencies_s.values())))
    figure.update_yaxes(title="requests answered, %", range=[0, 104])
    return styled(figure, 430)


def batch_sweep(points: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Plot texts per second against batch size on log axes, one line per model."""
    if not points:
        return message("No throughput was measured for the entries shown")
    figure = go.Figure()
    every: list[float] = []
    for number, (name, sweep) in enumerate(points.items()):
        rates = [float(p["texts_per_s"]) for p in sweep]
        every += rates
        figure.add_scatter(
            x=[p["batch_size"] for p in sweep],
            y=rates,
            mode="lines+markers",
            name=name,
            line={"width": 2.2, "color": PALETTE[number % 6], "dash": DASHES[number % 6]},
            marker={"size": 8, "symbol": number % 6},
            hovertemplate="batches of %{x}: %{y:,.0f} texts/s<extra>" + name + "</extra>",
        )
    sizes = sorted({int(p["batch_size"]) for sweep in points.values() for p in sweep})
    figure.update_xaxes(type="log", title="texts in a batch (log)", tickvals=sizes)
    figure.update_yaxes(type="log", title="texts per second (log)", tickvals=_ticks(every), tickformat=",")
    return styled(figure, 400)


def stacked_parts(parts: pd.DataFrame, title: str, digits: int = 0) -> go.Figure:
    """Plot a bar per row of `parts`, stacked from its columns in order; all share the unit that `title` names."""
    known = parts.dropna(how="any")
    if known.empty:
        return message("Not measured for the entries shown")
    figure = go.Figure()
    for number, column in enumerate(known.columns):
        figure.add_bar(
            x=known[column],
            y=known.index,
            orientation="h",
            name=str(column),
            marker={"color": PALETTE[number % 6], "pattern": {"shape": ["", "/", ".", "x", "-", "+"][number % 6]}},
            hovertemplate=f"%{{x:,.{digits}f}}<extra>{column}</extra>",
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title=title)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return styled(figure, 130 + 30 * len(known))


def learning_curves(fits: pd.DataFrame) -> go.Figure:
    """Plot the training loss of fits against the step: a line per fit, one colour for all seeds of a model."""
    figure = go.Figure()
    models = list(dict.fromkeys(fits["model"]))
    for model, group in fits.groupby("model", sort=False):
        number = models.index(str(model))
        for place, (_, fit) in enumerate(group.iterrows()):
            curve = [p for p in (fit["curve"] if fit["curve"] is not None else []) if p["loss"] is not None]
            if curve:
                figure.add_scatter(
                    x=[p["step"] for p in curve],
                    y=[p["loss"] for p in curve],
                    mode="lines",
                    name=str(model),
                    legendgroup=str(model),
                    showlegend=place == 0,
                    line={"width": 1.8, "color": PALETTE[number % 6], "dash": DASHES[number % 6]},
                    hovertemplate="step %{x}: loss %{y:.3f}<extra>"
                    + f"{model} · {fit['dataset']} · seed {fit['seed']}</extra>",
                )
    if not figure.data:
        return message("None of the fits shown learned by steps: baselines have no loss curve")
    figure.update_xaxes(title="optimiser step")
    figure.update_yaxes(title="training loss", rangemode="tozero")
    return styled(figure, 400)


def reliability(curves: Mapping[str, ReliabilityCurve]) -> go.Figure:
    """Plot how often the predicted label was correct at each stated probability, with the band of a calibrated model.

    The line is CORP's.
    """
    if not curves:
        return message("Choose entries to see how far their probabilities can be trusted")
    figure = go.Figure()
    start = max(0.0, 100 * min(float(curve.stated[0]) for curve in curves.values()) - 3)
    line = {"width": 1, "dash": "dot", "color": INK}
    figure.add_scatter(x=[start, 100], y=[start, 100], mode="lines", name="as stated", line=line, hoverinfo="skip")
    for number, (name, curve) in enumerate(curves.items()):
        colour = PALETTE[number % 6]
        stated = 100 * curve.stated
        figure.add_scatter(
            x=np.concatenate([stated, stated[::-1]]),
            y=100 * np.concatenate([curve.low, curve.high[::-1]]),
            mode="lines",
            fill="toself",
            fillcolor=colour,
            opacity=0.16,
            line={"width": 0, "color": colour},
            legendgroup=name,
            showlegend=False,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=stated,
            y=100 * curve.right,
            mode="lines",
            name=name,
            legendgroup=name,
            line={"width": 2.2, "shape": "hv", "color": colour, "dash": DASHES[number % 6]},
            hovertemplate="stated %{x:.0f} %, right %{y:.1f} %<extra>" + name + "</extra>",
        )
    figure.update_xaxes(title="stated probability, % (band: if calibrated)")
    figure.update_xaxes(range=[start, 101])
    figure.update_yaxes(title="label right, %", range=[0, 103])
    return styled(figure, 440)


def _hover(row: pd.Series[Any]) -> str:
    ends = (
        "" if missing(row["accuracy_low"]) else f" [{100 * row['accuracy_low']:.1f}, {100 * row['accuracy_high']:.1f}]"
    )
    lines = [f"accuracy {100 * row['accuracy']:.1f} %{ends}"]
    known = {column: axis for column, axis in COSTS.items() if not missing(row[column])}
    lines += [f"{axis.title.partition(',')[0]}: {axis.show(row[column])}" for column, axis in known.items()]
    lines += [f"{mark}: {MARKS[mark]}" for mark in marks(row)]
    return "<br>".join(lines)


def _ticks(values: npt.ArrayLike) -> list[float]:
    array = np.asarray(values, dtype=float)
    low, high = array.min() / 2.5, array.max() * 2.5
    inside = [t for t in LOG_TICKS if low <= t <= high]
    return inside if len(inside) <= 12 else [t for t in inside if str(f"{t:e}")[0] == "1"]


def _log_axis(figure: go.Figure, title: str, values: npt.ArrayLike) -> None:
    array = np.asarray(values, dtype=float)
    ends = [float(np.log10(array.min() * 0.6)), float(np.log10(array.max() * 1.6))]
    figure.update_xaxes(type="log", title=title, range=ends, tickvals=_ticks(array))


def styled(figure: go.Figure, height: int) -> go.Figure:
    """Give `figure` the shared style and this height in pixels, and return it."""
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 16, "t": 48, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "Source Sans Pro, system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
        hoverlabel={"font_size": 13},
        dragmode=False,
        showlegend=len(figure.data) > 1 or None,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
    return figure
