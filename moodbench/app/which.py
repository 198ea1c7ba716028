"""The Which model? tab: a recommendation within given limits, with the reason and the command to use it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from moodbench.analysis.recommend import Limits, Recommendation, recommend, ties
from moodbench.app.html import card, error, legend, table, with_store
from moodbench.app.leaderboard_table import missing_reason
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report.formatting import MARKS, MISSING, marked, marks, mebibytes, milliseconds, percent, three_digits
from moodbench.report.tables import cost_text, miss_text, reason
from moodbench.statistics.overall import OVERALL

SHOWN = {
    "Accuracy % [95 %]": "accuracy",
    "P50 ms": "latency_p50_s",
    "P99 ms, upper end": "latency_p99_s",
    "Texts/s": "throughput_texts_per_s",
    "RAM MiB": "memory_peak_batch1_bytes",
}
"""Heading in the table of the pick to the leaderboard column that it shows."""


class LimitField(NamedTuple):
    """A limit that a visitor may set."""

    label: str
    info: str
    elem_id: str
    allowed: str
    """The values that make sense, in words."""
    in_range: Callable[[float], bool]


POSITIVE = ("a number above 0", lambda value: value > 0)
LIMITS = {
    "max_p99_ms": LimitField("Maximum latency, ms", "for 99 of 100 texts; empty: no limit", "limit-p99", *POSITIVE),
    "max_memory_mib": LimitField(
        "Maximum memory, MiB", "of the whole process; empty: no limit", "limit-memory", *POSITIVE
    ),
    "min_accuracy_percent": LimitField(
        "Minimum accuracy, %", "lower end of its interval; empty: no limit", "limit-accuracy", "a number from 0 to 100",
        lambda value: 0 <= value <= 100,
    ),
}  # fmt: skip
"""Field of State to the limit that it holds."""
EXPORTED_METHODS = ("lora", "qlora", "full")


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    with gr.Row():
        for name, limit in LIMITS.items():
            # Gradio answers a value outside of its own bounds with an HTTP error, so that the tab checks it.
            number = gr.Number(None, label=limit.label, info=limit.info, elem_id=limit.elem_id, min_width=180)
            layout.control(name, number, "change")
    layout.html("mb-pick")


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the card with the choice, and a table of the pick and the runner-up.

    Where a limit is out of range, return what is allowed.
    """
    refused = refused_limits(state)
    if refused:
        return ["".join(error(each) for each in refused)]
    rows = snapshot.track_rows(state)
    limits = Limits(
        None if state.max_p99_ms is None else state.max_p99_ms / 1e3,
        None if state.max_memory_mib is None else state.max_memory_mib * 2**20,
        None if state.min_accuracy_percent is None else state.min_accuracy_percent / 100,
    )
    draws = snapshot.results.computed.draws_of(snapshot.chosen_track(state))
    found = recommend(rows, limits, ties(rows, draws))
    device = next((d for d in rows["device_name"] if isinstance(d, str)), None)
    machine = (
        f"Measured on {device}; on another machine, measure there first." if device else "Nothing was measured here."
    )
    method = "overlap of intervals" if draws is None else "paired differences on the same texts"
    scope = " over all datasets" if (rows["dataset"] == OVERALL).all() else ""
    note = f'<p class="mb-note">{escape(machine)} Accuracies are compared{scope} by {method}.</p>'
    card_html = _no_pick_html(found) if found.pick is None else _pick_html(found, found.pick, snapshot)
    return [card_html + note]


def refused_limits(state: State) -> list[str]:
    """Return a message for each limit that is out of range."""
    values = {name: getattr(state, name) for name in LIMITS}
    return [
        f"{LIMITS[name].label}: {value:g}; allowed is {LIMITS[name].allowed}, or nothing for no limit."
        for name, value in values.items()
        if value is not None and not LIMITS[name].in_range(value)
    ]


def _no_pick_html(found: Recommendation) -> str:
    nearest = ""
    if found.nearest is not None:
        misses = "; ".join(miss_text(miss) for miss in found.misses)
        nearest = f"<p>Nearest: <strong>{escape(found.nearest['name'])}</strong>: {escape(misses)}.</p>"
    return card(f"<h3>{escape(reason(found))}</h3>{nearest}", "warning")


def _pick_html(found: Recommendation, pick: pd.Series[Any], snapshot: Snapshot) -> str:
    costs = "".join(f"<li>{escape(cost_text(cost))}</li>" for cost in found.costs)
    body = (
        f"<p>Use</p><h3>{escape(pick['name'])}</h3><p>{escape(_summary(pick))}</p><p>{escape(reason(found))} "
        f"{found.num_fitting} of {found.num_rows} entries are within the limits.</p>"
        + (f"<p>What the limits cost:</p><ul class='mb-list'>{costs}</ul>" if costs else "")
        + f"<p><code>{escape(use_command(pick, snapshot))}</code>{escape(_fitted_on(pick, snapshot))}</p>"
    )
    shown = {"pick": pick} if found.runner_up is None else {"pick": pick, "runner-up": found.runner_up}
    cells = [[role, marked(row), *_cells(row)] for role, row in shown.items()]
    reasons = "; ".join(
        f"{heading} of {row['name']}: {missing_reason(column, row, snapshot.results.records.failures)}"
        for row in shown.values()
        for (heading, column), cell in zip(SHOWN.items(), _cells(row), strict=True)
        if cell == MISSING
    )
    compared = table(["", "Model", *SHOWN], cells, "Pick and runner-up", left=2)
    return card(body, "good") + compared + legend(f"{MISSING} {reasons}." if reasons else "")


def _cells(row: pd.Series[Any]) -> list[str]:
    interval = f"{percent(row['accuracy'])} [{percent(row['accuracy_low'])}, {percent(row['accuracy_high'])}]"
    upper_p99 = row["latency_p99_high_s"] if pd.notna(row["latency_p99_high_s"]) else row["latency_p99_s"]
    return [
        interval, milliseconds(row["latency_p50_s"]), milliseconds(upper_p99),
        three_digits(row["throughput_texts_per_s"]), mebibytes(row["memory_peak_batch1_bytes"]),
    ]  # fmt: skip


def _summary(row: pd.Series[Any]) -> str:
    interval, p50, p99, _, memory = _cells(row)
    known = [f"accuracy {interval} %"]
    known += [f"half of the texts in {p50} ms"] if p50 != MISSING else []
    known += [f"99 of 100 within {p99} ms"] if p99 != MISSING else []
    known += [f"{memory} MiB"] if memory != MISSING else []
    return " · ".join(known) + "".join(f" · {mark}: {MARKS[mark]}" for mark in marks(row))


def use_command(row: pd.Series[Any], snapshot: Snapshot) -> str:
    """Return the command to use the model of a row: an export to a transformers folder where that is possible."""
    ids = _row_of_fit(row, snapshot).get("fit_ids")
    model = ids[0] if isinstance(ids, list) and ids else row["model"]
    fits = snapshot.results.records.fits
    own = fits[fits["fit_id"] == model] if model in set(fits["fit_id"]) else fits[fits["model"] == model]
    if row["method"] in EXPORTED_METHODS and not any(_has_preparation(spec) for spec in own["spec"]):
        return with_store(f"moodbench export-model {model} my-{row['model']}", snapshot.store.uri)
    return with_store(f"moodbench predict --model {model} --input reviews.csv --output labels.csv", snapshot.store.uri)


def _row_of_fit(row: pd.Series[Any], snapshot: Snapshot) -> pd.Series[Any]:
    """Return the row whose fit represents the model: `row`, or the row of the first dataset if `row` is over all."""
    if row["dataset"] != OVERALL:
        return row
    entries, covered = snapshot.results.entries, snapshot.results.computed.covered
    own = entries[(entries["name"] == row["name"]) & entries["track"].isin(covered)]
    return row if own.empty else own.iloc[0]


def _fitted_on(row: pd.Series[Any], snapshot: Snapshot) -> str:
    """Return the dataset that the fit of the command was trained on, where the row is over several; else empty."""
    dataset = _row_of_fit(row, snapshot)["dataset"]
    return "" if dataset == row["dataset"] else f" (its fit on {dataset})"


def _has_preparation(spec: Any) -> bool:
    """Return whether the fit of `spec` prepares its texts, which an exported folder would not do."""
    return isinstance(spec, str) and bool(json.loads(spec).get("preparation"))


TAB = Tab("which", "Which model?", build, render)
