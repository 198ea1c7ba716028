"""Draw figures with Plotly, for the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from moodbench.report.charts import (
    INK,
    PALETTE,
    Axis,
    Figure,
    Heatmap,
    NoData,
    ParallelCoordinates,
    Series,
    Values,
    each_point,
)

GRID = "rgba(128,128,128,.25)"
PATTERNS = ("", "/", ".", "x", "-", "+")


def plotly_figure(figure: Figure) -> go.Figure:
    """Return the figure for the page."""
    if isinstance(figure, Heatmap):
        return _styled(_heatmap(figure), figure.height)
    if isinstance(figure, ParallelCoordinates):
        made = _styled(_coordinates(figure), figure.height)
        return made.update_layout(margin={"t": 70, "b": 40, "l": 80, "r": 60})
    made = go.Figure()
    if isinstance(figure, NoData):
        made.add_annotation(text=figure.reason, showarrow=False, font_size=15)
        return _styled(made.update_xaxes(visible=False).update_yaxes(visible=False), 220)
    named: set[str] = set()
    for each in figure.series:
        _add_series(made, each, figure.x, in_legend=each.name not in named | {""})
        named.add(each.name)
    for axis, update in ((figure.x, made.update_xaxes), (figure.y, made.update_yaxes)):
        ends = axis.range and (np.log10(axis.range) if axis.log else axis.range)
        update(title=axis.title, type="log" if axis.log else "linear", range=ends, automargin=True)
        if axis.ticks is not None:
            update(tickmode="array", tickvals=list(axis.ticks), ticktext=list(axis.ticks.values()))
    return _styled(made, figure.height).update_layout(showlegend=len(named - {""}) > 1, barmode="overlay")


def _add_series(made: go.Figure, each: Series, axis: Axis, *, in_legend: bool) -> None:
    legend = {"name": each.name, "legendgroup": each.name, "showlegend": in_legend}
    hover = {"customdata": list(each.hover), "hovertemplate": "%{customdata}<extra></extra>"}
    about = legend | (hover if each.hover else {"hoverinfo": "skip"})
    x, y = np.asarray(each.x), np.asarray(each.y)
    if each.bars_from is not None:
        pattern = PATTERNS[PALETTE.index(each.colour) % len(PATTERNS)]
        marker = {"color": each.colour, "pattern": {"shape": pattern}}
        made.add_bar(x=x - each.bars_from, base=each.bars_from, y=y, orientation="h", marker=marker, **about)
        return
    if each.band is not None:
        low, high = map(np.asarray, each.band)
        edge = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([low, high[::-1]])}
        fill = {"fill": "toself", "fillcolor": each.colour, "opacity": 0.18, "line": {"width": 0}, "mode": "lines"}
        made.add_scatter(**edge, **fill, **legend | {"showlegend": False}, hoverinfo="skip")
    hollow, faint = each_point(each.hollow, len(x), False), each_point(each.faint, len(x), False)
    parts = {"lines": each.dash, "markers": each.symbol, "text": len(each.labels)}
    made.add_scatter(
        x=x,
        y=y,
        mode="+".join(part for part, wanted in parts.items() if wanted),
        line={"width": 2.2, "shape": each.steps or "linear", "color": each.colour, "dash": each.dash or "solid"},
        marker={
            "color": each.colour,
            "symbol": [f"{each.symbol}-open" if h else each.symbol for h in hollow] if each.symbol else None,
            "size": each_point(each.size, len(x), 9.0),
            "opacity": [(0.8 if h else 0.45) if f else 0.95 for f, h in zip(faint, hollow, strict=True)],
            "line": {"width": 1, "color": each.colour},
        },
        text=["" if f else label for label, f in zip(each_point(each.labels, len(x), ""), faint, strict=True)],
        textposition=_label_positions(x, axis) if each.labels else None,
        error_x=_whiskers(x, each.x_interval, each.colour),
        error_y=_whiskers(y, each.y_interval, each.colour),
        **about,
    )


def _whiskers(at: npt.NDArray[Any], interval: tuple[Values, Values] | None, colour: str) -> dict[str, Any] | None:
    if interval is None:
        return None
    low, high = map(np.asarray, interval)
    return {"type": "data", "array": high - at, "arrayminus": at - low, "thickness": 1.2, "width": 3, "color": colour}


def _label_positions(x: npt.NDArray[Any], axis: Axis) -> list[str]:
    """Return where each label is: towards the middle of the axis, so that no edge cuts it."""
    low, high = axis.range or (x.min(), x.max())
    middle = np.sqrt(low * high) if axis.log else (low + high) / 2
    return [f"{'bottom' if i % 2 else 'top'} {'right' if at < middle else 'left'}" for i, at in enumerate(x)]


def _heatmap(figure: Heatmap) -> go.Figure:
    made = go.Figure(
        go.Heatmap(
            x=figure.columns,
            y=figure.rows,
            z=figure.values,
            text=[[cell.replace("\n", "<br>") for cell in row] for row in figure.texts],
            texttemplate="%{text}",
            colorscale="Cividis",
            reversescale=not figure.higher_is_better,
            colorbar={"title": {"text": figure.value_title, "side": "right"}},
            hovertemplate=f"{figure.x_title} %{{x}}, {figure.y_title} %{{y}}<br>%{{text}}<extra></extra>",
        )
    )
    return made.update_xaxes(title=figure.x_title, type="category").update_yaxes(title=figure.y_title, type="category")


def _coordinates(figure: ParallelCoordinates) -> go.Figure:
    dimensions = [
        {"label": title, "values": places, "range": [0, 1], "tickvals": list(ticks), "ticktext": list(ticks.values())}
        for title, places, ticks in figure.dimensions
    ]
    scale = {"colorscale": "Cividis", "reversescale": not figure.higher_is_better}
    line = {"color": figure.dimensions[-1].places, **scale}
    return go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelangle=0, labelside="top"))


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 16, "t": 48, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "Source Sans Pro, system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
        hoverlabel={"font_size": 13},
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
    return figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
