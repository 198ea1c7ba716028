"""The Which model? tab: limits in, a pick out, with the reason and the command to use it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.comparison.board import OVERALL
from moodbench.errors import UsageError
from moodbench.visualization.choosing import Choice, Limits, Tied, choose, overlap
from moodbench.visualization.contrast import pair
from moodbench.visualization.formatting import MISSING, mebibytes, milliseconds, percent, three_digits
from moodbench.visualization.leaderboard_view import chosen_track
from moodbench.visualization.page.html import card, table
from moodbench.visualization.page.reading import Reading
from moodbench.visualization.page.tab import Layout, Services, Tab
from moodbench.visualization.state import State


def build(layout: Layout, services: Services) -> None:
    """Nothing; places the tab's parts."""
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
    """The card with the choice, and a table of what fits."""
    view = reading.view(state.weights)
    rows = view.track(chosen_track(view, state))
    limits = Limits(
        None if state.max_p99_ms is None else state.max_p99_ms / 1e3,
        None if state.max_memory_mib is None else state.max_memory_mib * 2**20,
        None if state.min_accuracy_percent is None else state.min_accuracy_percent / 100,
    )
    together = bool((rows["dataset"] == OVERALL).all())
    choice = choose(rows, limits, overlap(rows) if together else _by_pairs(reading, rows))
    device = next((d for d in rows["device_name"] if isinstance(d, str)), None)
    where = (
        f"Measured on {device}; another machine needs its own measurement." if device else "Nothing was measured here."
    )
    how = "over all data sets, by overlap of intervals" if together else "on the same texts, in pairs"
    note = f'<p class="mb-note">{escape(where)} Accuracies are compared {how}.</p>'
    return [_card(choice, rows) + note]


def _by_name(rows: pd.DataFrame) -> dict[str, pd.Series[Any]]:
    return {str(row["name"]): row for _, row in rows.iterrows()}


def _by_pairs(reading: Reading, rows: pd.DataFrame) -> Tied:
    """Ties by the paired test on the texts that both were tested on."""
    by_name = _by_name(rows)

    def tied(a: str, b: str) -> bool:
        try:
            difference = pair(reading.store, by_name[a], by_name[b], reading.results.evaluations)
        except UsageError:
            return overlap(rows)(a, b)
        return difference.low <= 0 <= difference.high

    return tied


def _card(choice: Choice, rows: pd.DataFrame) -> str:
    if choice.pick is None:
        misses = "; ".join(choice.misses)
        nearest = (
            f"<p>Nearest: <strong>{escape(choice.nearest)}</strong>: {escape(misses)}.</p>" if choice.nearest else ""
        )
        return card(f"<h3>{escape(choice.why)}</h3>{nearest}", "warning")
    by_name = _by_name(rows)
    row = by_name[choice.pick]
    costs = "".join(f"<li>{escape(cost)}</li>" for cost in choice.costs)
    body = (
        f"<p>Use</p><h3>{escape(choice.pick)}</h3><p>{escape(_facts(row))}</p><p>{escape(choice.why)} "
        f"{choice.num_fitting} of {choice.num_rows} contenders are within the limits.</p>"
        + (f"<p>What the limits cost:</p><ul class='mb-list'>{costs}</ul>" if costs else "")
        + f"<p><code>{escape(_command(row))}</code></p>"
    )
    names = [name for name in (choice.pick, choice.runner_up) if name]
    cells = [[role, name, *(_cells(by_name[name]))] for role, name in zip(("pick", "runner-up"), names, strict=False)]
    headings = ["", "Model", "Accuracy % [95 %]", "P50 ms", "P99 ms, upper end", "Texts/s", "RAM MiB"]
    return card(body, "good") + table(headings, cells, "Pick and runner-up", left=2)


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
    marks = [", provisional: other load disturbed the clock"] if row["provisional"] else []
    marks += [", measured with a quick protocol"] if row["quick"] else []
    return " · ".join(known) + "".join(marks)


def _command(row: pd.Series[Any]) -> str:
    ids = row.get("fit_ids")
    which = ids[0] if isinstance(ids, list) and ids else row["model"]
    folder = f"my-{row['model']}"
    if row["method"] in ("lora", "qlora", "full"):
        return f"moodbench export-model {which} {folder}"
    return f"moodbench predict --model {which} --input reviews.csv --output labels.csv"


TAB = Tab("which", "Which model?", build, render)
