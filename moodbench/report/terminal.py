"""The leaderboard and other tables in a terminal, or as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from moodbench.hardware import Device
from moodbench.models.features import FEATURES
from moodbench.report.formatting import COLUMNS, Column, cells, failure_text, reference_cells, track_facts
from moodbench.report.leaderboard_view import LeaderboardView

if TYPE_CHECKING:
    from moodbench.benchmark.from_store import Repeat

LINE = 160
"""Width of a table without a terminal, in characters; more where its numbers need it."""
WRAPPED = 30
"""Narrowest line into which a left-aligned cell is wrapped, in characters."""
PADDING = 2
DEVICES: dict[Device, str] = {"cuda": "CUDA", "mps": "Apple GPU", "cpu": "CPU"}
FEATURE_HEADINGS = ("Feature", *DEVICES.values())
REPEAT_HEADINGS = (
    "Model", "Dataset", "Seed", "Texts", "Other label", "Largest logit difference", "Accuracy", "Training s",
)  # fmt: skip


def make_console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or without a terminal as wide as what is printed."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=10_000)


def print_leaderboard(view: LeaderboardView, out: Console, columns: Sequence[Column] = COLUMNS) -> None:
    """Print every track of the leaderboard, the notes and the failures."""
    for name in view.tracks:
        rows = view.track(name)
        out.print()
        out.print(Text(name, style="bold").append(f" · {track_facts(rows)}", style="not bold"))
        tables = (cells(rows, columns), reference_cells(view.references_of(name), columns))
        lines = [line for table in tables for line in table.to_numpy().tolist()]
        print_table([c.heading for c in columns], lines, out, left={"Model"})
    for note in view.notes:
        out.print(Text(note, style="dim"), soft_wrap=True)
    if len(view.failures):
        out.print()
        out.print(Text("Failed", style="bold"))
    for _, row in view.failures.iterrows():
        message = str(row["message"]).splitlines()[0] if row["message"] else ""
        out.print(Text(f"  {failure_text(row)}: {message}"), soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], out: Console, *, left: set[str]) -> None:
    """Print a table with numbers right-aligned; cells are printed verbatim, including markup characters.

    Cells of columns in `left` are wrapped where the table is too wide. A table that is still too wide for the terminal
    is printed in parts below each other, each of which repeats the columns up to the first of `left`.
    """
    rows = [list(row) for row in rows]
    lengths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    lead = next((number for number, heading in enumerate(headings) if heading in left), -1) + 1
    whole = lead - 1 if not out.is_terminal else -1  # names in a pipe stay on one line
    needs = [
        PADDING + (length if heading not in left or number == whole else min(length, WRAPPED))
        for number, (heading, length) in enumerate(zip(headings, lengths, strict=True))
    ]
    width = out.width if out.is_terminal else min(out.width, max(LINE, sum(needs)))
    for number, part in enumerate(_parts(needs, width, lead)):
        if number:
            out.print()
        table = Table(box=None, padding=(0, 1), header_style="bold")
        for column in part:
            is_left, least = headings[column] in left, needs[column] - PADDING
            justify: JustifyMethod = "left" if is_left else "right"
            table.add_column(
                Text(headings[column]), justify=justify, no_wrap=not is_left, overflow="fold", min_width=least
            )
        for row in rows:
            table.add_row(*(Text(row[column]) for column in part))
        out.print(table, width=width)


def _parts(needs: Sequence[int], width: int, lead: int) -> list[list[int]]:
    """Return the column numbers of each part; all parts begin with the first `lead` columns.

    A part takes at most `width`, unless a single column needs more.
    """
    room = width - sum(needs[:lead])
    parts: list[list[int]] = [[]]
    taken = 0
    for column in range(lead, len(needs)):
        if parts[-1] and taken + needs[column] > room:
            parts.append([])
            taken = 0
        parts[-1].append(column)
        taken += needs[column]
    return [[*range(lead), *part] for part in parts]


def feature_rows() -> list[list[str]]:
    """Return one row per feature, under FEATURE_HEADINGS: for each type of device, yes or no with the reason."""
    return [
        [name, *(f"{'yes' if ways[device].works else 'no'}: {ways[device].why}" for device in DEVICES)]
        for name, ways in FEATURES.items()
    ]


def repeat_rows(repeats: Sequence[Repeat]) -> list[list[str]]:
    """Return one row per repeated trial, under REPEAT_HEADINGS."""
    return [
        [
            r.model,
            r.dataset,
            str(r.seed),
            f"{r.num_texts:,}",
            f"{r.num_flips:,}",
            "0" if r.max_logit_difference == 0 else f"{r.max_logit_difference:.1e}",
            f"{r.accuracy[0]:.4f} → {r.accuracy[1]:.4f}",
            f"{r.train_time_s[0]:.1f} → {r.train_time_s[1]:.1f}",
        ]
        for r in repeats
    ]


def repeat_sentence(repeats: Sequence[Repeat]) -> str:
    """Describe how many repeats gave the same results."""
    if not repeats:
        return "The store has no evaluation of these trials yet, so there is nothing to compare with."
    same = sum(r.max_logit_difference == 0 for r in repeats)
    labels = sum(r.num_flips == 0 for r in repeats)
    return (
        f"{len(repeats)} trials repeated: {same} with identical logits, {labels} with identical labels. "
        "The store keeps the first results."
    )
