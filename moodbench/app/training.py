"""The Training tab: the fits, their learning curves, and what searches tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.app.html import Html, empty, legend, table
from moodbench.app.privacy import MessageFilter, failures_table
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Choices, Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report import figures
from moodbench.report.charts import NoData
from moodbench.report.formatting import count, duration, missing, percent
from moodbench.report.search import FIGURES, TITLES, search_sentences, trial_table
from moodbench.tune.result import SearchResult

MAX_SHOWN = 6


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab; those of searches are hidden until there is one."""
    import gradio as gr

    layout.html("mb-matrix")
    layout.plot("curves", "Training loss")
    layout.html("mb-fits")
    with layout.output(gr.Column(visible=False, elem_id="mb-searches")):
        gr.HTML("<h2>Searches</h2>", elem_classes="mb")
        dropdown = gr.Dropdown([], label="Search: model, dataset, space, id", elem_id="tuning")
        layout.control("tuning", dropdown, choices=search_choices)
        layout.html("mb-search")
        for key, title in TITLES.items():
            layout.plot(f"search-{key}", title, level=3)


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the matrix of fits, the loss curves and a table of fits of the chosen models, and a search.

    The chosen models are those pinned, on the shown dataset. Where nothing has been evaluated yet, only failures and
    the search are shown.
    """
    may_show = snapshot.message_filter(show_texts=services.show_texts)
    fits, failures = snapshot.results.records.fits, snapshot.results.records.failures
    if snapshot.is_empty:
        nothing = empty(snapshot.store.uri) + failures_table(failures, may_show)
        return [nothing, NoData("Nothing has been evaluated yet"), "", *render_search(snapshot, state)]
    rows = snapshot.pinned_rows(state, MAX_SHOWN)
    ids = [i for each in rows["fit_ids"] for i in each]
    shown = fits[fits["fit_id"].isin(ids)].sort_values(["model", "seed"])
    matrix = _matrix(fits, failures, may_show)
    table_html = legend(snapshot.dataset_note(state)) + _fits_table(shown, str(rows.iloc[0]["track"]))
    return [matrix, figures.learning_curves(shown), table_html, *render_search(snapshot, state)]


def _matrix(fits: pd.DataFrame, failures: pd.DataFrame, may_show: MessageFilter) -> str:
    """Return a table of models by datasets, with the failures below.

    A cell names the seeds that are fitted, and those that failed.
    """
    datasets = sorted({*fits["dataset"].dropna(), *failures["dataset"].dropna()})
    models = sorted({*fits["model"].dropna(), *failures["model"].dropna()})
    failed = failures[failures["phase"] == "fit"]
    lines: dict[tuple[Any, Any], list[str]] = defaultdict(list)
    by = ["model", "dataset", "num_train"]
    for (model, dataset, num_train), group in fits[fits["status"] == "ok"].groupby(by, dropna=False):
        scores = group["validation_f1_macro"].dropna()
        f1 = f", F1 {percent(scores.mean())}" if len(scores) else ""
        seeds = _listed(group["seed"])
        lines[model, dataset].append(f"{num_train:,.0f} texts: seed{'s' if ',' in seeds else ''} {seeds}{f1}")
    for (model, dataset), seeds_of in failed.groupby(by[:2])["seed"]:
        lines[model, dataset].append(f'<span class="mb-pill mb-failed">failed: {_listed(seeds_of)}</span>')
    rows = [[model, *(Html("<br>".join(lines[model, each]) or "not run") for each in datasets)] for model in models]
    subtitle = "seeds that are fitted, with their validation F1 in percent"
    return table(["Model", *datasets], rows, "Fits", subtitle=subtitle) + failures_table(failed, may_show)


def _listed(seeds: Iterable[int]) -> str:
    return escape(", ".join(str(seed) for seed in sorted(set(seeds))))


def _fits_table(fits: pd.DataFrame, track: str) -> str:
    rows = [
        [
            str(f["model"]), str(f["seed"]), str(f["fit_id"]), duration(f["train_time_s"]), count(f["num_trainable"]),
            "none" if missing(f["best_step"]) else f"{f['best_step']:.0f}", percent(f["validation_f1_macro"]),
            str(f["devices"]),
        ]
        for _, f in fits.iterrows()
    ]  # fmt: skip
    headings = ["Model", "Seed", "Fit", "Time", "Trained parameters", "Best step", "Validation F1 %", "Device"]
    return table(headings, rows, f"Fits of the models shown, on {track}")


def search_choices(snapshot: Snapshot) -> Choices:
    """Return the title and the id of each search; the id of the first is empty, because it is the default."""
    return [(each.title, each.search_id if number else "") for number, each in enumerate(snapshot.shown.searches)]


def render_search(snapshot: Snapshot, state: State) -> list[Any]:
    """Return whether searches are visible, the summary of the chosen one (else the first), and its figures."""
    import gradio as gr

    searches = snapshot.shown.searches
    if not searches:
        return [gr.Column(visible=False), "", *[NoData("No search")] * len(TITLES)]
    search = next((each for each in searches if each.search_id == state.tuning), searches[0])
    return [gr.Column(visible=True), search_summary(search), *(FIGURES[key](search) for key in TITLES)]


def search_summary(search: SearchResult) -> str:
    """Return the cost and findings of a search, and every configuration that it tried, as HTML."""
    sentences = "".join(f"<p>{escape(line)}</p>" for line in search_sentences(search))
    headings, rows = trial_table(search)
    return sentences + table(headings, rows, f"Configurations of {search.title}")


TAB = Tab("training", "Training", build, render, shows_when_empty=lambda snapshot: bool(snapshot.shown.searches))
