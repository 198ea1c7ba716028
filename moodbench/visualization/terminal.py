"""The board and lists as tables in a terminal; plain when it is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moodbench.visualization.board_view import BoardView
from moodbench.visualization.formatting import COLUMNS, Column, cells, reference_cells, track_facts

LEFT = {"Model"}


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or as the content needs where there is none."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=160)


def print_board(view: BoardView, out: Console, columns: Sequence[Column] = COLUMNS) -> None:
    """Nothing; prints every track of the board, notes and failures."""
    for name in view.tracks:
        rows = view.track(name)
        out.print()
        out.print(Text(name, style="bold").append(f" · {track_facts(rows)}", style="not bold"))
        tables = (cells(rows, columns), reference_cells(view.references_of(name), columns))
        lines = [line for table in tables for line in table.to_numpy().tolist()]
        print_table([c.heading for c in columns], lines, out, left=LEFT)
    for note in view.notes:
        out.print(Text(note, style="dim"), soft_wrap=True)
    if len(view.failures):
        out.print()
        out.print(Text("Failed", style="bold"))
        for _, row in view.failures.iterrows():
            message = str(row["message"]).splitlines()[0] if row["message"] else ""
            where = f"{row['model']} · {row['dataset']} · seed {row['seed']} · {row['phase']}"
            out.print(Text(f"  {where}: {row['error_class']}: {message}"), soft_wrap=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], out: Console, *, left: set[str]) -> None:
    """Nothing; prints a table, numbers on the right. Cells are shown as they are, markup signs and all."""
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for heading in headings:
        is_left = heading in left
        table.add_column(Text(heading), justify="left" if is_left else "right", no_wrap=not is_left)
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
