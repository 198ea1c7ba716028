"""The first sheet of an Excel workbook (.xlsx, .xlsm) as rows of text, as the same table saved as CSV has them."""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from moodbench.data.delimited import clean_name
from moodbench.data.textfile import LONGEST_BYTES
from moodbench.errors import DataError

MAX_BYTES = 2**30
"""Maximum size of the unpacked XML of a workbook."""
MAX_ROWS = 1_048_576
"""Maximum number of rows of a sheet: https://support.microsoft.com/office/excel-specifications-and-limits."""
_HEAD_ROWS = 50
"""Number of rows among which the header is looked for."""
_ESCAPED = re.compile("_x(00[01][0-9A-Fa-f])_")
"""A control character as Excel writes it in a text."""
SAVE = "open it in Excel or LibreOffice and save it as .xlsx, or as 'CSV UTF-8'"
"""Advice for a workbook that cannot be read."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, SyntaxError, ArithmeticError, AttributeError, LookupError, OSError,
            EOFError, RuntimeError, TypeError, ValueError)  # fmt: skip
"""Exceptions of zipfile, the XML parser and openpyxl for a damaged file."""


class Sheet(NamedTuple):
    """The first visible sheet of a workbook, and where its header is."""

    title: str
    others: tuple[str, ...]
    """Titles of the other sheets."""
    names: tuple[str, ...]
    """The cells of the header; none if the sheet is empty."""
    header: int
    """Row of the header, counted from 1 as in Excel."""
    num_before: int
    """Rows with a value before the header, such as a title."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions made to read the sheet, as sentences."""
        notes = []
        if self.others:
            some = ", ".join(map(repr, self.others[:5])) + (" ..." if len(self.others) > 5 else "")
            notes.append(f"the first sheet, {self.title!r}, was read; the workbook also has {some}")
        if self.num_before:
            lines = "1 row" if self.num_before == 1 else f"{self.num_before} rows"
            notes.append(f"{lines} before the header (row {self.header} of the sheet) were left out")
        return tuple(notes)


def unpacked_xml_bytes(path: Path) -> int:
    """Return the size of the unpacked XML of the workbook at `path`, without pictures and macros.

    Raises: DataError if it is damaged, or larger than `MAX_BYTES`.
    """
    with _refusing_damage(path), zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist() if part.filename.endswith((".xml", ".rels")))
    if size > MAX_BYTES:
        raise DataError(
            f"{path}: is an Excel workbook of {size:,} bytes unpacked, at most {MAX_BYTES:,} are read; save its sheet "
            "as 'CSV UTF-8'"
        )
    return size


def first_sheet(path: Path, wanted: set[str]) -> Sheet:
    """Return the first visible sheet; its header is the first row with all `wanted` columns, else with a value.

    Raises: DataError if the workbook is damaged, too large or without a sheet.
    """
    with _workbook(path) as book:
        sheets = sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible")
        if not sheets:
            raise DataError(f"{path}: is an Excel workbook without a sheet that can be read; {SAVE}")
        title, *others = (sheet.title for sheet in sheets)
    heads: list[tuple[int, tuple[str, ...]]] = []
    for number, cells in islice(_rows(path, title), _HEAD_ROWS):
        names = [clean_name(cell_text(cell)) for cell in cells]
        while names and not names[-1]:
            names.pop()
        if names:
            heads.append((number, tuple(names)))
    right = (i for i, (_, names) in enumerate(heads) if wanted and wanted <= set(names))
    before = next(right, 0)
    number, names_found = heads[before] if heads else (0, ())
    return Sheet(title, tuple(others), names_found, number, before)


def rows_below(path: Path, sheet: Sheet, places: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each row below the header, empty rows too, up to the last with a value.

    A cell without a value or with an error such as #N/A is empty. Cells outside the header's columns are left out.
    Raises: DataError if the workbook is damaged, or if a formula in the columns at `places` has no stored value.
    """
    formulas = _rows(path, sheet.title, data_only=False)
    num_empty = 0
    for number, row in islice(_rows(path, sheet.title, width=len(sheet.names)), sheet.header, None):
        cells = [cell_text(cell) for cell in row]
        empty = [i for i in places if row and row[i].value is None and row[i].data_type != "str"]
        if empty:
            other = next(other for at, other in formulas if at == number)
            for i in empty:
                if i < len(other) and other[i].data_type == "f":
                    raise DataError(
                        f"{path}: row {number} of the sheet: column {sheet.names[i]!r}: the formula has no stored "
                        f"value; {SAVE}"
                    )
        if not any(cells):
            num_empty += 1
            continue
        for i in range(num_empty, 0, -1):
            yield number - i, [""] * len(sheet.names)
        num_empty = 0
        if max(map(len, cells)) > LONGEST_BYTES:
            raise DataError(f"{path}: row {number} of the sheet: a cell is longer than {LONGEST_BYTES >> 20} MiB")
        yield number, cells


def cell_text(cell: Any) -> str:
    """Return the value of a cell of openpyxl as text: 4 for 4.0, 2024-03-01 for a day, nothing for an error."""
    value = cell.value
    if value is None or cell.data_type == "e":
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return f"{value:.15g}"  # the digits that Excel keeps
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return str(value.date())
    return _ESCAPED.sub(lambda found: _control(int(found[1], 16)), value) if isinstance(value, str) else str(value)


def _control(code: int) -> str:
    return chr(code) if chr(code) in "\t\n\r" else " "


def _rows(
    path: Path, title: str, *, width: int | None = None, data_only: bool = True
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield the number of each row, counted from 1, and its first `width` cells."""
    with _workbook(path, data_only=data_only) as book:
        sheet = book[title]
        sheet.reset_dimensions()  # what the file says about them may be wrong
        for number, row in enumerate(sheet.iter_rows(max_col=width), 1):
            if number > MAX_ROWS:
                raise DataError(f"{path}: row {number} of the sheet: it can have {MAX_ROWS:,} rows; {SAVE}")
            yield number, row


@contextmanager
def _workbook(path: Path, *, data_only: bool = True) -> Iterator[Any]:
    """Open the workbook at `path` with openpyxl."""
    import openpyxl

    # openpyxl warns of what it leaves out: extensions, styles, rules of validation.
    warnings.filterwarnings("ignore", module="openpyxl")
    unpacked_xml_bytes(path)
    with (
        _refusing_damage(path),
        path.open("rb") as file,
        closing(openpyxl.load_workbook(file, read_only=True, data_only=data_only, keep_links=False)) as book,
    ):
        yield book


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    """Raise DataError for what a damaged workbook raises."""
    try:
        yield
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise DataError(f"{path}: is an Excel workbook that cannot be read ({reason}); {SAVE}") from error
