"""A figure as data, which `charts_plotly` draws for the page and `charts_matplotlib` for files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

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
