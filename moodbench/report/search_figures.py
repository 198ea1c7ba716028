"""Figures of a search for the page: rank against alpha, all hyperparameters at once, budget, importance, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from moodbench.config.search_space import ALPHA_OVER_R
from moodbench.report.figures import INK, PALETTE, styled
from moodbench.report.search_words import (
    RANK,
    UNUSED,
    after,
    axis_title,
    cell_words,
    factor,
    mib,
    shown,
    value_words,
)
from moodbench.tune.objectives import front
from moodbench.tune.records import sign
from moodbench.tune.result import Searched
from moodbench.tune.study import best_so_far, cells, equal_scores, expected_curve, importances


def rank_alpha_map(search: Searched) -> go.Figure | None:
    """Plot the mean score by rank and alpha over rank; None where the search did not vary both.

    Cells show the interval of the mean and the number of trials.
    """
    equal = equal_scores(search.trials)
    found = cells(equal, RANK, ALPHA_OVER_R)
    if not found:
        return None
    ranks, ratios = sorted({r for r, _ in found}), sorted({a for _, a in found})
    scale = factor(search.metric)
    figure = go.Figure(
        go.Heatmap(
            x=[str(r) for r in ranks],
            y=[str(a) for a in ratios],
            z=[[scale * found[r, a].mean if (r, a) in found else None for r in ranks] for a in ratios],
            text=[
                ["<br>".join(cell_words(found[r, a], search.metric)) if (r, a) in found else "" for r in ranks]
                for a in ratios
            ],
            texttemplate="%{text}",
            colorscale="Cividis",
            reversescale=sign(search.metric) < 0,
            colorbar={"title": {"text": axis_title(search.metric), "side": "right"}},
            hovertemplate="rank %{x}, alpha / rank %{y}<br>%{text}<extra></extra>",
        )
    )
    figure.update_xaxes(title="rank", type="category")
    figure.update_yaxes(title="alpha / rank", type="category")
    return styled(figure, 150 + 70 * len(ratios))


def parallel_coordinates(search: Searched) -> go.Figure | None:
    """Plot each trial as a line through its hyperparameters to its score; None with fewer than two scores.

    Scores are compared after equally many training texts.
    """
    equal = equal_scores(search.trials)
    if len(equal.scores) < 2:
        return None
    drawn: list[dict[str, Any]] = []
    for axis in search.axes:
        values = [t.configuration.get(axis.name, UNUSED) for t in equal.trials]
        used = [v for v in values if v is not UNUSED]
        if not used:
            continue
        if axis.values is not None or len(used) < len(values):
            order: list[Any] = [v for v in (axis.values or sorted(set(used))) if v in used]
            ends = [value_words(v) for v in order] + [UNUSED] * (len(used) < len(values))
            places = [len(order) if v is UNUSED else order.index(v) for v in values]
            drawn.append({"label": axis.name, "values": places, "tickvals": list(range(len(ends))), "ticktext": ends})
        else:
            numbers = np.array(used, dtype=float)
            drawn.append(
                {
                    "label": f"log10 {axis.name}" if axis.is_log else axis.name,
                    "values": np.log10(numbers) if axis.is_log else numbers,
                }
            )
    scores = factor(search.metric) * np.array(equal.scores)
    drawn.append({"label": axis_title(search.metric), "values": scores})
    line = {"color": scores, "colorscale": "Cividis", "reversescale": sign(search.metric) < 0}
    figure = go.Figure(go.Parcoords(line=line, dimensions=drawn, labelangle=0, labelside="top"))
    return styled(figure, 420).update_layout(margin={"t": 70, "b": 40, "l": 80, "r": 60})


def budget_curve(search: Searched) -> go.Figure | None:
    """Plot the best score so far over texts trained, and the expected best of random search; None with neither.

    The expected best is that of as many random draws.
    """
    scale, so_far, curve = factor(search.metric), best_so_far(search.trials), expected_curve(search.trials)
    if not so_far and curve is None:
        return None
    figure = go.Figure()
    if curve is not None:
        x = curve.scores.cost * np.arange(1, len(curve.middle) + 1)
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=scale * np.concatenate([curve.low, curve.high[::-1]]),
            fill="toself",
            fillcolor=PALETTE[0],
            opacity=0.2,
            line={"width": 0, "color": PALETTE[0]},
            name="5 to 95 % over resampled configurations",
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=x,
            y=scale * curve.middle,
            mode="lines",
            line={"color": PALETTE[0], "dash": "dash"},
            name=f"expected best of random draws, {after(curve.scores).split(',')[0]}",
        )
    if so_far:
        figure.add_scatter(
            x=[spent for spent, _ in so_far],
            y=[scale * score for _, score in so_far],
            mode="lines+markers",
            line={"shape": "hv", "color": PALETTE[1]},
            name="best so far",
        )
    figure.update_xaxes(title="texts trained, all configurations together", rangemode="tozero")
    figure.update_yaxes(title=axis_title(search.metric))
    return styled(figure, 430)


def importance_bars(search: Searched) -> go.Figure | None:
    """Plot the share of the score's variance that each hyperparameter explains alone, with its interval.

    None with too few comparable scores.
    """
    found = importances(search.axes, search.trials, search.defaults)
    if not found:
        return None
    figure = go.Figure()
    figure.add_scatter(
        x=[100 * i.share for i in found],
        y=[i.parameter for i in found],
        mode="markers",
        marker={"color": PALETTE[0], "size": 10},
        error_x={
            "type": "data",
            "array": [100 * (i.high - i.share) for i in found],
            "arrayminus": [100 * (i.share - i.low) for i in found],
            "color": INK,
        },
        hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
    )
    figure.update_xaxes(title="share of the variance explained alone, % (5 to 95 % over 100 resamples)", range=[0, 101])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return styled(figure, 130 + 30 * len(found))


def memory_front(search: Searched) -> go.Figure | None:
    """Plot the best score over training memory, with the Pareto front and the pick.

    None with fewer than two trials that have both.
    """
    known = [t for t in search.trials if t.score is not None and t.memory_bytes and t.status != "failed"]
    if len(known) < 2:
        return None
    scale, best, line = factor(search.metric), search.best, front(search.trials)
    figure = go.Figure()
    figure.add_scatter(
        x=[mib(t) for t in line],
        y=[scale * (t.score or 0.0) for t in line],
        mode="lines",
        line={"shape": "hv", "color": PALETTE[1]},
        name="front",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[mib(t) for t in known],
        y=[scale * (t.score or 0.0) for t in known],
        mode="markers",
        marker={"color": PALETTE[0], "size": 9, "symbol": ["circle" if t is best else "circle-open" for t in known]},
        customdata=[
            [shown(t.score or 0.0, t.metric), ", ".join(f"{k} {value_words(v)}" for k, v in t.configuration.items())]
            for t in known
        ],
        hovertemplate="%{x:,.0f} MiB, %{customdata[0]}<br>%{customdata[1]}<extra></extra>",
        name="configurations, the pick filled",
    )
    figure.update_xaxes(title="peak memory of training, MiB")
    figure.update_yaxes(title=axis_title(search.metric))
    return styled(figure, 400)


FIGURES: Mapping[str, Callable[[Searched], go.Figure | None]] = {
    "map": rank_alpha_map,
    "coordinates": parallel_coordinates,
    "budget": budget_curve,
    "importance": importance_bars,
    "front": memory_front,
}
"""Figure of TITLES to the function that draws it."""
