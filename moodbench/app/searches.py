"""The part of the Training tab on searches: the configurations that were tried, and their results."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.app.html import table
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout
from moodbench.app.url_state import State
from moodbench.report.charts import NoData
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.search import TITLES, search_sentences, trial_table
from moodbench.report.search_figures import FIGURES
from moodbench.tune.result import SearchResult


def build(layout: Layout) -> None:
    """Create the components of this part, which is hidden until there is a search."""
    import gradio as gr

    with gr.Column(visible=False, elem_id="mb-searches") as part:
        gr.HTML("<h2>Searches</h2>", elem_classes="mb")
        chosen = gr.Dropdown([], label="Search: model, dataset, space, id", elem_id="tuning")
        layout.control("tuning", chosen, "input", titles)
        said = gr.HTML(elem_id="mb-search", elem_classes="mb")
        plots = []
        for key, title in TITLES.items():
            gr.HTML(f"<h3>{escape(title)}</h3>", elem_classes="mb")
            plots.append(gr.Plot(show_label=False, container=False, elem_id=f"search-{key}"))
    for component in (part, said, *plots):
        layout.output(component)


def titles(reading: Reading) -> list[tuple[str, str]]:
    """Return the title and the id of each search; the id of the first is empty, because it is the default."""
    return [(each.title, each.search_id if number else "") for number, each in enumerate(reading.shown.searches)]


def chosen(found: Sequence[SearchResult], search_id: str) -> SearchResult | None:
    """Return the search with that id, or else the first one; None where there is no search."""
    return next((each for each in found if each.search_id == search_id), found[0] if found else None)


def render(reading: Reading, state: State) -> list[Any]:
    """Return whether the part is visible, the search in words with its trials, and its figures."""
    import gradio as gr

    search = chosen(reading.shown.searches, state.tuning)
    if search is None:
        return [gr.Column(visible=False), "", *[plotly_figure(NoData("No search"))] * len(TITLES)]
    plots = [plotly_figure(FIGURES[key](search)) for key in TITLES]
    return [gr.Column(visible=True), in_words(search), *plots]


def in_words(search: SearchResult) -> str:
    """Return the cost and findings of a search, and every configuration that it tried, as HTML."""
    said = "".join(f"<p>{escape(line)}</p>" for line in search_sentences(search))
    headings, rows = trial_table(search)
    return said + table(headings, rows, f"Configurations of {search.title}")
