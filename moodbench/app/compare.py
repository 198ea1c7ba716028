"""The Compare tab: the pinned models on one dataset, in pairs, by parts of the test set, and where they disagree."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

import pandas as pd

from moodbench.analysis import pairwise
from moodbench.analysis.calibration import Calibration, calibrations
from moodbench.app.html import Html, details, hint, legend, table
from moodbench.app.privacy import shown_text
from moodbench.app.snapshot import Snapshot
from moodbench.app.tab import Layout, Services, Tab
from moodbench.app.url_state import State
from moodbench.report import figures
from moodbench.report.charts import NoData
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
    layout.html("mb-pairs")
    layout.plot("reliability", "How well are the probabilities calibrated?")
    layout.html("mb-calibration")
    layout.html("mb-differences")


def render(snapshot: Snapshot, state: State, services: Services) -> Sequence[Any]:
    """Return the pairs, the reliability figure, its table, and the slices with confusions and disagreements."""
    rows = snapshot.pinned_rows(state, default=2)
    if len(rows) < 2:
        text = "Pin two to four entries above that have results on this dataset."
        return [hint(text), NoData("Nothing to compare"), "", ""]
    records, store, first = snapshot.results.records, snapshot.store, rows.iloc[0]
    pairs = pairwise.paired_differences(store, rows, records.evaluations)
    answers = pairwise.predictions_by_model(store, rows, records.evaluations)
    meanings = "; ".join(
        f"{marked(row)}: {', '.join(MARKS[m] for m in marks(row))}" for _, row in rows.iterrows() if marks(row)
    )
    trust = calibrations(store, rows)
    return [
        _pairs(pairs, str(first["track"]), not_trained_enough(rows)) + legend(f"{meanings}." if meanings else ""),
        figures.reliability({each.name: each.curve for each in trust}),
        _calibration(trust),
        _answers(answers, snapshot, first, services),
    ]


def _pairs(pairs: list[tuple[str, str, PairedDifference]], track: str, short: Collection[str]) -> str:
    sentences = (
        pair_sentence(a, b, track, d, undertrained=[name for name in (a, b) if name in short]) for a, b, d in pairs
    )
    items = "".join(f"<li>{escape(each)}</li>" for each in sentences)
    caption = f"Paired on the same texts of {track}, one test per pair"
    return table(PAIR_HEADINGS, pair_cells(pairs, short), caption) + details("As text", f"<ul>{items}</ul>")


def _calibration(trust: Sequence[Calibration]) -> str:
    notes = "".join(legend(note) for note in calibration_notes(trust))
    return table(CALIBRATION_HEADINGS, calibration_cells(trust), "Calibration on the test texts") + notes


def _answers(answers: dict[str, pd.DataFrame], snapshot: Snapshot, first: pd.Series[Any], services: Services) -> str:
    """Return the accuracy in parts of the test set, the confusions, and the texts on which the models disagree."""
    if not answers:
        return hint("These entries share no seed, so their texts cannot be compared one by one.")
    examples = snapshot.store.examples(str(first["dataset"]), str(first["dataset_revision"]))
    records = snapshot.results.records
    numbers = records.evaluations["num_classes"].dropna()
    labels = pairwise.class_names(records.fits, first["fit_ids"][0], int(numbers.max()) if len(numbers) else 2)
    return (
        _slices(answers, examples, labels)
        + _confusions(answers, labels)
        + _disagreements(answers, examples, labels, services)
    )


def _slices(answers: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str]) -> str:
    parts = pairwise.accuracy_by_slice(answers, examples, labels)
    rows = [[str(p["part"]), f"{p['num_texts']:,}", *(percent(p[n]) for n in answers)] for _, p in parts.iterrows()]
    return table(["Part of the test set", "Texts", *answers], rows, "Accuracy in parts of the test set, %")


def _confusions(answers: dict[str, pd.DataFrame], labels: Sequence[str]) -> str:
    tables = []
    for name, frame in answers.items():
        counts = pairwise.confusion(frame, len(labels))
        rows = [[label, *(f"{n:,}" for n in counts.loc[i])] for i, label in enumerate(labels)]
        tables.append(table(["True label", *(f"predicted {label}" for label in labels)], rows, name))
    return details("Confusion matrices", "".join(tables))


def _disagreements(
    answers: dict[str, pd.DataFrame], examples: pd.DataFrame, labels: Sequence[str], services: Services
) -> str:
    found = pairwise.disagreements(answers, examples)
    if found.empty:
        return hint("The entries give every text the same label.")
    rows = [
        [
            Html(f'<div class="mb-quote">{escape(shown_text(row, show_texts=services.show_texts))}</div>'),
            labels[int(row["label"])],
            *(_prediction_cell(row, name, labels) for name in answers),
        ]
        for _, row in found.iterrows()
    ]
    subtitle = "the most confident disagreements first"
    return table(["Text", "True label", *answers], rows, "Texts on which the entries disagree", subtitle=subtitle)


def _prediction_cell(row: pd.Series[Any], name: str, labels: Sequence[str]) -> Html:
    is_right = int(row[name]) == int(row["label"])
    sign, meaning = ("✓", "right") if is_right else ("✗", "wrong")
    label, probability = escape(labels[int(row[name])]), percent(row[f"{name} stated"])
    return Html(f'{label} {probability} % <span role="img" aria-label="{meaning}">{sign}</span>')


TAB = Tab("compare", "Compare", build, render)
