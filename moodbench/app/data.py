"""The Method and Data tabs: how the results were obtained, raw rows, files to download, licences, and how to cite."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from moodbench import __version__
from moodbench.analysis.mislabelled import mislabelled
from moodbench.analysis.results import Records, Results
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
from moodbench.report.formatting import csv_of, missing, percent
from moodbench.report.leaderboard_view import LeaderboardView
from moodbench.report.tables import MISLABELLED_EXPLAINED, MISLABELLED_HEADINGS, mislabelled_cells, mislabelled_heading
from moodbench.statistics.composite import load_anchors
from moodbench.store.schema import SCHEMA_VERSION

NOT_RECORDED = "not recorded"
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


class Fact(NamedTuple):
    """One sentence and the field it comes from."""

    about: str
    text: str
    source: str


def facts(results: Results) -> list[Fact]:
    """Return all facts in the records on data, training, measurement, statistics and failures, in that order."""
    records = results.records
    ok = records.fits[records.fits["status"] == "ok"]
    failed = f"{len(records.failures)} phases have no record because their last attempt failed"
    return [
        *_data(records, ok),
        *_training(ok),
        *_environment(records.fits["environment"].dropna().map(_json)),
        *_measuring(records.measurements),
        *_statistics(results.entries),
        Fact("Failures", failed, "failures"),
    ]


def _data(records: Records, fits: pd.DataFrame) -> Iterable[Fact]:
    for (dataset, revision), group in fits.groupby(["dataset", "dataset_revision"], dropna=False, sort=True):
        tested = records.evaluations.loc[records.evaluations["dataset"] == dataset, "num_test"].dropna()
        sizes = (
            f"{_range(group['num_train'])} training, {_range(group['num_validation'])} validation, "
            f"{_range(tested)} test texts"
        )
        yield Fact("Data", f"{dataset}: {sizes}; revision {_known(revision)}", "fits.num_train, evaluations.num_test")
        prints = ", ".join(each[:12] for each in sorted(set(group["train_fingerprint"].dropna())))
        text = f"{dataset}: fingerprint of the training texts {_known(prints)}"
        yield Fact("Data", text, "fits.train_fingerprint")


def _training(fits: pd.DataFrame) -> Iterable[Fact]:
    for (model, method), group in fits.groupby(["model", "method"], sort=True):
        first = group.iloc[0]
        parts = [
            f"{part}: " + ", ".join(f"{k} {v}" for k, v in values.items() if not isinstance(v, (dict, list)))
            for part, values in _json(first["hparams"]).items()
            if isinstance(values, dict) and values
        ]
        seeds = ", ".join(str(s) for s in sorted(set(group["seed"])))
        text = f"{model} ({method}), seeds {seeds}: {'; '.join(parts) or 'no hyperparameters'}"
        yield Fact("Training", text, "fits.hparams, fits.seed")
        text = f"{model}: revision {_known(first['model_revision'])}, family {_known(first['family'])}"
        yield Fact("Training", text, "fits.model_revision")


def _environment(environments: Iterable[dict[str, Any]]) -> Iterable[Fact]:
    found, revisions = set(), set()
    for each in environments:
        libraries = ", ".join(f"{name} {version}" for name, version in each.get("libraries", {}).items())
        found.add(f"Python {_known(each.get('python'))} on {_known(each.get('os'))}; {_known(libraries)}")
        revisions.add(_known(each.get("code_revision")))
    for text in sorted(found):
        yield Fact("Environment", text, "fits.environment")
    text = f"moodbench at {_known(', '.join(sorted(revisions)))}; schema {SCHEMA_VERSION}"
    yield Fact("Environment", text, "environment.code_revision")


def _measuring(measurements: pd.DataFrame) -> Iterable[Fact]:
    if measurements.empty:
        yield Fact("Measuring", "Nothing was measured on a machine that is shown.", "measurements")
        return
    for (device, threads), group in measurements.groupby(["device_name", "num_threads"], dropna=False, sort=True):
        number = "?" if missing(threads) else f"{threads:.0f}"
        text = f"{len(group)} measurements on {_known(device)} with {number} threads"
        yield Fact("Measuring", text, "measurements.device_name")
    for protocol, group in measurements.groupby("protocol", dropna=False):
        p = _json(protocol)
        text = (
            f"{p.get('processes')} fresh processes of {p.get('requests')} requests each, one text at a time, after "
            f"{p.get('warmup_s')} s of warm-up; batches of {', '.join(map(str, p.get('batch_sizes', [])))} texts; "
            f"windows of {p.get('window_requests')} requests are judged by the time threads waited for a CPU "
            f"({len(group)} measurements{', quick' if p.get('quick') else ''})"
            if p
            else f"protocol {NOT_RECORDED} ({len(group)} measurements)"
        )
        yield Fact("Measuring", text, "measurements.protocol")
    verdicts = measurements["verdict"].fillna(NOT_RECORDED).value_counts()
    yield Fact("Measuring", ", ".join(f"{n} {v}" for v, n in verdicts.items()), "measurements.verdict")
    clean = measurements["clean_share"].dropna()
    if len(clean):
        text = f"{percent(clean.median())} % of the windows were undisturbed (median)"
        yield Fact("Measuring", text, "measurements.clean_share")


def _statistics(entries: pd.DataFrame) -> Iterable[Fact]:
    for (method, estimand), group in entries.groupby(["interval_method", "estimand"]):
        about = "these weights on new texts" if estimand == "checkpoint" else "the recipe trained again, on new texts"
        text = f"95 % intervals of accuracy by {method}, about {about} ({len(group)} rows)"
        yield Fact("Statistics", text, "derived from predictions")
    anchors = load_anchors()
    yield Fact(
        "Statistics",
        f"score: anchors version {anchors.version}, zero at {anchors.baseline}; throughput "
        f"{anchors.throughput_texts_per_s.worst:g} to {anchors.throughput_texts_per_s.best:g} texts/s, latency "
        f"{1e3 * anchors.latency_p50_s.worst:g} to {1e3 * anchors.latency_p50_s.best:g} ms, both logarithmic",
        "statistics/anchors.toml",
    )


def _json(text: Any) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _known(value: Any) -> str:
    return NOT_RECORDED if missing(value) or value == "" else str(value)


def _range(values: pd.Series[Any]) -> str:
    known = values.dropna()
    if known.empty:
        return NOT_RECORDED
    low, high = int(known.min()), int(known.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


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
