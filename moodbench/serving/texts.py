"""Texts of a file or a pipe, in order and in pieces, so that neither need fit in memory."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import batched
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from moodbench.errors import DataError, PrerequisiteError, UsageError

STANDARD = "-"
"""Standard input or output."""
CHUNK = 1024
"""Most texts in one piece."""
LONGEST_BYTES = 16 * 2**20
"""Longest line or field; what is longer is no text but a sign of a wrong file or an unclosed quote."""
BLOCK_BYTES = 1 << 16
DEFAULT_COLUMN = "text"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
TABLES = (*SEPARATORS, *JSON_LINES, ".parquet")
_BOM = b"\xef\xbb\xbf"


def read_texts(source: str, column: str | None = None) -> Iterator[list[str]]:
    """The texts of `source` in order, in pieces of 1 to CHUNK: lines of a .txt file or of standard input (`-`), or one
    `column` of a CSV, TSV, JSONL or Parquet file (default: `text`, or the only one there is).

    A piece comes as soon as there is one, so a slow pipe is answered line by line. What is wrong is raised where it
    stands: PrerequisiteError for a file that cannot be opened, UsageError for an impossible request, DataError for
    contents that are not as they should be, with line, byte or row.
    """
    name = "standard input" if source == STANDARD else source
    suffix = "" if source == STANDARD else Path(source).suffix.lower()
    if source != STANDARD and suffix not in (".txt", *TABLES):
        raise UsageError(
            f"{source}: its name does not end in .txt, {', '.join(TABLES)}; rename it to say what it is, "
            "or send one text per line to `--input -`"
        )
    if column is not None and suffix not in TABLES:
        raise UsageError(f"--text-column {column!r}: {name} has one text per line and no columns; leave it out")
    return _counted(_pieces(source, name, suffix, column), name)


def _counted(pieces: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """`pieces`; DataError when there was none."""
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
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; only the opening is guarded
    except OSError as error:
        raise PrerequisiteError(f"{source}: {error.strerror}; expected a file with texts") from error
    with closing(file):
        if suffix == ".txt":
            yield from _line_pieces(file, name)
        elif suffix in SEPARATORS:
            yield from _in_pieces(_csv_texts(_lines(file, name), name, SEPARATORS[suffix], column))
        elif suffix in JSON_LINES:
            yield from _in_pieces(_json_texts(_lines(file, name), name, column))
        else:
            yield from _parquet_pieces(file, name, column)


def _in_pieces(texts: Iterable[str]) -> Iterator[list[str]]:
    return map(list, batched(texts, CHUNK))


def _line_pieces(file: BinaryIO, name: str) -> Iterator[list[str]]:
    for lines in _blocks_of_lines(file, name):
        yield from _in_pieces(line.removesuffix("\n").removesuffix("\r") for line in lines)


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    for lines in _blocks_of_lines(file, name):
        yield from lines


def _blocks_of_lines(file: BinaryIO, name: str) -> Iterator[list[str]]:
    """The lines of a UTF-8 file with their line ends, as many at a time as have arrived; a byte order mark is dropped."""
    read = file.read1 if isinstance(file, io.BufferedReader) else file.read
    rest, offset = b"", 0
    while block := read(BLOCK_BYTES):
        if b"\0" in block:
            raise DataError(
                f"{name}: byte {offset + len(rest) + block.index(0)} is 0, so this is binary or UTF-16, not UTF-8 text; "
                "save it as UTF-8"
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


def _csv_texts(lines: Iterator[str], name: str, separator: str, column: str | None) -> Iterator[str]:
    csv.field_size_limit(LONGEST_BYTES)
    rows = csv.reader(lines, delimiter=separator, strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        at = _column_index(header, name, column, _separator_hint(header, separator))
        for row in rows:
            if not row:
                continue  # a blank line is no row
            if len(row) != len(header):
                raise DataError(
                    f"{name}, line {rows.line_num}: {len(row)} fields, the header has {len(header)}; "
                    "a text that holds the separator or a line break must stand in double quotes"
                )
            yield row[at]
    except csv.Error as error:
        raise DataError(
            f"{name}, line {rows.line_num}: not CSV ({error}); a quote inside quotes is written twice"
        ) from error


def _separator_hint(header: list[str], separator: str) -> str:
    if len(header) == 1:
        for other, said in ((";", "semicolons"), ("\t", "tabs (then name it .tsv)"), ("|", "bars"), (",", "commas")):
            if other != separator and other in header[0]:
                return f"; it looks separated by {said}, expected is {separator!r}"
    return ""


def _column_index(names: list[str], name: str, column: str | None, hint: str = "") -> int:
    """The place of the wanted column; DataError that says which there are."""
    there = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
    if column is None and len(names) == 1 and not hint:
        return 0
    wanted = DEFAULT_COLUMN if column is None else column
    if names.count(wanted) != 1:
        many = f"{names.count(wanted)} columns" if wanted in names else "no column"
        raise DataError(f"{name}: {many} {wanted!r}; there are {there}{hint}; choose with --text-column")
    return names.index(wanted)


def _json_texts(lines: Iterator[str], name: str, column: str | None) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
            raise DataError(f"{where}: not JSON ({reason}); expected one object per line") from error
        if not isinstance(value, dict):
            raise DataError(f"{where}: {_kind(value)}; expected an object such as " + '{"text": "..."}')
        column = wanted = list(value)[_column_index(list(value), where, column)]
        yield checked_text(value[wanted], f"{where}: {wanted!r}")


def checked_text(value: Any, where: str) -> str:
    """`value`, when it is a text that can be written as UTF-8; DataError says what it is instead."""
    if not isinstance(value, str):
        raise DataError(f"{where} is {_kind(value)}; expected a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where} holds half a surrogate pair at character {error.start}; expected Unicode") from error
    return value


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _parquet_pieces(file: BinaryIO, name: str, column: str | None) -> Iterator[list[str]]:
    try:
        opened = pq.ParquetFile(file)
        schema = opened.schema_arrow
        wanted = schema.names[_column_index(schema.names, name, column)]
        type_ = schema.field(wanted).type
        plain = type_.value_type if pa.types.is_dictionary(type_) else type_
        if not (pa.types.is_string(plain) or pa.types.is_large_string(plain)):
            raise DataError(f"{name}: column {wanted!r} is {type_}; expected string")
        row = 0
        for batch in opened.iter_batches(batch_size=CHUNK, columns=[wanted]):
            texts = batch.column(0).to_pylist()
            if None in texts:
                raise DataError(f"{name}, row {row + texts.index(None)}: {wanted!r} is null; expected a text")
            row += len(texts)
            if texts:
                yield texts
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]})") from error
