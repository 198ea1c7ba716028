"""The leaderboard of one dataset as an HTML table: intervals, ties per column, groups, and why a cell is empty."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from moodbench.analysis.leaderboard import AREA_COLUMNS, MEASURED, PARETO_COSTS
from moodbench.analysis.results import REFERENCE_HELP
from moodbench.app.html import details, legend, scroll
from moodbench.report.formatting import (
    COLUMNS,
    MARKS,
    MISSING,
    Column,
    Row,
    marks,
    missing,
    reference_cells,
    track_facts,
)
from moodbench.report.leaderboard_view import CLOCKED, DRAWN_FROM, LOWER, TIED, chance, tied_best

BEST, TIED_BEST = "the best", "the best, or not significantly different from it"
WEIGHTED = ("rank", "score")
"""Columns whose cells depend on the weights."""
SCORE_REASON_COLUMNS = ("fit_ids", "base_accuracy", *MEASURED)
"""Columns that explain why there is no score."""
AREA_COSTS = {column: cost for cost, column in AREA_COLUMNS.items()}
NEEDED_BY_WEIGHTED = (
    "name", *WEIGHTED, "rank_low", "rank_high", "p_best", "provisional", "verdict", "composite", *SCORE_REASON_COLUMNS,
)  # fmt: skip
PROVISIONAL = "provisional: other load disturbed the clock"
ON_PHONE = ("rank", "name", "score", "accuracy", "latency_p50_s", "memory_peak_batch1_bytes", "p_best")
"""Columns shown on a narrow screen."""
WHISKER_WIDTH, WHISKER_HEIGHT = 96, 16


class Axis(NamedTuple):
    """Ends of the accuracy axis, from 0 to 1, shared by the rows of one dataset."""

    low: float
    high: float

    def x(self, share: float) -> float:
        """Return the position of `share` in the drawing, in pixels, clipped to the ends of the axis."""
        position = (share - self.low) / (self.high - self.low)
        return 4 + min(max(position, 0.0), 1.0) * (WHISKER_WIDTH - 8)


class Cell(NamedTuple):
    """One cell of the table."""

    html: str
    reason: str | None
    """Why the cell has no value; None where it has one."""


CellCache = dict[tuple[str, str, str, bool], Cell]
"""Rendered cells by dataset, model, column and whether the model is pinned."""


@dataclass(frozen=True)
class CellRenderer:
    """Renders the cells of rows of one dataset."""

    track: pd.DataFrame
    """All rows of the dataset, among which ties are found."""
    failures: pd.DataFrame
    pinned: Sequence[str]
    columns: Sequence[Column]
    cache: CellCache

    @cached_property
    def axis(self) -> Axis | None:
        """Axis around all intervals, with ends at multiples of 5 %; None where no row has an interval."""
        low, high = self.track["accuracy_low"].min(), self.track["accuracy_high"].max()
        if missing(low) or missing(high):
            return None
        start = max(math.floor(20 * low), 0)
        return Axis(start / 20, max(min(math.ceil(20 * high), 20), start + 1) / 20)

    @cached_property
    def _weighted_best(self) -> dict[str, set[object]]:
        return tied_best(self.track, WEIGHTED)

    @cached_property
    def _other_best(self) -> dict[str, set[object]]:
        return tied_best(self.track)

    def cells(self, rows: pd.DataFrame) -> list[list[Cell]]:
        """Return the cells of each row; those that do not depend on weights are cached."""
        dataset = str(self.track["track"].iloc[0])

        @lru_cache(1)  # slow, and not needed if all cells are cached
        def whole_row(index: Any) -> pd.Series[Any]:
            row: pd.Series[Any] = rows.loc[index]
            return row

        needed = rows[[c for c in NEEDED_BY_WEIGHTED if c in rows]].to_dict("records")
        rendered = []
        for index, row in zip(rows.index, needed, strict=True):
            is_pinned = row["name"] in self.pinned
            cells = []
            for column in self.columns:
                if column.key in WEIGHTED:
                    cells.append(self._cell(column, row, index, self._weighted_best, is_pinned))
                    continue
                key = (dataset, str(row["name"]), column.key, is_pinned)
                if key not in self.cache:
                    self.cache[key] = self._cell(column, whole_row(index), index, self._other_best, is_pinned)
                cells.append(self.cache[key])
            rendered.append(cells)
        return rendered

    def _cell(self, column: Column, row: Row, index: object, best: Mapping[str, set[object]], is_pinned: bool) -> Cell:
        text = column.show(row)
        reason = missing_reason(column.key, row, self.failures) if text == MISSING else None
        notes, css = [reason] if reason else [], [css_classes(column.key)]
        if row["provisional"] and column.key in ("rank", *CLOCKED):
            css.append("mb-hatched")
            notes.append(PROVISIONAL)
        tied = best.get(column.key, set())
        if index in tied:
            css.append("mb-best")
            notes.append(TIED_BEST if len(tied) > 1 and column.key in TIED else BEST)
        title = f' title="{escape("; ".join(notes))}"' if notes else ""
        value = f' data-v="{escape(_sort_value(row.get(column.key)))}" data-label="{escape(column.heading)}"'
        attributes = f'class="{" ".join(css)}"{value}'
        if column.key == "name":
            return Cell(f'<th scope="row" role="rowheader" {attributes}>{_name_html(row, is_pinned)}</th>', reason)
        drawing = "" if reason else _drawing(column.key, row, self.axis)
        return Cell(f'<td role="cell" {attributes}{title}><span>{escape(text)}</span>{drawing}</td>', reason)


def leaderboard_table(
    rows: pd.DataFrame,
    track: pd.DataFrame,
    failures: pd.DataFrame,
    *,
    pinned: Sequence[str] = (),
    references: pd.DataFrame | None = None,
    columns: Sequence[Column] = COLUMNS,
    cache: CellCache | None = None,
) -> str:
    """Return the table of the visible `rows`, with the reasons for empty cells below.

    Axis and ties are those of `track`: all rows of one dataset and training size, or of all datasets together. Rows
    whose rank intervals have the same lower end form a group. `references` are at the foot of the table, where sorting
    does not move them. Cells are taken from `cache`, which must belong to the same records.
    """
    renderer = CellRenderer(track, failures, pinned, columns, {} if cache is None else cache)
    reasons: dict[str, list[str]] = defaultdict(list)
    body, group = [], None
    lows = rows["rank_low"].tolist() if "rank_low" in rows else [None] * len(rows)
    for cells, name, low, provisional in zip(
        renderer.cells(rows), rows["name"], lows, rows["provisional"], strict=True
    ):
        css = ["mb-provisional"] if provisional else []
        low = None if missing(low) else low
        css += ["mb-break"] if group is not None and low != group else []
        group = low
        attribute = f' class="{" ".join(css)}"' if css else ""
        content = "".join(cell.html for cell in cells)
        body.append(f'<tr role="row"{attribute} data-name="{escape(str(name))}">{content}</tr>')
        for reason in dict.fromkeys(cell.reason for cell in cells if cell.reason):
            headings = ", ".join(c.heading for c, cell in zip(columns, cells, strict=True) if cell.reason == reason)
            reasons[reason].append(f"{name} ({headings})")
    head = "".join(_heading_html(column, renderer.axis) for column in columns)
    name = str(track["track"].iloc[0])
    table = (
        f'<table role="table"><caption><div><strong>{escape(name)}</strong>{escape(track_facts(track))}</div></caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody>{_foot_html(references, columns)}</table>'
    )
    return scroll(table, name) + _legend_html(rows) + _reasons_html(reasons)


def css_classes(key: str) -> str:
    """Return the CSS classes of a column's cells."""
    return f"mb-{key}" if key in ON_PHONE else f"mb-{key} mb-wide"


def _name_html(row: Row, is_pinned: bool) -> str:
    """Return the name after a symbol of its method, with its marks (`formatting.marked`) in small print."""
    method, found = escape(str(row["method"])), marks(row)
    symbol = f'<span class="mb-mark mb-method-{method}" title="{method}"></span>'
    meaning = escape("; ".join(f"{mark}: {MARKS[mark]}" for mark in found))
    small = f' <small class="mb-tag" title="{meaning}">({", ".join(found)})</small>' if found else ""
    pin = ' <span class="mb-pin">pinned</span>' if is_pinned else ""
    return symbol + escape(str(row["name"])) + small + pin


def _sort_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if missing(value) else f"{float(value):.9g}"


def _drawing(key: str, row: Row, axis: Axis | None) -> str:
    if key == "accuracy" and axis:
        return _whisker_svg(row, axis)
    if key == "rank" and not missing(row.get("p_best")):
        return f'<small title="probability of being first: {DRAWN_FROM}">best: {chance(row["p_best"])}</small>'
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


def _heading_html(column: Column, axis: Axis | None) -> str:
    scale = ""
    if column.key == "accuracy" and axis:
        ends = "".join(f"<span>{100 * end:.0f}</span>" for end in axis)
        scale = f'<span class="mb-scale" aria-hidden="true">{ends}</span>'
    first = 1 if column.key in ("rank", "name", "num_params", *LOWER) else -1
    sort = "ascending" if column.key == "rank" else "none"
    return (
        f'<th scope="col" role="columnheader" class="{css_classes(column.key)}" aria-sort="{sort}" '
        f'title="{escape(column.help)}">'
        f'<button type="button" data-key="{column.key}" data-first="{first}">{escape(column.heading)}'
        f'<i aria-hidden="true"></i></button>{scale}</th>'
    )


def _foot_html(references: pd.DataFrame | None, columns: Sequence[Column]) -> str:
    """Return the reference rows as the foot of the table, without whiskers, because the axis is that of the models."""
    if references is None or references.empty:
        return ""
    rows = []
    for (_, row), (_, text) in zip(references.iterrows(), reference_cells(references, columns).iterrows(), strict=True):
        cells = []
        for c in columns:
            tag, role = ("th", 'scope="row" role="rowheader"') if c.key == "name" else ("td", 'role="cell"')
            title = f' title="{escape(REFERENCE_HELP[str(row["name"])])}"' if c.key == "name" else ""
            label = f' data-label="{escape(c.heading)}"' if text[c.heading] else ""
            content = f"<span>{escape(text[c.heading])}</span>"
            cells.append(f'<{tag} {role} class="{css_classes(c.key)}"{label}{title}>{content}</{tag}>')
        rows.append(f'<tr role="row" class="mb-reference">{"".join(cells)}</tr>')
    return f'<tfoot role="rowgroup">{"".join(rows)}</tfoot>'


def _legend_html(rows: pd.DataFrame) -> str:
    text = (
        "Underlined: the best of its column, and for accuracy, F1 and P50 of one dataset every value that is not "
        "significantly different from the best. P50 from three processes leaves out one of six equally fast entries in "
        "9 % of cases instead of 5 %; from five, in 2 %."
    )
    if "rank_low" in rows:
        text += " A rank is a 95 % interval; a heavy line separates groups whose intervals start at different ranks."
    hatched = ""
    if rows["provisional"].any():
        hatched = f'<p class="mb-legend"><span class="mb-hatched mb-swatch"></span>{PROVISIONAL}.</p>'
    return legend(text) + hatched


def _reasons_html(reasons: dict[str, list[str]]) -> str:
    """Return why cells are empty, as text for readers who cannot hover over a cell."""
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(r)}: {escape(', '.join(rows))}</li>" for r, rows in reasons.items())
    return details(f"Why {MISSING}", f"<ul>{items}</ul>")


def missing_reason(key: str, row: Row, failures: pd.DataFrame) -> str:
    """Return why the cell of column `key` in this row of the leaderboard has no value."""
    if key in ("rank", "p_best", "p_pareto_latency") and row.get("trivial") == True:  # noqa: E712 - or missing
        return f"no rank: {MARKS['trivial']}"
    if key == "rank" and not missing(row["score"]):
        return "no rank: the score is provisional, and other entries were measured undisturbed"
    if key == "p_pareto_latency":
        return _no_pareto_reason(row, failures)
    if key == "accuracy_letters":
        return _not_compared_reason(row)
    if key in AREA_COSTS:
        cost = AREA_COSTS[key]
        return missing_reason(cost, row, failures) if missing(row.get(cost)) else _not_compared_reason(row)
    if key == "score" and row.get("composite") == "none":
        return "no score was requested"
    if key in ("rank", "score", "p_best"):
        return _no_score_reason(row, failures)
    if key not in MEASURED:
        return "not recorded"
    if ((failures["phase"] == "measure") & failures["fit_id"].isin(_fit_ids(row))).any():
        return "measurement failed, see below"
    if all(missing(row.get(m)) for m in MEASURED):
        return "not measured on the machine shown"
    return "withheld: too few clean requests" if key.startswith("latency_") else "not recorded"


def _fit_ids(row: Row) -> list[str]:
    return row["fit_ids"] if isinstance(row.get("fit_ids"), list) else []


def _no_score_reason(row: Row, failures: pd.DataFrame) -> str:
    if not _fit_ids(row):
        return "not scored on every dataset"
    if row["verdict"] == "invalid":
        return "no rank: the timed model and the evaluated one gave different labels"
    is_composite = row.get("composite") != "none"
    if is_composite and row.get("composite") != "minmax" and missing(row.get("base_accuracy")):
        return "not scored: the baseline has no result on this dataset"
    parts = ("latency_p50_s", "throughput_texts_per_s" if is_composite else "memory_peak_batch1_bytes")
    absent = [m for m in parts if missing(row[m])]
    if absent:
        return missing_reason(absent[0], row, failures)
    if row["provisional"]:
        return "no rank: other load disturbed the clock, and other entries were measured undisturbed"
    return "not scored: the baseline is already perfect, so the quality scale has no range"


def _no_pareto_reason(row: Row, failures: pd.DataFrame) -> str:
    """Return why there is no letter: the probability is small for each known cost, or no cost is known."""
    if any(not missing(row.get(cost)) for cost in PARETO_COSTS.values()):
        return "in no Pareto set with a probability of 5 % or more"
    if _fit_ids(row) and all(missing(row.get(cost)) for cost in PARETO_COSTS):
        return missing_reason("latency_p50_s", row, failures)
    return _not_compared_reason(row)


def _not_compared_reason(row: Row) -> str:
    """Return why a value that is computed from all models at once is missing in a row."""
    if row.get("on_all") == False:  # noqa: E712 - a missing value is a row of one dataset
        return "computed only for entries that were run on all of these datasets"
    if not _fit_ids(row):
        return "computed for each dataset separately"
    return "unknown: the entries were tested on different texts"
