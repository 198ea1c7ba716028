"""The leaderboard of one dataset as a semantic table: whiskers, groups, ties per column, and why a cell is empty."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis.human_reference import HELP
from moodbench.app.board_cells import PROVISIONAL, Axis, Kept, classes, rows_of_cells
from moodbench.app.html import details, scroll
from moodbench.app.privacy import Tells, untold_hint
from moodbench.report.formatting import COLUMNS, MISSING, Column, missing, reference_cells, track_facts

SMALLER_IS_BETTER = {
    "rank", "latency_p50_s", "latency_p99_s", "memory_peak_batch1_bytes", "train_time_s", "num_params", "name", "nll",
    "brier", "ece",
}  # fmt: skip


def board_table(
    rows: pd.DataFrame,
    track: pd.DataFrame,
    failures: pd.DataFrame,
    pinned: tuple[str, ...] = (),
    references: pd.DataFrame | None = None,
    columns: Sequence[Column] = COLUMNS,
    kept: Kept | None = None,
) -> str:
    """Return the table of the visible `rows`, with the reasons for empty cells below.

    Axis and ties are those of `track`: all rows of one dataset and training size, or of all datasets together. Rows
    whose rank intervals have the same lower end form a group. `references` are at the foot of the table, where sorting
    does not move them. Cells are taken from the cache `kept`, which must belong to the same records.
    """
    axis = _axis(track)
    reasons: dict[str, list[str]] = defaultdict(list)
    body, group = [], None
    made = rows_of_cells(rows, track, failures, axis, pinned, columns, {} if kept is None else kept)
    firsts = rows["rank_low"].tolist() if "rank_low" in rows else [None] * len(rows)
    for row, name, first, provisional in zip(made, rows["name"], firsts, rows["provisional"], strict=True):
        marked = ["mb-provisional"] if provisional else []
        best = None if missing(first) else first
        if group is not None and best != group:
            marked.append("mb-break")
        group = best
        joined = f' class="{" ".join(marked)}"' if marked else ""
        cells = "".join(cell.html for cell in row)
        body.append(f'<tr role="row"{joined} data-name="{escape(str(name))}">{cells}</tr>')
        for reason in dict.fromkeys(cell.why for cell in row if cell.why):
            headings = ", ".join(c.heading for c, cell in zip(columns, row, strict=True) if cell.why == reason)
            reasons[reason].append(f"{name} ({headings})")
    head = "".join(_heading_html(column, axis) for column in columns)
    name = str(track["track"].iloc[0])
    table = (
        f'<table role="table"><caption><div><strong>{escape(name)}</strong>{escape(track_facts(track))}</div></caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{"".join(body)}</tbody>{_foot_html(references, columns)}</table>'
    )
    return scroll(table, name) + _legend_html(rows) + _reasons_html(reasons)


def failures_table(failures: pd.DataFrame, tells: Tells) -> str:
    """Return a table of the last attempt of each phase without a record, with its error; empty when there is none.

    The message of an error is shown for the datasets that `tells` allows; for others, only the class of the error is.
    """
    if failures.empty:
        return ""
    shown = [tells(str(dataset)) for dataset in failures["dataset"]]
    head = '<th scope="col" class="mb-name">Model</th>'
    head += "".join(f'<th scope="col">{h}</th>' for h in ("Dataset", "Seed", "Phase", "Error"))
    body = "".join(
        f'<tr><th scope="row" class="mb-name">{escape(str(row["model"]))}</th>'
        + "".join(f"<td>{escape(str(row[k]))}</td>" for k in ("dataset", "seed", "phase"))
        + f'<td class="mb-message">{_message_html(row["error_class"], row["message"] if told else None)}</td></tr>'
        for (_, row), told in zip(failures.iterrows(), shown, strict=True)
    )
    caption = "<caption><div><strong>Failed</strong>the last attempt of each phase without a record</div></caption>"
    table = f'<table class="mb-left">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    untold = any(not told and not missing(said) for told, said in zip(shown, failures["message"], strict=True))
    return scroll(table, "Failed") + untold_hint(untold)


def columns_html(columns: Sequence[Column] = COLUMNS) -> str:
    """Return the description of each column, folded."""
    entries = "".join(f"<dt>{escape(c.heading)}</dt><dd>{escape(c.help)}</dd>" for c in columns)
    return details("What the columns say", f"<dl>{entries}</dl>")


def _heading_html(column: Column, axis: Axis | None) -> str:
    scale = ""
    if column.key == "accuracy" and axis:
        ends = "".join(f"<span>{100 * end:.0f}</span>" for end in axis)
        scale = f'<span class="mb-scale" aria-hidden="true">{ends}</span>'
    first = 1 if column.key in SMALLER_IS_BETTER else -1
    sort = "ascending" if column.key == "rank" else "none"
    return (
        f'<th scope="col" role="columnheader" class="{classes(column.key)}" aria-sort="{sort}" '
        f'title="{escape(column.help)}">'
        f'<button type="button" data-key="{column.key}" data-first="{first}">{escape(column.heading)}'
        f'<i aria-hidden="true"></i></button>{scale}</th>'
    )


def _foot_html(references: pd.DataFrame | None, columns: Sequence[Column]) -> str:
    """Return the reference rows as the foot of the table, without whiskers, because the axis is that of the models."""
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
                f'<{tag} {role} class="{classes(c.key)}"{label}{title}><span>{escape(text[c.heading])}</span></{tag}>'
            )
        made.append(f'<tr role="row" class="mb-reference">{"".join(parts)}</tr>')
    return f'<tfoot role="rowgroup">{"".join(made)}</tfoot>'


def _axis(rows: pd.DataFrame) -> Axis | None:
    """Return an axis around all intervals, with ends at multiples of 5 %; None where no row has an interval."""
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    if missing(low) or missing(high):
        return None
    start = max(math.floor(20 * low), 0)
    return Axis(start / 20, max(min(math.ceil(20 * high), 20), start + 1) / 20)


def _legend_html(rows: pd.DataFrame) -> str:
    parts = [
        "Underlined: best of its column; accuracy, F1 and P50 of one dataset also where the data do not separate it "
        "from the best."
    ]
    if "rank_low" in rows:
        parts.append("A rank is the range of places that the data leave open; a heavy line parts groups.")
    hatched = ""
    if rows["provisional"].any():
        hatched = f' <span class="mb-hatched mb-swatch"></span>{PROVISIONAL}.'
    return f'<p class="mb-legend">{" ".join(parts)}{hatched}</p>'


def _reasons_html(reasons: dict[str, list[str]]) -> str:
    """Return why cells are empty, as text for readers who cannot hover over a cell."""
    if not reasons:
        return ""
    items = "".join(f"<li>{escape(r)}: {escape(', '.join(rows))}</li>" for r, rows in reasons.items())
    return details(f"Why {MISSING}", f"<ul>{items}</ul>")


def _message_html(error_class: Any, message: Any) -> str:
    """Return the first line of an error, with the other lines folded below it."""
    lines = [] if missing(message) else str(message).strip().splitlines()
    first = ": ".join([str(error_class), *lines[:1]])
    rest = escape("\n".join(lines[1:]))
    return details(first, f"<pre>{rest}</pre>") if rest else escape(first)
