"""Texts read from a file or a pipe in order and in chunks, and their predictions written as they are made.

Neither needs to fit in memory. An output file appears when it is complete; standard output is flushed per chunk.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from moodbench.data.delimited import (
    SEPARATOR_LINE,
    check_header,
    clean_name,
    find_head,
    places_of,
    swallowing,
    swallows_rows,
    too_many_cells,
    unbalanced,
)
from moodbench.data.files import FORMATS, json_object, named_format, open_cells
from moodbench.data.textfile import LONGEST_BYTES, refuse_container
from moodbench.errors import DataError, PrerequisiteError, UsageError
from moodbench.paths import output_file
from moodbench.report.formatting import neutralised
from moodbench.serving.classifier import Prediction

STANDARD = "-"
"""Argument for standard input or standard output."""
STDIN = "standard input"
InputFormat = Literal["lines", "jsonl", "csv", "tsv"]
"""Contents of standard input: one text per line, or rows with a text, which may contain line breaks."""
CHUNK = 1024
"""Maximum number of texts in one chunk."""
BLOCK_BYTES = 1 << 16
DEFAULT_COLUMN = "text"
_BOM = b"\xef\xbb\xbf"
OutputFormat = Literal["jsonl", "csv"]
Chunk = list[str | None]
"""The texts of some rows; None where a row has none."""
_log = logging.getLogger(__name__)
_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9.,]*\s*")


def read_texts(source: str, column: str | None = None, stdin_format: InputFormat = "lines") -> Iterator[Chunk]:
    """Return an iterator over the texts of `source`, one for each row, in order and in chunks of 1 to CHUNK texts.

    The texts are the lines of a .txt file or of standard input (`-`), or one `column` (default: `text`, or the only
    one) of a CSV, TSV, Excel, JSONL or Parquet file, or of rows on standard input. A chunk is yielded as soon as it is
    available, so a slow pipe is answered row by row. A row without a text (null, a missing key, a list, half a
    surrogate pair) gives None, a number its digits. Contents are checked as they are read.
    Raises: UsageError if the request is impossible; PrerequisiteError if a file cannot be opened; DataError, which
    names the line, byte or row, if contents are malformed.
    """
    name = STDIN if source == STANDARD else source
    if not _has_columns(source, column, stdin_format):
        chunks = _lines(source, name)
    elif source != STANDARD:
        chunks = _chunked(_cells(Path(source), column))
    else:
        blocks = _blocks_of_lines(sys.stdin.buffer, name)
        arrived = _objects(blocks, column) if stdin_format == "jsonl" else _rows(blocks, stdin_format.upper(), column)
        chunks = (chunk for texts in arrived for chunk in _chunked(texts))
    return _not_empty(chunks, name)


def _has_columns(source: str, column: str | None, stdin_format: InputFormat) -> bool:
    """Return whether `source` has columns, not one text per line; raise UsageError if the request is impossible."""
    if source == STANDARD:
        name, also, columns = STDIN, ", or give its format with --input-format", stdin_format != "lines"
    else:
        suffix = Path(source).suffix.lower()
        name, also, columns = source, "", named_format(Path(source)) is not None
        if stdin_format != "lines":
            raise UsageError(
                f"--input-format {stdin_format}: is the format of standard input; that of {source} follows from its "
                "name; leave it out"
            )
        if not columns and suffix != ".txt":
            if Path(source).is_file():
                refuse_container(Path(source))
            raise UsageError(
                f"{source}: its name does not end in .txt, {', '.join(FORMATS)}; rename it to say what it is, "
                "or send one text per line to `--input -`"
            )
    if column is not None and not columns:
        raise UsageError(f"--text-column {column!r}: {name} has one text per line and no columns; leave it out{also}")
    return columns


def _not_empty(chunks: Iterator[Chunk], name: str) -> Iterator[Chunk]:
    empty = True
    for chunk in chunks:
        empty = False
        yield chunk
    if empty:
        raise DataError(f"{name}: holds no text; expected at least one")


def _chunked(texts: Iterable[str | None]) -> Iterator[Chunk]:
    return map(list, batched(texts, CHUNK))


def _lines(source: str, name: str) -> Iterator[Chunk]:
    try:
        file = sys.stdin.buffer if source == STANDARD else Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise PrerequisiteError(f"{source}: {error.strerror}; expected a file with texts") from error
    with nullcontext(file) if source == STANDARD else closing(file):
        for lines in _blocks_of_lines(file, name):
            yield from _chunked(line.removesuffix("\n").removesuffix("\r") for line in lines)


def _blocks_of_lines(file: BinaryIO, name: str) -> Iterator[list[str]]:
    """Yield the lines of a UTF-8 file with their line ends, as many at a time as have arrived.

    A byte order mark is dropped.
    Raises: DataError if the file is not UTF-8 text, or if a line is longer than LONGEST_BYTES.
    """
    read = file.read1 if isinstance(file, io.BufferedReader) else file.read
    rest, offset = b"", 0
    while block := read(BLOCK_BYTES):
        if b"\0" in block:
            raise DataError(
                f"{name}: byte {offset + len(rest) + block.index(0)} is 0, "
                "so this is binary or UTF-16, not UTF-8 text; save it as UTF-8"
            )
        if offset == 0 and not rest and block.startswith(_BOM):
            block, offset = block[len(_BOM) :], len(_BOM)
        whole, newline, tail = block.rpartition(b"\n")
        if newline:
            data = rest + whole + newline
            yield _decoded(data, name, offset)
            rest, offset = tail, offset + len(data)
        else:
            rest += tail
        if len(rest) > LONGEST_BYTES:
            raise DataError(
                f"{name}: from byte {offset} on, one line is longer than 16 MiB; expected one text per line"
            )
    if rest:
        yield _decoded(rest, name, offset)


def _decoded(data: bytes, name: str, offset: int) -> list[str]:
    try:
        # str.splitlines would also split at U+2028 and the like, which belong to a text.
        return list(io.StringIO(data.decode("utf-8"), newline="\n"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: byte {offset + error.start} (0x{data[error.start]:02x}) is not UTF-8; "
            f"convert the file, for instance: iconv -f latin1 -t utf-8"
        ) from error


def _cells(path: Path, column: str | None) -> Iterator[str | None]:
    expected = (column or DEFAULT_COLUMN,)
    opened = open_cells(path, {}, every_row=True, expected=expected)
    for note in opened.notes:
        _log.warning("%s: %s", path, note)
    wanted = _text_column(str(path), opened.columns, column)
    for _, (value,) in open_cells(path, {"text_column": wanted}, every_row=True).rows:
        yield _text(value)


def _text(value: Any) -> str | None:
    """Return a text as it is and a number as its digits; None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return str(value)
    if not isinstance(value, str):
        return None
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can represent
        return None
    return value


def _objects(blocks: Iterator[list[str]], column: str | None) -> Iterator[Chunk]:
    number, wanted = 0, None
    for lines in blocks:
        texts: Chunk = []
        for line in lines:
            number += 1
            if line.strip():
                value = json_object(line, f"{STDIN}: line {number}")
                wanted = wanted or _text_column(STDIN, list(value), column)
                texts.append(_text(value.get(wanted)))
        yield texts


class _CsvLines:
    """Lines for the csv reader.

    A row is requested from the reader only when the quotes so far are balanced, so that the reader waits for more input
    only inside a cell.
    """

    def __init__(self, blocks: Iterator[list[str]]) -> None:
        self._blocks = blocks
        self.lines = deque[str]()
        """Lines of complete rows, judging by balanced quotes."""
        self._held: list[str] = []
        self._held_quotes = self._held_length = 0

    def fill(self) -> bool:
        """Read another block and return whether there was one; at the end of the input, release the held lines."""
        block = next(self._blocks, None)
        for line in block or ():
            self._held.append(line)
            self._held_quotes += line.count('"')
            self._held_length += len(line)
            if self._held_quotes % 2 == 0 or self._held_length > LONGEST_BYTES:  # too long: the reader reports it
                self._release()
        if block is None:
            self._release()
        return block is not None

    def _release(self) -> None:
        self.lines.extend(self._held)
        self._held.clear()
        self._held_quotes = self._held_length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self.lines:
            if self._held:
                self._release()
            elif not self.fill():
                raise StopIteration
        return self.lines.popleft()


def _rows(blocks: Iterator[list[str]], kind: str, column: str | None) -> Iterator[Chunk]:
    csv.field_size_limit(LONGEST_BYTES)
    feed = _CsvLines(blocks)
    is_open, opening = True, list[str]()
    while not (opening and opening[-1].strip() and not SEPARATOR_LINE.fullmatch(opening[-1])):
        while not feed.lines:
            if not is_open:
                return
            is_open = feed.fill()
        opening.append(feed.lines.popleft())
    feed.lines.extendleft(opening[:-2:-1])
    head = find_head(opening, kind, {column or DEFAULT_COLUMN})
    reader = csv.reader(feed, delimiter=head.separator, strict=True)
    skipped, last = len(opening) - 1, 0
    try:
        names = tuple(clean_name(cell) for cell in next(reader))
        head = head._replace(names=names, num_lines=skipped + reader.line_num)
        check_header(STDIN, kind, names, alone=True)
        (place,) = places_of(STDIN, names, {"text_column": _text_column(STDIN, names, column)})
        number = 0
        while is_open or feed.lines:
            texts: Chunk = []
            while feed.lines:
                first, row, last = reader.line_num + 1, next(reader), reader.line_num
                if row:
                    number += 1
                    if any(row[len(names) :]):
                        raise too_many_cells(f"{STDIN}: row {number} (line {skipped + last})", row, head)
                    if last > first and swallows_rows(row, head):
                        raise swallowing(STDIN, skipped + first, skipped + last)
                    texts.append(row[place] if place < len(row) else None)
            yield texts
            is_open = feed.fill()
    except csv.Error as error:
        raise unbalanced(STDIN, skipped + reader.line_num, error) from error


def _text_column(name: str, names: Sequence[str], column: str | None) -> str:
    """Return the name of the column with the texts: `column`, the only one, or `text`.

    Raises: DataError if `name` has no such column.
    """
    wanted = names[0] if column is None and len(names) == 1 else column or DEFAULT_COLUMN
    if wanted not in names:
        there = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        raise DataError(f"{name}: no column {wanted!r}; there are {there}; choose with --text-column")
    return wanted


class Written(NamedTuple):
    """How many rows were written."""

    num_rows: int
    num_without_text: int
    """Rows with an empty label, because they have no text."""


def has_words(text: str | None) -> bool:
    """Return whether `text` is there, has a visible character and is not only a number."""
    return (
        text is not None
        and not _NUMBER.fullmatch(text)
        and any(char.isprintable() and not char.isspace() for char in text)
    )


def write_predictions(
    chunks: Iterable[Sequence[str | None]],
    predict: Callable[[Sequence[str]], Sequence[Prediction]],
    out: BinaryIO,
    *,
    labels: Sequence[str],
    format: OutputFormat = "jsonl",
    extra: Collection[str] = (),
) -> Written:
    """Write one row for each text to `out`, in order, and return the numbers of rows.

    The predictions of a chunk are written as soon as they are made. Columns: index (0, 1, ... in the order of the
    input), label, probability, truncated; all but the index are empty (null in JSON) where there is no text. `extra`
    may add `probabilities`, one of each label, and `text`, which is left out by default because it may be private.
    Raises: DataError if there are several rows and every text is a number.
    """
    fields = ["index", "label", "probability", "truncated", *(n for n in ("probabilities", "text") if n in extra)]
    if format == "csv":
        columns = [[f"probability_{label}" for label in labels] if n == "probabilities" else [n] for n in fields]
        out.write(_csv_rows([[name for names in columns for name in names]]))
    index = num_without = num_numbers = 0
    for texts in chunks:
        made = iter(predict([text for text in texts if text is not None and has_words(text)]))
        rows = []
        for text in texts:
            found = next(made) if has_words(text) else None
            values = found._asdict() if found else dict.fromkeys(Prediction._fields)
            row = {"index": index, **values, "text": text}
            rows.append({name: row[name] for name in fields})
            index += 1
            num_without += found is None
            num_numbers += text is not None and bool(_NUMBER.fullmatch(text))
        out.write(_csv_rows(_flat(row, len(labels)) for row in rows) if format == "csv" else _json_lines(rows))
        out.flush()
    if index > 1 and num_numbers == index:
        raise DataError("every text is a number, so this is not the text; choose the column with --text-column")
    return Written(index, num_without)


def _json_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode("utf-8")


def _flat(row: dict[str, Any], num_labels: int) -> list[Any]:
    """Return the cells of a row in the order of the header."""
    cells: list[Any] = []
    for name, value in row.items():
        if name == "probabilities":
            cells += [None] * num_labels if value is None else value.values()
        else:
            cells.append(str(value).lower() if isinstance(value, bool) else value)
    return cells


def _csv_rows(rows: Iterable[Sequence[Any]]) -> bytes:
    """Return the rows as CSV in which no cell is a formula of a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([neutralised(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8")


@contextmanager
def open_output(target: str, source: str) -> Iterator[BinaryIO]:
    """Yield a binary file: standard output, or an `output_file` for `target`.

    Raises: UsageError if `target` is closed, a folder or the `source` itself; PrerequisiteError if it cannot be
    written.
    """
    if target == STANDARD:
        if sys.__stdout__ is None:
            raise UsageError(f"--output {STANDARD}: standard output is closed; give a file's name")
        yield sys.stdout.buffer
        return
    path = Path(target)
    if source != STANDARD and path.exists() and path.samefile(source):
        raise UsageError(f"--output {target}: is the input; give another name")
    with output_file(path) as file:
        yield file
