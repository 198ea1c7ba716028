"""A figure as data, and its drawing with matplotlib for files; `charts_plotly` draws it for the page.

No display is needed, and text in an SVG stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet


INK, GREY = "#6b7280", "#9aa0a6"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA3377", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, which people with colour-vision deficiencies can distinguish."""
DASHES: Mapping[str, Any] = {
    "solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (9, 3)), "longdashdot": (0, (9, 3, 2, 3)),
}  # fmt: skip
"""Style of a line in Plotly, to that in matplotlib."""
SYMBOLS = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X", "star": "*",
}  # fmt: skip
"""Shape of a mark in Plotly, to that in matplotlib."""
type Values = Sequence[Any] | npt.NDArray[Any] | pd.Series[Any]
LETTER, LINE = 4.6, 9.0
"""Width of a letter and height of a line of labels, in points."""
POINTS = 0.6
"""Size of a mark in points for each of its pixels on the page."""
DOTS_PER_INCH = 150
PANELS_ACROSS = 4


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a chart."""

    title: str = ""
    log: bool = False
    range: tuple[float, float] | None = None
    """Lower and upper end; None if the data determine them."""
    ticks: Mapping[float, str] | None = None
    """Text of each tick by its position; None if the library chooses."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Marks, a line, a band or bars, in the units of the axes; sequences have one value per point."""

    x: Values
    y: Values
    name: str = ""
    """Entry in the legend, shared by series of one name; empty for none."""
    colour: str = INK
    dash: str = ""
    """Style of the line, one of DASHES; empty for no line."""
    steps: str = ""
    """Whether a step goes first horizontally, `hv`, or vertically, `vh`; empty for straight lines."""
    symbol: str = ""
    """Shape of the marks, one of SYMBOLS; empty for no marks."""
    size: Values | float = 9.0
    """Diameter of the marks in pixels."""
    hollow: Sequence[bool] = ()
    faint: Sequence[bool] = ()
    """Marks in the background, whose labels the page shows only under the pointer."""
    labels: Sequence[str] = ()
    """Text beside each point."""
    hover: Sequence[str] = ()
    """HTML that the page shows for the point under the pointer; no reaction if empty."""
    x_interval: tuple[Values, Values] | None = None
    y_interval: tuple[Values, Values] | None = None
    """Low and high ends of the whiskers."""
    band: tuple[Values, Values] | None = None
    """Low and high edge of a band over `x`."""
    bars_from: Values | None = None
    """Start of horizontal bars that end at `x`."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Series over two axes, drawn in order."""

    series: Sequence[Series]
    x: Axis
    y: Axis
    height: int
    """In pixels on the page, at 100 per inch in a file."""


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """Coloured cells with text."""

    columns: Sequence[str]
    rows: Sequence[str]
    """From bottom to top."""
    values: npt.NDArray[np.float64]
    """Shape `(rows, columns)`; NaN for an empty cell."""
    texts: Sequence[Sequence[str]]
    x_title: str
    y_title: str
    value_title: str
    higher_is_better: bool
    height: int


class Dimension(NamedTuple):
    """One axis of parallel coordinates."""

    title: str
    places: Sequence[float]
    """Position of each line, from 0 to 1."""
    ticks: Mapping[float, str]


@dataclass(frozen=True, kw_only=True)
class ParallelCoordinates:
    """Lines through vertical axes, coloured by their place on the last axis."""

    dimensions: Sequence[Dimension]
    higher_is_better: bool
    height: int


@dataclass(frozen=True)
class NoData:
    """A figure that only says why it is empty."""

    reason: str


type Figure = Chart | Heatmap | ParallelCoordinates | NoData


def style(number: int) -> tuple[str, str, str]:
    """Return the colour, dash and symbol of the series of that number."""
    symbols = list(SYMBOLS)
    return PALETTE[number % len(PALETTE)], list(DASHES)[number % len(DASHES)], symbols[number % len(symbols)]


def names_axis(names: Iterable[str]) -> Axis:
    """Return an axis with one place per name, from 0 on."""
    ticks = {float(place): name for place, name in enumerate(names)}
    return Axis(ticks=ticks, range=(-0.6, len(ticks) - 0.4))


def log_axis(title: str, values: npt.ArrayLike) -> Axis:
    """Return a logarithmic axis around the positive `values`, with ticks at 1, 2 and 5, or at powers of ten."""
    array = np.asarray(values, dtype=float)
    low, high = float(array.min()) * 0.6, float(array.max()) * 1.6
    ticks = [tick for e in range(-3, 8) for m in (1, 2, 5) if low <= (tick := float(f"{m}e{e}")) <= high]
    if len(ticks) > 12:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    return Axis(title=title, log=True, range=(low, high), ticks={tick: f"{tick:,.15g}" for tick in ticks})


def each_point(values: Any, num: int, otherwise: Any) -> list[Any]:
    """Return one value per point: those of `values`, its only value, or `otherwise` if it is empty."""
    if isinstance(values, float):
        return [values] * num
    return list(values) or [otherwise] * num


@dataclass(frozen=True)
class Drawing:
    """One figure as SVG and PNG, reproducible to the byte."""

    figure: Sheet
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


def _sheet(height: float) -> Sheet:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.6, max(2.0, height)), layout="constrained")


def _axes(made: Sheet, *place: int) -> Axes:
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
