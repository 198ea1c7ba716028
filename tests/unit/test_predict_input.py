"""What `moodbench predict` and `export-model` read: every format in order and in pieces, every mistake with its place."""

import csv
import io
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fitted_majority import commit_fit, spec_of
from refused import fail

from moodbench.cli import main
from moodbench.errors import DataError, UnknownNameError, UsageError
from moodbench.models.baselines import Majority
from moodbench.serving.classifier import Classifier, Prediction, probabilities
from moodbench.serving.fits import ChosenFit, choose_fit
from moodbench.serving.stream import open_output, write_predictions
from moodbench.serving.texts import CHUNK, read_texts
from moodbench.store import Store

TEXTS = ["A fine film.", "", "two\nlines, with a comma", 'she said "no"', "schön 🎬 \u2028 end", "  spaces  "]
ONE_LINE = [t.replace("\n", " ") for t in TEXTS]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def everything(source, column=None) -> list[str]:
    return [text for piece in read_texts(source, column) for text in piece]


@pytest.fixture
def store() -> Store:
    made = Store.open("results")
    commit_fit(made, "majority")
    return made


def classifier() -> Classifier:
    return Classifier(Majority(np.log([0.25, 0.75])), ChosenFit(spec_of("majority"), {"fit_id": "x"}, 0))


# Reading


def write_csv(path, rows, *, delimiter=",", encoding="utf-8", newline="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=newline).writerows(rows)
    Path(path).write_bytes(text.getvalue().encode(encoding))


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


BAD = [
    ("a.txt", b"", None, "a.txt: holds no text; expected at least one"),
    ("a.csv", b"", None, "a.csv: the file is empty (0 bytes)"),
    ("a.csv", b"text,n\n", None, "a.csv: holds no text"),
    ("a.jsonl", b"\n \n", None, "a.jsonl: holds no JSON object"),
    ("a.parquet", b"", None, "a.parquet: the file is empty"),
    ("a.parquet", b"PAR1 and no more", None, "a.parquet: not a Parquet file"),
    ("a.xlsx", b"PK", None, "a.xlsx: its name does not end in .txt, .csv, .tsv, .jsonl, .ndjson, .parquet"),
    ("reviews", b"good\n", None, "reviews: its name does not end in"),
    ("a.txt", b"good\nna\xefve\n", None, "a.txt: byte 7 (0xef) is not UTF-8; convert the file"),
    ("a.txt", b"x" * 70_000 + b"\ncaf\xe9\n", None, "a.txt: byte 70004 (0xe9) is not UTF-8"),
    ("a.txt", b"\xef\xbb\xbfgood\nna\xefve\n", None, "a.txt: byte 10 (0xef) is not UTF-8"),
    ("a.txt", "good\n".encode("utf-16"), None, "a.txt: byte 3 is 0, so this is binary or UTF-16"),
    ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", None, "a.txt: byte 8 is 0, so this is binary"),
    ("a.txt", b"good\n", "text", "--text-column 'text': a.txt has one text per line and no columns"),
    ("a.csv", b"id,body\n1,good\n", None, "a.csv: no column 'text'; there are 'id', 'body'; choose with --text-column"),
    ("a.csv", b"id,body\n1,good\n", "Body", "a.csv: no column 'Body'; there are 'id', 'body'"),
    ("a.csv", b"text,text\na,b\n", None, "a.csv: text column 'text' stands 2 times in the header"),
    (
        "a.tsv",
        b"id,text\n1,good\n",
        None,
        "a single column, 'id,text'; the separator is expected to be one of comma, semicolon, tab, bar (a .tsv file: tab)",
    ),
    ("a.csv", b"id,text\n1,good\n2,bad, very\n", None, "a.csv: row 2 (line 3): 3 cells where the header has 2"),
    ("a.csv", b"id,text\n1,good\n2\n", None, "a.csv: row 2 (line 3): 1 cells where the header has 2"),
    ("a.csv", b'id,text\n1,"never closed\n', None, "a.csv: line 2: unexpected end of data; a quoted cell"),
    ("a.csv", b'id,text\n1,"a "quoted" word"\n', None, "a.csv: line 2: ',' expected after"),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n', None, "a.jsonl: line 2: not JSON (Expecting value, character"),
    ("a.jsonl", b'{"text": "a"}\n["a"]\n', None, "a.jsonl: line 2: a list; expected one JSON object a line"),
    ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', None, "a.jsonl: line 2: 'text' is missing or null; expected a text"),
    (
        "a.jsonl",
        b'{"id": 1, "body": "b"}\n',
        None,
        "a.jsonl: no column 'text'; there are 'id', 'body'; choose with --text-column",
    ),
    ("a.jsonl", b'{"text": null}\n', None, "a.jsonl: line 1: 'text' is missing or null; expected a text"),
    ("a.jsonl", b'{"text": 5}\n', None, "a.jsonl: line 1: 'text' is a number; expected a text"),
    ("a.jsonl", b'{"text": "\\ud83c"}\n', None, "a.jsonl: line 1: 'text' holds half a surrogate pair at character 0"),
    ("a.jsonl", b"[" * 100_000 + b"\n", None, "a.jsonl: line 1: nested too deeply"),
    ("a.jsonl", b'{"n": ' + b"9" * 5000 + b"}\n", None, "a.jsonl: line 1: not JSON (Exceeds the limit"),
]


@pytest.mark.parametrize(("name", "content", "column", "expected"), BAD, ids=lambda v: repr(v)[:40])
def test_a_wrong_input_ends_with_two_and_says_what_where_and_why(name, content, column, expected, store, capsys):
    Path(name).write_bytes(content)
    extra = ["--text-column", column] if column else []
    message = fail(["predict", "--model", "majority", "--input", name, "--output", "out.jsonl", *extra], capsys)
    assert expected in message
    assert sorted(p.name for p in Path.cwd().iterdir()) == sorted([name, "results"]), "nothing half-written is left"


def test_a_line_without_end_is_refused_before_it_fills_memory():
    Path("a.txt").write_bytes(b"x" * (17 * 2**20))
    with pytest.raises(DataError, match=r"from byte 0 on, one line is longer than 16 MiB"):
        everything("a.txt")
    Path("a.csv").write_bytes(b"text\n" + b"x" * (17 * 2**20))
    with pytest.raises(DataError, match=r"from byte 5 on, one line is longer than 16 MiB"):
        everything("a.csv")


def test_a_null_in_parquet_is_named_by_its_row():
    pq.write_table(pa.table({"text": ["x"] * 1500 + [None]}), "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: row 1501: 'text' is missing or null"):
        everything("a.parquet")


def test_a_parquet_column_of_numbers_is_refused():
    pq.write_table(pa.table({"text": [1, 2]}), "a.parquet")
    with pytest.raises(DataError, match=r"row 1: 'text' is a number; expected a text"):
        everything("a.parquet")


# The command


def predict(arguments, capsys):
    """What the command printed: standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["predict", *arguments])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed
    return printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "majorty", "--input", "a.txt"], "'majorty': did you mean 'majority'? known are majority"),
        (["--model", "0123456789", "--input", "a.txt"], "unknown model in"),
        (["--model", "majority", "--input", "nowhere.txt"], "nowhere.txt: No such file or directory; expected a file"),
        (["--model", "majority", "--input", "folder.txt"], "folder.txt: Is a directory; expected a file"),
        (["--model", "majority", "--input", "a.txt", "--output", "folder.txt"], "--output folder.txt: is a folder"),
        (["--model", "majority", "--input", "a.txt", "--output", "no/b.csv"], "--output no/b.csv: No such file or dir"),
        (["--model", "majority", "--input", "a.txt", "--output", "./a.txt"], "--output ./a.txt: is the input"),
        (["--model", "majority", "--input", "a.txt", "--batch-size", "0"], "--batch-size 0: allowed is 1 or more"),
        (["--model", "majority", "--input", "a.txt", "--store", "other"], "has no fit yet; start with"),
        (["--model", "majority", "--input", "-", "--text-column", "x"], "standard input has one text per line"),
    ],
)
def test_a_wrong_request_is_explained(arguments, expected, store, capsys):
    Path("a.txt").write_text("good\n")
    Path("folder.txt").mkdir()
    assert expected in fail(["predict", *arguments], capsys)
    assert Path("a.txt").read_text() == "good\n"
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a.txt", "folder.txt", "results"]


def test_a_mistake_after_many_texts_leaves_an_earlier_output_as_it_was(store, capsys):
    Path("a.jsonl").write_text('{"text": "x"}\n' * 5000 + '{"text": 1}\n')
    Path("out.csv").write_text("yesterday's")
    message = fail(["predict", "--model", "majority", "--input", "a.jsonl", "--output", "out.csv"], capsys)
    assert "a.jsonl: line 5001: 'text' is a number" in message
    assert Path("out.csv").read_text() == "yesterday's"
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a.jsonl", "out.csv", "results"]


def test_a_full_disk_is_told_and_leaves_nothing(monkeypatch):
    Path("a.txt").write_text("x")
    with pytest.raises(Exception, match=r"--output b.txt: No space left on device; nothing was written"):  # noqa: SIM117
        with open_output("b.txt", "a.txt"):
            raise OSError(28, "No space left on device")
    assert [p.name for p in Path.cwd().iterdir()] == ["a.txt"]


def test_each_text_gets_one_row_in_order_and_is_not_repeated(store, capsys):
    write_csv("a.csv", [("text", "n"), *((t, i) for i, t in enumerate(TEXTS))])
    out, err = predict(["--model", "majority", "--input", "a.csv"], capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows == [
        {"index": i, "label": "positive", "probability": pytest.approx(0.75), "truncated": False} for i in range(6)
    ]
    assert "majority, fit " in err and "(toy, 100 training texts, seed 0)" in err


def test_csv_output_is_read_back_by_pandas_with_all_probabilities_and_texts(store, capsys):
    write_csv("a.csv", [("text", "n"), *((t, i) for i, t in enumerate(TEXTS))])
    asked = ["--probabilities", "all", "--with-text", "--output", "out.csv"]
    assert predict(["--model", "majority", "--input", "a.csv", *asked], capsys)[0] == ""
    frame = pd.read_csv("out.csv", keep_default_na=False)
    assert list(frame) == [
        "index", "label", "probability", "truncated", "probability_negative", "probability_positive", "text",
    ]  # fmt: skip
    assert frame["text"].tolist() == TEXTS
    assert frame["probability_negative"].to_numpy() == pytest.approx(0.25)
    assert frame["truncated"].dtype == bool


def test_a_format_that_is_asked_for_wins_over_the_outputs_name(store, capsys):
    Path("a.txt").write_text("x\n")
    predict(["--model", "majority", "--input", "a.txt", "--output", "o.csv", "--format", "jsonl"], capsys)
    assert json.loads(Path("o.csv").read_text())["label"] == "positive"


# Choosing the fit


def test_a_name_means_the_most_training_texts_then_the_lowest_seed(store):
    small = choose_fit(store, "majority").fit_id
    wanted = commit_fit(store, "majority", num_train=500, seed=1)
    commit_fit(store, "majority", num_train=500, seed=2)
    commit_fit(store, "vader", num_train=900)
    chosen = choose_fit(store, "majority")
    assert (chosen.fit_id, chosen.num_alternatives) == (wanted, 2)
    assert choose_fit(store, small).fit_id == small


def test_what_a_search_tried_is_chosen_only_where_there_is_nothing_else(store):
    plain = choose_fit(store, "majority").fit_id
    commit_fit(store, "majority", num_train=900, run_id="search-abc")
    tried = commit_fit(store, "vader", num_train=900, run_id="search-abc")
    assert choose_fit(store, "majority").fit_id == plain
    assert choose_fit(store, "vader").fit_id == tried


def test_an_id_that_is_not_there_suggests_the_nearest_id(store):
    fit_id = choose_fit(store, "majority").fit_id
    with pytest.raises(UnknownNameError, match=f"did you mean '{fit_id}'"):
        choose_fit(store, fit_id[:-1] + ("0" if fit_id[-1] != "0" else "1"))


def test_an_artifact_that_was_cut_short_is_not_used(store, capsys):
    fit_id = choose_fit(store, "majority").fit_id
    Path(f"results/artifacts/{fit_id}/baseline.json").write_text("{}")
    Path("a.txt").write_text("x\n")
    message = fail(["predict", "--model", "majority", "--input", "a.txt"], capsys)
    assert f"artifacts/{fit_id}/baseline.json: is not as it was committed with fit {fit_id}" in message
    assert "moodbench verify --set-aside" in message


def test_a_spec_of_another_version_is_told(store, capsys):
    import pyarrow.parquet as pq

    (path,) = Path("results/fits").rglob("*.parquet")
    table = pq.read_table(path, partitioning=None)
    spec = json.loads(table["spec"][0].as_py()) | {"future": 1}
    at = table.schema.get_field_index("spec")
    pq.write_table(table.set_column(at, table.schema.field(at), [[json.dumps(spec)]]), path)
    Path("a.txt").write_text("x\n")
    assert "was written by another version of moodbench" in fail(
        ["predict", "--model", "majority", "--input", "a.txt"], capsys
    )


# Predicting


def test_probabilities_are_those_of_scipys_softmax_and_survive_extremes():
    from scipy.special import softmax

    logits = np.array([[1.0, 2.0, 3.0], [1000.0, -1000.0, 0.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(probabilities(logits), softmax(logits.astype(np.float64), axis=1), atol=1e-15)


def test_no_texts_give_no_predictions():
    assert classifier().predict([]) == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("a film", "texts is the one text 'a film'; expected a list"),
        (["a", None], "text 1 is missing or null; expected a text"),
        (["a", 3.0], "text 1 is a number"),
        ([b"a"], "text 0 is a bytes"),
        (["\ud83c"], "half a surrogate pair"),
    ],
)
def test_what_is_no_text_is_refused(texts, expected):
    with pytest.raises(DataError, match=expected):
        classifier().predict(texts)


def test_logits_that_are_not_finite_give_no_label():
    broken = Classifier(Majority([np.nan, 0.0]), ChosenFit(spec_of("majority"), {"fit_id": "x", "model": "majority",
        "dataset": "toy", "num_train": 4, "seed": 0}, 0))  # fmt: skip
    with pytest.raises(DataError, match="logits that are not finite"):
        broken.predict(["a"])


def test_a_prediction_names_every_class():
    (made,) = classifier().predict(["a"])
    assert isinstance(made, Prediction)
    assert made.label == "positive" and made.probability == made.probabilities["positive"] == pytest.approx(0.75)
    assert list(made.probabilities) == ["negative", "positive"] and sum(made.probabilities.values()) == pytest.approx(1)


# Exporting


@pytest.mark.parametrize("model", ["majority"])
def test_a_contender_without_a_transformers_class_is_not_exported(model, store, capsys):
    message = fail(["export-model", model, "out"], capsys)
    assert "is a classical baseline and no transformer" in message and "moodbench predict --model" in message
    assert not Path("out").exists()


def test_only_an_empty_folder_is_exported_to():
    from moodbench.serving.export import check_free

    Path("full").mkdir()
    Path("full/thesis.tex").write_text("")
    Path("file").write_text("")
    Path("empty").mkdir()
    check_free(Path("empty"))
    check_free(Path("absent"))
    with pytest.raises(UsageError, match=r"full: is not empty \(it holds thesis.tex\)"):
        check_free(Path("full"))
    with pytest.raises(UsageError, match="file: is a file"):
        check_free(Path("file"))


def test_the_package_refuses_names_it_does_not_have():
    import moodbench

    with pytest.raises(AttributeError, match="no attribute 'leaderbord'"):
        _ = moodbench.leaderbord
    assert {"run", "leaderboard", "load_predictor"} <= set(dir(moodbench))


def test_standard_input_may_hold_a_byte_order_mark(store, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffgood\nbad".encode())))
    out, _ = predict(["--model", "majority", "--input", "-", "--with-text"], capsys)
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["good", "bad"]
