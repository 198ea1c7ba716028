"""`moodbench predict`: what it writes and where, which fit it takes, and the requests it refuses."""

import io
import json
import os
import socket
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from fitted_majority import commit_fit
from own_files import TEXTS, write_csv
from refused import fail
from toy_store import change_row

from moodbench.cli import main
from moodbench.errors import UnknownNameError
from moodbench.serving.classifier import choose_fit
from moodbench.serving.texts import open_output
from moodbench.store import Store

pytestmark = pytest.mark.usefixtures("empty_folder")


def predict(arguments, capsys):
    """What the command printed: standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["predict", *arguments])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed
    return printed.out, printed.err


def test_a_mistake_after_many_texts_leaves_an_earlier_output_as_it_was(majority_store, capsys):
    Path("a.jsonl").write_text('{"text": "x"}\n' * 5000 + '{"text": \n')
    Path("out.csv").write_text("yesterday's")
    message = fail(["predict", "--model", "majority", "--input", "a.jsonl", "--output", "out.csv"], capsys)
    assert "a.jsonl: line 5001: not JSON" in message
    assert Path("out.csv").read_text() == "yesterday's"
    assert sorted(p.name for p in Path.cwd().iterdir()) == ["a.jsonl", "out.csv", "results"]


def test_a_full_disk_is_told_and_leaves_nothing(monkeypatch):
    Path("a.txt").write_text("x")
    with pytest.raises(Exception, match=r"--output b.txt: No space left on device; nothing was written"):  # noqa: SIM117
        with open_output("b.txt", "a.txt"):
            raise OSError(28, "No space left on device")
    assert [p.name for p in Path.cwd().iterdir()] == ["a.txt"]


def test_each_text_gets_one_row_in_order_and_is_not_repeated(majority_store, capsys):
    write_csv("a.csv", [("text", "n"), *((t, i) for i, t in enumerate(TEXTS))])
    out, err = predict(["--model", "majority", "--input", "a.csv"], capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    answer = {"label": "positive", "probability": pytest.approx(0.75), "truncated": False}
    assert rows == [{"index": i} | (answer if TEXTS[i] else dict.fromkeys(answer)) for i in range(6)]
    assert "1 of 6 rows have no text (empty, missing or only a number), so their label is empty" in err
    assert "majority, fit " in err and "(toy, 100 training texts, seed 0)" in err


def test_csv_output_is_read_back_by_pandas_with_all_probabilities_and_texts(majority_store, capsys):
    write_csv("a.csv", [("text", "n"), *((t, i) for i, t in enumerate(TEXTS))])
    asked = ["--probabilities", "all", "--with-text", "--output", "out.csv"]
    assert predict(["--model", "majority", "--input", "a.csv", *asked], capsys)[0] == ""
    frame = pd.read_csv("out.csv", keep_default_na=False)
    assert list(frame) == [
        "index", "label", "probability", "truncated", "probability_negative", "probability_positive", "text",
    ]  # fmt: skip
    assert frame["text"].tolist() == TEXTS
    cells = [("positive", "0.25", "false") if text else ("", "", "") for text in TEXTS]
    found = frame[["label", "probability_negative", "truncated"]].astype(str).to_numpy().tolist()
    assert [(a, b[:4], c.lower()) for a, b, c in found] == cells


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_every_row_of_the_input_is_one_row_of_the_output(name, majority_store, capsys):
    texts = ["good", "", "10", "\u200b \u00a0", "4,5", "10/10", "👍", "-"]
    contents = {
        "a.csv": "text,n\n" + "".join(f'"{t}",1\n' for t in texts),
        "a.jsonl": "".join(json.dumps({"text": t}) + "\n" for t in texts),
        "a.txt": "\n".join(texts),
    }
    Path(name).write_text(contents[name])
    for output in ("out.csv", "out.jsonl"):
        _, err = predict(["--model", "majority", "--input", name, "--probabilities", "all", "--output", output], capsys)
        assert "4 of 8 rows have no text" in err
        read = pd.read_csv(output) if output.endswith("csv") else pd.read_json(output, lines=True)
        assert read["index"].tolist() == list(range(8))
        assert read["label"].notna().tolist() == [True, False, False, False, False, True, True, True]


def test_a_text_that_a_spreadsheet_would_run_is_neutralised_in_csv_only(majority_store, capsys):
    texts = ["=1+1", "@SUM(A1)", "+ nice", "- dear", "-1 point"]
    Path("a.txt").write_text("\n".join(texts))
    predict(["--model", "majority", "--input", "a.txt", "--with-text", "--output", "out.csv"], capsys)
    assert pd.read_csv("out.csv")["text"].tolist() == [f"'{text}" for text in texts]
    predict(["--model", "majority", "--input", "a.txt", "--with-text", "--output", "out.jsonl"], capsys)
    assert pd.read_json("out.jsonl", lines=True)["text"].tolist() == texts


def test_a_format_that_is_asked_for_wins_over_the_outputs_name(majority_store, capsys):
    Path("a.txt").write_text("x\n")
    predict(["--model", "majority", "--input", "a.txt", "--output", "o.csv", "--format", "jsonl"], capsys)
    assert json.loads(Path("o.csv").read_text())["label"] == "positive"


def test_standard_input_may_hold_a_byte_order_mark(majority_store, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\ufeffgood\nbad".encode())))
    out, _ = predict(["--model", "majority", "--input", "-", "--with-text"], capsys)
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["good", "bad"]


# Choosing the fit


def test_a_name_means_the_most_training_texts_then_the_lowest_seed(majority_store):
    small = choose_fit(majority_store, "majority").fit_id
    wanted = commit_fit(majority_store, "majority", num_train=500, seed=1)
    commit_fit(majority_store, "majority", num_train=500, seed=2)
    commit_fit(majority_store, "vader", num_train=900)
    chosen = choose_fit(majority_store, "majority")
    assert (chosen.fit_id, chosen.num_alternatives) == (wanted, 2)
    assert choose_fit(majority_store, small).fit_id == small


def test_what_a_search_tried_is_chosen_only_where_there_is_nothing_else(majority_store):
    plain = choose_fit(majority_store, "majority").fit_id
    commit_fit(majority_store, "majority", num_train=900, run_id="search-abc")
    tried = commit_fit(majority_store, "vader", num_train=900, run_id="search-abc")
    assert choose_fit(majority_store, "majority").fit_id == plain
    assert choose_fit(majority_store, "vader").fit_id == tried


def test_an_id_that_is_not_there_suggests_the_nearest_id(majority_store):
    fit_id = choose_fit(majority_store, "majority").fit_id
    with pytest.raises(UnknownNameError, match=f"did you mean '{fit_id}'"):
        choose_fit(majority_store, fit_id[:-1] + ("0" if fit_id[-1] != "0" else "1"))


def test_an_artifact_that_was_cut_short_is_not_used(majority_store, capsys):
    fit_id = choose_fit(majority_store, "majority").fit_id
    Path(f"results/artifacts/{fit_id}/baseline.json").write_text("{}")
    Path("a.txt").write_text("x\n")
    message = fail(["predict", "--model", "majority", "--input", "a.txt"], capsys)
    assert f"artifacts/{fit_id}/baseline.json: differs from what was committed with fit {fit_id}" in message
    assert "moodbench store verify --set-aside" in message


def test_a_spec_of_another_version_is_told(majority_store, capsys):
    store = Store.open("results")
    (fit_id,) = store.ids("fits")
    spec = json.loads(store.record("fits", fit_id)["spec"]) | {"future": 1}
    change_row(store, "fits/*/*.parquet", spec=json.dumps(spec))
    Path("a.txt").write_text("x\n")
    assert "was written by another version of moodbench" in fail(
        ["predict", "--model", "majority", "--input", "a.txt"], capsys
    )


@pytest.mark.parametrize("kind", ["pipe", "device", "link", "stdout"])
def test_an_output_that_is_no_regular_file_gets_the_rows_and_stays_what_it_is(kind, majority_store, capfd):
    Path("a.txt").write_text("x\n")
    name, got = {"device": "/dev/null", "stdout": "/dev/stdout"}.get(kind, "out"), []
    if kind == "pipe":
        os.mkfifo("out")
        reader = threading.Thread(target=lambda: got.append(Path("out").read_text()))
        reader.start()
    if kind == "link":
        Path("target").write_text("before")
        Path("target").chmod(0o600)
        Path("out").symlink_to("target")
    before = Path(name).lstat()
    predict(["--model", "majority", "--input", "a.txt", "--output", name], capfd)
    after = Path(name).lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    if kind == "pipe":
        reader.join(30)
        assert json.loads(got[0])["label"] == "positive"
    if kind == "link":
        assert json.loads(Path("target").read_text())["label"] == "positive"
        assert Path("target").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["socket", "folder", "loop"])
def test_an_output_that_cannot_hold_rows_is_refused_and_stays(name, majority_store, capsys):
    Path("a.txt").write_text("x\n")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket")
        before = Path(name).lstat()
        assert f"--output {name}: " in fail(
            ["predict", "--model", "majority", "--input", "a.txt", "--output", name], capsys
        )
        assert Path(name).lstat().st_ino == before.st_ino
