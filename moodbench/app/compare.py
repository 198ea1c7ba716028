"""The Compare tab: the pinned models on one dataset, in pairs, by parts of the test set, and where they disagree."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis import pairwise
from moodbench.analysis.calibration import Calibration, calibrations
from moodbench.app.html import details, hint, scroll, table
from moodbench.app.shared import one_track, pinned_rows, shown_text
from moodbench.app.snapshot import Reading
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report import figures
from moodbench.report.charts import NoData
from moodbench.report.charts_plotly import plotly_figure
from moodbench.report.formatting import MARKS, marked, marks, percent
from moodbench.report.notes import not_trained_enough
from moodbench.report.tables import (
    CALIBRATION_HEADINGS,
    PAIR_HEADINGS,
    calibration_cells,
    calibration_notes,
    pair_cells,
    pair_sentence,
)
from moodbench.statistics.paired import PairedDifference


def build(layout: Layout, services: Services) -> None:
    """Create the components of the tab."""
    import gradio as gr

    layout.output(gr.HTML(elem_id="mb-pairs", elem_classes="mb"))
    gr.HTML("<h2>How far can the probabilities be trusted?</h2>", elem_classes="mb")
    layout.output(gr.Plot(show_label=False, container=False, elem_id="reliability"))
    layout.output(gr.HTML(elem_id="mb-calibration", elem_classes="mb"))
    layout.output(gr.HTML(elem_id="mb-differences", elem_classes="mb"))


def render(reading: Reading, state: State, services: Services) -> Sequence[Any]:
    """Return the pairs, the reliability figure, its table, and the slices with confusions and disagreements."""
    track = one_track(reading.order(state.weights), state)
    rows = pinned_rows(track, state, 2)
    if len(rows) < 2:
        text = "Pin two to four entries above that have results on this dataset."
        return [hint(text), plotly_figure(NoData("Nothing to compare")), "", ""]
    evaluations, store = reading.results.records.evaluations, reading.store
    pairs = pairwise.paired_differences(store, rows, evaluations)
    said = pairwise.predictions_by_model(store, rows, evaluations)
    noted = "; ".join(
        f"{marked(row)}: {', '.join(MARKS[m] for m in marks(row))}" for _, row in rows.iterrows() if marks(row)
    )
    about = f'<p class="mb-legend">{escape(noted)}.</p>' if noted else ""
    first = rows.iloc[0]
    examples = store.examples(str(first["dataset"]), str(first["dataset_revision"]))
    labels = _labels(reading, first)
    name = str(first["track"])
    trust = calibrations(store, rows)
    curves = {each.name: each.curve for each in trust}
    below = _slices(said, examples, labels) + _confusions(said, labels) + _differences(said, examples, labels, services)
    return [
        _pairs(pairs, name, not_trained_enough(rows)) + about,
        plotly_figure(figures.reliability(curves)),
        _calibration(trust),
        below,
    ]


def _calibration(trust: Sequence[Calibration]) -> str:
    words = "".join(f'<p class="mb-legend">{escape(note)}</p>' for note in calibration_notes(trust))
    return table(CALIBRATION_HEADINGS, calibration_cells(trust), "Calibration on the test texts") + words


def _labels(reading: Reading, row: pd.Series[Any]) -> tuple[str, ...]:
    """Return the class names from the spec of one of the row's fits; numbers where it names none."""
    records = reading.results.records
    numbers = records.evaluations["num_classes"].dropna()
    return pairwise.class_names(records.fits, row["fit_ids"][0], int(numbers.max()) if len(numbers) else 2)


def _pairs(pairs: list[tuple[str, str, PairedDifference]], track: str, short: Collection[str]) -> str:
    said = [pair_sentence(a, b, track, d, undertrained=[name for name in (a, b) if name in short]) for a, b, d in pairs]
    words = "".join(f"<li>{escape(each)}</li>" for each in said)
    shown = table(
        PAIR_HEADINGS, pair_cells(pairs, short), f"Paired on the same texts of {track}, each pair by its own test"
    )
    return shown + details("In words", f"<ul>{words}</ul>")


def _slices(said: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str]) -> str:
    if not said:
        return hint("These entries share no seed, so that their texts cannot be compared one by one.")
    parts = pairwise.accuracy_by_slice(said, examples, labels)
    names = list(said)
    rows = [[str(p["part"]), f"{p['num_texts']:,}", *(percent(p[n]) for n in names)] for _, p in parts.iterrows()]
    return table(["Part of the test set", "Texts", *names], rows, "Accuracy in parts of the test set, %")


def _confusions(said: dict[str, pd.DataFrame], labels: Sequence[str]) -> str:
    tables = []
    for name, frame in said.items():
        counts = pairwise.confusion(frame, len(labels))
        rows = [[label, *(f"{n:,}" for n in counts.loc[i])] for i, label in enumerate(labels)]
        tables.append(table(["True label", *(f"said {label}" for label in labels)], rows, name))
    return details("Confusion of labels", "".join(tables))


def _differences(
    said: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str], services: Services
) -> str:
    if not said:
        return ""
    found = pairwise.disagreements(said, examples)
    if found.empty:
        return hint("The entries give the same label to every text.")
    names = list(said)
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in ("True label", *names))
    body = "".join(
        f'<tr><th scope="row" class="mb-name mb-quote">{escape(shown_text(row, services))}</th>'
        f"<td>{escape(labels[int(row['label'])])}</td>" + "".join(_said(row, name, labels) for name in names) + "</tr>"
        for _, row in found.iterrows()
    )
    caption = (
        "<caption><div><strong>Texts on which they differ</strong>"
        "the most confidently contradicted first</div></caption>"
    )
    made = (
        f'<table>{caption}<thead><tr><th scope="col" class="mb-name">Text</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )
    return scroll(made, "Texts on which they differ")


def _said(row: pd.Series[Any], name: str, labels: Sequence[str]) -> str:
    right = int(row[name]) == int(row["label"])
    sign, word = ("✓", "right") if right else ("✗", "wrong")
    stated = percent(row[f"{name} stated"])
    return f'<td>{escape(labels[int(row[name])])} {stated} % <span role="img" aria-label="{word}">{sign}</span></td>'


TAB = Tab("compare", "Compare", build, render)
