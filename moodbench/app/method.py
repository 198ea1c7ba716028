"""The Method tab: how the results were obtained, from the records themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moodbench.app.board_table import columns_html, failures_table
from moodbench.app.html import table
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report.method import facts


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-method", elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the facts with the fields they come from, the columns' descriptions, and the failures."""
    rows = [[fact.about, fact.text, fact.source] for fact in facts(reading.results)]
    made = table(["About", "What the records say", "Field"], rows, "How these results came about", left=3)
    failed = failures_table(reading.results.records.failures, reading.tells(show_texts=services.show_texts))
    return [made + columns_html() + failed]


TAB = Tab("method", "Method", build, render)
