"""The Training tab: the fits, their learning curves, and what searches tried."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import mean
from typing import Any

import pandas as pd

from moodbench.app import searches
from moodbench.app.board_table import failures_table
from moodbench.app.html import empty, scroll, table
from moodbench.app.privacy import Tells
from moodbench.app.shared import one_track, pinned_rows
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report import figures
from moodbench.report.charts import NoData
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.formatting import count, duration, missing, percent

OF_CELL = ("model", "dataset", "num_train", "seed", "validation_f1_macro")


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-matrix", elem_classes="mb"))
    gr.HTML("<h2>Training loss</h2>", elem_classes="mb")
    layout.output(gr.Plot(show_label=False, container=False, elem_id="curves"))
    layout.output(gr.HTML(elem_id="mb-fits", elem_classes="mb"))
    searches.build(layout)


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the matrix of fits, the loss curves and a table of fits of the chosen models, and a search.

    The chosen models are those pinned, on the shown dataset. Where nothing has been evaluated yet, only failures and
    the search are shown.
    """
    tells = reading.tells(show_texts=services.show_texts)
    if reading.is_empty:
        nothing = empty(reading.store.uri) + failures_table(reading.results.records.failures, tells)
        return [nothing, plotly_figure(NoData("Nothing is evaluated yet")), "", *searches.render(reading, state)]
    fits = reading.results.records.fits
    track = one_track(reading.order(state.weights), state)
    shown = pinned_rows(track, state, 6)
    ids = [i for row in shown["fit_ids"] for i in row]
    learned = fits[fits["fit_id"].isin(ids)].sort_values(["model", "seed"])
    return [
        _matrix(fits, reading.results.records.failures, tells),
        plotly_figure(figures.learning_curves(learned)),
        _fits(learned),
        *searches.render(reading, state),
    ]


def _matrix(fits: pd.DataFrame, failures: pd.DataFrame, tells: Tells) -> str:
    """Return a table of models by datasets, with the failures below.

    A cell names the seeds that are fitted, and those that failed.
    """
    datasets = sorted({*fits["dataset"].dropna(), *failures["dataset"].dropna()})
    models = sorted({*fits["model"].dropna(), *failures["model"].dropna()})
    failed = failures[failures["phase"] == "fit"]
    fitted: dict[tuple[str, str], list[tuple[float, int, float | None]]] = {}
    ok = fits[fits["status"] == "ok"]
    for model, dataset, *facts in zip(*(ok[c].tolist() for c in OF_CELL), strict=True):
        fitted.setdefault((model, dataset), []).append(tuple(facts))
    lost: dict[tuple[str, str], list[int]] = {}
    for model, dataset, seed in zip(failed["model"], failed["dataset"], failed["seed"], strict=True):
        lost.setdefault((model, dataset), []).append(seed)
    head = "".join(f'<th scope="col">{escape(d)}</th>' for d in datasets)
    body = []
    for model in models:
        cells = []
        for dataset in datasets:
            cells.append(f"<td>{_cell(fitted.get((model, dataset), []), lost.get((model, dataset), []))}</td>")
        body.append(f'<tr><th scope="row" class="mb-name">{escape(model)}</th>{"".join(cells)}</tr>')
    caption = (
        "<caption><div><strong>Fits</strong>seeds that are fitted, with their validation F1 in percent</div></caption>"
    )
    made = (
        f'<table>{caption}<thead><tr><th scope="col" class="mb-name">Model</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )
    return scroll(made, "Fits") + failures_table(failed, tells)


def _cell(ok: Sequence[tuple[float, int, float | None]], bad: Sequence[int]) -> str:
    """Return the training texts, seeds and validation F1 of a cell's fits, and the seeds that failed, in words."""
    parts = []
    for num_train in sorted({size for size, _, _ in ok}):
        group = [(seed, score) for size, seed, score in ok if size == num_train]
        seeds = ", ".join(str(s) for s in sorted({seed for seed, _ in group}))
        scores = [score for _, score in group if score is not None and not missing(score)]
        found = f", F1 {percent(mean(scores))}" if scores else ""
        parts.append(f"{num_train:,.0f} texts: seed{'s' if ',' in seeds else ''} {seeds}{found}")
    text = "<br>".join(escape(p) for p in parts)
    if bad:
        seeds = ", ".join(str(s) for s in sorted(set(bad)))
        text += f'{"<br>" if text else ""}<span class="mb-pill mb-failed">failed: {escape(seeds)}</span>'
    return text or "not run"


def _fits(fits: pd.DataFrame) -> str:
    rows = [
        [
            str(f["model"]), str(f["seed"]), str(f["fit_id"]), duration(f["train_time_s"]), count(f["num_trainable"]),
            "none" if missing(f["best_step"]) else f"{f['best_step']:.0f}", percent(f["validation_f1_macro"]),
            str(f["devices"]),
        ]
        for _, f in fits.iterrows()
    ]  # fmt: skip
    headings = ["Model", "Seed", "Fit", "Time", "Trained parameters", "Kept step", "Validation F1 %", "Device"]
    return table(headings, rows, "The fits shown")


TAB = Tab("training", "Training", build, render, without_results=lambda reading: bool(reading.shown.searches))
