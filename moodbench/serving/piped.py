"""Texts from rows that arrive through a pipe: each row is answered before the next one arrives."""

from __future__ import annotations

import csv
import sys
from collections import deque
from collections.abc import Iterator
from typing import Literal

from moodbench.data.files import (
    LONGEST_BYTES,
    check_header,
    check_row,
    json_object,
    places_of,
    separator_of,
    unquoted,
)
from moodbench.serving.texts import DEFAULT_COLUMN, blocks_of_lines, checked_text, counted, in_pieces, wanted_column

Piped = Literal["jsonl", "csv", "tsv"]
"""Formats of rows with a text, which may contain line breaks."""
_NAME = "standard input"


def read_piped(kind: Piped, column: str | None = None) -> Iterator[list[str]]:
    """Yield the texts of the rows on standard input in chunks of 1 to CHUNK texts, as soon as rows are complete.

    `column` is the column of the texts (default: `text`, or the only one).
    Raises: DataError, which names the malformed line or row.
    """
    blocks = blocks_of_lines(sys.stdin.buffer, _NAME)
    arrived = _objects(blocks, column) if kind == "jsonl" else _rows(blocks, kind.upper(), column)
    return counted((piece for texts in arrived for piece in in_pieces(texts)), _NAME)


def _objects(blocks: Iterator[list[str]], column: str | None) -> Iterator[list[str]]:
    number, wanted = 0, None
    for lines in blocks:
        texts = []
        for line in lines:
            number += 1
            if line.strip():
                where = f"{_NAME}: line {number}"
                value = json_object(line, where)
                wanted = wanted or wanted_column(_NAME, list(value), column)
                texts.append(checked_text(value.get(wanted), f"{where}: {wanted!r}"))
        yield texts


class _Feed:
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
                self._let_go()
        if block is None:
            self._let_go()
        return block is not None

    def _let_go(self) -> None:
        self.lines.extend(self._held)
        self._held.clear()
        self._held_quotes = self._held_length = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self.lines:
            if self._held:
                self._let_go()
            elif not self.fill():
                raise StopIteration
        return self.lines.popleft()


def _rows(blocks: Iterator[list[str]], kind: str, column: str | None) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_BYTES)
    feed = _Feed(blocks)
    is_open = True
    while not (first := next((line for line in feed.lines if line.strip()), "")):
        if not is_open:
            return
        is_open = feed.fill()
    separator = "\t" if kind == "TSV" else separator_of(first, {column or DEFAULT_COLUMN})
    reader = csv.reader(feed, delimiter=separator, strict=True)
    try:
        header = [cell.strip() for cell in next(row for row in reader if any(row))]
        check_header(_NAME, kind, header, alone=True)
        wanted = wanted_column(_NAME, header, column)
        (place,) = places_of(_NAME, header, {"text_column": wanted})
        number = 0
        while is_open or feed.lines:
            texts = []
            while feed.lines:
                row = next(reader)
                if row:
                    number += 1
                    where = f"{_NAME}: row {number} (line {reader.line_num})"
                    check_row(where, row, header, separator)
                    texts.append(checked_text(row[place], f"{where}: {wanted!r}"))
            yield texts
            is_open = feed.fill()
    except csv.Error as error:
        raise unquoted(_NAME, reader.line_num, error) from error
