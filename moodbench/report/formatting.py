"""Columns of the leaderboard in the terminal and on the page, and numbers formatted for people.

A cell without a value shows a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from moodbench.analysis.leaderboard import AREA_COLUMNS, PARETO_COSTS

type Row = Mapping[Any, Any] | pd.Series[Any]
"""A row of the leaderboard."""
MISSING = "—"
MARKS: Mapping[str, str] = {
    "invalid": "the timed model gave other labels than the evaluated one: its speed and memory do not count",
    "contaminated": "other load disturbed the clock: the score uses CPU time and is provisional",
    "provisional": "other load disturbed the clock on some datasets: the score uses CPU time there and is provisional",
    "not steady": "latency drifted by more than a tenth while it was measured: its interval is wide",
    "unknown": "whether other load disturbed the clock could not be seen",
    "slow machine": "the machine was more than a tenth slower at a fixed piece of work than in another measurement: "
    "other speeds compare no better than that",
    "quick": "measured with a quick protocol (few processes): good for a first look, not for publication",
    "undertrained": "the training loss still fell and the last checkpoint was the best: "
    "differences to it are of recipes, not of models",
    "at chance": "validation accuracy is not above the share of the most frequent class: "
    "differences to it are of recipes, not of models",
    "trivial": "no better than always giving the most frequent label, in balanced accuracy at 2.5 %: "
    "a reference without rank",
    "partial": "not run on all datasets that overall covers: its means are over the others, and it has no score there",
}
"""Marks shown beside a row wherever it appears, with their meaning."""
NOT_TRAINED_ENOUGH: Mapping[Any, str] = {"undertrained": "undertrained", "chance": "at chance"}
"""Training verdict of a fit that was not trained enough, to its mark: see `moodbench.training.outcome`."""

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""First characters of a cell that a spreadsheet runs as a formula.

Source: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection.
"""


def neutralised[T](cell: T) -> T | str:
    """Return a cell of a CSV file so that no spreadsheet runs it: a text like a formula gets an apostrophe in front.

    Numbers stay as they are, also those written as text, such as the label -1.
    """
    if not isinstance(cell, str) or not cell.startswith(_FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def csv_of(frame: pd.DataFrame) -> str:
    """Return `frame` as CSV, without its index and with its cells `neutralised`."""
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name].dtype)]
    return frame.assign(**{str(name): frame[name].map(neutralised) for name in texts}).to_csv(index=False)


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard: its source, its heading and the format of its cells."""

    key: str
    heading: str
    show: Callable[[Row], str]
    """Formats a leaderboard row as the text of its cell."""
    help: str
    """Meaning of the number, in one line."""


def missing(value: Any) -> bool:
    """Return whether there is no value."""
    return value is None or bool(pd.isna(value))


def marks(row: Row) -> tuple[str, ...]:
    """Return the marks of MARKS that hold for a leaderboard row or a measurement.

    Made-up rows need no mark: the program never writes a record without measuring.
    """
    verdict = row.get("verdict")
    found = [verdict] if verdict in ("invalid", "contaminated", "not steady", "unknown") else []
    if row.get("provisional") == True and "contaminated" not in found:  # noqa: E712 - missing is not provisional
        found.append("provisional")
    if row.get("slow_machine") == True:  # noqa: E712 - missing is not slow
        found.append("slow machine")
    if row.get("quick") == True:  # noqa: E712 - missing is not quick
        found.append("quick")
    if row.get("training_verdict") in NOT_TRAINED_ENOUGH:
        found.append(NOT_TRAINED_ENOUGH[row["training_verdict"]])
    if row.get("trivial") == True:  # noqa: E712 - missing is not trivial
        found.append("trivial")
    if row.get("on_all") == False:  # noqa: E712 - missing is a row of one dataset
        found.append("partial")
    return tuple(str(mark) for mark in found)


def marked(row: Row) -> str:
    """Return the row's name with its marks, such as MiniLM-L6 (quick)."""
    found = marks(row)
    return str(row["name"]) + (f" ({', '.join(found)})" if found else "")


def percent(value: Any) -> str:
    """Format a share as percent with one decimal."""
    return MISSING if missing(value) else f"{100 * value:.1f}"


def three_decimals(value: Any) -> str:
    """Format a number with three decimals."""
    return MISSING if missing(value) else f"{value:.3f}"


def three_digits(value: Any) -> str:
    """Format a positive number with three significant digits and no exponent."""
    if missing(value):
        return MISSING
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def milliseconds(value: Any) -> str:
    """Format seconds as milliseconds."""
    return MISSING if missing(value) else three_digits(1000 * value)


def mebibytes(value: Any) -> str:
    """Format bytes as MiB."""
    return MISSING if missing(value) else f"{value / 2**20:,.0f}"


def count(value: Any) -> str:
    """Format a parameter count with a unit and three digits, such as 22.7M."""
    if missing(value):
        return MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:  # 999.7M becomes 1B: no unit shows more than 999
            return (f"{value / size:.3g}" if value < 999.5 * size else f"{value / size:,.0f}") + unit
    return f"{value:.0f}"


def duration(value: Any) -> str:
    """Format seconds as 0.3 s, 42 s or 3 m 12 s."""
    if missing(value):
        return MISSING
    if value < 10:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} m {seconds:02d} s" if minutes else f"{seconds} s"


def hours(seconds: float) -> str:
    """Format seconds for planning, as minutes, hours or days."""
    if seconds < 3600:
        return duration(seconds)
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def _rank(row: Row) -> str:
    if missing(row["rank"]):
        return MISSING
    if not missing(row.get("rank_low")):
        low, high = int(row["rank_low"]), int(row["rank_high"])
        places = str(low) if low == high else f"{low}–{high}"
        return f"({places})" if row["provisional"] else places
    return f"({row['rank']})" if row["provisional"] else str(row["rank"])


def _letters(row: Row) -> str:
    letters = row.get("accuracy_letters")
    return MISSING if missing(letters) or not letters else str(letters)


def _score(row: Row) -> str:
    if missing(row["score"]):
        return MISSING
    return f"{row['score']:.1f}" + ("*" if row["provisional"] else "")


def _with_interval(row: Row, column: str, low: str, high: str) -> str:
    value = percent(row[column])
    if missing(row[column]) or missing(row.get(low)):
        return value
    return f"{value} [{percent(row[low])}, {percent(row[high])}]"


def _pareto(row: Row) -> str:
    """Return L, M and T with their chance in percent, bare above 95 %; a dash where all are under 5 %."""
    chances = [(letter, row.get(column)) for letter, column in zip("LMT", PARETO_COSTS.values(), strict=True)]
    shown = [(letter, float(p)) for letter, p in chances if p is not None and p >= 0.05]  # NaN compares false
    star = "*" if shown and row["provisional"] else ""
    return " ".join(letter if p > 0.95 else f"{letter}{100 * p:.0f}" for letter, p in shown) + star or MISSING


def _column(key: str, heading: str, show: Callable[[Any], str], help: str) -> Column:
    """Return a column whose cells depend on one value of the row alone."""
    return Column(key, heading, lambda row: show(row.get(key)), help)


COLUMNS: tuple[Column, ...] = (
    Column(
        "rank",
        "Rank",
        _rank,
        "rank by score, as an interval where the data leave it open; in brackets where no measurement was undisturbed",
    ),
    Column(
        "name",
        "Model",
        marked,
        "entry, as named in the catalogue; nf4 or int8 where its weights are stored so; "
        "in brackets what to know of its measurement and training",
    ),
    Column("score", "Score", _score, "weighted composite; * from CPU time because other load disturbed the clock"),
    Column(
        "accuracy",
        "Accuracy % [95 %]",
        lambda row: _with_interval(row, "accuracy", "accuracy_low", "accuracy_high"),
        "share of test texts labelled right, with its interval",
    ),
    Column(
        "accuracy_letters",
        "Groups",
        _letters,
        "entries that share a letter do not differ significantly in accuracy; a: may be best",
    ),
    Column(
        "f1_macro",
        "F1 % [95 %]",
        lambda row: _with_interval(row, "f1_macro", "f1_low", "f1_high"),
        "F1 averaged over the classes, with its interval",
    ),
    _column("precision_macro", "Prec. %", percent, "precision averaged over the classes"),
    _column("recall_macro", "Recall %", percent, "recall averaged over the classes"),
    _column("latency_p50_s", "P50 ms", milliseconds, "median time from one text to its label"),
    _column("latency_p99_s", "P99 ms", milliseconds, "99th percentile; withheld when too few"),
    _column("throughput_texts_per_s", "Texts/s", three_digits, "most texts per second in batches sorted by length"),
    _column(
        "memory_peak_batch1_bytes",
        "RAM MiB",
        mebibytes,
        "most memory of the whole process while answering one text at a time: libraries, weights and working memory",
    ),
    Column(
        "p_pareto_latency",
        "Pareto",
        _pareto,
        "no other entry both errs less and costs less in L latency, M memory, T training time; "
        "L60: in 60 % of joint draws of texts, seeds and, where several processes measured it, speed",
    ),
    _column("train_time_s", "Training", duration, "time of fitting, validation included"),
    _column("num_params", "Params", count, "parameters of the fitted model"),
)
"""Columns of the leaderboard in order; to add one, add an entry."""


MORE_COLUMNS: tuple[Column, ...] = (
    _column("mcc", "MCC", three_decimals, "Matthews' correlation of labels and predictions, -1 to 1"),
    _column("auroc", "AUROC", three_decimals, "chance that a text of a class scores above another"),
    _column("nll", "NLL", three_decimals, "mean negative log probability of the true label, nats"),
    _column("brier", "Brier", three_decimals, "squared error of the probabilities, 0 to 2"),
    _column("ece", "ECE %", percent, "mean gap of stated probability and accuracy; above 0 if calibrated too"),
    _column("memory_libraries_bytes", "Libraries MiB", mebibytes, "part of RAM: the interpreter and libraries"),
    _column("memory_weights_bytes", "Weights MiB", mebibytes, "part of RAM: what loading the model added"),
    _column("memory_working_bytes", "Working MiB", mebibytes, "part of RAM: what answering one text at a time added"),
    *(
        _column(AREA_COLUMNS[key], f"Area {letter} %", percent, f"share of the error x {cost} area that it alone adds")
        for key, letter, cost in zip(AREA_COLUMNS, "LMT", ("latency", "memory", "training time"), strict=True)
    ),
)
"""Columns that are shown on request, after the recall."""


def columns_with(keys: Sequence[str]) -> tuple[Column, ...]:
    """Return the leaderboard columns with those of `keys` in MORE_COLUMNS after the recall; other keys are ignored."""
    place = [c.key for c in COLUMNS].index("recall_macro") + 1
    more = tuple(c for c in MORE_COLUMNS if c.key in keys)
    return (*COLUMNS[:place], *more, *COLUMNS[place:])


def failure_text(row: Row) -> str:
    """Return what failed and how, without the message, which may quote a private text."""
    return f"{row['model']} · {row['dataset']} · seed {row['seed']} · {row['phase']}: {row['error_class']}"


def track_facts(rows: pd.DataFrame) -> str:
    """Describe what all rows of a track share: the number of test texts and the machine measured."""
    first = rows.iloc[0]
    facts = [f"{int(first['num_test']):,} test texts"]
    facts += [first["device_name"]] if isinstance(first["device_name"], str) else []
    return " · ".join(facts)


REFERENCE = "ref"
"""Rank shown for a human reference row, which is not an entry."""
OF_REFERENCES = ("name", "accuracy", "f1_macro")
"""Columns that a reference row has; its other cells are empty, as nothing is missing there."""


def reference_cells(references: pd.DataFrame, columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Return the reference rows of a track as text, under the same headings as `cells`."""
    made = [
        {
            c.heading: REFERENCE
            if c.key == "rank"
            else c.show(row)
            if c.key in OF_REFERENCES and not missing(row[c.key])
            else ""
            for c in columns
        }
        for _, row in references.iterrows()
    ]
    return pd.DataFrame(made, columns=[c.heading for c in columns], dtype=str)


def cells(leaderboard: pd.DataFrame, columns: Sequence[Column] = COLUMNS) -> pd.DataFrame:
    """Return the leaderboard as text, one row per entry and one column per heading."""
    rows = [row for _, row in leaderboard.iterrows()]  # built once for all columns: a slider waits for this
    return pd.DataFrame({c.heading: [c.show(row) for row in rows] for c in columns}, index=leaderboard.index, dtype=str)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> str:
    """Return a table in Markdown; columns whose heading is in `right` are aligned right, others left."""
    sides = ["--:" if heading in right else ":--" for heading in headings]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(headings), sides, *cells))
