"""Controls shared by all tabs, the dataset and the pinned models, and the rows that they select."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services
from moodbench.app.url_state import DEFAULT, MAX_MODELS, State, chosen_track
from moodbench.report.formatting import missing
from moodbench.report.leaderboard_view import LeaderboardView
from moodbench.statistics.overall import OVERALL


def build_shared(layout: Layout) -> None:
    """Create the controls above the tabs."""
    import gradio as gr

    with gr.Row(elem_id="mb-shared"):
        track = gr.Dropdown([], label="Dataset", elem_id="track", min_width=200, scale=1)
        pinned = gr.Dropdown(
            [], multiselect=True, max_choices=MAX_MODELS, elem_id="models", min_width=200, scale=2,
            label=f"Pinned entries, up to {MAX_MODELS}, to look at side by side",
        )  # fmt: skip
    layout.control("track", track, "input", tracks)
    layout.control("models", pinned, "input", entries)


def tracks(reading: Reading) -> list[tuple[str, str]]:
    """Return the names of the datasets, all of them together first; the value of the first is empty, the default."""
    if reading.is_empty:
        return []
    first = chosen_track(reading.tracks, DEFAULT)
    return [(first, ""), *((name, name) for name in reading.tracks if name != first)]


def entries(reading: Reading) -> list[tuple[str, str]]:
    """Return the names of all models."""
    return [] if reading.is_empty else [(name, name) for name in sorted(set(reading.results.entries["name"]))]


def one_track(view: LeaderboardView, state: State) -> pd.DataFrame:
    """Return the rows of the dataset that `state` names; of the first one where it names all of them together."""
    name = chosen_track(view.tracks, state)
    return view.track(view.tracks[0] if name.startswith(OVERALL) else name)


def pinned_rows(rows: pd.DataFrame, state: State, otherwise: int) -> pd.DataFrame:
    """Return the pinned models among `rows`, in the order of the pins; the first `otherwise` rows where none is."""
    chosen = [name for name in state.models if name in set(rows["name"])]
    return rows.set_index("name", drop=False).loc[chosen] if chosen else rows.head(otherwise)


def shown_text(row: Mapping[Any, Any] | pd.Series[Any], services: Services) -> str:
    """Return the text of a test example as this page may show it, or why it is not shown."""
    if missing(row.get("text")):
        return "text not in the store"
    private = row.get("private")
    if services.show_texts or (not missing(private) and not private):
        return str(row["text"])
    why = "not known whether private" if missing(private) else "private text"
    return f"{why}: start with --show-texts to see it"
