"""The Leaderboard tab: the answer, the weights, the table, the trade-off, and scores by dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import MEASURED
from moodbench.app.html import asset, details, hint, legend, not_shown
from moodbench.app.leaderboard_table import leaderboard_table, missing_reason
from moodbench.app.privacy import failures_table
from moodbench.app.snapshot import Shown, Snapshot
from moodbench.app.tab import LISTENER, Choices, Layout, Services, Tab
from moodbench.app.url_state import DEFAULT, MAX_TEXT, PRESETS, State
from moodbench.report import figures
from moodbench.report.formatting import COLUMNS, MARKS, MORE_COLUMNS, Column, columns_with, missing
from moodbench.report.leaderboard_view import answer
from moodbench.statistics.composite import COMPOSITES, CRITERIA
from moodbench.statistics.overall import OVERALL

SIZES = [("any size", 0.0), *((f"up to {n} million parameters", float(n)) for n in (1, 10, 25, 50, 100, 200, 500))]
WEIGHT_LABELS = {"accuracy": "Accuracy", "f1": "Macro F1", "throughput": "Throughput", "latency": "Latency"}


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.html("mb-answer", apply_default_css=False)
    _build_weights(layout)
    with gr.Row():
        placeholder = "name, family or method; separate several with ;"
        search = gr.Textbox(
            label="Search", placeholder=placeholder, elem_id="search", min_width=200, max_length=MAX_TEXT
        )
        layout.control("search", search, "change")
    with gr.Accordion("Filters and columns", open=False, elem_id="mb-filters"), gr.Row():
        methods = gr.CheckboxGroup([], label="Methods", elem_id="methods", min_width=200)
        layout.control("methods", methods, choices=_methods)
        sizes = gr.Dropdown(SIZES, value=0.0, label="Size", elem_id="max-params", min_width=160)
        layout.control("max_params", sizes, choices=SIZES, blank=0.0)
        extra = [(f"{c.heading}: {c.help}", c.key) for c in MORE_COLUMNS]
        more = gr.CheckboxGroup(extra, label="More columns", elem_id="columns", min_width=200)
        layout.control("columns", more, choices=extra)
    layout.html("mb-leaderboard", js_on_load=asset("table.js"), apply_default_css=False)
    gr.HTML("<h2>What does accuracy cost?</h2>", elem_classes="mb")
    axes = [(cost.title, column) for column, cost in figures.COSTS.items()]
    against = gr.Dropdown(axes, value=DEFAULT.against, label="Horizontal axis", elem_id="against")
    layout.control("against", against, choices=axes)
    layout.plot("trade-off")
    layout.html("mb-trade-off-legend")
    layout.plot("by-dataset", "F1 by dataset")
    layout.html("mb-by-dataset-legend")
    layout.html("mb-notes")


def _build_weights(layout: Layout) -> None:
    """Create the presets and the controls that only rank the table again."""
    import gradio as gr

    with gr.Row(elem_id="mb-presets"):
        presets = {
            name: gr.Button(name, size="sm", min_width=90, elem_id=f"preset-{i}") for i, name in enumerate(PRESETS)
        }
    with gr.Accordion("What matters to you? Set your own weights", open=False, elem_id="mb-weights"), gr.Row():
        sliders = []
        for name in CRITERIA:
            slider = gr.Slider(
                0, 100, value=getattr(DEFAULT, name), step=5, label=f"{WEIGHT_LABELS[name]} weight",
                elem_id=f"w-{name}", min_width=170, buttons=[],
            )  # fmt: skip
            sliders.append(layout.control(name, slider, only_reranks=True))
        composite = gr.Dropdown(
            list(COMPOSITES), value=DEFAULT.composite, label="Score", elem_id="composite", min_width=140
        )
        layout.control("composite", composite, only_reranks=True)
    for name, button in presets.items():
        layout.weight_setters.append(button.click(partial(list, PRESETS[name]), None, sliders, **LISTENER))


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the answer, the table, the two figures, each with its legend, and the notes."""
    shown = snapshot.leaderboard(state)
    sentence, table, notes = _ranked(shown, snapshot, state, services)
    cost = state.against if state.against in figures.COSTS else DEFAULT.against
    rows = shown.view.rows
    by_dataset = rows[rows["dataset"] != OVERALL]
    absent = _without_trade_off(shown.rows, cost, shown.view.failures)
    return [
        sentence,
        table,
        figures.trade_off(shown.rows, cost),
        _frontier_legend(shown.rows, cost) + not_shown(absent),
        figures.f1_by_dataset(by_dataset[by_dataset["name"].isin(shown.rows["name"])]),
        not_shown(_without_f1(by_dataset, shown.rows["name"])),
        notes,
    ]


def rerank(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return what depends on the weights, and None for the figures and their legends, which do not."""
    sentence, table, notes = _ranked(snapshot.leaderboard(state), snapshot, state, services)
    return sentence, table, None, None, None, None, notes


def _ranked(shown: Shown, snapshot: Snapshot, state: State, services: Services) -> tuple[str, str, str]:
    view, columns = shown.view, columns_with(state.columns)
    num_rows, num_shown = len(shown.track), len(shown.rows)
    count = f"{num_shown} of {num_rows} entries shown" if num_shown < num_rows else f"{num_rows} entries"
    about = f"<span>{escape(shown.name)} · {count}</span>"
    sentence = f'<p class="mb-answer" role="status"><b>{escape(answer(shown.track))}</b> {about}</p>'
    table = hint("No entry matches. Clear the search or widen the filters.")
    if num_shown:
        table = leaderboard_table(
            shown.rows, shown.track, view.failures, pinned=state.models, references=view.references_of(shown.name),
            columns=columns, cache=snapshot.cells,
        )  # fmt: skip
    notes = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    failed = failures_table(view.failures, snapshot.message_filter(show_texts=services.show_texts))
    return sentence, table, f'<ul class="mb-notes" aria-label="Notes">{notes}</ul>{columns_html(columns)}{failed}'


def columns_html(columns: Sequence[Column] = COLUMNS) -> str:
    """Return the description of each column, folded."""
    entries = "".join(f"<dt>{escape(c.heading)}</dt><dd>{escape(c.help)}</dd>" for c in columns)
    return details("What the columns mean", f"<dl>{entries}</dl>")


def _frontier_legend(rows: pd.DataFrame, cost: str) -> str:
    """Return the frontier as text, for readers who cannot see the figure."""
    axis = figures.COSTS[cost]
    known = figures.with_trade_off(rows, cost)
    on = figures.frontier(known[cost], known["accuracy"], less_is_better=axis.better == "left")
    names = ", ".join(known[on].sort_values(cost)["name"])
    return legend(
        "Whiskers: 95 % interval. Marker area: memory. Open marker: provisional. Pareto frontier (no other entry is "
        f"both more accurate and better on the horizontal axis): {names or 'none'}."
    )


def _without_trade_off(rows: pd.DataFrame, cost: str, failures: pd.DataFrame) -> dict[str, str]:
    """Return the models missing from the trade-off figure, and why."""
    shown = set(figures.with_trade_off(rows, cost)["name"])
    reasons = {}
    for _, row in rows[~rows["name"].isin(shown)].iterrows():
        if row.get("on_all") == False:  # noqa: E712 - a missing value is a row of one dataset
            reason = "not run on all of these datasets"
        elif row["verdict"] == "invalid" and cost in MEASURED:
            reason = MARKS["invalid"]
        else:
            reason = missing_reason("accuracy" if missing(row["accuracy"]) else cost, row, failures)
        reasons[str(row["name"])] = reason
    return reasons


def _without_f1(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, str]:
    """Return those of `names` without an F1 on some dataset, and on which datasets."""
    known = rows[rows["f1_macro"].notna()].groupby("name")["track"].agg(set)
    tracks = set(rows["track"])
    absent = {name: sorted(tracks - known.get(name, set())) for name in sorted(names)}
    return {name: f"not evaluated on {', '.join(missed)}" for name, missed in absent.items() if missed}


def _methods(snapshot: Snapshot) -> Choices:
    return [] if snapshot.is_empty else [(m, m) for m in sorted(set(snapshot.results.entries["method"]))]


TAB = Tab("leaderboard", "Leaderboard", build, render, rerank=rerank)
