"""A search as a section of the report."""

from __future__ import annotations

from html import escape

from moodbench.tuning.searched import Searched
from moodbench.visualization.search_svg import DRAWN
from moodbench.visualization.search_words import TITLES, caption, cost_words, findings, trial_table


def search_markdown(search: Searched) -> list[str]:
    """Lines of Markdown: what the search cost and says, and its trials."""
    headings, rows = trial_table(search)
    lines = [headings, [":--", *["--:"] * (len(headings) - 1)], *rows]
    table = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    said = [part for line in (cost_words(search), *findings(search)) for part in (line, "")]
    return [f"## Search: {search.title}", "", *said, *table, ""]


def search_html(search: Searched) -> list[str]:
    """Pieces of HTML: the same with figures."""
    headings, rows = trial_table(search)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    pieces = [f"<h2>Search: {escape(search.title)}</h2>"]
    pieces += [f"<p>{escape(line)}</p>" for line in (cost_words(search), *findings(search))]
    for key in TITLES:
        drawn = DRAWN[key](search)
        if drawn is not None:
            pieces.append(f"<figure>{drawn}<figcaption class=note>{escape(caption(key, search))}</figcaption></figure>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return [*pieces, f'<div class="scroll">{table}</div>']
