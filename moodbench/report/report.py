"""Report on a store as a document of tables, figures and notes, written as Markdown or as one self-contained HTML page.

It has a section per track, the searches and the failures, and no dataset text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moodbench import __version__
from moodbench.analysis.calibration import Calibration, calibration
from moodbench.analysis.robustness import Robustness
from moodbench.report.charts import Drawing, Figure, NoData, draw, draw_panels
from moodbench.report.figures import accuracy_intervals, critical_difference, f1_by_dataset, reliability, trade_off
from moodbench.report.formatting import COLUMNS, cells, failure_text, markdown_table, reference_cells, track_facts
from moodbench.report.leaderboard_view import DRAWN_FROM, LeaderboardView, answer
from moodbench.report.notes import effect_sentence
from moodbench.report.search import FIGURES, TITLES, caption, search_sentences, trial_table
from moodbench.report.tables import CALIBRATION_HEADINGS, calibration_cells, calibration_notes
from moodbench.statistics.all_pairs import AllPairs
from moodbench.statistics.overall import OVERALL
from moodbench.statistics.rank_intervals import across_datasets
from moodbench.store import Store
from moodbench.tune.result import SearchResult

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
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
MAX_CURVES = 8
COSTS = {
    "latency_p50_s": "latency",
    "memory_peak_batch1_bytes": "memory",
    "train_time_s": "training time",
}
"""Cost of a trade-off figure to its name."""


class Heading(NamedTuple):
    """A heading of level 1 to 3."""

    text: str
    level: int = 2


class Paragraph(NamedTuple):
    """A paragraph; a note is shown smaller where that is possible."""

    text: str
    is_note: bool = False


class Items(NamedTuple):
    """A list of notes, each with a term in bold in front, which may be empty."""

    items: Sequence[tuple[str, str]]


class Table(NamedTuple):
    """A table of texts; columns whose heading is in `left` are aligned left, others right."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ("Model",)


class Picture(NamedTuple):
    """A figure, which Markdown expects as files of the name `stem` beside it."""

    stem: str
    alternative: str
    caption: str
    drawing: Drawing


type Block = Heading | Paragraph | Items | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """Return the document as Markdown, with figures as links to .svg and .png files beside it."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text, _):
            return text
        case Items(items):
            return "\n".join(f"- **{term}**: {text}" if term else f"- {text}" for term, text in items)
        case Table(headings, rows, left):
            return markdown_table(headings, rows, [heading for heading in headings if heading not in left])
        case Picture(stem, alternative, caption, _):
            return f"![{alternative}]({stem}.svg)\n\n{caption} ([PNG]({stem}.png))"


def page(title: str, blocks: Sequence[Block]) -> str:
    """Return the document as an HTML page with styles and figures inside, without scripts or external requests."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>\n'
        + "\n".join(map(html, blocks))
        + "\n</body></html>\n"
    )


def html(block: Block) -> str:
    """Return a block as HTML."""
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Paragraph(text, is_note):
            return f"<p{' class=note' if is_note else ''}>{escape(text)}</p>"
        case Items(items):
            terms = (f"<b>{escape(term)}</b>: " if term else "" for term, _ in items)
            return "\n".join(f"<p class=note>{t}{escape(text)}</p>" for t, (_, text) in zip(terms, items, strict=True))
        case Table(headings, rows, left):
            sides = [' class="left"' if heading in left else "" for heading in headings]
            head, *body = (
                [f"{side}>{escape(str(cell))}" for side, cell in zip(sides, line, strict=True)]
                for line in (headings, *rows)
            )
            lines = "".join(f"<tr>{''.join(f'<td{cell}</td>' for cell in line)}</tr>" for line in body)
            top = "".join(f"<th{cell}</th>" for cell in head)
            return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
        case Picture(_, _, caption, drawing):
            return f"<figure>{drawing.svg}<figcaption class=note>{escape(caption)}</figcaption></figure>"


def track_calibrations(view: LeaderboardView, store: Store) -> dict[str, list[Calibration]]:
    """Return the calibration of each entry by track; tracks of `overall` have none of their own."""
    found: dict[str, list[Calibration]] = {}
    for name in view.tracks:
        rows = view.track(name)
        if rows["dataset"].iloc[0] == OVERALL:
            continue
        found[name] = []
        for _, row in rows.iterrows():
            predictions = store.predictions(row["evaluation_ids"])
            if len(predictions):
                validation = store.validation(row["evaluation_ids"])
                found[name].append(calibration(str(row["name"]), row["evaluation_ids"], predictions, validation))
    return found


def report_blocks(view: LeaderboardView, calibrations: Mapping[str, Sequence[Calibration]]) -> list[Block]:
    """Return the report; `calibrations` are those of `track_calibrations`."""
    blocks: list[Block] = [Heading("MoodBench report", 1)]
    for number, name in enumerate(view.tracks, start=1):
        blocks += _track(view, name, calibrations.get(name), number)
    each = view.rows[view.rows["dataset"] != OVERALL]
    blocks += [Heading("All datasets"), *all_datasets(each, len(view.tracks) + 1)]
    for tested in view.robustness:
        blocks += [
            Heading(f"Rank probabilities: {tested.track}"),
            Paragraph(f"In percent, {DRAWN_FROM}, and of the weights around those shown.", True),
        ]
        blocks.append(_table(rank_probabilities(tested)))
    for search in view.searches:
        blocks += search_blocks(search)
    blocks += [Heading("Notes"), Items([("", note) for note in view.notes])]
    if len(view.failures):
        blocks += [Heading("Failed"), Items([("", failure_text(row)) for _, row in view.failures.iterrows()])]
    columns = Items([(column.heading, column.help) for column in COLUMNS])
    return [*blocks, Heading("Columns"), columns, Paragraph(f"MoodBench {__version__}", True)]


def _track(
    view: LeaderboardView, name: str, calibrations: Sequence[Calibration] | None, number: int
) -> Iterable[Block]:
    """Yield the section on one track; without `calibrations` it has no figures."""
    rows, pairs = view.track(name), view.pairs_of(name)
    tied = "" if pairs is None else " " + ties(pairs, rows[rows["tied_best"].notna()])
    yield Heading(name)
    yield Paragraph(f"{track_facts(rows)}. {answer(rows)}{tied}")
    if calibrations is None:
        yield _table(cells(rows))
        return
    yield _table(pd.concat([cells(rows), reference_cells(view.references_of(name))]))
    if calibrations:
        yield Heading("Calibration", 3)
        yield Table(CALIBRATION_HEADINGS, calibration_cells(calibrations))
        yield from (Paragraph(note, True) for note in calibration_notes(calibrations))
    stem = f"figure-{number}-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower()}"
    caption = (
        f"Accuracy on the test texts. {interval_meaning(rows)}Ties are judged on the same texts for all pairs at "
        "once (Romano-Wolf, 5 %), not by whether intervals overlap."
    )
    yield from _picture(f"{stem}-accuracy", f"Accuracy · {name}", caption, accuracy_intervals(rows))
    yield from trade_offs(rows, name, stem)
    best = rows.sort_values("accuracy", ascending=False).head(MAX_CURVES)["name"]
    curves = {each.name: each.curve for entry in best for each in calibrations if each.name == entry}
    caption = (
        "Reliability of the chosen label (increasing regression, CORP; first seed): below the dotted line an entry is "
        "overconfident. Band: where 95 % of the lines of calibrated models lie on so many texts."
    )
    yield from _picture(f"{stem}-reliability", f"Reliability · {name}", caption, reliability(curves), draw_panels)


def interval_meaning(rows: pd.DataFrame) -> str:
    """Describe what the accuracy intervals of a track are of, as a sentence and a space; empty without intervals."""
    meanings = {
        "checkpoint": "of these weights on new texts (one seed)",
        "recipe": "of the recipe trained again, on new texts (several seeds)",
    }
    found = [meaning for estimand, meaning in meanings.items() if (rows["estimand"] == estimand).any()]
    return f"Intervals {' or '.join(found)}. " if found else ""


def trade_offs(rows: pd.DataFrame, name: str, stem: str) -> Iterable[Picture]:
    """Yield the figure of error against each cost that at least one entry of the track has."""
    for column, cost in COSTS.items():
        caption = (
            f"Error against {cost}; on the dotted frontier no entry has both less error and less {cost}. "
            "Whiskers: 95 % interval. Mark area: memory. Hollow: other load disturbed the clock."
        )
        figure = trade_off(rows, column, as_error=True)
        yield from _picture(f"{stem}-error-and-{cost.replace(' ', '-')}", f"Error and {cost} · {name}", caption, figure)


def all_datasets(leaderboard: pd.DataFrame, number: int) -> Iterable[Picture]:
    """Yield the figures that compare datasets.

    The critical difference diagram has Friedman's and Wilcoxon's tests on the accuracy of the entries that have every
    dataset. Their accuracy is averaged over the tracks of a dataset: two sizes of one training set do not count as two
    datasets. It is missing below 10 datasets or 3 entries.
    """
    yield from _picture(
        f"figure-{number}-f1-by-dataset", "Macro-F1", "Macro-F1 by dataset.", f1_by_dataset(leaderboard)
    )
    table = leaderboard.pivot_table(index="dataset", columns="name", values="accuracy", aggfunc="mean").dropna(axis=1)
    across = across_datasets(table.to_numpy(dtype=float)) if len(table) else None
    if across is None:
        return
    pairs = across.p_wilcoxon_holm[np.triu_indices(table.shape[1], 1)]
    caption = (
        f"Over {len(table)} datasets, {table.shape[1]} entries by accuracy: "
        f"Friedman's test that all are equally good has p = {across.friedman_p:.2g}; "
        "Wilcoxon's signed-rank test with Holm's correction separates "
        f"{int((pairs <= 0.05).sum())} of {len(pairs)} pairs at 5 %."
    )
    figure = critical_difference([str(c) for c in table.columns], across)
    yield from _picture(f"figure-{number}-critical-difference", "Critical difference diagram", caption, figure)


def rank_probabilities(tested: Robustness) -> pd.DataFrame:
    """Return the probability in percent of each rank (columns) of each entry (rows), best expected rank first."""
    held = tested.stability
    order = np.argsort(held.expected_rank, kind="stable")
    rows = [
        {"Model": held.names[m], "Expected rank": f"{held.expected_rank[m]:.1f}"}
        | {str(place + 1): f"{100 * p:.0f}" if p >= 0.005 else "" for place, p in enumerate(held.p_rank[m])}
        for m in order
    ]
    return pd.DataFrame(rows)


def ties(pairs: AllPairs, rows: pd.DataFrame) -> str:
    """Describe which models may be the most accurate, and the smallest detectable differences."""
    names = rows.loc[rows["tied_best"].astype(bool), "name"].tolist()
    who = (
        f"Tied for the best accuracy: {', '.join(names)}"
        if len(names) > 1
        else f"Significantly the most accurate: {names[0]}"
    )
    return f"{who} (all pairs at once, 5 %). {effect_sentence(pairs)}"


def search_blocks(search: SearchResult) -> Iterable[Block]:
    """Yield the section on a search: cost, findings, figures and trials."""
    yield Heading(f"Search: {search.title}")
    yield from map(Paragraph, search_sentences(search))
    for key, title in TITLES.items():
        stem = f"search-{search.search_id[:12]}-{key}"
        yield from _picture(stem, title, caption(key, search), FIGURES[key](search))
    headings, rows = trial_table(search)
    yield Table(headings, rows, left=headings[:1])


def write_search_page(store: Store, search: SearchResult) -> str | None:
    """Write a self-contained HTML page with the figures into the store and return its address; None without figures.

    An earlier page of the same search is replaced.
    """
    from moodbench.report.charts_plotly import plotly_figure

    figures = {key: made for key, make in FIGURES.items() if not isinstance(made := make(search), NoData)}
    if not figures:
        return None
    title = f"Search {search.space} for {search.model} on {search.dataset}"
    sentences = "".join(f"<p>{escape(line)}</p>" for line in search_sentences(search))
    parts = [
        f"<h2>{escape(TITLES[key])}</h2><p>{escape(caption(key, search))}</p>"
        + plotly_figure(figure).to_html(full_html=False, include_plotlyjs=number == 0)
        for number, (key, figure) in enumerate(figures.items())
    ]
    body = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
        f'<body style="font-family:sans-serif"><h1>{escape(title)}</h1>{sentences}{"".join(parts)}</body></html>'
    )
    key = f"exports/search-{search.search_id[:12]}.html"
    with store.attempt() as attempt:
        path = attempt.folder / "page.html"
        path.write_text(body, "utf-8")
        store.location.replace(path, key)
    return f"{store.uri.rstrip('/')}/{key}"


def _picture(
    stem: str, title: str, caption: str, figure: Figure, draw: Callable[[Any, str, str], Drawing] = draw
) -> Iterable[Picture]:
    if not isinstance(figure, NoData):
        yield Picture(stem, title, caption, draw(figure, stem, title))


def _table(frame: pd.DataFrame) -> Table:
    return Table(list(frame.columns), frame.to_numpy().tolist())
