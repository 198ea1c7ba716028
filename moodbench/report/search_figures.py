"""Figures of a search: rank against alpha, all hyperparameters at once, budget, importance, memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import numpy as np

from moodbench.config.search_space import ALPHA_OVER_R
from moodbench.report.charts import (
    PALETTE,
    Axis,
    Chart,
    Dimension,
    Figure,
    Heatmap,
    NoData,
    ParallelCoordinates,
    Series,
    names_axis,
)
from moodbench.report.search import (
    RANK,
    TITLES,
    UNUSED,
    after,
    axis_title,
    caption,
    cell_lines,
    factor,
    mib,
    search_sentences,
    shown,
    value_text,
)
from moodbench.store import Store
from moodbench.tune.analysis import best_so_far, cells, equal_scores, expected_curve, importances
from moodbench.tune.result import SearchResult, front
from moodbench.tune.trials import sign

UNUSED_SHARE = 0.12
"""Lowest part of an axis, where lines of configurations that do not use the hyperparameter pass."""


def rank_alpha_map(search: SearchResult) -> Heatmap | NoData:
    """Show the mean score by rank and alpha over rank, with the interval of the mean and the number of trials."""
    found = cells(equal_scores(search.trials), RANK, ALPHA_OVER_R)
    if not found:
        return NoData("The search does not try both ranks and alpha over rank")
    ranks, ratios = sorted({r for r, _ in found}), sorted({a for _, a in found})
    scale = factor(search.metric)
    return Heatmap(
        columns=list(map(str, ranks)),
        rows=list(map(str, ratios)),
        values=np.array([[scale * found[r, a].mean if (r, a) in found else np.nan for r in ranks] for a in ratios]),
        texts=[
            ["\n".join(cell_lines(found[r, a], search.metric)) if (r, a) in found else "" for r in ranks]
            for a in ratios
        ],
        x_title="rank",
        y_title="alpha / rank",
        value_title=axis_title(search.metric),
        higher_is_better=sign(search.metric) > 0,
        height=150 + 70 * len(ratios),
    )


def parallel_coordinates(search: SearchResult) -> ParallelCoordinates | NoData:
    """Show each trial as a line through its hyperparameters to its score after equally many training texts."""
    equal = equal_scores(search.trials)
    if len(equal.scores) < 2:
        return NoData("Fewer than two configurations have a score")
    dimensions = []
    for axis in search.axes:
        values = [t.configuration.get(axis.name, UNUSED) for t in equal.trials]
        used = [v for v in values if v is not UNUSED]
        if not used:
            continue
        for value in used:
            axis = axis.with_value(value)
        start = UNUSED_SHARE if len(used) < len(values) else 0.0
        places = {value: start + (1 - start) * axis.place(value) for value in used} | ({UNUSED: 0.0} if start else {})
        numbers = [value for value in used if axis.values is None and value is not None]
        ticked = [v for v in places if v not in numbers or v in (min(numbers), max(numbers))]
        ticks = {places[value]: value_text(value) for value in ticked}
        dimensions.append(Dimension(axis.name, [places[value] for value in values], ticks))
    scores = factor(search.metric) * np.array(equal.scores)
    low, high = float(scores.min()), float(scores.max())
    shares = list((scores - low) / ((high - low) or 1.0))
    dimensions.append(Dimension(axis_title(search.metric), shares, {0.0: f"{low:.4g}", 1.0: f"{high:.4g}"}))
    return ParallelCoordinates(dimensions=dimensions, higher_is_better=sign(search.metric) > 0, height=420)


def budget_curve(search: SearchResult) -> Chart | NoData:
    """Show the best score so far over texts trained, and the expected best of as many random draws."""
    scale, so_far, curve = factor(search.metric), best_so_far(search.trials), expected_curve(search.trials)
    series = []
    if curve is not None:
        series.append(
            Series(
                x=curve.scores.cost * np.arange(1, len(curve.middle) + 1),
                y=scale * curve.middle,
                name=f"expected best of random draws, {after(curve.scores).split(',')[0]}; 5 to 95 % over resamples",
                colour=PALETTE[0],
                dash="dash",
                band=(scale * curve.low, scale * curve.high),
            )
        )
    if so_far:
        spent, scores = zip(*so_far, strict=True)
        y = scale * np.array(scores)
        line = Series(x=spent, y=y, name="best so far", colour=PALETTE[1], dash="solid", steps="hv", symbol="circle")
        series.append(line)
    if not series:
        return NoData("No configuration has a score")
    furthest = 1.03 * max(max(each.x) for each in series)
    x = Axis(title="texts trained, all configurations together", range=(0, furthest))
    return Chart(series=series, x=x, y=Axis(title=axis_title(search.metric)), height=430)


def importance_intervals(search: SearchResult) -> Chart | NoData:
    """Show the share of the score's variance that each hyperparameter explains alone, with its interval."""
    found = importances(search.axes, search.trials, search.defaults)[::-1]
    if not found:
        return NoData("Fewer than 8 configurations have scores that can be compared")
    series = Series(
        x=[100 * i.share for i in found],
        y=range(len(found)),
        colour=PALETTE[0],
        symbol="circle",
        hover=[f"{i.parameter}: {100 * i.share:.0f} %" for i in found],
        x_interval=([100 * i.low for i in found], [100 * i.high for i in found]),
    )
    title = "share of the variance explained alone, % (fANOVA; 5 to 95 % over 100 resamples)"
    y = names_axis(i.parameter for i in found)
    return Chart(series=[series], x=Axis(title=title, range=(0, 101)), y=y, height=130 + 30 * len(found))


def memory_front(search: SearchResult) -> Chart | NoData:
    """Show the best score over training memory, with the Pareto front and the pick."""
    known = [t for t in search.trials if t.score is not None and t.memory_bytes and t.status != "failed"]
    if len(known) < 2:
        return NoData("Fewer than two configurations have a score and a known memory")
    scale, best, line = factor(search.metric), search.best, front(search.trials)
    configurations = [", ".join(f"{name} {value_text(v)}" for name, v in t.configuration.items()) for t in known]
    marks = Series(
        x=[mib(t) for t in known],
        y=[scale * (t.score or 0.0) for t in known],
        name="configurations, the pick filled",
        colour=PALETTE[0],
        symbol="circle",
        hollow=[t is not best for t in known],
        hover=[
            f"{mib(t):,.0f} MiB, {shown(t.score, t.metric)}<br>{configuration}"
            for t, configuration in zip(known, configurations, strict=True)
        ],
    )
    edge = Series(
        x=[mib(t) for t in line],
        y=[scale * (t.score or 0.0) for t in line],
        name="front",
        colour=PALETTE[1],
        dash="solid",
        steps="hv",
    )
    x = Axis(title="peak memory of training, MiB")
    return Chart(series=[edge, marks], x=x, y=Axis(title=axis_title(search.metric)), height=400)


FIGURES: Mapping[str, Callable[[SearchResult], Figure]] = {
    "map": rank_alpha_map,
    "coordinates": parallel_coordinates,
    "budget": budget_curve,
    "importance": importance_intervals,
    "front": memory_front,
}
"""Figure of TITLES to the function that returns it."""


def write_search_page(store: Store, search: SearchResult) -> str | None:
    """Write a self-contained HTML page with the figures into the store and return its address; None without figures.

    An earlier page of the same search is replaced.
    """
    from moodbench.report.charts_plotly import plotly_figure

    figures = {key: made for key, make in FIGURES.items() if not isinstance(made := make(search), NoData)}
    if not figures:
        return None
    title = f"Search {search.space} for {search.model} on {search.dataset}"
    sentences = "".join(f"<p>{escape(line)}</p>" for line in search_sentences(search))
    parts = [
        f"<h2>{escape(TITLES[key])}</h2><p>{escape(caption(key, search))}</p>"
        + plotly_figure(figure).to_html(full_html=False, include_plotlyjs=number == 0)
        for number, (key, figure) in enumerate(figures.items())
    ]
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f'<body style="font-family:sans-serif"><h1>{escape(title)}</h1>{sentences}{"".join(parts)}</body></html>'
    )
    key = f"exports/search-{search.search_id[:12]}.html"
    staging = store.location.staging()
    staging.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=staging) as folder:
        path = Path(folder) / "page.html"
        path.write_text(body, "utf-8")
        store.location.replace(path, key)
    return f"{store.uri.rstrip('/')}/{key}"
