"""Report on a store: Markdown, CSV, JSON, and one self-contained HTML page. It contains no text of a dataset."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moodbench import __version__
from moodbench.analysis.calibration import calibration
from moodbench.analysis.leaderboard import on_all, valid
from moodbench.analysis.robustness import Robustness
from moodbench.errors import StoreError
from moodbench.report.figures import frontier
from moodbench.report.files import board_bytes, replaced
from moodbench.report.formatting import COLUMNS, cells, reference_cells, track_facts
from moodbench.report.leaderboard_view import DRAWN_ANEW, LeaderboardView, answer
from moodbench.report.notes import effect_words
from moodbench.report.report_figures import (
    TRADE_OFFS,
    Drawing,
    accuracy_figure,
    critical_difference_figure,
    f1_figure,
    reliability_figure,
    trade_off_figure,
)
from moodbench.report.search_report import drawings, search_html, search_markdown, search_stem
from moodbench.report.tables import CALIBRATION_HEADINGS, calibration_cells, calibration_notes
from moodbench.statistics.overall import OVERALL
from moodbench.statistics.pairs import AllPairs
from moodbench.statistics.rank_intervals import across_datasets
from moodbench.store import Store

CHANCES = f"In percent, {DRAWN_ANEW}."
MAX_CURVES = 8
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .45rem;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th{border-bottom:2px solid #9aa0a6}.left{text-align:left}.scroll{overflow-x:auto}
figure{margin:1rem 0}svg{max-width:100%;height:auto}.note{color:#555;font-size:13px}
:root{color-scheme:light dark}
@media screen and (prefers-color-scheme:dark){
body{color:#e5e7eb;background:#18181b}th,td{border-bottom-color:#3f3f46}th{border-bottom-color:#71717a}
.note{color:#b4b4bb}svg{filter:invert(.91) hue-rotate(180deg)}
}
"""


class Figure(NamedTuple):
    """A figure of the report."""

    key: str
    """Content, as a part of a file name."""
    caption: str
    drawing: Drawing


@dataclass(frozen=True)
class TrackSection:
    """The section of the report on one track."""

    name: str
    facts: str
    answer: str
    table: pd.DataFrame
    """Cells as text, one column per heading."""
    figures: tuple[Figure, ...]
    calibration: pd.DataFrame | None = None
    """Calibration cells as text; None for `overall`."""
    calibration_notes: tuple[str, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    """Calibration as plain values in base units."""


def write_report(view: LeaderboardView, store: Store, folder: Path) -> list[Path]:
    """Write the report to `folder` and return the paths of its files.

    The files are report.md with its figures as .svg and .png, report.html, and leaderboard and calibration as .csv and
    .json. Each is replaced as a whole.

    Raises: StoreError where there is nothing to report on or the folder cannot be written.
    """
    if view.rows.empty:
        raise StoreError(f"{store.uri}: holds no evaluated model, so there is nothing to report")
    sections = [section(view, name, store) for name in view.tracks]
    each = view.rows[view.rows["dataset"] != OVERALL]
    across = data_sets_together(each)
    whole = [Figure("f1-by-dataset", "Macro-F1 by dataset.", f1_figure(each))]
    if across is not None:
        whole.append(Figure("critical-difference", across.words, across.figure))
    drawn = [drawings(search) for search in view.searches]
    contents = {
        "report.md": markdown(view, sections, whole, drawn).encode(),
        "report.html": page(view, sections, whole, drawn).encode(),
        "leaderboard.csv": board_bytes(view, "csv"),
        "leaderboard.json": board_bytes(view, "json"),
        "calibration.csv": calibration_csv(sections),
        "calibration.json": json.dumps([record for each in sections for record in each.records], indent=1).encode(),
    }
    parts = [(each.name, each.figures) for each in sections] + [("", tuple(whole))]
    for number, (track, shown) in enumerate(parts):
        for figure in shown:
            stem = figure_stem(number, track, figure.key)
            contents |= {f"{stem}.svg": figure.drawing.svg_file, f"{stem}.png": figure.drawing.png}
    for search, figures in zip(view.searches, drawn, strict=True):
        for key, drawing in figures.items():
            stem = search_stem(search, key)
            contents |= {f"{stem}.svg": drawing.svg_file, f"{stem}.png": drawing.png}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [replaced(folder / name, content) for name, content in contents.items()]
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be written ({error.strerror or error}); give a folder with --output"
        ) from error


def section(view: LeaderboardView, name: str, store: Store) -> TrackSection:
    """Return the section on one track with its figures; `overall` has no test examples or predictions of its own."""
    rows, pairs = view.track(name), view.pairs_of(name)
    tied = "" if pairs is None else " " + ties(pairs, rows[rows["tied_best"].notna()])
    if rows["dataset"].iloc[0] == OVERALL:
        return TrackSection(name, track_facts(rows), answer(rows) + tied, cells(rows), ())
    predictions = {str(row["name"]): store.predictions(row["evaluation_ids"]) for _, row in rows.iterrows()}
    trust = [
        calibration(
            str(row["name"]),
            row["evaluation_ids"],
            predictions[str(row["name"])],
            store.validation(row["evaluation_ids"]),
        )
        for _, row in rows.iterrows()
        if len(predictions[str(row["name"])])
    ]
    best = rows.sort_values("accuracy", ascending=False).head(MAX_CURVES)["name"]
    curves = {each.name: each.curve for name in best for each in trust if each.name == name}
    figures = [
        Figure(
            "accuracy",
            f"Accuracy on the test texts. {interval_words(rows)}Ties are judged on the same texts for all pairs at "
            "once (Romano-Wolf, 5 %), not by whether intervals overlap.",
            accuracy_figure(rows, f"Accuracy · {name}"),
        ),
        *trade_offs(rows, name),
    ]
    if curves:
        caption = (
            "Reliability of the chosen label (increasing regression, CORP; first seed): below the dotted line a "
            "entry is surer than it is right. "
            "Grey: where 95 % of the lines of calibrated models lie on so many texts."
        )
        figures.append(Figure("reliability", caption, reliability_figure(curves, f"Reliability · {name}")))
    return TrackSection(
        name,
        track_facts(rows),
        answer(rows) + tied,
        pd.concat([cells(rows), reference_cells(view.references_of(name))]),
        tuple(figures),
        pd.DataFrame(calibration_cells(trust), columns=list(CALIBRATION_HEADINGS)) if trust else None,
        tuple(calibration_notes(trust)) if trust else (),
        tuple({"track": name, **each.to_record()} for each in trust),
    )


def interval_words(rows: pd.DataFrame) -> str:
    """Describe what the accuracy intervals of a track are of, as a sentence and a space; empty without intervals."""
    meant = {
        "checkpoint": "of these weights on new texts (one seed)",
        "recipe": "of the recipe trained again, on new texts (several seeds)",
    }
    said = [words for estimand, words in meant.items() if (rows["estimand"] == estimand).any()]
    return f"Intervals {' or '.join(said)}. " if said else ""


class Together(NamedTuple):
    """Result of the tests that take datasets as the sample."""

    words: str
    figure: Drawing


def trade_offs(rows: pd.DataFrame, name: str) -> list[Figure]:
    """Return the figure of error against each cost that at least one entry of the track has.

    A training time of 0 counts as missing.
    """
    found, rows = [], on_all(rows)
    for cost, (word, _, _) in TRADE_OFFS.items():
        costs = valid(rows)[cost].astype("float64")
        shown = rows.assign(**{cost: costs.where(costs > 0)})
        if shown[cost].notna().any():
            caption = f"Error against {word}; on the dotted frontier nobody both errs less and has less {word}."
            front = frontier(shown[cost], rows["accuracy"])
            drawing = trade_off_figure(shown, cost, front, f"Error and {word} · {name}")
            found.append(Figure(f"error-and-{word.replace(' ', '-')}", caption, drawing))
    return found


def data_sets_together(board: pd.DataFrame) -> Together | None:
    """Return Friedman's and Wilcoxon's tests on the accuracy of the models that have every dataset.

    A model's accuracy on a dataset is averaged over the tracks of the dataset: two sizes of one training set do not
    count as two datasets. None below 10 datasets or 3 models.
    """
    table = board.pivot_table(index="dataset", columns="name", values="accuracy", aggfunc="mean").dropna(axis=1)
    found = across_datasets(table.to_numpy(dtype=float)) if len(table) else None
    if found is None:
        return None
    pairs = found.p_wilcoxon_holm[np.triu_indices(table.shape[1], 1)]
    words = (
        f"Over {len(table)} datasets, {table.shape[1]} entries by accuracy: "
        f"Friedman's test that all are equally good has p = {found.friedman_p:.2g}; "
        "Wilcoxon's signed-rank test with Holm's correction separates "
        f"{int((pairs <= 0.05).sum())} of {len(pairs)} pairs at 5 %."
    )
    return Together(words, critical_difference_figure([str(c) for c in table.columns], found))


def chances(tested: Robustness) -> pd.DataFrame:
    """Return the chance in percent of each rank (columns) of each entry (rows), best expected rank first."""
    held = tested.stability
    order = np.argsort(held.expected_rank, kind="stable")
    rows = [
        {"Model": held.names[m], "Expected rank": f"{held.expected_rank[m]:.1f}"}
        | {str(place + 1): f"{100 * p:.0f}" if p >= 0.005 else "" for place, p in enumerate(held.p_rank[m])}
        for m in order
    ]
    return pd.DataFrame(rows)


def calibration_csv(sections: Sequence[TrackSection]) -> bytes:
    """Return the calibration as CSV: one row per track, entry and seed, in base units.

    Columns: scores before and after temperature scaling, the parts of CORP's decomposition, the null distribution of
    ECE.
    """
    rows = [
        {"track": record["track"], "name": record["name"], "number": number, **seed}
        for each in sections
        for record in each.records
        for number, seed in enumerate(record["seeds"])
    ]
    return pd.json_normalize(rows, sep="_").to_csv(index=False).encode()


def ties(pairs: AllPairs, rows: pd.DataFrame) -> str:
    """Describe which models may be the most accurate, and the smallest differences that the test examples can show."""
    names = rows.loc[rows["tied_best"].astype(bool), "name"].tolist()
    who = f"Tied for the best accuracy: {', '.join(names)}" if len(names) > 1 else f"Most accurate for sure: {names[0]}"
    return f"{who} (all pairs at once, 5 %). {effect_words(pairs)}"


def markdown(
    view: LeaderboardView,
    sections: Sequence[TrackSection],
    whole: Sequence[Figure],
    drawn: Sequence[Mapping[str, Drawing]] = (),
) -> str:
    """Return the report as Markdown.

    `whole` are the figures of all datasets together, `drawn` those of each search of the view.
    """
    parts = ["# MoodBench report", ""]
    for number, each in enumerate(sections):
        parts += [f"## {each.name}", "", f"{each.facts}. {each.answer}", "", *_markdown_table(each.table), ""]
        if each.calibration is not None:
            parts += ["### Calibration", "", *_markdown_table(each.calibration), ""]
            parts += [line for note in each.calibration_notes for line in (note, "")]
        parts += _markdown_figures(each.figures, number, each.name)
    parts += ["## All datasets", "", *_markdown_figures(whole, len(sections), "")]
    for tested in view.robustness:
        parts += [f"## Chance of each place: {tested.track}", "", *_markdown_table(chances(tested)), ""]
    for search, figures in zip(view.searches, drawn, strict=True):
        parts += search_markdown(search, figures)
    parts += ["## Notes", "", *(f"- {note}" for note in view.notes), ""]
    if len(view.failures):
        parts += ["## Failed", "", *(f"- {line}" for line in _failures(view)), ""]
    parts += ["## Columns", "", *(f"- **{c.heading}**: {c.help}" for c in COLUMNS), "", f"MoodBench {__version__}", ""]
    return "\n".join(parts)


def page(
    view: LeaderboardView,
    sections: Sequence[TrackSection],
    whole: Sequence[Figure],
    drawn: Sequence[Mapping[str, Drawing]] = (),
) -> str:
    """Return the report as one HTML page with its styles and figures inside, without scripts or external requests."""
    body = ["<h1>MoodBench report</h1>"]
    for each in sections:
        body += [f"<h2>{escape(each.name)}</h2>", f"<p>{escape(each.facts)}. {escape(each.answer)}</p>"]
        body += ['<div class="scroll">', _html_table(each.table), "</div>"]
        if each.calibration is not None:
            body += ["<h3>Calibration</h3>", '<div class="scroll">', _html_table(each.calibration), "</div>"]
            body += [f"<p class=note>{escape(note)}</p>" for note in each.calibration_notes]
        body += _html_figures(each.figures)
    body += ["<h2>All datasets</h2>", *_html_figures(whole)]
    for tested in view.robustness:
        body += [f"<h2>Chance of each place: {escape(tested.track)}</h2>", f"<p class=note>{CHANCES}</p>"]
        body += ['<div class="scroll">', _html_table(chances(tested)), "</div>"]
    for search, figures in zip(view.searches, drawn, strict=True):
        body += search_html(search, figures)
    body += ["<h2>Notes</h2>"]
    body += [f"<p class=note>{escape(note)}</p>" for note in view.notes]
    if len(view.failures):
        body += ["<h2>Failed</h2>", *(f"<p class=note>{escape(line)}</p>" for line in _failures(view))]
    body += ["<h2>Columns</h2><dl class=note>"]
    body += [f"<dt><b>{escape(c.heading)}</b></dt><dd>{escape(c.help)}</dd>" for c in COLUMNS]
    body += [f"</dl><p class=note>MoodBench {__version__}</p>"]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>MoodBench report</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def figure_stem(number: int, track: str, key: str) -> str:
    """Return the name, without suffix, of the file with that figure of that track.

    `number` is the place of the track's section in the report, from 0.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", track).strip("-").lower()
    return "-".join(filter(None, [f"figure-{number + 1}", slug, key]))


def _markdown_figures(figures: Sequence[Figure], number: int, track: str) -> list[str]:
    lines = []
    for figure in figures:
        stem = figure_stem(number, track, figure.key)
        lines += [f"![{figure.key.replace('-', ' ')}]({stem}.svg)", "", f"{figure.caption} ([PNG]({stem}.png))", ""]
    return lines


def _html_figures(figures: Sequence[Figure]) -> list[str]:
    return [f"<figure>{f.drawing.svg}<figcaption class=note>{escape(f.caption)}</figcaption></figure>" for f in figures]


def _failures(view: LeaderboardView) -> list[str]:
    found = []
    for _, row in view.failures.iterrows():
        where = f"{row['model']} · {row['dataset']} · seed {row['seed']} · {row['phase']}"
        found.append(f"{where}: {row['error_class']}")  # a message may quote a private text
    return found


def _markdown_table(table: pd.DataFrame) -> list[str]:
    headings = list(table.columns)
    sides = [":--" if h == "Model" else "--:" for h in headings]
    rows = [[_cell(v) for v in row] for row in table.to_numpy().tolist()]
    return [f"| {' | '.join(line)} |" for line in (headings, sides, *rows)]


def _cell(value: str) -> str:
    return str(value).replace("|", "\\|")


def _html_table(table: pd.DataFrame) -> str:
    def line(tag: str, values: Sequence[str]) -> str:
        marks = [' class="left"' if h == "Model" else "" for h in table.columns]
        return (
            "<tr>"
            + "".join(f"<{tag}{m}>{escape(str(v))}</{tag}>" for m, v in zip(marks, values, strict=True))
            + "</tr>"
        )

    rows = "".join(line("td", row) for row in table.to_numpy().tolist())
    return f"<table><thead>{line('th', list(table.columns))}</thead><tbody>{rows}</tbody></table>"
