"""The Try it tab: the labels of the pinned models for one text, side by side, with their times. Nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from moodbench.app.html import card, error, hint, table
from moodbench.app.shared import one_track, pinned_rows
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.errors import MoodBenchError
from moodbench.report.formatting import marked, milliseconds, percent

LONGEST = 20_000
"""Largest number of characters of a text on the page; `moodbench predict` accepts longer texts."""
FINE_TUNED = ("lora", "qlora", "full")
"""Methods that change a model's weights; baselines and probes do not."""


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-asked", elem_classes="mb"))
    text = gr.Textbox(
        label="Your text", lines=3, max_lines=8, max_length=LONGEST, elem_id="try-text", placeholder="A fine film."
    )
    ask = gr.Button("Label it", variant="primary", elem_id="try-ask")
    layout.action(gr.HTML(elem_id="mb-answers", elem_classes="mb"), [ask.click, text.submit], [text], label)


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return which models will label the text."""
    rows = pinned_rows(one_track(reading.order(state.weights), state), state, 3)
    dataset = str(rows.iloc[0]["dataset"])
    tuned, fitted = (
        [marked(row) for _, row in rows.iterrows() if (row["method"] in FINE_TUNED) == wanted]
        for wanted in (True, False)
    )
    said = [
        f"{', '.join(names)}, {how} {dataset}"
        for names, how in ((tuned, "fine-tuned on"), (fitted, "fitted to"))
        if names
    ]
    return [f'<p class="mb-note">Asked: {escape("; ".join(said))}. Nothing is kept.</p>']


def label(reading: Reading, state: State, services: Services, text: str) -> str:
    """Return the label that each model gives to `text`."""
    if not text or not text.strip():
        return hint("Write a text first.")
    if services.ask is None:
        return error("This page was opened without models; start it with `moodbench app`.")
    rows = pinned_rows(one_track(reading.order(state.weights), state), state, 3)
    cells, labels, problems = [], [], []
    for _, row in rows.iterrows():
        try:
            answer = services.ask(str(row["fit_ids"][0]), text)
        except MoodBenchError as problem:
            problems.append(error(f"{row['name']}: {problem}"))
            continue
        labels.append(answer.label)
        share = answer.probabilities[answer.label]
        bar = f'<progress max="100" value="{100 * share:.0f}" aria-label="probability"></progress>{percent(share)} %'
        others = ", ".join(f"{k} {percent(v)} %" for k, v in answer.probabilities.items())
        cut = "cut: longer than the model reads" if answer.truncated else "whole"
        cells.append(
            [
                escape(marked(row)),
                escape(answer.label),
                bar,
                escape(others),
                f"{milliseconds(answer.seconds)} ms",
                cut,
            ]
        )
    if not cells:
        return "".join(problems)
    most, times = Counter(labels).most_common(1)[0]
    words = f"All say {most}." if times == len(labels) else f"{times} of {len(labels)} say {most}."
    headings = ["Model", "Label", "Probability", "All classes", "Time here", "Text"]
    made = table(headings, cells, "Side by side", left=2, raw=True)
    return card(f"<h3>{escape(words)}</h3>", "plain") + made + "".join(problems)


TAB = Tab("try", "Try it", build, render)
