"""Rows of delimited text (CSV, TSV) as spreadsheets and programs write it: separator, header, ways to quote."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Literal, NamedTuple

from moodbench.data.textfile import LONGEST_BYTES
from moodbench.errors import DataError, nearest

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE)
"""First line by which a program tells a spreadsheet the separator, and that is no row."""
Quoting = Literal["doubled", "backslash", "literal", "lenient"]
"""How a file writes double quotes in its cells, tried in this order.

doubled: "" in a quoted cell, as in RFC 4180; backslash: \\" in a quoted cell; literal: quotes are ordinary characters
and a row is a line; lenient: text that follows the closing quote of a cell belongs to the cell.
"""
QUOTING_NOTES: Mapping[Quoting, str] = {
    "backslash": 'double quotes in cells are written \\" and were read as "',
    "literal": "double quotes are ordinary characters in this file, and each line is one row",
    "lenient": 'a quoted cell goes on after its closing quote, such as "Top" quality; its quotes were left out',
}
_HEAD_LINES = 50
"""Number of lines among which the header is looked for."""
_END = "\x1d end of the file"
_MIN_SWALLOWED = 4
"""Lines in one cell of a two-column file that must all look like rows before they are taken for rows."""


class Head(NamedTuple):
    """The header of a delimited file and where it is."""

    separator: str
    names: tuple[str, ...]
    num_lines: int
    """Lines up to the end of the header; the rows follow."""
    num_before: int
    """Rows before the header, such as a title."""


def clean_name(name: str) -> str:
    """Return a column name without white space and invisible characters, such as U+200B, at its ends."""
    visible = [i for i, char in enumerate(name) if not (char.isspace() or unicodedata.category(char) in ("Cf", "Cc"))]
    return name[visible[0] : visible[-1] + 1] if visible else ""


def find_head(lines: Iterable[str], kind: str, wanted: Iterable[str]) -> Head:
    """Return the header: the first row that has all the `wanted` columns, else the first row that is not empty.

    The separator is that of a `sep=` line, tab for a TSV file, or else the one that finds the `wanted` columns earliest
    and splits the header into the most columns.
    """
    lines = list(islice(lines, _HEAD_LINES))
    named = SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    skipped = 1 if named else 0
    possible = [named.group(1)] if named else ["\t"] if kind == "TSV" else list(SEPARATORS)
    names = {clean_name(name) for name in wanted}
    found = [_head(lines[skipped:], separator, names, skipped) for separator in possible]
    return min(found, key=lambda head: (not (names and names <= set(head.names)), head.num_before, -len(head.names)))


def _head(lines: Sequence[str], separator: str, wanted: set[str], skipped: int) -> Head:
    """Return the header that `lines` have with this separator, the first of them after `skipped` lines."""
    csv.field_size_limit(LONGEST_BYTES)
    reader = csv.reader(lines, delimiter=separator)
    rows: list[Head] = []
    try:
        for row in reader:
            names = tuple(clean_name(cell) for cell in row)
            if any(names):
                rows.append(Head(separator, names, skipped + reader.line_num, len(rows)))
    except csv.Error:  # a later row is reported when it is read
        pass
    right = (head for head in rows if wanted and wanted <= set(head.names))
    return next(right, rows[0] if rows else Head(separator, (), 0, 0))


def check_header(name: object, kind: str, header: Sequence[str], *, alone: bool) -> None:
    """Raise DataError for a header with a single column, unless `alone` allows it and it contains no separator."""
    if len(header) == 1 and not (alone and not any(other in header[0] for other in SEPARATORS)):
        raise DataError(
            f"{name}: its header has a single column, {shortened(header[0])}; the separator is expected to be one of "
            f"{', '.join(SEPARATORS.values())}" + (" (a .tsv file: tab)" if kind == "TSV" else "")
        )


def places_of(name: object, header: Sequence[str], columns: Mapping[str, str]) -> list[int]:
    """Return the index of each of `columns`, such as {"label_column": "stars"}, in the header.

    Raises: DataError for a missing column ("reviews.csv: no label column 'stars': ...") or one that occurs twice.
    """
    shown = ", ".join(shortened(column) for column in header[:30]) + (" ..." if len(header) > 30 else "")
    clean, places = [clean_name(column) for column in header], []
    for role, given in columns.items():
        column, what = clean_name(given), role.replace("_", " ")
        if column not in clean:
            near = nearest(column, clean)
            hint = f"did you mean {near!r}? " if near else ""
            raise DataError(f"{name}: no {what} {given!r}: {hint}its columns are {shown}")
        if clean.count(column) > 1:
            raise DataError(f"{name}: {what} {given!r} occurs {clean.count(column)} times in the header")
        places.append(clean.index(column))
    return places


def shortened(text: str) -> str:
    """Return a column name for messages, quoted and shortened."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def records(lines: Iterable[str], separator: str, quoting: Quoting) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the number of the first and the last line, counted from 1, and the cells of each record, blank lines too.

    Raises: csv.Error if the quotes are not balanced.
    """
    csv.field_size_limit(LONGEST_BYTES)
    if quoting == "literal":
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    elif quoting == "backslash":
        reader = csv.reader(map(_doubled, lines), delimiter=separator, strict=True)
    else:
        reader = csv.reader(lines, delimiter=separator, strict=quoting == "doubled")
    first = 1
    for cells in reader:
        yield first, reader.line_num, [_unquoted(cell) for cell in cells] if quoting == "literal" else cells
        first = reader.line_num + 1


def _doubled(line: str) -> str:
    """Return the line with quotes that are doubled, not escaped by a backslash."""
    return re.sub(r'\\(["\\])', lambda found: '""' if found.group(1) == '"' else "\\", line)


def _unquoted(cell: str) -> str:
    """Return the text of a cell that is properly quoted, and any other cell unchanged."""
    inside = cell[1:-1]
    is_quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"') if is_quoted else cell


def quoting_of(name: object, lines: Callable[[], Iterable[str]], head: Head) -> Quoting:
    """Return how the rows below `head` are quoted: the first way that reads all of them.

    `lines` returns all lines of the file.
    Raises: DataError, which names the line, if there is none.
    """
    problem = _problem(name, lines(), head, "doubled")
    if problem is None:
        return "doubled"
    others: tuple[Quoting, ...] = ("backslash", "literal", "lenient")
    for quoting in others:
        if _problem(name, lines(), head, quoting) is None:
            return quoting
    raise problem


def _problem(name: object, lines: Iterable[str], head: Head, quoting: Quoting) -> DataError | None:
    """Return what hinders reading the rows in this way, or None."""
    width, offset, number, last = len(head.names), head.num_lines, 0, 0
    end = [_END + "\n"] if quoting == "lenient" else []
    cells: list[str] = []
    raw: list[str] = []
    try:
        below = _kept(chain(islice(lines, offset, None), end), raw)
        for first, last, cells in records(below, head.separator, quoting):
            number += any(cells)
            where = f"{name}: row {number} (line {offset + last})"
            if any(cells[width:]) or (quoting == "literal" and cells and len(cells) < width):
                return too_many_cells(where, cells, head)
            if last > first and swallows_rows(cells, head):
                return swallowing(name, offset + first, offset + last)
            if last > first and quoting == "lenient":  # only a row of one line may have a stray quote
                for _ in records(raw, head.separator, "doubled"):
                    pass
            raw.clear()
    except csv.Error as error:
        return unbalanced(name, offset + last + 1, error)
    if end and cells != [_END]:
        return unbalanced(name, offset + last, "a quoted cell does not end")
    return None


def _kept(lines: Iterable[str], raw: list[str]) -> Iterator[str]:
    """Yield `lines`, and append each to `raw`."""
    for line in lines:
        raw.append(line)
        yield line


def swallows_rows(cells: Sequence[str], head: Head) -> bool:
    """Return whether a cell with line breaks holds what look like whole rows, because its quote was not meant as one.

    Each of its lines but the last must then have as many separators as a row. That is a matter of course for tabs;
    lines of a text may by chance hold one comma each, so in a file of two columns there must be several.
    """
    width = len(head.names)
    for place, cell in enumerate(cells):
        lines = [line for line in re.split(r"\r\n|\r|\n", cell)[:-1] if line.strip()]
        if not lines or width < 2:
            continue
        expected = [width - place, *[width] * (len(lines) - 1)]
        alike = all(line.count(head.separator) + 1 == n for line, n in zip(lines, expected, strict=True))
        enough = 1 if head.separator == "\t" else 2 if width > 2 else _MIN_SWALLOWED
        if alike and place < width - 1 and len(lines) >= enough:
            return True
    return False


def too_many_cells(where: str, cells: Sequence[str], head: Head) -> DataError:
    """Return the DataError for a row whose cells do not fit the header."""
    return DataError(
        f"{where}: {len(cells)} cells where the header has {len(head.names)}; a text with the "
        f"separator ({SEPARATORS.get(head.separator, repr(head.separator))}) or a line break in it must be in double "
        "quotes"
    )


def swallowing(name: object, first: int, last: int) -> DataError:
    """Return the DataError for a quoted cell that runs over rows."""
    return DataError(
        f"{name}: line {first}: a double quote opens a cell that ends only in line {last} and holds what look like "
        f"{last - first} more rows; remove the quote, or close the cell in its line"
    )


def unbalanced(name: object, line: int, error: object) -> DataError:
    """Return the DataError for unbalanced quotes."""
    return DataError(
        f"{name}: line {line}: {error}; a quoted cell ends with one double quote, and double quotes in it are doubled "
        '("") or, in all of the file, written \\"'
    )
