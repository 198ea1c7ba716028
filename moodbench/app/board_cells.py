"""Cells of the leaderboard as HTML: whiskers, bars, ties and marks. Cells that do not depend on weights are cached."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from moodbench.app.why_missing import READ_FOR_SCORE, why_missing
from moodbench.report.formatting import MARKS, MISSING, Column, Row, marks, missing
from moodbench.report.leaderboard_view import DRAWN_ANEW, TIED, chance, tied_best

BEST, TIED_BEST = "the best", "the best, or not separated from it"
VARYING = ("rank", "score")
"""Columns whose cells depend on the weights."""
CLOCKED = {"rank", "score", "latency_p50_s", "latency_p99_s", "throughput_texts_per_s"}
"""Columns that other load on the machine disturbs."""
PROVISIONAL = "provisional: other load disturbed the clock"
WHISKER_WIDTH, WHISKER_HEIGHT = 96, 16
ON_PHONE = ("rank", "name", "score", "accuracy", "latency_p50_s", "memory_peak_batch1_bytes", "p_best")
"""Columns shown on a narrow screen."""
NEEDED = ("name", *VARYING, "rank_low", "rank_high", "p_best", "provisional", "verdict", "composite", *READ_FOR_SCORE)
"""Columns that the cells of VARYING are computed from."""


class Axis(NamedTuple):
    """Ends of the accuracy axis, from 0 to 1, shared by the rows of one dataset."""

    low: float
    high: float

    def x(self, share: float) -> float:
        """Return the position of `share` in the drawing, in pixels, clipped to the ends of the axis."""
        place = (share - self.low) / (self.high - self.low)
        return 4 + min(max(place, 0.0), 1.0) * (WHISKER_WIDTH - 8)


class Cell(NamedTuple):
    """One cell of the table."""

    html: str
    why: str | None
    """Why the cell has no value; None where it has one."""


Kept = dict[tuple[str, str, str, bool], Cell]
"""Cached cells by dataset, model, column and whether the model is pinned."""


def rows_of_cells(
    rows: pd.DataFrame,
    track: pd.DataFrame,
    failures: pd.DataFrame,
    axis: Axis | None,
    pinned: Sequence[str],
    columns: Sequence[Column],
    kept: Kept,
) -> list[list[Cell]]:
    """Return the cells of each of `rows`, with ties computed within `track`, all rows of one dataset.

    Cells that do not depend on the weights are taken from the cache `kept`, or else added to it.
    """
    name = str(track["track"].iloc[0])
    lasting = cache(lambda: tied_best(track))
    varying = tied_best(track, VARYING)
    brief = rows[[c for c in NEEDED if c in rows]].to_dict("records")
    made = []
    for index, facts in zip(rows.index, brief, strict=True):
        whole: Row | None = None
        cells = []
        for column in columns:
            key = (name, str(facts["name"]), column.key, facts["name"] in pinned)
            varies = column.key in VARYING
            cell = None if varies else kept.get(key)
            if cell is None:
                ties = varying if varies else lasting()
                best = ties.get(column.key, set())
                title = None if index not in best else BEST if len(best) == 1 else TIED_BEST
                if not varies and whole is None:
                    whole = rows.loc[index]
                row = facts if varies or whole is None else whole
                cell = _cell(column, row, failures, axis, best=title, is_pinned=key[-1])
                if not varies:
                    kept[key] = cell
            cells.append(cell)
        made.append(cells)
    return made


def _cell(c: Column, row: Row, failures: pd.DataFrame, axis: Axis | None, *, best: str | None, is_pinned: bool) -> Cell:
    text = c.show(row)
    why = why_missing(c.key, row, failures) if text == MISSING else None
    about = [why] if why else []
    extra = []
    if row["provisional"] and c.key in CLOCKED:
        extra.append("mb-hatched")
        about.append(PROVISIONAL)
    if best:
        extra.append("mb-best")
        about.append(best if c.key in TIED else BEST)
    title = f' title="{escape("; ".join(about))}"' if about else ""
    names = " ".join([classes(c.key), *extra])
    value = f' data-v="{escape(_sort_value(row.get(c.key)))}" data-label="{escape(c.heading)}"'
    if c.key == "name":
        pin = ' <span class="mb-pin">pinned</span>' if is_pinned else ""
        html = f'<th scope="row" role="rowheader" class="{names}"{value}>{_mark(row)}{_marked_html(row)}{pin}</th>'
        return Cell(html, why)
    drawing = "" if why else _drawing(c.key, row, axis)
    return Cell(f'<td role="cell" class="{names}"{value}{title}><span>{escape(text)}</span>{drawing}</td>', why)


def classes(key: str) -> str:
    """Return the CSS classes of a column's cells."""
    return f"mb-{key}" if key in ON_PHONE else f"mb-{key} mb-wide"


def _mark(row: Row) -> str:
    """Return the mark of the method that precedes the name, a decoration with the method's name as tooltip."""
    return f'<span class="mb-mark mb-method-{escape(str(row["method"]))}" title="{escape(str(row["method"]))}"></span>'


def _marked_html(row: Row) -> str:
    """Return the name and, smaller, its marks with their meaning: the text of `formatting.marked`."""
    found = marks(row)
    title = escape("; ".join(f"{mark}: {MARKS[mark]}" for mark in found))
    tags = f' <small class="mb-tag" title="{title}">({", ".join(found)})</small>' if found else ""
    return escape(str(row["name"])) + tags


def _sort_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if missing(value) else f"{float(value):.9g}"


def _drawing(key: str, row: Row, axis: Axis | None) -> str:
    if key == "accuracy" and axis:
        return _whisker_svg(row, axis)
    if key == "rank" and not missing(row.get("p_best")):
        return f'<small title="chance to be first: {DRAWN_ANEW}">best: {chance(row["p_best"])}</small>'
    if key == "score":
        width = min(max(float(row["score"]), 0), 100)
        return f'<span class="mb-bar" aria-hidden="true"><span style="width:{width:.0f}%"></span></span>'
    return ""


def _whisker_svg(row: Row, axis: Axis) -> str:
    """Draw a dot at the accuracy and a line over its interval, hidden from screen readers, which have the text."""
    middle, w, h = WHISKER_HEIGHT / 2, WHISKER_WIDTH, WHISKER_HEIGHT
    line = ""
    if not missing(row["accuracy_low"]):  # several seeds without stored predictions have no interval
        low, high = axis.x(row["accuracy_low"]), axis.x(row["accuracy_high"])
        line = f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} 4V{h - 4}M{high:.1f} 4V{h - 4}"/>'
    return (
        f'<svg class="mb-whisker" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">'
        f'<path class="mb-line" d="M0 {middle}H{w}"/>'
        f'{line}<circle cx="{axis.x(row["accuracy"]):.1f}" cy="{middle}" r="3"/></svg>'
    )
