"""The Try it tab: the labels of the pinned models for one text, side by side, with their times. Nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.app.html import Html, asset, card, error, hint, progress, table
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Action, Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.errors import MoodBenchError
from moodbench.report.formatting import marked, milliseconds, percent
from moodbench.serving.classifier import Prediction

MAX_SHOWN = 3
MAX_TEXT = 20_000
"""Largest number of characters of a text on the page; `moodbench predict` accepts longer texts."""
FINE_TUNED = ("lora", "qlora", "full")
"""Methods that change a model's weights; baselines and probes do not."""
MAX_QUOTED = 200
"""Largest number of characters of a text that its answer quotes."""
MODELS_JS = "watch('value', () => document.dispatchEvent(new Event('mb-models')));"


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.html("mb-try-models", js_on_load=MODELS_JS)
    text = gr.Textbox(
        label="Your text", lines=3, max_lines=8, max_length=MAX_TEXT, elem_id="try-text", placeholder="A fine film."
    )
    button = gr.Button("Label it", variant="primary", elem_id="try-ask")
    output = gr.HTML(elem_id="mb-answers", elem_classes="mb", js_on_load=asset("answer.js"))
    layout.actions.append(Action([output], [button.click, text.submit], [text], answer))


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return which models will label the text."""
    rows = snapshot.pinned_rows(state, MAX_SHOWN)
    is_tuned = rows["method"].isin(FINE_TUNED)
    groups = {"fine-tuned": rows[is_tuned], "fitted": rows[~is_tuned]}
    models = "; ".join(
        f"{', '.join(marked(row) for _, row in group.iterrows())} ({verb})"
        for verb, group in groups.items()
        if len(group)
    )
    text = f"Models: {models}, on {rows.iloc[0]['dataset']}. Your text is not stored."
    return [f'<p class="mb-note" data-models="{_models_key(rows)}">{escape(text)}</p>']


def _models_key(rows: pd.DataFrame) -> str:
    """Return what identifies the fits that label a text."""
    return escape(" ".join(str(ids[0]) for ids in rows["fit_ids"]))


def answer(snapshot: Snapshot, state: State, services: Services, sent: Any) -> list[str]:
    """Return the label that each model gives to the text that was sent, together with the text and the models."""
    text = sent if isinstance(sent, str) else ""
    models = _models_key(snapshot.pinned_rows(state, MAX_SHOWN))
    content = label(snapshot, state, services, text)
    return [f'<div data-text="{escape(text[: MAX_TEXT + 1])}" data-models="{models}">{content}</div>']


def label(snapshot: Snapshot, state: State, services: Services, text: str) -> str:
    """Return the label that each model gives to `text`."""
    if not text.strip():
        return hint("Write a text first.")
    if len(text) > MAX_TEXT:
        return error(
            f"Your text has {len(text):,} characters; allowed are up to {MAX_TEXT:,}. `moodbench predict` takes more."
        )
    if services.ask is None:
        return error("This page was opened without models; start it with `moodbench app`.")
    rows, labels, problems = [], [], []
    for _, row in snapshot.pinned_rows(state, MAX_SHOWN).iterrows():
        try:
            given, seconds = services.ask(str(row["fit_ids"][0]), text)
        except MoodBenchError as problem:
            problems.append(error(f"{row['name']}: {problem}"))
            continue
        labels.append(given.label)
        rows.append([marked(row), *_answer_cells(given, seconds)])
    if not rows:
        return "".join(problems)
    most, count = Counter(labels).most_common(1)[0]
    summary = f"All models agree: {most}." if count == len(labels) else f"{count} of {len(labels)} models: {most}."
    headings = ["Model", "Label", "Probability", "All classes", "Time here", "Text"]
    quoted = text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + " …"
    summary_html = card(f'<h3>{escape(summary)}</h3><p class="mb-quote">{escape(quoted)}</p>')
    return summary_html + table(headings, rows, "Side by side", left=2) + "".join(problems)


def _answer_cells(given: Prediction, seconds: float) -> list[str]:
    return [
        given.label,
        Html(f"{progress(given.probability, 'probability')}{percent(given.probability)} %"),
        ", ".join(f"{name} {percent(value)} %" for name, value in given.probabilities.items()),
        f"{milliseconds(seconds)} ms",
        "truncated to the model's maximum length" if given.truncated else "complete",
    ]


TAB = Tab("try", "Try it", build, render)
