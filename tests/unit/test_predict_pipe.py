"""Rows through a pipe: the texts of a file, whatever pieces they arrive in, each answered before the next is sent."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from fitted_majority import commit_fit
from hypothesis import given
from hypothesis import strategies as st
from refused import fail

from moodbench.errors import DataError
from moodbench.serving.texts import CHUNK, read_texts
from moodbench.store import Store

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['5" disk', 'a "b"\nc', "\r\n", '""', "one,two;three\tfour", "\u2028"]
)


class _Arriving:
    """A binary file that gives its bytes in pieces of these sizes, over and over."""

    def __init__(self, content, sizes):
        self.content, self.sizes = io.BytesIO(content), sizes
        self.number = -1

    def read(self, _):
        self.number += 1
        return self.content.read(self.sizes[self.number % len(self.sizes)])


@contextlib.contextmanager
def arriving(content, sizes=(1 << 16,)):
    whole, sys.stdin = sys.stdin, SimpleNamespace(buffer=_Arriving(content, sizes))
    try:
        yield
    finally:
        sys.stdin = whole


def piped(kind, content, column=None, sizes=(1 << 16,)):
    with arriving(content, sizes):
        return list(read_texts("-", column, kind))


def table(rows, delimiter):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    return out.getvalue().encode()


sizes = st.lists(st.integers(1, 30), min_size=1, max_size=5)


@given(st.lists(text, min_size=1, max_size=8), sizes, st.sampled_from([("csv", ","), ("csv", ";"), ("tsv", "\t")]))
def test_a_table_comes_back_whatever_pieces_it_arrives_in(texts, sizes, form):
    kind, delimiter = form
    content = table([("id", "text"), *enumerate(texts)], delimiter)
    assert [t for piece in piped(kind, content, sizes=sizes) for t in piece] == texts


@given(st.lists(text, min_size=1, max_size=8), sizes)
def test_json_lines_come_back_whatever_pieces_they_arrive_in(texts, sizes):
    content = "\n\n".join(json.dumps({"n": 1, "text": t}, ensure_ascii=False) for t in texts).encode()
    assert [t for piece in piped("jsonl", content, sizes=sizes) for t in piece] == texts


def test_a_row_without_a_text_keeps_its_place():
    assert piped("jsonl", b'{"text": "x"}\n\n{"body": "x"}\n{"text": 3}\n') == [["x", None, "3"]]
    assert piped("csv", b'id,text\n1,"a\nb"\n2\n') == [["a\nb", None]]


def test_a_separator_line_is_no_header():
    assert piped("csv", b"sep=;\nid;text\n1;a\n", sizes=(7,)) == [["a"]]


def test_stray_quotes_in_plain_cells_only_delay_the_answer():
    assert piped("csv", b'id,text\n1,5" disk\n2,fine\n', sizes=(8, 11, 7)) == [['5" disk', "fine"]]


def test_many_rows_at_once_come_in_pieces_of_bounded_size():
    pieces = piped("csv", b"text\n" + b"x\n" * 30_000)
    assert sum(map(len, pieces)) == 30_000 and max(map(len, pieces)) <= CHUNK


BAD = {
    "nothing": ("csv", b"", None, "standard input: holds no text; expected at least one"),
    "white space": ("tsv", b"\n \n", None, "standard input: holds no text"),
    "a header only": ("csv", b"text\n", None, "standard input: holds no text"),
    "no such column": ("csv", b"id,body\n1,x\n", None, "standard input: no column 'text'; there are 'id', 'body'; choose with --text-column"),
    "no such key": ("jsonl", b'{"id": 1, "body": "x"}\n', "txt", "standard input: no column 'txt'; there are 'id', 'body'"),
    "no JSON": ("jsonl", b'{"text": "x"}\nx\n', None, "standard input: line 2: not JSON (Expecting value, character 1)"),
    "a list": ("jsonl", b"[1]\n", None, "standard input: line 1: a list; expected one JSON object per line"),
    "too many cells": ("csv", b"id,text\n1,a\n2,b,c\n", None, "standard input: row 2 (line 3): 3 cells where the header has 2"),
    "a comma in tabs": ("tsv", b"id,text\n", None, "a single column, 'id,text'; the separator is expected to be one of"),
    "an open quote": ("csv", b'id,text\n1,"a\n2,b\n', None, "standard input: line 3: unexpected end of data; a quoted cell ends"),
    "a quote inside": ("csv", b'id,text\n1,"a" b"\n', None, "standard input: line 2: ',' expected after"),
    "a column twice": ("csv", b"text,text\na,b\n", None, "standard input: text column 'text' occurs 2 times"),
    "no UTF-8": ("csv", b"text\nna\xefve\n", None, "standard input: byte 7 (0xef) is not UTF-8"),
    "binary": ("jsonl", b'{"text": "\0"}\n', None, "standard input: byte 10 is 0, so this is binary"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_pipe_ends_with_two_and_says_what_where_and_why(case, tmp_path, majority_store, capsys):
    kind, content, column, expected = BAD[case]
    extra = ["--text-column", column] if column else []
    with arriving(content):
        said = fail(
            ["predict", "--model", "majority", "--input", "-", "--input-format", kind, "--output", "o.csv", *extra],
            capsys,
        )
    assert expected in said and len(said.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_quote_that_never_ends_is_refused_before_it_fills_memory():
    with pytest.raises(DataError, match=r"standard input: line \d+: field larger than field limit"):
        piped("csv", b'text\n"' + (b"x" * 1023 + b"\n") * 17 * 1024)


def test_a_files_format_is_not_said_twice(majority_store, capsys):
    said = fail(["predict", "--model", "majority", "--input", "a.csv", "--input-format", "tsv"], capsys)
    assert (
        "--input-format tsv: is the format of standard input; that of a.csv follows from its name; leave it out" in said
    )


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("jsonl", [b'{"text": "two\\nlines"}\n', b'{"text": "b"}\n']),
        ("csv", [b'id,text\n1,"two\nlines"\n', b"2,b\n"]),
        ("lines", [b"two lines\n", b"b\n"]),
    ],
)
def test_a_process_answers_a_live_pipe_before_its_end(kind, sent, tmp_path):
    commit_fit(Store.open(tmp_path / "results"), "majority")
    command = ["predict", "--model", "majority", "--input", "-", "--input-format", kind, "--with-text"]
    process = subprocess.Popen(
        [sys.executable, "-m", "moodbench", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
    )  # fmt: skip
    late = threading.Timer(120, process.kill)
    late.start()
    try:
        for index, row in enumerate(sent):
            process.stdin.write(row)
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())  # the pipe is open still, so this is the answer to this row
            expected = "b" if index else "two lines" if kind == "lines" else "two\nlines"
            assert (answer["index"], answer["text"], answer["label"]) == (index, expected, "positive")
        process.stdin.close()
        assert process.wait(60) == 0 and process.stdout.read() == b""
    finally:
        late.cancel()
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout, process.stderr):
            end.close()
