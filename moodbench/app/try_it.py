"""The Try it tab: the labels of the pinned models for one text, side by side, with their times. Nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.app.html import Html, card, error, hint, progress, table
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Action, Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.errors import MoodBenchError
from moodbench.report.formatting import marked, milliseconds, percent
from moodbench.serving.classifier import Answer

MAX_SHOWN = 3
MAX_TEXT = 20_000
"""Largest number of characters of a text on the page; `moodbench predict` accepts longer texts."""
FINE_TUNED = ("lora", "qlora", "full")
"""Methods that change a model's weights; baselines and probes do not."""


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.html("mb-try-models")
    text = gr.Textbox(
        label="Your text", lines=3, max_lines=8, max_length=MAX_TEXT, elem_id="try-text", placeholder="A fine film."
    )
    button = gr.Button("Label it", variant="primary", elem_id="try-ask")
    output = gr.HTML(elem_id="mb-answers", elem_classes="mb")
    layout.actions.append(Action(output, [button.click, text.submit], [text], label))


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
    return [f'<p class="mb-note">{escape(text)}</p>']


def label(snapshot: Snapshot, state: State, services: Services, text: str) -> str:
    """Return the label that each model gives to `text`."""
    if not text or not text.strip():
        return hint("Write a text first.")
    if services.ask is None:
        return error("This page was opened without models; start it with `moodbench app`.")
    rows, labels, problems = [], [], []
    for _, row in snapshot.pinned_rows(state, MAX_SHOWN).iterrows():
        try:
            answer = services.ask(str(row["fit_ids"][0]), text)
        except MoodBenchError as problem:
            problems.append(error(f"{row['name']}: {problem}"))
            continue
        labels.append(answer.label)
        rows.append([marked(row), *_answer_cells(answer)])
    if not rows:
        return "".join(problems)
    most, count = Counter(labels).most_common(1)[0]
    summary = f"All models agree: {most}." if count == len(labels) else f"{count} of {len(labels)} models: {most}."
    headings = ["Model", "Label", "Probability", "All classes", "Time here", "Text"]
    return card(f"<h3>{escape(summary)}</h3>") + table(headings, rows, "Side by side", left=2) + "".join(problems)


def _answer_cells(answer: Answer) -> list[str]:
    share = answer.probabilities[answer.label]
    return [
        answer.label,
        Html(f"{progress(share, 'probability')}{percent(share)} %"),
        ", ".join(f"{name} {percent(value)} %" for name, value in answer.probabilities.items()),
        f"{milliseconds(answer.seconds)} ms",
        "truncated to the model's maximum length" if answer.truncated else "complete",
    ]


TAB = Tab("try", "Try it", build, render)
