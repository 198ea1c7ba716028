"""The Data tab: raw rows, downloads of the view and of everything, licences, how to cite, and a link to this view."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from html import escape
from typing import Any

import pandas as pd

from moodbench import __version__
from moodbench.analysis.leaderboard import trials_frame
from moodbench.analysis.mislabelled import mislabelled
from moodbench.app.downloads import Downloads
from moodbench.app.html import details, hint, table, with_store
from moodbench.app.shared import one_track, shown_text
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State, chosen_track, visible
from moodbench.config import Catalogue, load_catalogue
from moodbench.errors import MoodBenchError
from moodbench.report.files import leaderboard_bytes
from moodbench.report.leaderboard_view import LeaderboardView
from moodbench.report.tables import (
    MISLABELLED_EXPLAINED,
    MISLABELLED_HEADINGS,
    mislabelled_cells,
    mislabelled_heading,
)

RAW_COLUMNS = [
    "model", "method", "dataset", "num_train", "seed", "accuracy", "f1_macro", "precision_macro", "recall_macro", "nll",
    "latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "memory_peak_batch1_bytes", "train_time_s", "verdict",
    "quick", "fit_id",
]  # fmt: skip
MOST_ROWS = 2_000
MOST_DOUBTFUL = 25
NESTED = ["throughput_points", "process_speed", "confusion", "environment", "files"]
FILES = (
    ("view-csv", "This view as CSV"),
    ("view-parquet", "This view as Parquet"),
    ("all-csv", "Everything as CSV"),
    ("all-parquet", "Everything as Parquet"),
)


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-data", elem_classes="mb"))
    with gr.Row():
        for key, title in FILES:
            layout.output(gr.DownloadButton(title, elem_id=f"get-{key}", size="sm", min_width=150))
    rows = gr.Dataframe(
        interactive=False, label="Rows: one per evaluated fit, base units", elem_id="raw", max_height=460,
        show_search="search", pinned_columns=1, buttons=["copy", "fullscreen"],
    )  # fmt: skip
    layout.output(rows)
    layout.output(gr.HTML(elem_id="mb-mislabelled", elem_classes="mb"))
    layout.output(gr.HTML(elem_id="mb-licences", elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return what the files are, the files, the rows, doubtful labels, and licences with the citation."""
    name = chosen_track(reading.tracks, state)
    view = reading.view(state.weights, state.composite, ranked_track=name)
    rows = visible(view.track(name), state, reading.families)
    records = reading.results.records
    trials = trials_frame(records.fits, records.evaluations, records.measurements)
    shown_view = LeaderboardView(rows, view.failures, view.notes, view.references_of(name))
    paths = _files(shown_view, trials, (reading.store.uri, reading.at, of_rows(state)))
    shown = (
        trials
        if rows["fit_ids"].isna().any()
        else trials[trials["fit_id"].isin([i for r in rows["fit_ids"] for i in r])]
    )
    cut = f" The table shows the first {MOST_ROWS:,}." if len(shown) > MOST_ROWS else ""
    link = "?" + state.to_query()
    words = (
        f"<p>This view: {len(rows)} row{'' if len(rows) == 1 else 's'} of {escape(name)}, as "
        f"<code>{escape(with_store('moodbench leaderboard --csv', reading.store.uri))}</code> names them. Everything: "
        f"{len(trials):,} evaluated fits with their measurements. Base units; no texts.{cut} The store itself is "
        f'<code>{escape(reading.store.uri)}</code>. <a class="mb-link" href="{escape(link)}">Link to this view</a></p>'
    )
    licences = _licences(records.fits, services.catalogue or load_catalogue(None))
    return [words, *paths, _readable(shown), _doubtful(reading, state, services), licences]


@cache
def _downloads() -> Downloads:
    """Return the downloads of this process."""
    return Downloads()


def of_rows(state: State) -> State:
    """Return `state` without the fields that do not affect the rows of a view."""
    return replace(state, tab="", against="", models=(), columns=(), sort="")


def _files(view: LeaderboardView, trials: pd.DataFrame, key: tuple[str, datetime, State]) -> list[str]:
    """Return the paths of the four files, in the order of FILES; `key` identifies the reading and its view."""
    flat = trials.drop(columns=[c for c in NESTED if c in trials])
    contents: list[tuple[Hashable, Callable[[], bytes]]] = [
        (key, lambda: leaderboard_bytes(view, "csv")),
        (key, lambda: leaderboard_bytes(view, "parquet")),
        (key[:2], lambda: flat.to_csv(index=False).encode()),
        (key[:2], lambda: flat.to_parquet(None, index=False)),
    ]
    names = [f"moodbench-{name.replace('-', '.')}" for name, _ in FILES]
    return [_downloads().path(k, name, make) for (k, make), name in zip(contents, names, strict=True)]


def _readable(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the columns to show, with six significant digits; the files have all columns and digits."""
    shown = trials.reindex(columns=RAW_COLUMNS).head(MOST_ROWS)
    reals = shown.select_dtypes("float").columns
    return shown.assign(**{c: shown[c].map(lambda x: float(f"{x:.6g}")) for c in reals})


def _doubtful(reading: Reading, state: State, services: Services) -> str:
    """Return the test texts of the shown dataset whose label nearly all models contradict."""
    first = one_track(reading.order(state.weights), state).iloc[0]
    try:
        by_track = mislabelled(reading.store, str(first["dataset"]))
    except MoodBenchError as error:
        return hint(f"Doubtful labels: {error}")
    made = ""
    for issues in by_track:
        listed = issues.rows.head(MOST_DOUBTFUL)
        texts = [shown_text(row, services) for row in listed.to_dict("records")]
        rows = [[text, *cells] for text, cells in zip(texts, mislabelled_cells(issues, MOST_DOUBTFUL), strict=True)]
        made += table(["Text", *MISLABELLED_HEADINGS], rows, mislabelled_heading(issues), left=3)
    command = with_store("moodbench mislabelled --out FILE", reading.store.uri)
    words = f'<p class="mb-legend">{escape(MISLABELLED_EXPLAINED)} All of them: <code>{escape(command)}</code>.</p>'
    return details("Probably mislabelled test texts", made + words)


def _licences(fits: pd.DataFrame, catalogue: Catalogue) -> str:
    rows = []
    for kind, names, entries in (
        ("model", sorted(set(fits["model"].dropna())), catalogue.models),
        ("dataset", sorted(set(fits["dataset"].dropna())), catalogue.datasets),
    ):
        for name in names:
            entry = entries.get(name)
            if entry is None:
                rows.append([name, kind, "not in the catalogue: ask its owner", ""])
                continue
            rows.append(
                [
                    name,
                    kind,
                    str(entry.licence or "not stated"),
                    str(getattr(entry, "citation", None) or entry.description),
                ]
            )
    made = table(["Name", "What", "Licence", "Source"], rows, "Licences", left=4)
    cite = (
        "The MoodBench maintainers. MoodBench: choosing small language models for sentiment analysis, "
        f"version {__version__}."
    )
    return f"{made}<h2>How to cite</h2><p>{escape(cite)} Name the datasets' sources above as well.</p>"


TAB = Tab("data", "Data", build, render)
