"""Texts of a file or a pipe, in order and in chunks, so that the input need not fit in memory."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO

from moodbench.data.files import FORMATS, LONGEST_BYTES, open_cells
from moodbench.errors import DataError, PrerequisiteError, UsageError

STANDARD = "-"
"""Argument for standard input or standard output."""
CHUNK = 1024
"""Maximum number of texts in one chunk."""
BLOCK_BYTES = 1 << 16
DEFAULT_COLUMN = "text"
_BOM = b"\xef\xbb\xbf"


def read_texts(source: str, column: str | None = None) -> Iterator[list[str]]:
    """Return an iterator over the texts of `source`, in order and in chunks of 1 to CHUNK texts.

    The texts are the lines of a .txt file or of standard input (`-`), or one `column` of a CSV, TSV, JSONL or Parquet
    file as read by `moodbench.data.files` (default: `text`, or the only one). A chunk is yielded as soon as it is
    available, so a slow pipe is answered line by line. Contents are checked as they are read.
    Raises: UsageError if the request is impossible; PrerequisiteError if a file cannot be opened; DataError, which
    names the line, byte or row, if contents are malformed.
    """
    name = "standard input" if source == STANDARD else source
    suffix = "" if source == STANDARD else Path(source).suffix.lower()
    if source != STANDARD and suffix not in (".txt", *FORMATS):
        raise UsageError(
            f"{source}: its name does not end in .txt, {', '.join(FORMATS)}; rename it to say what it is, "
            "or send one text per line to `--input -`"
        )
    if column is not None and suffix not in FORMATS:
        also = ", or say with --input-format what it holds" if source == STANDARD else ""
        raise UsageError(f"--text-column {column!r}: {name} has one text per line and no columns; leave it out{also}")
    return counted(_pieces(source, name, suffix, column), name)


def counted(pieces: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """Yield `pieces` unchanged; raise DataError if there are none."""
    empty = True
    for piece in pieces:
        empty = False
        yield piece
    if empty:
        raise DataError(f"{name}: holds no text; expected at least one")


def _pieces(source: str, name: str, suffix: str, column: str | None) -> Iterator[list[str]]:
    if source == STANDARD:
        yield from _line_pieces(sys.stdin.buffer, name)
        return
    if suffix in FORMATS:
        yield from in_pieces(_cells(Path(source), column))
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; only the opening is guarded
    except OSError as error:
        raise PrerequisiteError(f"{source}: {error.strerror}; expected a file with texts") from error
    with closing(file):
        yield from _line_pieces(file, name)


def in_pieces(texts: Iterable[str]) -> Iterator[list[str]]:
    """Return `texts` in lists of 1 to CHUNK texts."""
    return map(list, batched(texts, CHUNK))


def _line_pieces(file: BinaryIO, name: str) -> Iterator[list[str]]:
    for lines in blocks_of_lines(file, name):
        yield from in_pieces(line.removesuffix("\n").removesuffix("\r") for line in lines)


def blocks_of_lines(file: BinaryIO, name: str) -> Iterator[list[str]]:
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


def _cells(path: Path, column: str | None) -> Iterator[str]:
    wanted = wanted_column(str(path), open_cells(path, {}, every_row=True).columns, column)
    for where, (value,) in open_cells(path, {"text_column": wanted}, every_row=True).rows:
        yield checked_text(value, f"{path}: {where}: {wanted!r}")


def wanted_column(name: str, names: Sequence[str], column: str | None) -> str:
    """Return the name of the column with the texts: `column`, the only one, or `text`.

    Raises: DataError if `name` has no such column.
    """
    wanted = names[0] if column is None and len(names) == 1 else column or DEFAULT_COLUMN
    if wanted not in names:
        there = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        raise DataError(f"{name}: no column {wanted!r}; there are {there}; choose with --text-column")
    return wanted


def checked_text(value: Any, where: str) -> str:
    """Return `value` if it is a text that can be encoded as UTF-8.

    Raises: DataError, which says what `value` is instead.
    """
    if not isinstance(value, str):
        raise DataError(f"{where} is {_kind(value)}; expected a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds half a surrogate pair at character {error.start}; expected Unicode") from error
    return value


def _kind(value: Any) -> str:
    names = {
        type(None): "missing or null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
