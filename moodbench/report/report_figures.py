"""Static figures of the report, as SVG and PNG: accuracy with intervals, trade-offs, F1 by dataset, reliability.

Drawn by matplotlib without a display, in Okabe and Ito's colours, which people with colour-vision deficiencies can
distinguish. Text in an SVG stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from moodbench.analysis.leaderboard import valid
from moodbench.report.formatting import marked, missing
from moodbench.statistics.calibration import ReliabilityCurve
from moodbench.statistics.rank_intervals import AcrossDatasets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, BLUE, ORANGE = "#222222", "#9aa0a6", "#0072B2", "#D55E00"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = "osD^vPX*"
PANELS_ACROSS = 4
DISTURBED = "\nopen where the clock was disturbed"
LETTER, LINE, DOT = 4.6, 9.0, 3.0
"""Width of a letter, height of a line of names, and half the width of a marker, in points."""
DOTS_PER_INCH = 150


@dataclass(frozen=True)
class Drawing:
    """One figure in the formats of the report."""

    figure: Figure
    title: str | None = None
    """Prefix of the ids within the SVG, by default the title of the axes."""

    @cached_property
    def svg(self) -> str:
        """The figure as an svg element, for a page."""
        return svg_text(self.figure, self.title)

    @cached_property
    def svg_file(self) -> bytes:
        """The figure as an SVG file."""
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + self.svg.encode()

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG of DOTS_PER_INCH, reproducible to the byte."""
        sink = io.BytesIO()
        self.figure.savefig(sink, format="png", dpi=DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
        return sink.getvalue()


def accuracy_figure(rows: pd.DataFrame, title: str) -> Drawing:
    """Plot accuracy with its interval, best on top.

    With tied_best and accuracy_letters, colour shows who may be best and letters show the significance groups.
    """
    shown = rows[rows["accuracy"].notna()].sort_values("accuracy")
    figure, axes = panel(0.36 * len(shown) + 1.3)
    ranked = "accuracy_letters" in shown and len(shown) > 1 and bool(shown["accuracy_letters"].notna().all())
    for y, (_, row) in enumerate(shown.iterrows()):
        colour = BLUE if not ranked or row["tied_best"] else GREY
        low, middle, high = (100 * row[name] for name in ("accuracy_low", "accuracy", "accuracy_high"))
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([middle], [y], "o", color=colour)
        text = f"{middle:.1f}" + (f"  {row['accuracy_letters']}" if ranked else "")
        axes.annotate(
            text,
            (middle if missing(high) else high, y),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(shown)), [marked(row) for _, row in shown.iterrows()])
    note = "\nin colour: may be the best; who shares a letter is tied" if ranked else ""
    axes.set_xlabel(f"accuracy, % with 95 % interval{note}")
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.08)
    return Drawing(figure)


TRADE_OFFS = {
    "latency_p50_s": ("latency", 1000.0, "median time from one text to its label, ms"),
    "memory_peak_batch1_bytes": ("memory", 2.0**-20, "memory of the process, one text at a time, MiB"),
    "train_time_s": ("training time", 1.0, "training time, s"),
}
"""Cost to its name, the factor from base units to those of the figure, and the axis label."""


def trade_off_figure(rows: pd.DataFrame, cost: str, front: npt.NDArray[np.bool_], title: str) -> Drawing:
    """Plot error against a `cost` of TRADE_OFFS on a log axis, with the frontier.

    On the frontier, no other model has both less error and less cost. `front` says of each row whether it is on it.
    Rows without that cost or with an invalid measurement are not shown.
    """
    _, factor, words = TRADE_OFFS[cost]
    figure, axes = panel(4.2)
    rows = valid(rows)
    known = (rows[cost].notna() & rows["accuracy"].notna()).to_numpy()
    shown, on = rows[known], front[known]
    x, y = factor * shown[cost].to_numpy(dtype=float), 100 * (1 - shown["accuracy"].to_numpy())
    order = np.argsort(x[on], kind="stable")
    axes.step(x[on][order], y[on][order], where="post", color=GREY, linestyle=":", zorder=1, label="frontier")
    names = [marked(row) for _, row in shown.iterrows()]
    for i, disturbed in enumerate(shown["provisional"]):
        colour = BLUE if on[i] else GREY
        axes.plot([x[i]], [y[i]], "o", color=colour, markerfacecolor="white" if disturbed else colour, zorder=2)
    axes.set_xscale("log")
    _plain_numbers(axes)
    axes.set_xlabel(f"{words} (log); left is better" + (DISTURBED if shown["provisional"].any() else ""))
    axes.set_ylabel("error, %; down is better")
    axes.set_title(title, loc="left", fontsize=10)
    axes.margins(x=0.15, y=0.1)
    _named(axes, x, y, names)
    return Drawing(figure)


def _plain_numbers(axes: Axes) -> None:
    """Format the numbers of the log axis as 0.1, 40 and 200, where matplotlib would use powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, value: float, pos: int | None = None) -> str:
            return f"{value:g}" if super().__call__(value, pos) else ""

    axes.xaxis.set_major_formatter(Plain())
    axes.xaxis.set_minor_formatter(Plain(minor_thresholds=(1, 0.4)))


def _named(axes: Axes, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    """Write each name beside its point, at the first corner where it covers no other point and no earlier name."""
    points = axes.transData.transform(np.stack([x, y], axis=1)) * 72 / axes.figure.dpi
    taken = [(left - DOT, low - DOT, left + DOT, low + DOT) for left, low in points]
    for i, name in enumerate(names):
        left, low = points[i]
        width, others = LETTER * len(name), taken[:i] + taken[i + 1 :]
        for right, dy in ((True, 4), (True, -11), (False, 4), (False, -11)):
            start = left + 5 if right else left - 5 - width
            box = (start, low + dy, start + width, low + dy + LINE)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in others):
                break
        taken.append(box)
        side = "left" if right else "right"
        axes.annotate(
            name, (x[i], y[i]), xytext=(5 if right else -5, dy), textcoords="offset points", fontsize=8, ha=side
        )


def f1_figure(board: pd.DataFrame) -> Drawing:
    """Plot the macro-F1 of each model on each track, with one marker per track."""
    shown = board[board["f1_macro"].notna()]
    names = list(shown.groupby("name")["f1_macro"].mean().sort_values().index)
    figure, axes = panel(0.36 * len(names) + 1.6)
    for i, (track, rows) in enumerate(shown.groupby("track", sort=False)):
        y = [names.index(name) for name in rows["name"]]
        marker, colour = MARKERS[i % len(MARKERS)], COLOURS[i % len(COLOURS)]
        axes.plot(100 * rows["f1_macro"], y, marker, color=colour, label=str(track), linestyle="none")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("macro-F1, %")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    return Drawing(figure)


def reliability_figure(curves: Mapping[str, ReliabilityCurve], title: str) -> Drawing:
    """Plot in a panel per model how often the predicted label was correct at each stated probability, with its band.

    The step line is CORP's; the band holds 95 % of the lines of models that are correct as often as they state.
    """
    across = min(len(curves), PANELS_ACROSS)
    figure, first = panel(0.4 + 2.1 * -(-len(curves) // across))
    figure.delaxes(first)
    start = max(0.0, 100 * min(float(curve.stated[0]) for curve in curves.values()) - 4)
    for i, (name, curve) in enumerate(curves.items()):
        axes = figure.add_subplot(-(-len(curves) // across), across, i + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.plot([0, 100], [0, 100], color=GREY, linestyle=":")
        stated = 100 * curve.stated
        axes.fill_between(stated, 100 * curve.low, 100 * curve.high, color=GREY, alpha=0.35, linewidth=0)
        axes.step(stated, 100 * curve.right, where="post", color=BLUE)
        axes.set_xlim(start, 101)
        axes.set_ylim(max(0.0, start - 15), 102)
        axes.set_title(name, loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.supxlabel("stated probability of the chosen label, %", fontsize=9)
    figure.supylabel("right, %", fontsize=9)
    return Drawing(figure, title)


def critical_difference_figure(names: Sequence[str], across: AcrossDatasets) -> Drawing:
    """Plot mean ranks over datasets, best on the left; a bar joins models that are not separated.

    Within a bar no pair is separated by Wilcoxon's tests with Holm's correction.
    Source: Demsar 2006, figure 1; bars from Wilcoxon with Holm instead of the critical difference (Benavoli et al.
    2016).
    """
    order = np.argsort(across.mean_ranks, kind="stable")
    ranks = across.mean_ranks[order]
    figure, axes = panel(0.3 * len(names) + 1.6)
    for y, (m, rank) in enumerate(zip(order, ranks, strict=True)):
        axes.plot([rank, rank], [0, -y - 1], color=GREY, linewidth=0.8, zorder=1)
        axes.plot([rank], [0], "o", color=BLUE, zorder=2)
        axes.annotate(f"{names[m]}  {rank:.2f}", (rank, -y - 1), xytext=(4, -3), textcoords="offset points", fontsize=8)
    for level, (start, end) in enumerate(joined_ranges(across.p_wilcoxon_holm[np.ix_(order, order)])):
        axes.plot(
            [ranks[start], ranks[end]], [0.35 + 0.3 * level] * 2, color=ORANGE, linewidth=3, solid_capstyle="butt"
        )
    axes.set_yticks([])
    axes.set_xlabel("mean rank over datasets; left is better, bars join those that are not separated")
    axes.set_title("Critical difference diagram", loc="left", fontsize=10)
    axes.margins(x=0.2)
    return Drawing(figure)


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


def panel(height: float) -> tuple[Figure, Axes]:
    """Return a figure of this height in inches with one empty panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, max(2.0, height)), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def svg_text(figure: Figure, title: str | None = None) -> str:
    """Return the figure as an svg element without header and metadata.

    Its ids begin with `title`, by default that of its axes.
    """
    import matplotlib as mpl

    sink = io.StringIO()
    title = title or figure.axes[0].get_title(loc="left") + figure.axes[0].get_xlabel()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = sink.getvalue()
    prefix = re.sub(r"\W+", "-", title)[:60]
    drawn = text[text.index("<svg") :]
    for attribute in (r'id="', r'href="#', r"url\(#"):
        drawn = re.sub(attribute, lambda found: found.group(0) + prefix + "-", drawn)
    return drawn
