"""The Method and Data tabs: how the results were obtained, raw rows, files to download, licences, and how to cite."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from moodbench import __version__
from moodbench.analysis.mislabelled import mislabelled
from moodbench.analysis.trials import trials_frame
from moodbench.app.html import details, hint, legend, table, with_store
from moodbench.app.leaderboard import columns_html
from moodbench.app.privacy import failures_table, shown_text
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.config import Catalogue, load_catalogue
from moodbench.errors import MoodBenchError
from moodbench.report.files import leaderboard_bytes
from moodbench.report.formatting import csv_of
from moodbench.report.leaderboard_view import LeaderboardView
from moodbench.report.method import facts
from moodbench.report.tables import MISLABELLED_EXPLAINED, MISLABELLED_HEADINGS, mislabelled_cells, mislabelled_heading

RAW_COLUMNS = [
    "model", "method", "dataset", "num_train", "seed", "accuracy", "f1_macro", "precision_macro", "recall_macro", "nll",
    "latency_p50_s", "latency_p99_s", "throughput_texts_per_s", "memory_peak_batch1_bytes", "train_time_s", "verdict",
    "quick", "fit_id",
]  # fmt: skip
NESTED = ["throughput_points", "process_speed", "confusion", "environment", "files"]
MAX_ROWS = 2_000
MAX_MISLABELLED = 25
MAX_FILES = 24
FILES = {
    "view-csv": "This view as CSV",
    "view-parquet": "This view as Parquet",
    "all-csv": "Everything as CSV",
    "all-parquet": "Everything as Parquet",
}
CITATION = (
    "The MoodBench maintainers. MoodBench: choosing small language models for sentiment analysis, "
    f"version {__version__}. Please also cite the sources of the datasets above."
)


def build_method(layout: Layout, services: Services) -> None:
    """Create the component of the Method tab."""
    layout.html("mb-method")


def render_method(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the facts with the fields they come from, the columns' descriptions, and the failures."""
    rows = [[fact.about, fact.text, fact.source] for fact in facts(snapshot.results)]
    origin = table(["About", "Recorded", "Field"], rows, "How these results were obtained", left=3)
    may_show = snapshot.message_filter(show_texts=services.show_texts)
    return [origin + columns_html() + failures_table(snapshot.results.records.failures, may_show)]


def build(layout: Layout, services: Services) -> None:
    """Create the components of the Data tab."""
    import gradio as gr

    layout.html("mb-data")
    with gr.Row():
        for key, title in FILES.items():
            layout.output(gr.DownloadButton(title, elem_id=f"get-{key}", size="sm", min_width=150))
    rows = gr.Dataframe(
        interactive=False, label="Rows: one per evaluated fit, base units", elem_id="raw", max_height=460,
        show_search="search", pinned_columns=1, buttons=["copy", "fullscreen"],
    )  # fmt: skip
    layout.output(rows)
    layout.html("mb-mislabelled")
    layout.html("mb-licences")


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return what the files are, the files, the rows, doubtful labels, and licences with the citation."""
    records, uri, leaderboard = snapshot.results.records, snapshot.store.uri, snapshot.leaderboard(state)
    rows, view = leaderboard.rows, leaderboard.view
    trials = trials_frame(records.fits, records.evaluations, records.measurements)
    shown = trials
    if not rows["fit_ids"].isna().any():
        shown = trials[trials["fit_id"].isin([i for ids in rows["fit_ids"] for i in ids])]
    cut = f" The table shows the first {MAX_ROWS:,}." if len(shown) > MAX_ROWS else ""
    link = f'<a class="mb-link" href="{escape("?" + state.to_query())}">Link to this view</a>'
    text = (
        f"<p>This view: {len(rows)} row{'' if len(rows) == 1 else 's'} of {escape(leaderboard.name)}, with the columns "
        f"of <code>{escape(with_store('moodbench leaderboard --csv', uri))}</code>. Everything: {len(trials):,} "
        f"evaluated fits with their measurements. Base units; no texts.{cut} The store itself is "
        f"<code>{escape(uri)}</code>. {link}</p>"
    )
    visible = LeaderboardView(rows, view.failures, view.notes, view.references_of(leaderboard.name))
    licences = _licences_html(records.fits, services.catalogue or load_catalogue(None))
    files = _files(visible, trials, snapshot, state)
    return [text, *files, _readable(shown), _mislabelled_html(snapshot, state, services), licences]


def _files(view: LeaderboardView, trials: pd.DataFrame, snapshot: Snapshot, state: State) -> list[str]:
    """Return the paths of the files, in the order of FILES."""
    flat = trials.drop(columns=[c for c in NESTED if c in trials])
    everything = (snapshot.store.uri, snapshot.read_at)
    this_view = (*everything, replace(state, tab="", against="", models=(), columns=(), sort=""))  # what sets its rows
    contents: list[tuple[Hashable, Callable[[], bytes]]] = [
        (this_view, lambda: leaderboard_bytes(view, "csv")),
        (this_view, lambda: leaderboard_bytes(view, "parquet")),
        (everything, lambda: csv_of(flat).encode()),
        (everything, lambda: flat.to_parquet(None, index=False)),
    ]
    names = [f"moodbench-{key.replace('-', '.')}" for key in FILES]
    return [_downloads().path(key, name, content) for (key, content), name in zip(contents, names, strict=True)]


@cache
def _downloads() -> Downloads:
    """Return the downloads of this process."""
    return Downloads(MAX_FILES)


class Downloads:
    """A folder of at most `max_files` files to download, which is removed when the process ends."""

    def __init__(self, max_files: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="moodbench-page-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._max_files, self._lock = max_files, threading.Lock()
        self._paths: OrderedDict[tuple[Hashable, str], Path] = OrderedDict()

    def path(self, key: Hashable, name: str, content: Callable[[], bytes]) -> str:
        """Return the path of the file `name` for `key`, written if it does not exist; the oldest ones are removed."""
        with self._lock:
            path = self._paths.get((key, name))
            if path is None:
                path = self._paths[key, name] = Path(tempfile.mkdtemp(dir=self._folder)) / name
                path.write_bytes(content())
            self._paths.move_to_end((key, name))
            while len(self._paths) > self._max_files:
                shutil.rmtree(self._paths.popitem(last=False)[1].parent, ignore_errors=True)
            return str(path)


def _readable(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the columns to show, with six significant digits; the files have all columns and digits."""
    shown = trials.reindex(columns=RAW_COLUMNS).head(MAX_ROWS)
    floats = shown.select_dtypes("float").columns
    return shown.assign(**{c: shown[c].map(lambda x: float(f"{x:.6g}")) for c in floats})


def _mislabelled_html(snapshot: Snapshot, state: State, services: Services) -> str:
    """Return the test texts of the shown dataset whose label nearly all models contradict."""
    dataset = str(snapshot.dataset_rows(state).iloc[0]["dataset"])
    try:
        by_track = mislabelled(snapshot.store, dataset)
    except MoodBenchError as problem:
        return hint(f"Doubtful labels: {problem}")
    content = ""
    for issues in by_track:
        records = issues.rows.head(MAX_MISLABELLED).to_dict("records")
        texts = [shown_text(record, show_texts=services.show_texts) for record in records]
        rows = [[text, *cells] for text, cells in zip(texts, mislabelled_cells(issues, MAX_MISLABELLED), strict=True)]
        content += table(["Text", *MISLABELLED_HEADINGS], rows, mislabelled_heading(issues), left=3)
    command = with_store("moodbench mislabelled --out FILE", snapshot.store.uri)
    return details(
        "Probably mislabelled test texts", content + legend(f"{MISLABELLED_EXPLAINED} For all of them, run {command}")
    )


def _licences_html(fits: pd.DataFrame, catalogue: Catalogue) -> str:
    rows = []
    for kind, entries in (("model", catalogue.models), ("dataset", catalogue.datasets)):
        for name in sorted(set(fits[kind].dropna())):
            entry = entries.get(name)
            if entry is None:
                rows.append([name, kind, "not in the catalogue: ask its owner", ""])
            else:
                source = getattr(entry, "citation", None) or entry.description
                rows.append([name, kind, str(entry.licence or "not stated"), str(source)])
    licences = table(["Name", "Type", "Licence", "Source"], rows, "Licences", left=4)
    return f"{licences}<h2>How to cite</h2><p>{escape(CITATION)}</p>"


METHOD_TAB = Tab("method", "Method", build_method, render_method)
TAB = Tab("data", "Data", build, render)
