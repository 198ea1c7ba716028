"""The Leaderboard tab: the answer, the weights, the table, the trade-off, and scores by dataset."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import MEASURED
from moodbench.app.board_table import board_table, columns_html, failures_table
from moodbench.app.html import hint, not_shown
from moodbench.app.script import TABLE_JS
from moodbench.app.snapshot import Reading
from moodbench.app.tab import QUIET, Layout, Services, Tab
from moodbench.app.url_state import PRESETS, State, chosen_track, visible
from moodbench.app.why_missing import why_missing
from moodbench.report import figures
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.formatting import MARKS, MORE_COLUMNS, columns_with, missing
from moodbench.report.leaderboard_view import LeaderboardView, answer
from moodbench.statistics.composite import COMPOSITES, CRITERIA
from moodbench.statistics.overall import OVERALL

SIZES = [("any size", 0.0), *((f"up to {n} million parameters", float(n)) for n in (1, 10, 25, 50, 100, 200, 500))]
WEIGHT_LABELS = {"accuracy": "Accuracy", "f1": "Macro F1", "throughput": "Throughput", "latency": "Latency"}


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-answer", apply_default_css=False))
    with gr.Row(elem_id="mb-presets"):
        buttons = {
            name: gr.Button(name, size="sm", min_width=90, elem_id=f"preset-{i}") for i, name in enumerate(PRESETS)
        }
    with gr.Accordion("What matters to you? Weights rank the table again", open=False, elem_id="mb-weights"), gr.Row():
        sliders = [
            layout.control(
                name,
                gr.Slider(
                    0, 100, value=PRESETS["Balanced"][i], step=5, label=f"{WEIGHT_LABELS[name]} weight",
                    elem_id=f"w-{name}", min_width=170, buttons=[],
                ),
                "input",
                weighs=True,
            )
            for i, name in enumerate(CRITERIA)
        ]  # fmt: skip
        layout.control(
            "composite",
            gr.Dropdown(list(COMPOSITES), value="pinned", label="Score", elem_id="composite", min_width=140),
            "input",
            weighs=True,
        )
    for name, button in buttons.items():
        layout.after(button.click(partial(list, PRESETS[name]), None, sliders, **QUIET))
    with gr.Row():
        search = gr.Textbox(
            label="Search", placeholder="name, family or method; separate with ;", elem_id="search", min_width=200
        )
        layout.control("search", search, "change")
    with gr.Accordion("Filters and columns", open=False, elem_id="mb-filters"), gr.Row():
        methods = gr.CheckboxGroup([], label="Methods", elem_id="methods", min_width=200)
        layout.control("methods", methods, "input", _methods)
        sizes = gr.Dropdown(SIZES, value=0.0, label="Size", elem_id="max-params", min_width=160)
        layout.control("max_params", sizes, "input", SIZES, blank=0.0)
        extra = [(f"{c.heading}: {c.help}", c.key) for c in MORE_COLUMNS]
        more = gr.CheckboxGroup(extra, label="More columns", elem_id="columns", min_width=200)
        layout.control("columns", more, "input", extra)
    layout.output(gr.HTML(elem_id="mb-board", js_on_load=TABLE_JS, apply_default_css=False, elem_classes="mb"))
    gr.HTML("<h2>What does accuracy cost?</h2>", elem_classes="mb")
    axes = [(cost.title, column) for column, cost in figures.COSTS.items()]
    layout.control(
        "against",
        gr.Dropdown(axes, value="latency_p50_s", label="Horizontal axis", elem_id="against"),
        "input",
        axes,
    )
    layout.output(gr.Plot(show_label=False, container=False, elem_id="trade-off"))
    layout.output(gr.HTML(elem_id="mb-trade-off-words", elem_classes="mb"))
    gr.HTML("<h2>F1 by dataset</h2>", elem_classes="mb")
    layout.output(gr.Plot(show_label=False, container=False, elem_id="by-dataset"))
    layout.output(gr.HTML(elem_id="mb-by-dataset-words", elem_classes="mb"))
    layout.output(gr.HTML(elem_id="mb-notes", elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the answer, the table, the two figures, each with its caption, and the notes."""
    answered, table, notes, rows, view = _ranked(reading, state, services)
    cost = state.against if state.against in figures.COSTS else "latency_p50_s"
    each = view.rows[view.rows["dataset"] != OVERALL]
    names = _by_f1(each, list(rows["name"]))
    by_dataset = plotly_figure(figures.f1_by_dataset(each[each["name"].isin(names)]))
    lacking = not_shown(_without_f1(each, names))
    words = _frontier_words(rows, cost) + _without_trade_off(rows, cost, view.failures)
    return answered, table, plotly_figure(figures.trade_off(rows, cost)), words, by_dataset, lacking, notes


def rerank(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return what depends on the weights, and None for the figures and their captions, which do not."""
    answered, table, notes, *_ = _ranked(reading, state, services)
    return answered, table, None, None, None, None, notes


def _ranked(reading: Reading, state: State, services: Services) -> tuple[str, str, str, pd.DataFrame, LeaderboardView]:
    """Return the answer, the table, the notes, the visible rows, and the view that they belong to."""
    name = chosen_track(reading.tracks, state)
    view = reading.view(state.weights, state.composite, ranked_track=name)
    columns = columns_with(state.columns)
    track = view.track(name)
    rows = visible(track, state, reading.families)
    counted = f"{len(rows)} of {len(track)} entries shown" if len(rows) < len(track) else f"{len(track)} entries"
    sentence = (
        f'<p class="mb-answer" role="status"><b>{escape(answer(track))}</b> <span>{escape(name)} · {counted}</span></p>'
    )
    if rows.empty:
        table = hint("No entry matches. Clear the search or widen the filters.")
    else:
        table = board_table(rows, track, view.failures, state.models, view.references_of(name), columns, reading.cells)
    notes = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    failed = failures_table(view.failures, reading.tells(show_texts=services.show_texts))
    below = f'<ul class="mb-notes" aria-label="Notes">{notes}</ul>{columns_html(columns)}{failed}'
    return sentence, table, below, rows, view


def _frontier_words(rows: Any, cost: str) -> str:
    """Return the frontier in words, for readers who cannot see the figure."""
    axis = figures.COSTS[cost]
    known = figures.with_trade_off(rows, cost)
    on = figures.frontier(known[cost], known["accuracy"], less_is_better=axis.better == "left")
    names = ", ".join(known[on].sort_values(cost)["name"])
    return (
        '<p class="mb-legend">Whiskers: 95 % interval. Marker area: memory. Open marker: provisional. '
        "On the frontier, where none is both more accurate and better on the horizontal axis: "
        f"{escape(names) or 'none'}.</p>"
    )


def _without_trade_off(rows: pd.DataFrame, cost: str, failures: pd.DataFrame) -> str:
    """Return the models missing from the trade-off figure, and why."""
    shown = set(figures.with_trade_off(rows, cost)["name"])
    reasons = {}
    for _, row in rows[~rows["name"].isin(shown)].iterrows():
        if row.get("on_all") == False:  # noqa: E712 - a missing value is a row of one dataset
            reason = "not run on all of these datasets"
        elif row["verdict"] == "invalid" and cost in MEASURED:
            reason = MARKS["invalid"]
        else:
            reason = why_missing("accuracy" if missing(row["accuracy"]) else cost, row, failures)
        reasons[str(row["name"])] = reason
    return not_shown(reasons)


def _by_f1(board: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return `names` by mean F1 over the datasets they have, best first; the order is independent of the weights."""
    means = board[board["name"].isin(names)].groupby("name")["f1_macro"].mean()
    return [str(name) for name in means.sort_values(ascending=False, kind="stable").index]


def _without_f1(board: pd.DataFrame, names: Sequence[str]) -> dict[str, str]:
    """Return the models without an F1 on some dataset, and on which datasets."""
    known = board[board["f1_macro"].notna()].groupby("name")["track"].agg(set)
    tracks = sorted(set(board["track"]))
    lacking = {name: [t for t in tracks if t not in known.get(name, set())] for name in names}
    return {name: f"not evaluated on {', '.join(absent)}" for name, absent in lacking.items() if absent}


def _methods(reading: Reading) -> list[tuple[str, str]]:
    return [] if reading.is_empty else [(m, m) for m in sorted(set(reading.results.entries["method"]))]


TAB = Tab("leaderboard", "Leaderboard", build, render, rerank=rerank)
