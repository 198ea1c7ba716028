"""What `moodbench predict` reads: every format in order and in pieces, every mistake with its place."""

import gzip
import json
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fitted_majority import classifier
from own_files import TEXTS, write_csv
from refused import fail

from moodbench.errors import DataError
from moodbench.serving.texts import CHUNK, read_texts, write_predictions

pytestmark = pytest.mark.usefixtures("empty_folder")

ONE_LINE = [t.replace("\n", " ") for t in TEXTS]


def everything(source, column=None) -> list[str]:
    return [text for piece in read_texts(source, column) for text in piece]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.TSV", "\t")])
def test_a_csv_column_comes_back_with_quotes_line_breaks_and_order(name, delimiter, encoding):
    write_csv(name, [("text", "n"), *((t, i) for i, t in enumerate(TEXTS))], delimiter=delimiter, encoding=encoding)
    assert everything(name) == TEXTS
    assert everything(name, "n") == list("012345")


def test_pandas_and_the_csv_reader_see_the_same_texts():
    frame = pd.DataFrame({"id": range(len(TEXTS)), "review": TEXTS})
    frame.to_csv("a.csv", index=False)
    assert everything("a.csv", "review") == TEXTS


def test_json_lines_come_back_in_order_and_blank_lines_are_no_rows():
    lines = [json.dumps({"id": 1, "body": t}, ensure_ascii=i % 2 == 0) for i, t in enumerate(TEXTS)]
    Path("a.jsonl").write_text("\ufeff" + "\n\n".join(lines) + "\n", encoding="utf-8")
    assert everything("a.jsonl", "body") == TEXTS


def test_the_only_column_needs_no_name():
    write_csv("a.csv", [["review"], *([t] for t in TEXTS if t)])
    assert everything("a.csv") == [t for t in TEXTS if t]


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ("id;text\n1;très bon\n2;cher, mais bon\n".encode("cp1252"), "semicolon"),
        ("id\ttext\n1\ttrès bon\n2\tcher, mais bon\n".encode(), "tab"),
        ("id|text\n1|très bon\n2|cher, mais bon\n".encode(), "bar"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_can_be_trained_on_can_be_predicted_whatever_a_spreadsheet_made_of_it(content, separator):
    Path("a.csv").write_bytes(content)
    assert everything("a.csv") == ["très bon", "cher, mais bon"]


def test_a_row_of_nothing_is_a_text_of_nothing_and_keeps_its_place():
    Path("a.csv").write_bytes(b'text\ngood\n""\n\nbad\n')
    assert everything("a.csv") == ["good", "", "bad"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_comes_back_across_row_groups(kind):
    texts = [f"{i} {TEXTS[i % 6]}" for i in range(2500)]
    table = pa.table({"n": range(2500), "text": pa.array(texts).cast(kind)})
    pq.write_table(table, "a.parquet", row_group_size=700)
    pieces = list(read_texts("a.parquet"))
    assert [t for p in pieces for t in p] == texts
    assert max(map(len, pieces)) <= CHUNK


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_each_line_of_a_text_file_is_one_text_empty_ones_too(end, last):
    Path("a.txt").write_bytes((end.join(ONE_LINE) + (end if last else "")).encode("utf-8-sig"))
    assert everything("a.txt") == ONE_LINE


def test_a_long_file_comes_in_pieces_of_bounded_size():
    texts = [f"text {i}" for i in range(50_000)]
    Path("a.txt").write_text("\n".join(texts))
    pieces = list(read_texts("a.txt"))
    assert [t for p in pieces for t in p] == texts
    assert max(map(len, pieces)) <= CHUNK and len(pieces) >= 49


def test_characters_split_between_blocks_stay_whole():
    texts = ["ä🎬" * n for n in (40_000, 1, 30_000)]
    Path("a.txt").write_text("x" + "\n".join(texts), encoding="utf-8")
    assert everything("a.txt") == ["x" + texts[0], *texts[1:]]


def test_a_pipe_that_never_ends_is_answered_line_by_line(monkeypatch):
    import os

    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, os.fdopen(writing, "wb", buffering=0) as tap:
        monkeypatch.setattr("sys.stdin", pipe)
        out = _Recorder()
        pieces = read_texts("-")
        serve = threading.Thread(
            target=lambda: write_predictions(pieces, classifier().predict, out, labels=["negative", "positive"])
        )
        serve.start()
        for i in range(3):
            tap.write(f"line {i}\n".encode())
            assert out.flushed.acquire(timeout=10), "the answer must come before the next line is sent"
            assert json.loads(out.lines[-1])["index"] == i
        tap.close()
        serve.join(timeout=10)
        assert not serve.is_alive()


class _Recorder:
    """A binary file that counts its flushes."""

    def __init__(self):
        self.lines, self.flushed = [], threading.Semaphore(0)

    def write(self, data):
        self.lines += data.splitlines()

    def flush(self):
        self.flushed.release()


def test_a_line_without_end_is_refused_before_it_fills_memory():
    Path("a.txt").write_bytes(b"x" * (17 * 2**20))
    with pytest.raises(DataError, match=r"from byte 0 on, one line is longer than 16 MiB"):
        everything("a.txt")
    Path("a.csv").write_bytes(b"text\n" + b"x" * (17 * 2**20))
    with pytest.raises(DataError, match=r"from byte 5 on, one line is longer than 16 MiB"):
        everything("a.csv")


def test_each_row_has_one_text_or_none_in_every_format():
    rows = ["good", "", None, 10, "bad"]
    Path("a.jsonl").write_text(
        "".join(json.dumps({"n": 1, "text": t} if t != "bad" else {"n": 1}) + "\n" for t in rows)
    )
    assert everything("a.jsonl") == ["good", "", None, "10", None]
    Path("b.jsonl").write_text('{"text": "\\ud83c"}\n{"text": ["a"]}\n{"text": true}\n')
    assert everything("b.jsonl") == [None] * 3
    Path("a.csv").write_text('n,text\n1,good\n1,""\n1\n1,10\n1,bad\nn,text\n')
    assert everything("a.csv") == ["good", "", None, "10", "bad", None]
    pq.write_table(pa.table({"text": ["x"] * 1500 + [None]}), "a.parquet")
    assert everything("a.parquet") == ["x"] * 1500 + [None]


def test_gzip_titles_and_separator_lines_are_read():
    Path("a.csv.gz").write_bytes(gzip.compress(b"sep=;\nid;text\n1;good\n2;bad\n"))
    assert everything("a.csv.gz") == ["good", "bad"]
    Path("a.csv").write_bytes(b"Export of 2024\n\nid,review\n1,good\n")
    assert everything("a.csv", "review") == ["good"]


def test_a_column_of_numbers_is_refused(majority_store, capsys):
    pq.write_table(pa.table({"text": [1, 2]}), "a.parquet")
    said = fail(["predict", "--model", "majority", "--input", "a.parquet", "--output", "out.jsonl"], capsys)
    assert "every text is a number, so this is not the text; choose the column with --text-column" in said
    assert not Path("out.jsonl").exists()
