"""A hyperparameter search as a section of the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from moodbench.report.report_figures import Drawing
from moodbench.report.search_drawings import DRAWN
from moodbench.report.search_words import TITLES, caption, cost_words, findings, trial_table
from moodbench.tune.result import Searched


def drawings(search: Searched) -> dict[str, Drawing]:
    """Return the figures of TITLES that have something to show."""
    return {key: drawing for key in TITLES if (drawing := DRAWN[key](search)) is not None}


def search_stem(search: Searched, key: str) -> str:
    """Return the name, without suffix, of the files beside report.md with this figure of the search."""
    return f"search-{search.search_id[:12]}-{key}"


def search_markdown(search: Searched, drawn: Mapping[str, Drawing]) -> list[str]:
    """Return the search as lines of Markdown: cost, findings, trials, and the `drawn` figures as links to files."""
    headings, rows = trial_table(search)
    lines = [headings, [":--", *["--:"] * (len(headings) - 1)], *rows]
    table = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    said = [part for line in (cost_words(search), *findings(search)) for part in (line, "")]
    figures = [
        part
        for key in drawn
        for part in (f"![{TITLES[key]}]({search_stem(search, key)}.svg)", "", f"{caption(key, search)}.", "")
    ]
    return [f"## Search: {search.title}", "", *said, *figures, *table, ""]


def search_html(search: Searched, drawn: Mapping[str, Drawing]) -> list[str]:
    """Return the search as pieces of HTML, with the figures inside."""
    headings, rows = trial_table(search)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    pieces = [f"<h2>Search: {escape(search.title)}</h2>"]
    pieces += [f"<p>{escape(line)}</p>" for line in (cost_words(search), *findings(search))]
    for key, drawing in drawn.items():
        pieces.append(
            f"<figure>{drawing.svg}<figcaption class=note>{escape(caption(key, search))}</figcaption></figure>"
        )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return [*pieces, f'<div class="scroll">{table}</div>']
