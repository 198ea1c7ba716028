"""The board of one track as a semantic table: whiskers, tie groups, ties in each column, and why a cell is empty."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from moodbench.comparison.people import HELP
from moodbench.comparison.standing import PARETO_COSTS
from moodbench.visualization.formatting import (
    COLUMNS,
    MARKS,
    MEASURED,
    MISSING,
    Column,
    cells,
    marks,
    missing,
    reference_cells,
    track_facts,
)
from moodbench.visualization.leaderboard_view import chance, tied_best
from moodbench.visualization.page.html import details, scroll

CLOCKED = {"rank", "score", "latency_p50_s", "latency_p99_s", "throughput_texts_per_s"}
"""Columns that other load disturbs."""
PROVISIONAL = "provisional: other load disturbed the clock"
WHISKER_WIDTH, WHISKER_HEIGHT = 96, 16
ON_PHONE = ("rank", "name", "score", "accuracy", "latency_p50_s", "memory_peak_batch1_bytes", "p_best")
"""Columns that a narrow screen shows."""
SMALLER_IS_BETTER = {"rank", "latency_p50_s", "latency_p99_s", "memory_peak_batch1_bytes", "train_time_s", "num_params", "name", "nll", "brier", "ece"}  # fmt: skip


class Axis(NamedTuple):
    """The ends of the accuracy axis that the rows of a track share, as shares."""

    low: float
    high: float

    def x(self, share: float) -> float:
        """Where `share` lies in the drawing, in pixels, at its edge when beyond the axis."""
        place = (share - self.low) / (self.high - self.low)
        return 4 + min(max(place, 0.0), 1.0) * (WHISKER_WIDTH - 8)


def board_table(
    rows: pd.DataFrame,
    track: pd.DataFrame,
    failures: pd.DataFrame,
    pinned: tuple[str, ...] = (),
    references: pd.DataFrame | None = None,
    columns: Sequence[Column] = COLUMNS,
) -> str:
    """The `rows` of a track that are shown, with the reasons below; axis and ties are those of the whole `track`.

    `references` stand at the foot, where no sorting moves them.
    """
    axis = _axis(track)
    ties = tied_best(track)
    texts = cells(rows, columns)
    reasons: dict[str, list[str]] = defaultdict(list)
    body, group = [], None
    for (index, row), (_, text) in zip(rows.iterrows(), texts.iterrows(), strict=True):
        why = {c.key: why_missing(c.key, row, failures) for c in columns if text[c.heading] == MISSING}
        classes = ["mb-provisional"] if row["provisional"] else []
        if group is not None and _group(row) != group:
            classes.append("mb-break")
        group = _group(row)
        best = {column for column, names in ties.items() if index in names}
        body.append(_row_html(row, text, why, axis, best, classes, row["name"] in pinned, columns))
        for reason in dict.fromkeys(why.values()):
            headings = ", ".join(c.heading for c in columns if why.get(c.key) == reason)
            reasons[reason].append(f"{row['name']} ({headings})")
    head = "".join(_heading_html(column, axis) for column in columns)
    name = str(track["track"].iloc[0])
    table = (
        f'<table role="table"><caption><div><strong>{escape(name)}</strong>{escape(track_facts(track))}</div></caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{"".join(body)}</tbody>{_foot_html(references, columns)}</table>'
    )
    return scroll(table, name) + _legend_html(rows) + _reasons_html(reasons)


def why_missing(key: str, row: pd.Series[Any], failures: pd.DataFrame) -> str:
    """The reason why the cell of column `key` in this row of the board holds no value."""
    if key == "rank" and not missing(row["score"]):
        return "no place: the score is provisional, and other rows were measured undisturbed"
    if key == "p_pareto_latency":
        return _why_no_pareto(row, failures)
    if key == "score" and row.get("composite") == "none":
        return "no score was asked for"
    if key in ("rank", "score", "p_best"):
        return _why_no_score(row, failures)
    if key not in MEASURED:
        return "not recorded"
    if ((failures["phase"] == "measure") & failures["fit_id"].isin(_fit_ids(row))).any():
        return "measuring failed, see below"
    if all(missing(row.get(m)) for m in MEASURED):
        return "not measured on the machine shown"
    return "withheld: too few clean requests" if key.startswith("latency_") else "not recorded"


def _fit_ids(row: pd.Series[Any]) -> list[str]:
    return row["fit_ids"] if isinstance(row.get("fit_ids"), list) else []


def _why_no_score(row: pd.Series[Any], failures: pd.DataFrame) -> str:
    if not _fit_ids(row):
        return "not scored on every data set"
    if row["verdict"] == "invalid":
        return "no place: the timed model gave other labels than the evaluated one"
    by_score = row.get("composite") != "none"
    if by_score and missing(row.get("base_accuracy")):
        return "not scored: the baseline has no result on this data"
    parts = ("latency_p50_s", "throughput_texts_per_s" if by_score else "memory_peak_batch1_bytes")
    absent = [m for m in parts if missing(row[m])]
    if absent:
        return why_missing(absent[0], row, failures)
    if row["provisional"]:
        return "no place: other load disturbed the clock, and other rows were measured undisturbed"
    return "not scored: the baseline does as well as can be, so that nothing is left to gain"


def _why_no_pareto(row: pd.Series[Any], failures: pd.DataFrame) -> str:
    """Why no letter stands there: the chance is small for each known cost, or none is known."""
    known = [c for c in PARETO_COSTS.values() if not missing(row.get(c))]
    if known:
        return "in no Pareto set with a chance of 5 % or more"
    if not _fit_ids(row):
        return "worked out for each data set alone"
    if all(missing(row.get(cost)) for cost in PARETO_COSTS):
        return why_missing("latency_p50_s", row, failures)
    return "not known: the contenders were tested on different texts"


def failures_table(failures: pd.DataFrame) -> str:
    """The last attempt of each phase without a record, with its error; empty when there is none."""
    if failures.empty:
        return ""
    head = '<th scope="col" class="mb-name">Model</th>'
    head += "".join(f'<th scope="col">{h}</th>' for h in ("Data set", "Seed", "Phase", "Error"))
    body = "".join(
        f'<tr><th scope="row" class="mb-name">{escape(str(row["model"]))}</th>'
        + "".join(f"<td>{escape(str(row[k]))}</td>" for k in ("dataset", "seed", "phase"))
        + f'<td class="mb-message">{_message_html(row["error_class"], row["message"])}</td></tr>'
        for _, row in failures.iterrows()
    )
    caption = "<caption><div><strong>Failed</strong>the last attempt of each phase without a record</div></caption>"
    table = f'<table class="mb-left">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return scroll(table, "Failed")


def columns_html(columns: Sequence[Column] = COLUMNS) -> str:
    """What each column says, folded."""
    entries = "".join(f"<dt>{escape(c.heading)}</dt><dd>{escape(c.help)}</dd>" for c in columns)
    return details("What the columns say", f"<dl>{entries}</dl>")


def _group(row: pd.Series[Any]) -> Any:
    """Rows of one group share the best place they could have."""
    best = row.get("rank_low")
    return None if missing(best) else best


def _heading_html(column: Column, axis: Axis | None) -> str:
    scale = ""
    if column.key == "accuracy" and axis:
        ends = "".join(f"<span>{100 * end:.0f}</span>" for end in axis)
        scale = f'<span class="mb-scale" aria-hidden="true">{ends}</span>'
    first = 1 if column.key in SMALLER_IS_BETTER else -1
    sort = "ascending" if column.key == "rank" else "none"
    return (
        f'<th scope="col" role="columnheader" class="{_classes(column.key)}" aria-sort="{sort}" title="{escape(column.help)}">'
        f'<button type="button" data-key="{column.key}" data-first="{first}">{escape(column.heading)}'
        f'<i aria-hidden="true"></i></button>{scale}</th>'
    )


def _row_html(
    row: pd.Series[Any],
    text: pd.Series[str],
    why: dict[str, str],
    axis: Axis | None,
    best: set[str],
    classes: list[str],
    pinned: bool,
    columns: Sequence[Column],
) -> str:
    made = []
    for c in columns:
        about = [why[c.key]] if c.key in why else []
        extra = []
        if row["provisional"] and c.key in CLOCKED:
            extra.append("mb-hatched")
            about.append(PROVISIONAL)
        if c.key in best:
            extra.append("mb-best")
            about.append("the best" if c.key not in ("accuracy", "f1_macro") else "the best, or not separated from it")
        title = f' title="{escape("; ".join(about))}"' if about else ""
        names = " ".join([_classes(c.key), *extra])
        value = f' data-v="{escape(_sort_value(row.get(c.key)))}" data-label="{escape(c.heading)}"'
        if c.key == "name":
            pin = ' <span class="mb-pin">pinned</span>' if pinned else ""
            made.append(
                f'<th scope="row" role="rowheader" class="{names}"{value}>{_mark(row)}{_marked_html(row)}{pin}</th>'
            )
            continue
        drawing = _drawing(c.key, row, axis) if c.key not in why else ""
        made.append(
            f'<td role="cell" class="{names}"{value}{title}><span>{escape(text[c.heading])}</span>{drawing}</td>'
        )
    joined = f' class="{" ".join(classes)}"' if classes else ""
    return f'<tr role="row"{joined} data-name="{escape(str(row["name"]))}">{"".join(made)}</tr>'


def _foot_html(references: pd.DataFrame | None, columns: Sequence[Column]) -> str:
    """The reference rows as the foot of the table; without whiskers, as the axis is that of the contenders."""
    if references is None or references.empty:
        return ""
    made = []
    for (_, row), (_, text) in zip(references.iterrows(), reference_cells(references, columns).iterrows(), strict=True):
        parts = []
        for c in columns:
            tag, role = ("th", 'scope="row" role="rowheader"') if c.key == "name" else ("td", 'role="cell"')
            title = f' title="{escape(HELP[str(row["name"])])}"' if c.key == "name" else ""
            label = f' data-label="{escape(c.heading)}"' if text[c.heading] else ""
            parts.append(
                f'<{tag} {role} class="{_classes(c.key)}"{label}{title}><span>{escape(text[c.heading])}</span></{tag}>'
            )
        made.append(f'<tr role="row" class="mb-reference">{"".join(parts)}</tr>')
    return f'<tfoot role="rowgroup">{"".join(made)}</tfoot>'


def _classes(key: str) -> str:
    return f"mb-{key}" if key in ON_PHONE else f"mb-{key} mb-wide"


def _mark(row: pd.Series[Any]) -> str:
    """The method's mark before the name, decoration beside the method's name in the tooltip."""
    return f'<span class="mb-mark mb-method-{escape(str(row["method"]))}" title="{escape(str(row["method"]))}"></span>'


def _marked_html(row: pd.Series[Any]) -> str:
    """The name and, smaller, its marks with what they mean: the text of `formatting.marked`."""
    found = marks(row)
    title = escape("; ".join(f"{mark}: {MARKS[mark]}" for mark in found))
    tags = f' <small class="mb-tag" title="{title}">({", ".join(found)})</small>' if found else ""
    return escape(str(row["name"])) + tags


def _sort_value(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if missing(value) else f"{float(value):.9g}"


def _drawing(key: str, row: pd.Series[Any], axis: Axis | None) -> str:
    if key == "accuracy" and axis:
        return _whisker_svg(row, axis)
    if key == "rank" and not missing(row.get("p_best")):
        return f'<small title="share of joint draws of texts and seeds in which it is first">best: {chance(row["p_best"])}</small>'
    if key == "score":
        width = min(max(float(row["score"]), 0), 100)
        return f'<span class="mb-bar" aria-hidden="true"><span style="width:{width:.0f}%"></span></span>'
    return ""


def _axis(rows: pd.DataFrame) -> Axis | None:
    """The axis around all intervals, on multiples of 5 %; None where no row has an accuracy."""
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    if missing(low) or missing(high):
        return None
    start = max(math.floor(20 * low), 0)
    return Axis(start / 20, max(min(math.ceil(20 * high), 20), start + 1) / 20)


def _whisker_svg(row: pd.Series[Any], axis: Axis) -> str:
    """A dot at the accuracy and a line over its interval; hidden from readers, who have the text."""
    low, dot, high = (axis.x(row[k]) for k in ("accuracy_low", "accuracy", "accuracy_high"))
    middle, w, h = WHISKER_HEIGHT / 2, WHISKER_WIDTH, WHISKER_HEIGHT
    return (
        f'<svg class="mb-whisker" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">'
        f'<path class="mb-line" d="M0 {middle}H{w}"/>'
        f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} 4V{h - 4}M{high:.1f} 4V{h - 4}"/>'
        f'<circle cx="{dot:.1f}" cy="{middle}" r="3"/></svg>'
    )


def _legend_html(rows: pd.DataFrame) -> str:
    parts = [
        "Underlined: best of its column; accuracy and F1 of one data set also where the data do not separate it from the best."
    ]
    if "rank_low" in rows:
        parts.append("A rank is the range of places that the data leave open; a heavy line parts groups.")
    hatched = ""
    if rows["provisional"].any():
        hatched = f' <span class="mb-hatched mb-swatch"></span>{PROVISIONAL}.'
    return f'<p class="mb-legend">{" ".join(parts)}{hatched}</p>'


def _reasons_html(reasons: dict[str, list[str]]) -> str:
    """Why cells are missing, in words that need no pointer to hover with."""
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(r)}: {escape(', '.join(rows))}</li>" for r, rows in reasons.items())
    return details(f"Why {MISSING}", f"<ul>{items}</ul>")


def _message_html(error_class: Any, message: Any) -> str:
    """The first line of an error, with the other lines folded below it."""
    lines = [] if missing(message) else str(message).strip().splitlines()
    first = ": ".join([str(error_class), *lines[:1]])
    rest = escape("\n".join(lines[1:]))
    return details(first, f"<pre>{rest}</pre>") if rest else escape(first)
