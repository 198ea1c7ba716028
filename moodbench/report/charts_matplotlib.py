"""Draw figures with matplotlib, for files. No display is needed, and text in an SVG stays text."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from moodbench.report.charts import DASHES, GREY, SYMBOLS, Chart, Heatmap, ParallelCoordinates, Series, each_point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTER, LINE = 4.6, 9.0
"""Width of a letter and height of a line of labels, in points."""
POINTS = 0.6
"""Size of a mark in points for each of its pixels on the page."""
DOTS_PER_INCH = 150
PANELS_ACROSS = 4


@dataclass(frozen=True)
class Drawing:
    """One figure as SVG and PNG, reproducible to the byte."""

    figure: Figure
    name: str
    """Prefix of the ids within the SVG, which are unique on a page if this is."""

    @cached_property
    def svg(self) -> str:
        """The figure as an svg element, for a page."""
        import matplotlib as mpl

        sink = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.name, "font.family": "sans-serif"}):
            metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(sink, format="svg", metadata=metadata)
        text = sink.getvalue()
        prefix = re.sub(r"\W+", "-", self.name)
        return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text[text.index("<svg") :])

    @cached_property
    def svg_file(self) -> bytes:
        """The figure as an SVG file."""
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + self.svg.encode()

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG of DOTS_PER_INCH."""
        sink = io.BytesIO()
        self.figure.savefig(sink, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
        return sink.getvalue()


def draw(figure: Chart | Heatmap | ParallelCoordinates, name: str, title: str) -> Drawing:
    """Return the figure for files, with this `title` on top."""
    made = _sheet(figure.height / 100)
    axes = _axes(made)
    axes.set_title(title, loc="left", fontsize=10)
    if isinstance(figure, Chart):
        _draw_chart(axes, figure)
        legend = {each.name: _legend_line(each) for each in reversed(figure.series) if each.name}
        if legend:
            made.legend(handles=[*legend.values()][::-1], loc="outside lower left", ncols=4, frameon=False, fontsize=8)
        made.draw_without_rendering()
        _write_labels(axes, figure.series)
    elif isinstance(figure, Heatmap):
        _draw_heatmap(axes, figure)
    else:
        _draw_coordinates(axes, figure)
    return Drawing(made, name)


def draw_panels(chart: Chart, name: str, title: str) -> Drawing:
    """Return the chart for files with a panel for each series that has a band; other series are in every panel."""
    shared, own = ([each for each in chart.series if (each.band is None) == wanted] for wanted in (True, False))
    across = min(len(own), PANELS_ACROSS)
    down = -(-len(own) // across)
    made = _sheet(0.4 + 2.1 * down)
    for number, each in enumerate(own, start=1):
        axes = _axes(made, down, across, number)
        _draw_chart(axes, replace(chart, series=[*shared, replace(each, dash="solid")]))
        axes.set(xlabel="", ylabel="")
        axes.set_title(each.name, loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
    made.suptitle(title, x=0.01, ha="left", fontsize=10)
    made.supxlabel(chart.x.title, fontsize=9)
    made.supylabel(chart.y.title, fontsize=9)
    return Drawing(made, name)


def _sheet(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.6, max(2.0, height)), layout="constrained")


def _axes(made: Figure, *place: int) -> Axes:
    axes = made.add_subplot(*place)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _draw_chart(axes: Axes, chart: Chart) -> None:
    for each in chart.series:
        _draw_series(axes, each)
    if chart.x.log:
        axes.set_xscale("log")
    if chart.y.log:
        axes.set_yscale("log")
    for axis, drawn, limit in ((chart.x, axes.xaxis, axes.set_xlim), (chart.y, axes.yaxis, axes.set_ylim)):
        drawn.set_label_text(axis.title)
        if axis.ticks is not None:
            drawn.set_ticks(list(axis.ticks), list(axis.ticks.values()))
            drawn.set_ticks([], minor=True)
        if axis.range is not None:
            limit(*axis.range)


def _draw_series(axes: Axes, each: Series) -> None:
    x, y, colour = np.asarray(each.x), np.asarray(each.y), each.colour
    if each.bars_from is not None:
        axes.barh(y, x - each.bars_from, left=each.bars_from, color=colour)
        return
    if each.band is not None:
        axes.fill_between(x, *each.band, color=colour, alpha=0.2, linewidth=0)
    if each.dash:
        steps = {"hv": "steps-post", "vh": "steps-pre"}.get(each.steps, "default")
        axes.plot(x, y, linestyle=DASHES[each.dash], drawstyle=steps, color=colour, linewidth=1.6)
    faint = each_point(each.faint, len(x), False)
    shades = [(colour, 0.45 if f else 1.0) for f in faint]
    if each.x_interval is not None:
        axes.hlines(y, *each.x_interval, colors=shades, linewidth=2)
    if each.y_interval is not None:
        axes.vlines(x, *each.y_interval, colors=shades, linewidth=1)
    if each.symbol:
        sizes, hollow = each_point(each.size, len(x), 9.0), each_point(each.hollow, len(x), False)
        for point in zip(x, y, sizes, hollow, shades, strict=True):
            at, up, size, is_hollow, shade = point
            face = "none" if is_hollow else shade
            axes.plot(at, up, SYMBOLS[each.symbol], markersize=POINTS * size, color=shade, markerfacecolor=face)


def _legend_line(each: Series) -> Any:
    from matplotlib.lines import Line2D

    line, mark = DASHES.get(each.dash, "none"), SYMBOLS.get(each.symbol, "none")
    return Line2D([], [], color=each.colour, linestyle=line, marker=mark, label=each.name)


def _write_labels(axes: Axes, series: Sequence[Series]) -> None:
    """Write each label beside its point, at the first place in the axes where it covers no mark and no other label."""
    scale, window = 72 / axes.figure.dpi, axes.get_window_extent()
    points, texts, radii = [], [], []
    for each in series:
        if each.symbol or each.labels:
            points += list(zip(each.x, each.y, strict=True))
            texts += each_point(each.labels, len(each.x), "")
            radii += [POINTS / 2 * size if each.symbol else 0.0 for size in each_point(each.size, len(each.x), 9.0)]
    places = axes.transData.transform(np.array(points, dtype=float).reshape(-1, 2)) * scale
    taken = [(left - r, low - r, left + r, low + r) for (left, low), r in zip(places, radii, strict=True)]
    for number, (text, point, radius) in enumerate(zip(texts, points, radii, strict=True)):
        if not text:
            continue
        (left, low), gap, width = places[number], radius + 2, LETTER * len(text)
        others = taken[:number] + taken[number + 1 :]
        heights = (4, -11) if radius else (-LINE / 3,)
        for right, dy in [(right, dy) for right in (True, False) for dy in heights]:
            start = left + gap if right else left - gap - width
            box = (start, low + dy, start + width, low + dy + LINE)
            inside = window.x0 * scale <= box[0] and box[2] <= window.x1 * scale
            if inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in others):
                break
        taken.append(box)
        offset, side = (gap if right else -gap, dy), "left" if right else "right"
        note = axes.annotate(text, point, xytext=offset, textcoords="offset points", fontsize=8, ha=side)
        note.set_in_layout(False)


def _draw_heatmap(axes: Axes, figure: Heatmap) -> None:
    axes.grid(visible=False)
    colours = "cividis" if figure.higher_is_better else "cividis_r"
    drawn = axes.imshow(figure.values, origin="lower", aspect="auto", cmap=colours)
    middle = (np.nanmin(figure.values) + np.nanmax(figure.values)) / 2
    for (row, column), value in np.ndenumerate(figure.values):
        dark = value <= middle if figure.higher_is_better else value >= middle
        shade = "white" if dark else "#222222"
        axes.text(column, row, figure.texts[row][column], ha="center", va="center", fontsize=7, color=shade)
    axes.set_xticks(range(len(figure.columns)), figure.columns)
    axes.set_yticks(range(len(figure.rows)), figure.rows)
    axes.set_xlabel(figure.x_title)
    axes.set_ylabel(figure.y_title)
    axes.figure.colorbar(drawn, ax=axes, label=figure.value_title)


def _draw_coordinates(axes: Axes, figure: ParallelCoordinates) -> None:
    from matplotlib import colormaps

    axes.grid(visible=False)
    shades = colormaps["cividis" if figure.higher_is_better else "cividis_r"]
    last = np.array(figure.dimensions[-1].places)
    for number in np.argsort(last if figure.higher_is_better else -last):
        line = [dimension.places[number] for dimension in figure.dimensions]
        axes.plot(line, color=shades(float(last[number])), linewidth=1, alpha=0.8)
    for x, dimension in enumerate(figure.dimensions):
        axes.axvline(x, color=GREY, linewidth=0.8)
        for place, text in dimension.ticks.items():
            axes.annotate(text, (x, place), xytext=(3, 0), textcoords="offset points", fontsize=6.5)
    titles = [dimension.title.replace(".", ".\n", 1).replace(",", "\n") for dimension in figure.dimensions]
    axes.set_xticks(range(len(titles)), titles, fontsize=7)
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.margins(x=0.06)
