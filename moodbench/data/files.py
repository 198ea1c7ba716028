"""Read the user's file (CSV, TSV, Excel, JSONL or Parquet) row by row and find its columns; errors name the line."""

from __future__ import annotations

import glob
import json
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodbench.data.delimited import (
    QUOTING_NOTES,
    Head,
    Quoting,
    check_header,
    clean_name,
    find_head,
    places_of,
    quoting_of,
    records,
)
from moodbench.data.textfile import encoding_of, is_gzip, is_workbook, refuse_container, text_lines
from moodbench.data.workbook import SAVE, first_sheet, rows_below, unpacked_xml_bytes
from moodbench.errors import DataError, PrerequisiteError
from moodbench.paths import expanded

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
"""File name suffix -> format; the text formats may be followed by .gz, and a workbook is read whatever its name."""
HEADER = "that repeat the header"
_HEAD_LINES = 100
"""Number of JSON lines that determine the columns; one line is not enough, as writers may omit empty fields."""


@dataclass(frozen=True)
class Cells:
    """A file opened for reading, with its format, columns and rows."""

    format: str
    encoding: str | None
    """utf-8 (also with a few odd lines), cp1252 or latin-1; None for Excel and Parquet, which are Unicode."""
    separator: str | None
    """Delimiter of a CSV or TSV file; None for other formats."""
    columns: tuple[str, ...]
    """All columns of the file."""
    rows: Iterator[tuple[str, tuple[Any, ...]]]
    """For each row, its location as text for messages, and the cells of the requested columns."""
    notes: tuple[str, ...] = ()
    """Assumptions made to read the file, as sentences for the data report."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows that were left out, complete when `rows` is exhausted."""


def open_cells(
    path: Path, columns: Mapping[str, str], *, every_row: bool = False, expected: Collection[str] = ()
) -> Cells:
    """Open the file at `path` and return its `columns` (role -> name); rows are read lazily.

    In a delimited file and a sheet, rows of only empty cells are skipped like blank lines and repeated headers are left
    out, unless `every_row` is set, which also allows a file with a single column. A row that leaves out its last cells
    has None there. The header is recognised by `columns` and the names `expected`.
    Raises: PrerequisiteError if there is no such file; DataError if it is empty, binary, of another format or lacks a
    column.
    """
    kind = format_of(path)
    if kind == "Parquet":
        return _parquet(path, columns)
    if kind == "JSONL":
        return _json_lines(path, columns)
    if kind == "Excel":
        return _workbook(path, columns, expected, every_row=every_row)
    return _delimited(path, kind, columns, expected, every_row=every_row)


def format_of(path: Path) -> str:
    """Return the format of the file at `path`, one of the values of `FORMATS`.

    Raises: PrerequisiteError if it cannot be opened; DataError if it is a folder, not a regular file, empty or has an
    unknown suffix.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(
                f"{path}: is a folder; give one file ({', '.join(FORMATS)}), or a pattern such as {path.name}/*.csv"
            )
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{path}: is a pipe or a device; expected a regular file, because it is read several times: write it "
                "to a file first"
            )
        refuse_container(path)
    except OSError as error:
        raise PrerequisiteError(f"{path}: {error.strerror}; give the path of a file ({', '.join(FORMATS)})") from error
    kind = "Excel" if is_workbook(path) else named_format(path)
    if kind is None:
        remedy = (
            f"`jq -c '.[]' {path.name}` makes JSONL of an array"
            if path.suffix.lower() == ".json"
            else "save the table in one of these formats"
        )
        raise DataError(f"{path}: ending {path.suffix or '(none)'!r} is not one of {', '.join(FORMATS)}; {remedy}")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty (0 bytes); expected {kind} with at least a header and rows")
    if kind == "Excel" and not is_workbook(path):
        raise DataError(f"{path}: is named {path.suffix}, but is no Excel workbook; rename it to say what it is")
    return kind


def named_format(path: Path) -> str | None:
    """Return the format that the name of a file says, with or without .gz, or None."""
    kind = FORMATS.get(path.suffix.lower())
    if path.suffix.lower() == ".gz":
        kind = FORMATS.get(Path(path.stem).suffix.lower())
        return None if kind in ("Excel", "Parquet") else kind
    return kind


def unpacked_bytes(path: Path, columns: Iterable[str]) -> int:
    """Return the decompressed size of the file at `path` in bytes; for Parquet, the size of `columns`,
    for Excel, of its XML.

    Raises: the errors of `format_of`.
    """
    kind = format_of(path)
    if kind == "Excel":
        return unpacked_xml_bytes(path)
    if kind != "Parquet":
        return encoding_of(path).num_bytes if is_gzip(path) else path.stat().st_size
    metadata, wanted = _parquet_file(path).metadata, set(columns)
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    parts = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in wanted)


def open_tables(paths: Sequence[Path], columns: Mapping[str, str]) -> Cells:
    """Open files of one format, such as the months of a year, as one table; see `open_cells`."""
    opened = [open_cells(path, columns) for path in paths]
    first = opened[0]
    if len(opened) == 1:
        return first
    for path, cells in zip(paths, opened, strict=True):
        if cells.format != first.format:
            raise DataError(f"{path}: is {cells.format}, but {paths[0]} is {first.format}; give files of one format")
    dropped: Counter[str] = Counter()

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for path, cells in zip(paths, opened, strict=True):
            yield from ((f"{path.name}: {where}", row) for where, row in cells.rows)
            dropped.update(cells.dropped)

    notes = tuple(f"{path.name}: {note}" for path, cells in zip(paths, opened, strict=True) for note in cells.notes)
    return replace(first, rows=rows(), notes=notes, dropped=dropped)


def matching(pattern: str) -> list[Path]:
    """Return the files that a path or a pattern such as `reviews-*.csv` names, sorted.

    Raises: PrerequisiteError if no file matches a pattern.
    """
    path = expanded(pattern)
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    root = Path(path.anchor)
    found = sorted(each for each in root.glob(str(path.relative_to(root))) if each.is_file())
    if not found:
        raise PrerequisiteError(f"{pattern}: no file matches; give the path of a file, or a pattern that has matches")
    return found


def _delimited(
    path: Path, kind: str, columns: Mapping[str, str], expected: Collection[str], *, every_row: bool
) -> Cells:
    encoding = encoding_of(path)
    head = find_head(text_lines(path), kind, (*columns.values(), *expected))
    if not head.names:
        raise DataError(f"{path}: contains only white space; expected a header and rows")
    check_header(path, kind, head.names, alone=every_row)
    places = places_of(path, head.names, columns)
    quoting = _quoting_of(path, path.stat().st_mtime_ns, head)
    dropped: Counter[str] = Counter()

    def below() -> Iterator[tuple[int, list[str]]]:
        for _, last, cells in records(islice(text_lines(path), head.num_lines, None), head.separator, quoting):
            if cells:
                yield head.num_lines + last, cells

    rows = _kept_rows(below(), head.names, places, None if every_row else dropped)
    numbered = ((f"row {number} (line {line})", row) for number, (line, row) in enumerate(rows, 1))
    notes = [*encoding.notes, *([QUOTING_NOTES[quoting]] if quoting in QUOTING_NOTES else [])]
    if head.num_before:
        lines = "1 row" if head.num_before == 1 else f"{head.num_before} rows"
        notes.append(f"{lines} before the header (line {head.num_lines}) were left out")
    return Cells(kind, encoding.name, head.separator, head.names, numbered, tuple(notes), dropped)


def _kept_rows(
    rows: Iterable[tuple[int, Sequence[str]]],
    names: tuple[str, ...],
    places: Sequence[int],
    dropped: Counter[str] | None,
) -> Iterator[tuple[int, tuple[str | None, ...]]]:
    """Yield the cells at `places` of each row with its number.

    Empty rows and repetitions of the header `names` are left out and the latter counted in `dropped`, or, without it,
    stay as rows without a cell.
    """
    for number, cells in rows:
        repeated = tuple(map(clean_name, cells[: len(names)])) == names
        if dropped is not None and (repeated or not any(cells)):
            dropped[HEADER] += repeated
            continue
        yield number, tuple(cells[i] if i < len(cells) and not repeated else None for i in places)


def _workbook(path: Path, columns: Mapping[str, str], expected: Collection[str], *, every_row: bool) -> Cells:
    sheet = first_sheet(path, {clean_name(name) for name in (*columns.values(), *expected)})
    if not sheet.names:
        title = f"its first sheet, {sheet.title!r},"
        raise DataError(f"{path}: {title} has no cell that can be read; expected a header and rows: {SAVE}")
    where = f"{path}: sheet {sheet.title!r}" if sheet.others else path
    places = places_of(where, sheet.names, columns)
    dropped: Counter[str] = Counter()
    rows = _kept_rows(rows_below(path, sheet, places), sheet.names, places, None if every_row else dropped)
    numbered = ((f"row {number} of the sheet", row) for number, row in rows)
    return Cells("Excel", None, None, sheet.names, numbered, sheet.notes, dropped)


@lru_cache(maxsize=8)
def _quoting_of(path: Path, _mtime_ns: int, head: Head) -> Quoting:
    """Return how the file quotes its cells, kept until the file changes."""
    return quoting_of(path, lambda: text_lines(path), head)


def json_object(line: str, where: str) -> dict[str, Any]:
    """Return the JSON object on a line; raise DataError if there is none."""
    try:
        value = json.loads(line)
    except ValueError as error:
        problem = f"{error.msg}, character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"{where}: not JSON ({problem}); expected one object per line") from error
    except RecursionError as error:
        raise DataError(f"{where}: nested too deeply; expected one flat object") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__}; expected one JSON object per line")
    return value


def _json_lines(path: Path, columns: Mapping[str, str]) -> Cells:
    encoding = encoding_of(path)

    def objects() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, line in enumerate(text_lines(path), 1):
            if line.strip():
                yield f"line {number}", json_object(line, f"{path}: line {number}")

    names: dict[str, None] = {}
    for _, (_, value) in zip(range(_HEAD_LINES), objects(), strict=False):
        names.update(dict.fromkeys(value))
    if not names:
        raise DataError(f"{path}: contains no JSON object; expected one per line")
    keys = [list(names)[i] for i in places_of(path, list(names), columns)]
    rows = ((where, tuple(value.get(key) for key in keys)) for where, value in objects())
    return Cells("JSONL", encoding.name, None, tuple(names), rows, encoding.notes)


def _parquet_file(path: Path) -> ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0][:120]})") from error


def _parquet(path: Path, columns: Mapping[str, str]) -> Cells:
    import pyarrow as pa

    file = _parquet_file(path)
    names = list(file.schema_arrow.names)
    wanted = [names[i] for i in places_of(path, names, columns)]

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        number = 0
        try:
            for batch in file.iter_batches(columns=wanted):
                table = batch.to_pydict()
                for cells in zip(*(table[name] for name in wanted), strict=True):
                    number += 1
                    yield f"row {number}", cells
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: damaged after row {number} ({str(error).splitlines()[0][:120]})") from error

    return Cells("Parquet", None, None, tuple(names), rows())
