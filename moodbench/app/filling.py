"""Contents of a tab for a state, independent of Gradio components: its contents, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from moodbench.app import html
from moodbench.app.board_table import failures_table
from moodbench.app.snapshot import Reader
from moodbench.app.tab import Services, Tab
from moodbench.app.url_state import State
from moodbench.errors import MoodBenchError


@dataclass(frozen=True)
class Filled:
    """One tab filled for one state."""

    read: str
    """Which store was read, and when."""
    address: str
    """The canonical query of the state, for the browser's address bar."""
    notice: str
    """Message shown in place of the contents; empty where there are contents."""
    contents: Sequence[Any] | None
    """A value for each output of the tab; None where the notice is shown."""


def fill(reader: Reader, tab: Tab, state: State, services: Services, *, seen: str | None = None) -> Filled:
    """Fill `tab` for `state`, or return the message of an error that the user can fix.

    `seen` is given where only the weights have changed: the `Filled.read` of what the page shows. If that reading is
    still the current one, only what depends on the weights is rendered again.
    """
    address = f'<span data-query="{escape(state.to_query())}"></span>'
    uri = escape(reader.store.uri)
    try:
        if not tab.needs_results:
            return Filled(f'<p role="status">{uri}</p>', address, "", tab.render(reader.store, state, services))
        reading = reader.current(patience_s=None if seen is None else 0)
        read = f'<p role="status">{uri} · read {_time(reading.at)}</p>'
        if reading.is_empty and not tab.without_results(reading):
            failed = failures_table(reading.results.records.failures, reading.tells(show_texts=services.show_texts))
            return Filled(read, address, html.empty(reader.store.uri) + failed, None)
        render = tab.rerank if tab.rerank and seen == read else tab.render
        return Filled(read, address, "", render(reading, state, services))
    except MoodBenchError as problem:
        return Filled(f'<p role="status">{uri}</p>', address, html.error(str(problem)), None)


def _time(at: datetime) -> str:
    """Return a time as people read it; two readings within one second differ in the attribute."""
    return f'<time datetime="{at.isoformat()}">{at:%Y-%m-%d %H:%M:%S}</time>'
