"""The Training tab: which fits there are, how they learned, and what searches tried."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.visualization import figures
from moodbench.visualization.formatting import count, duration, missing, percent
from moodbench.visualization.page import searches
from moodbench.visualization.page.board_table import failures_table
from moodbench.visualization.page.html import empty, scroll, table
from moodbench.visualization.page.reading import Reading
from moodbench.visualization.page.shared import one_track, pinned_rows
from moodbench.visualization.page.tab import Layout, Services, Tab
from moodbench.visualization.state import State


def build(layout: Layout, services: Services) -> None:
    """Nothing; places the tab's parts."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-matrix", elem_classes="mb"))
    gr.HTML("<h2>Training loss</h2>", elem_classes="mb")
    layout.output(gr.Plot(show_label=False, container=False, elem_id="curves"))
    layout.output(gr.HTML(elem_id="mb-fits", elem_classes="mb"))
    searches.build(layout)


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """The matrix of fits, loss curves of the chosen contenders on the data set shown, their fits in a table, and a search.

    Where nothing is evaluated yet, only the search.
    """
    if reading.is_empty:
        nothing = empty(reading.store.uri) + failures_table(reading.results.failures)
        return [nothing, figures.message("Nothing is evaluated yet"), "", *searches.render(reading, state)]
    fits = reading.results.fits
    track = one_track(reading.view(state.weights), state)
    shown = pinned_rows(track, state, 6)
    ids = [i for row in shown["fit_ids"] for i in row]
    learned = fits[fits["fit_id"].isin(ids)].sort_values(["model", "seed"])
    return [
        _matrix(fits, reading.results.failures),
        figures.learning_curves(learned),
        _fits(learned),
        *searches.render(reading, state),
    ]


def _matrix(fits: pd.DataFrame, failures: pd.DataFrame) -> str:
    """A table of models by data sets; a cell names the seeds that are fitted, and those that failed."""
    datasets = sorted({*fits["dataset"].dropna(), *failures["dataset"].dropna()})
    models = sorted({*fits["model"].dropna(), *failures["model"].dropna()})
    failed = failures[failures["phase"] == "fit"]
    head = "".join(f'<th scope="col">{escape(d)}</th>' for d in datasets)
    body = []
    for model in models:
        cells = []
        for dataset in datasets:
            ok = fits[(fits["model"] == model) & (fits["dataset"] == dataset) & (fits["status"] == "ok")]
            bad = failed[(failed["model"] == model) & (failed["dataset"] == dataset)]
            cells.append(f"<td>{_cell(ok, bad)}</td>")
        body.append(f'<tr><th scope="row" class="mb-name">{escape(model)}</th>{"".join(cells)}</tr>')
    caption = (
        "<caption><div><strong>Fits</strong>seeds that are fitted, with their validation F1 in percent</div></caption>"
    )
    made = f'<table>{caption}<thead><tr><th scope="col" class="mb-name">Model</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return scroll(made, "Fits") + failures_table(failed)


def _cell(ok: pd.DataFrame, bad: pd.DataFrame) -> str:
    parts = []
    for num_train, group in ok.groupby("num_train", sort=True):
        seeds = ", ".join(str(s) for s in sorted(set(group["seed"])))
        score = group["validation_f1_macro"].dropna()
        found = f", F1 {percent(score.mean())}" if len(score) else ""
        parts.append(f"{num_train:,.0f} texts: seed{'s' if ',' in seeds else ''} {seeds}{found}")
    text = "<br>".join(escape(p) for p in parts)
    if len(bad):
        seeds = ", ".join(str(s) for s in sorted(set(bad["seed"])))
        text += f'{"<br>" if text else ""}<span class="mb-pill mb-failed">failed: {escape(seeds)}</span>'
    return text or "not run"


def _fits(fits: pd.DataFrame) -> str:
    rows = [
        [
            str(f["model"]), str(f["seed"]), str(f["fit_id"]), duration(f["train_time_s"]), count(f["num_trainable"]),
            "none" if missing(f["best_step"]) else f"{f['best_step']:.0f}", percent(f["validation_f1_macro"]), str(f["devices"]),
        ]
        for _, f in fits.iterrows()
    ]  # fmt: skip
    headings = ["Model", "Seed", "Fit", "Time", "Trained parameters", "Kept step", "Validation F1 %", "Device"]
    return table(headings, rows, "The fits shown")


TAB = Tab("training", "Training", build, render, without_results=lambda reading: bool(reading.results.searches))
