"""Figures of a search: rank against alpha, all parameters at once, and what a budget buys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from moodbench.config.search_space import ALPHA_OVER_R, SearchSpace, values_of
from moodbench.tuning.records import SearchTrial
from moodbench.tuning.study import expected_best


def rank_alpha_map(trials: Sequence[SearchTrial]) -> Any | None:
    """Mean validation score by rank and alpha over rank, with the number of trials and their range; None without both."""
    import plotly.graph_objects as go

    cells: dict[tuple[Any, Any], list[float]] = defaultdict(list)
    for trial in trials:
        if trial.score is not None and {"lora.r", ALPHA_OVER_R} <= trial.configuration.keys():
            cells[trial.configuration["lora.r"], trial.configuration[ALPHA_OVER_R]].append(trial.score)
    if not cells:
        return None
    ranks, ratios = sorted({r for r, _ in cells}), sorted({a for _, a in cells})
    scores = [[100 * float(np.mean(cells[r, a])) if (r, a) in cells else None for r in ranks] for a in ratios]
    words = [
        [
            f"{100 * np.mean(c):.1f}<br>n={len(c)}"
            + (f"<br>{100 * min(c):.1f} to {100 * max(c):.1f}" if len(c) > 1 else "")
            if (c := cells.get((r, a)))
            else ""
            for r in ranks
        ]
        for a in ratios
    ]
    figure = go.Figure(
        go.Heatmap(
            x=[str(r) for r in ranks],
            y=[str(a) for a in ratios],
            z=scores,
            text=words,
            texttemplate="%{text}",
            colorscale="Viridis",
            hovertemplate="rank %{x}, alpha/rank %{y}: %{z:.1f}<extra></extra>",
        )
    )
    figure.update_layout(
        title="Validation score by rank and alpha over rank", xaxis_title="rank", yaxis_title="alpha / rank"
    )
    return figure


def parallel_coordinates(space: SearchSpace, trials: Sequence[SearchTrial]) -> Any | None:
    """Every scored trial as a line through its parameters to its score; None with fewer than two."""
    import plotly.graph_objects as go

    scored = [t for t in trials if t.score is not None]
    if len(scored) < 2:
        return None
    axes = []
    for name, distribution in space.parameters.items():
        values = [t.configuration.get(name) for t in scored]
        listed = values_of(distribution)
        if listed is not None:
            order = [v for v in listed if v in values] + ([None] if None in values else [])
            axes.append(
                {
                    "label": name,
                    "values": [order.index(v) for v in values],
                    "tickvals": list(range(len(order))),
                    "ticktext": ["not used" if v is None else str(v) for v in order],
                }
            )
        elif None not in values:
            logarithmic = distribution.distribution == "log_uniform"
            numbers = [float(v) for v in values if v is not None]
            axes.append(
                {
                    "label": f"log10 {name}" if logarithmic else name,
                    "values": list(np.log10(numbers)) if logarithmic else numbers,
                }
            )
    scores = [100 * float(t.score) for t in scored if t.score is not None]
    axes.append({"label": "validation score", "values": scores})
    figure = go.Figure(
        go.Parcoords(line={"color": scores, "colorscale": "Viridis", "showscale": True}, dimensions=axes)
    )
    figure.update_layout(title="Configurations and their validation score")
    return figure


def budget_curve(trials: Sequence[SearchTrial]) -> Any | None:
    """Best score so far over texts trained, and the expected best of as many random draws; None without a score."""
    import plotly.graph_objects as go

    scored = [t for t in trials if t.score is not None]
    if not scored:
        return None
    scores = [float(t.score) for t in scored if t.score is not None]
    spent = np.cumsum([t.texts_trained for t in scored])
    mean = float(np.mean([t.texts_trained for t in scored]))
    figure = go.Figure()
    figure.add_scatter(
        x=spent, y=100 * np.maximum.accumulate(scores), mode="lines+markers", line_shape="hv", name="best so far"
    )
    figure.add_scatter(
        x=mean * np.arange(1, len(scores) + 1),
        y=100 * expected_best(scores),
        mode="lines",
        name="expected best of as many random draws (Dodge et al. 2019)",
    )
    figure.update_layout(
        title="What a budget buys", xaxis_title="texts trained, all trials", yaxis_title="validation score"
    )
    return figure
