"""Read the user's own file (CSV, TSV, JSONL or Parquet) row by row and find its columns; errors name the line."""

from __future__ import annotations

import codecs
import csv
import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moodbench.errors import DataError, PrerequisiteError, nearest

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

FORMATS = {
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
"""File name suffix -> format."""
LONGEST_BYTES = 16 * 2**20
"""Maximum length of a line or cell; anything longer indicates a wrong file or an unclosed quote."""
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_HEAD_LINES = 100
"""Number of JSON lines that determine the columns; one line is not enough, as writers may omit empty fields."""


@dataclass(frozen=True)
class Cells:
    """A file opened for reading, with its format, columns and rows."""

    format: str
    encoding: str | None
    """utf-8, cp1252 or latin-1; None for Parquet, whose text is always UTF-8."""
    separator: str | None
    """Delimiter of a CSV or TSV file; None for other formats."""
    columns: tuple[str, ...]
    """All columns of the file."""
    rows: Iterator[tuple[str, tuple[Any, ...]]]
    """For each row, its location as text for messages, and the cells of the requested columns."""


def open_cells(path: Path, columns: Mapping[str, str], *, every_row: bool = False) -> Cells:
    """Open the file at `path` and return its `columns` (role -> name); rows are read lazily.

    In a delimited file, rows of only empty cells are skipped like blank lines, unless `every_row` is set, which also
    allows a file with a single column.
    Raises: PrerequisiteError if there is no such file; DataError if it is empty, binary, of another format or lacks a
    column.
    """
    kind = format_of(path)
    if kind == "Parquet":
        return _parquet(path, columns)
    encoding = _encoding_of(path, path.stat().st_mtime_ns)
    if kind == "JSONL":
        return _json_lines(path, encoding, columns)
    return _delimited(path, kind, encoding, columns, every_row=every_row)


def format_of(path: Path) -> str:
    """Return the format of the file at `path`, one of the values of `FORMATS`.

    Raises: PrerequisiteError if it cannot be opened; DataError if it is a folder, not a regular file, empty or has an
    unknown suffix.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(f"{path}: is a folder; give one file ({', '.join(FORMATS)})")
        if not stat.S_ISREG(mode):
            raise DataError(
                f"{path}: is a pipe or a device; expected a regular file, because it is read several times: write it "
                "to a file first"
            )
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise PrerequisiteError(f"{path}: {error.strerror}; give the path of a file ({', '.join(FORMATS)})") from error
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: ending {path.suffix or '(none)'!r} is not one of {', '.join(FORMATS)}; "
            "save the table in one of these formats"
        )
    if not head:
        raise DataError(f"{path}: the file is empty (0 bytes); expected {kind} with at least a header and rows")
    return kind


def unpacked_bytes(path: Path, columns: Iterable[str]) -> int:
    """Return the size of the file at `path` in bytes; for Parquet, the uncompressed size of `columns`.

    Raises: the errors of `format_of`.
    """
    if format_of(path) != "Parquet":
        return path.stat().st_size
    metadata, wanted = _parquet_file(path).metadata, set(columns)
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    parts = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in wanted)


_NOT_WINDOWS = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
"""Bytes that are undefined in cp1252."""


@lru_cache(maxsize=8)
def _encoding_of(path: Path, _: int) -> str:
    """Return the encoding of a text file: utf-8-sig if all bytes are valid UTF-8, else cp1252 or latin-1.

    cp1252 is what Windows programs write when they say ANSI or latin-1. The two differ only in the bytes 80 to 9f:
    printable characters such as the curly apostrophe in cp1252, but control characters, which do not occur in text, in
    latin-1. latin-1 is returned only if the file has a byte that is undefined in cp1252. Web browsers likewise read
    latin-1 as cp1252: https://encoding.spec.whatwg.org/#names-and-labels. The second parameter is the modification time
    of the file, part of the cache key.
    Raises: DataError for UTF-16 and binary files, and for lines longer than `LONGEST_BYTES`.
    """
    decoder, other, start, line_start = codecs.getincrementaldecoder("utf-8")(), "cp1252", 0, 0
    utf8 = True
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            if start == 0 and block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise DataError(f"{path}: is UTF-16 text; allowed are UTF-8, cp1252 and latin-1, save it as UTF-8")
            nul = block.find(b"\0")
            if nul >= 0:
                raise DataError(
                    f"{path}: is binary, not text (NUL at byte {start + nul}); a spreadsheet or an archive must be "
                    "exported as CSV in UTF-8 first"
                )
            if (line_end := block.rfind(b"\n")) >= 0:
                line_start = start + line_end + 1
            if start + len(block) - line_start > LONGEST_BYTES:
                raise DataError(
                    f"{path}: from byte {line_start} on, one line is longer than {LONGEST_BYTES >> 20} MiB; expected "
                    "one row per line, but for line breaks in double quotes"
                )
            if utf8:
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    utf8 = False
            if _NOT_WINDOWS.search(block):
                other = "latin-1"
            start += len(block)
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    return "utf-8-sig" if utf8 else other


def _delimited(path: Path, kind: str, encoding: str, columns: Mapping[str, str], *, every_row: bool) -> Cells:
    csv.field_size_limit(LONGEST_BYTES)
    with path.open(encoding=encoding, newline="") as file:
        line = next((line for line in file if line.strip()), "")
    if not line:
        raise DataError(f"{path}: contains only white space; expected a header and rows")
    separator = "\t" if kind == "TSV" else separator_of(line, set(columns.values()))
    with path.open(encoding=encoding, newline="") as file:
        try:
            header = [cell.strip() for cell in next(r for r in csv.reader(file, delimiter=separator) if any(r))]
        except csv.Error as error:
            raise DataError(f"{path}: the header cannot be read: {error}") from error
    check_header(path, kind, header, alone=every_row)
    places = places_of(path, header, columns)

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            number = -1
            try:
                for row in reader:
                    if not (row if every_row and number >= 0 else any(row)):
                        continue
                    number += 1
                    if number == 0:
                        continue
                    where = f"row {number} (line {reader.line_num})"
                    check_row(f"{path}: {where}", row, header, separator)
                    yield where, tuple(row[i] for i in places)
            except csv.Error as error:
                raise unquoted(path, reader.line_num, error) from error

    return Cells(kind, _plain(encoding), separator, tuple(header), rows())


def check_header(name: Path | str, kind: str, header: Sequence[str], *, alone: bool) -> None:
    """Raise DataError for a header with a single column, unless `alone` allows it and it contains no separator."""
    if len(header) == 1 and not (alone and not any(other in header[0] for other in SEPARATORS)):
        raise DataError(
            f"{name}: its header has a single column, {_short(header[0])}; the separator is expected to be one of "
            f"{', '.join(SEPARATORS.values())}" + (" (a .tsv file: tab)" if kind == "TSV" else "")
        )


def check_row(where: str, row: Sequence[str], header: Sequence[str], separator: str) -> None:
    """Raise DataError for a row with fewer cells than the header, or with more that are not empty."""
    if len(row) < len(header) or any(row[len(header) :]):
        raise DataError(
            f"{where}: {len(row)} cells where the header has {len(header)}; a text with the "
            f"separator ({SEPARATORS[separator]}) or a line break in it must be in double quotes"
        )


def unquoted(name: Path | str, line: int, error: csv.Error) -> DataError:
    """Return the DataError for unbalanced quotes."""
    return DataError(
        f"{name}: line {line}: {error}; a quoted cell ends with one double quote, and double quotes in it are doubled"
    )


def separator_of(header: str, wanted: set[str]) -> str:
    """Return the separator with which the header contains the `wanted` columns, else the one with the most columns."""

    def fit(separator: str) -> tuple[bool, int]:
        cells = [cell.strip() for cell in next(csv.reader([header], delimiter=separator), [])]
        return wanted <= set(cells), len(cells)

    return max(SEPARATORS, key=fit)


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


def _json_lines(path: Path, encoding: str, columns: Mapping[str, str]) -> Cells:
    def objects() -> Iterator[tuple[str, dict[str, Any]]]:
        with path.open(encoding=encoding) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                yield f"line {number}", json_object(line, f"{path}: line {number}")

    names: dict[str, None] = {}
    for _, (_, value) in zip(range(_HEAD_LINES), objects(), strict=False):
        names.update(dict.fromkeys(value))
    if not names:
        raise DataError(f"{path}: contains no JSON object; expected one per line")
    places_of(path, list(names), columns)
    rows = ((where, tuple(value.get(name) for name in columns.values())) for where, value in objects())
    return Cells("JSONL", _plain(encoding), None, tuple(names), rows)


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
    places_of(path, names, columns)

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        number = 0
        try:
            for batch in file.iter_batches(columns=list(columns.values())):
                table = batch.to_pydict()
                for cells in zip(*(table[name] for name in columns.values()), strict=True):
                    number += 1
                    yield f"row {number}", cells
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: damaged after row {number} ({str(error).splitlines()[0][:120]})") from error

    return Cells("Parquet", None, None, tuple(names), rows())


def places_of(path: Path | str, header: Sequence[str], columns: Mapping[str, str]) -> list[int]:
    """Return the index of each of `columns`, such as {"label_column": "stars"}, in the header.

    Raises: DataError for a missing column ("reviews.csv: no label column 'stars': ...") or one that occurs twice.
    """
    shown = ", ".join(_short(name) for name in header[:30]) + (" ..." if len(header) > 30 else "")
    for role, name in columns.items():
        if name not in header:
            near = nearest(name, header)
            hint = f"did you mean {near!r}? " if near else ""
            raise DataError(f"{path}: no {role.replace('_', ' ')} {name!r}: {hint}its columns are {shown}")
        if header.count(name) > 1:
            raise DataError(
                f"{path}: {role.replace('_', ' ')} {name!r} occurs {header.count(name)} times in the header"
            )
    return [header.index(name) for name in columns.values()]


def _plain(encoding: str) -> str:
    return encoding.removesuffix("-sig")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
