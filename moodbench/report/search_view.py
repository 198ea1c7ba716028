"""A hyperparameter search on the terminal and as a page of its own."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path

from moodbench.report.search_words import TITLES, caption, cost_words, findings
from moodbench.store import Store
from moodbench.tune.result import Searched


def search_lines(search: Searched) -> list[str]:
    """Return sentences on what was tried, its cost, the pick, the worth of a budget and the importances."""
    return [cost_words(search), *findings(search)]


def write_search_page(store: Store, search: Searched) -> str | None:
    """Write a self-contained HTML page with the figures into the store and return its address; None without figures.

    An earlier page of the same search is replaced.
    """
    from moodbench.report.search_figures import FIGURES

    figures = {key: figure for key, draw in FIGURES.items() if (figure := draw(search)) is not None}
    if not figures:
        return None
    title = f"Search {search.space} for {search.model} on {search.dataset}"
    said = "".join(f"<p>{escape(line)}</p>" for line in search_lines(search))
    parts = [
        f"<h2>{escape(TITLES[key])}</h2><p>{escape(caption(key, search))}</p>"
        + figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, (key, figure) in enumerate(figures.items())
    ]
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f'<body style="font-family:sans-serif"><h1>{escape(title)}</h1>{said}{"".join(parts)}</body></html>'
    )
    key = f"exports/search-{search.search_id[:12]}.html"
    with tempfile.TemporaryDirectory(dir=store.location.staging()) as folder:
        path = Path(folder) / "page.html"
        path.write_text(body, "utf-8")
        store.location.replace(path, key)
    return f"{store.uri.rstrip('/')}/{key}"
