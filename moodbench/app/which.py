"""The Which model? tab: a pick within given limits, with the reason and the command to use it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis.recommend import Limits, Recommendation, recommend, ties
from moodbench.app.html import card, table, with_store
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State, chosen_track
from moodbench.app.why_missing import why_missing
from moodbench.report.formatting import (
    MARKS,
    MISSING,
    marked,
    marks,
    mebibytes,
    milliseconds,
    percent,
    three_digits,
)
from moodbench.report.tables import cost_words, miss_words, reason
from moodbench.statistics.overall import OVERALL

SHOWN = (
    ("Accuracy % [95 %]", "accuracy"), ("P50 ms", "latency_p50_s"), ("P99 ms, upper end", "latency_p99_s"),
    ("Texts/s", "throughput_texts_per_s"), ("RAM MiB", "memory_peak_batch1_bytes"),
)  # fmt: skip
"""Headings of the pick's table, with the leaderboard columns that they show."""
EXPORTED_METHODS = ("lora", "qlora", "full")


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    with gr.Row():
        for name, label, info, elem in (
            ("max_p99_ms", "Time to label, ms at most", "for 99 of 100 texts; empty: no limit", "limit-p99"),
            ("max_memory_mib", "Memory, MiB at most", "of the whole process; empty: no limit", "limit-memory"),
            (
                "min_accuracy_percent",
                "Accuracy, % at least",
                "lower end of its interval; empty: no limit",
                "limit-accuracy",
            ),
        ):
            layout.control(
                name, gr.Number(None, label=label, info=info, elem_id=elem, minimum=0, min_width=180), "change"
            )
    layout.output(gr.HTML(elem_id="mb-pick", elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the card with the choice, and a table of the pick and the runner-up."""
    view = reading.order(state.weights)
    name = chosen_track(view.tracks, state)
    rows = view.track(name)
    limits = Limits(
        None if state.max_p99_ms is None else state.max_p99_ms / 1e3,
        None if state.max_memory_mib is None else state.max_memory_mib * 2**20,
        None if state.min_accuracy_percent is None else state.min_accuracy_percent / 100,
    )
    bootstrap = reading.results.computed.draws_of(name)
    found = recommend(rows, limits, ties(rows, bootstrap))
    device = next((d for d in rows["device_name"] if isinstance(d, str)), None)
    where = (
        f"Measured on {device}; another machine needs its own measurement." if device else "Nothing was measured here."
    )
    how = "by overlap of intervals" if bootstrap is None else "in pairs, on the same texts"
    over = " over all datasets" if (rows["dataset"] == OVERALL).all() else ""
    note = f'<p class="mb-note">{escape(where)} Accuracies are compared{over} {how}.</p>'
    return [_card(found, view.failures, reading) + note]


def _card(found: Recommendation, failures: pd.DataFrame, reading: Reading) -> str:
    if found.pick is None:
        misses = "; ".join(miss_words(miss) for miss in found.misses)
        nearest = (
            ""
            if found.nearest is None
            else f"<p>Nearest: <strong>{escape(found.nearest['name'])}</strong>: {escape(misses)}.</p>"
        )
        return card(f"<h3>{escape(reason(found))}</h3>{nearest}", "warning")
    costs = "".join(f"<li>{escape(cost_words(cost))}</li>" for cost in found.costs)
    body = (
        f"<p>Use</p><h3>{escape(found.pick['name'])}</h3><p>{escape(_facts(found.pick))}</p><p>{escape(reason(found))} "
        f"{found.num_fitting} of {found.num_rows} entries are within the limits.</p>"
        + (f"<p>What the limits cost:</p><ul class='mb-list'>{costs}</ul>" if costs else "")
        + f"<p><code>{escape(use_command(found.pick, reading))}</code>{escape(_fitted_on(found.pick, reading))}</p>"
    )
    shown = [row for row in (found.pick, found.runner_up) if row is not None]
    cells = [[role, marked(row), *_cells(row)] for role, row in zip(("pick", "runner-up"), shown, strict=False)]
    headings = ["", "Model", *(heading for heading, _ in SHOWN)]
    reasons = [
        f"{heading} of {row['name']}: {why_missing(key, row, failures)}"
        for row in shown
        for (heading, key), cell in zip(SHOWN, _cells(row), strict=True)
        if cell == MISSING
    ]
    why = f'<p class="mb-legend">{MISSING} {escape("; ".join(reasons))}.</p>' if reasons else ""
    return card(body, "good") + table(headings, cells, "Pick and runner-up", left=2) + why


def _cells(row: pd.Series[Any]) -> list[str]:
    interval = f"{percent(row['accuracy'])} [{percent(row['accuracy_low'])}, {percent(row['accuracy_high'])}]"
    worst = row["latency_p99_high_s"] if pd.notna(row["latency_p99_high_s"]) else row["latency_p99_s"]
    return [
        interval, milliseconds(row["latency_p50_s"]), milliseconds(worst), three_digits(row["throughput_texts_per_s"]),
        mebibytes(row["memory_peak_batch1_bytes"]),
    ]  # fmt: skip


def _facts(row: pd.Series[Any]) -> str:
    interval, p50, worst, _, memory = _cells(row)
    known = [f"accuracy {interval} %"]
    known += [f"half of the texts in {p50} ms"] if p50 != MISSING else []
    known += [f"99 of 100 within {worst} ms"] if worst != MISSING else []
    known += [f"{memory} MiB"] if memory != MISSING else []
    return " · ".join(known) + "".join(f" · {mark}: {MARKS[mark]}" for mark in marks(row))


def use_command(row: pd.Series[Any], reading: Reading) -> str:
    """Return the command to use the model of a row: an export to a transformers folder where that is possible."""
    ids = _row_of_fit(row, reading).get("fit_ids")
    which = ids[0] if isinstance(ids, list) and ids else row["model"]
    fits = reading.results.records.fits
    own = fits[fits["fit_id"] == which] if which in set(fits["fit_id"]) else fits[fits["model"] == which]
    if row["method"] in EXPORTED_METHODS and not any(_prepares(spec) for spec in own["spec"]):
        return with_store(f"moodbench export-model {which} my-{row['model']}", reading.store.uri)
    return with_store(f"moodbench predict --model {which} --input reviews.csv --output labels.csv", reading.store.uri)


def _row_of_fit(row: pd.Series[Any], reading: Reading) -> pd.Series[Any]:
    """Return the row whose fit represents the model: `row`, or the row of the first dataset if `row` is over all."""
    if row["dataset"] != OVERALL:
        return row
    entries, covered = reading.results.entries, reading.results.computed.covered
    own = entries[(entries["name"] == row["name"]) & entries["track"].isin(covered)]
    return row if own.empty else own.iloc[0]


def _fitted_on(row: pd.Series[Any], reading: Reading) -> str:
    """Return the dataset that the fit of the command was trained on, where the row is over several; else empty."""
    one = _row_of_fit(row, reading)
    return "" if one["dataset"] == row["dataset"] else f" (its fit on {one['dataset']})"


def _prepares(spec: Any) -> bool:
    """Return whether the fit of `spec` prepares its texts, which an exported folder would not do."""
    return isinstance(spec, str) and bool(json.loads(spec).get("preparation"))


TAB = Tab("which", "Which model?", build, render)
