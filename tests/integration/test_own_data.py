"""A person's own star-rated CSV, from the file to the board, as the README tells it."""

import csv
import json

import numpy as np
import pytest
from command_line import SHORT, moodbench

import moodbench as moodbench_api
from moodbench.data.embedded import read_embedded
from moodbench.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """The folder of a run on 300 star-rated rows and one without text, what it printed, and its command line."""
    folder = tmp_path_factory.mktemp("own")
    products = read_embedded("icwsm-product").to_pandas().drop_duplicates("text")
    stars = np.clip(np.round(3 + products["mean_rating"]), 1, 5).astype(int)
    chosen = [frame.head(60) for _, frame in products.assign(stars=stars).groupby("stars")]
    with (folder / "my reviews.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["id", "review", "stars"])
        writer.writerow([0, "", 5])
        for frame in chosen:
            writer.writerows(
                [i, text, s] for i, (text, s) in enumerate(zip(frame["text"], frame["stars"], strict=True))
            )
    (folder / "short.yaml").write_text(SHORT)
    command = ["run", "--models", "tfidf-logreg", "vader", "MiniLM-L3", "--data", "my reviews.csv", "--text-column", "review",
               "--label-column", "stars", "--label-map", "1=negative,2=negative,3=drop,4=positive,5=positive",
               "--protocol", "short", "--config", "short.yaml", "--executor", "inline", "--json",
               "--text", "max_length=16", "--prepare", "lowercase", "--train", "epochs=1"]  # fmt: skip
    return folder, moodbench(*command, cwd=folder), command, chosen


def test_own_data_go_from_file_to_board(own_run):
    folder, done, _, chosen = own_run
    board = {row["name"]: row for row in json.loads(done.stdout)["board"]}
    assert sorted(board) == ["MiniLM-L3", "tfidf-logreg", "vader"]
    used = sum(len(frame) for frame in chosen if frame["stars"].iloc[0] != 3)
    for row in board.values():
        assert row["dataset"] == "my-reviews"
        assert row["num_test"] == pytest.approx(used / 5, abs=2)
        assert row["latency_p50_s"] > 0
    assert board["vader"]["accuracy"] > 0.6, "a lexicon knows good product reviews from bad ones"
    assert Store.open(folder / "results").records("evaluations")["ceiling_accuracy"].isna().all()


def test_the_report_stands_before_everything_else_and_in_the_events(own_run):
    folder, done, _, chosen = own_run
    assert done.stderr.startswith("Your data my-reviews: my reviews.csv, CSV, separator ';', utf-8\n")
    num_rows = 1 + sum(len(frame) for frame in chosen)
    assert (
        f"rows: {num_rows} read" in done.stderr
        and "1 without text" in done.stderr
        and "60 by the label map" in done.stderr
    )
    (path,) = (folder / "results" / "events").glob("*.jsonl")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events[:2]] == ["run_started", "data_report"]
    assert events[1]["num_test_in_train"] == 0
    assert events[1]["reading"]["num_rows"] == num_rows


def test_the_share_of_cut_texts_in_the_report_is_that_of_the_evaluation(own_run):
    folder, done, _, _ = own_run
    evaluations = Store.open(folder / "results").records("evaluations").set_index("model")["truncated_share"]
    (path,) = (folder / "results" / "events").glob("*.jsonl")
    words, tokens = json.loads(path.read_text().splitlines()[1])["lengths"]
    assert (words["unit"], words["models"], words["test_cut_share"]) == ("words", ["tfidf-logreg", "vader"], 0.0)
    assert (tokens["unit"], tokens["models"], tokens["max_length"]) == ("tokens", ["MiniLM-L3"], 16)
    assert tokens["test_cut_share"] == evaluations["MiniLM-L3"] and 0.2 < tokens["test_cut_share"] < 1
    assert (evaluations[["tfidf-logreg", "vader"]] == 0).all()
    assert tokens["p50"] > words["p50"] and tokens["longest"] > 16
    assert f"{tokens['cut_share']:.1%} are cut at 16 ({evaluations['MiniLM-L3']:.1%} of the test texts)" in done.stderr


def test_from_python_the_report_is_an_event_as_well(own_run, tmp_path):
    heard = []
    asked = {
        "text_column": "review",
        "label_column": "stars",
        "label_map": {1: "bad", 2: "bad", 3: "drop", 4: "good", 5: "good"},
    }
    ended = moodbench_api.run(
        "majority", data=str(own_run[0] / "my reviews.csv"), store=tmp_path / "results", config=own_run[0] / "short.yaml",
        protocol="short", executor="inline", listen=heard.append, **asked,
    )  # fmt: skip
    assert (ended.num_committed, ended.failures) == (6, [])
    assert [event["event"] for event in heard[:2]] == ["run_started", "data_report"]
    assert heard[1]["lengths"][0]["models"] == ("tfidf-logreg", "majority")


def test_no_text_of_private_data_is_printed_or_told_in_events(own_run):
    folder, done, _, chosen = own_run
    (path,) = (folder / "results" / "events").glob("*.jsonl")
    said = done.stdout + done.stderr + path.read_text()
    texts = [text for frame in chosen for text in frame["text"] if len(text) > 30]
    assert len(texts) > 150
    assert not [text for text in texts if text in said]


def test_the_texts_are_in_the_store_once_and_marked_as_private(own_run):
    store = Store.open(own_run[0] / "results")
    (revision,) = set(store.records("fits")["dataset_revision"])
    examples = store.examples("my-reviews", revision)
    assert examples["private"].all() and examples["rating_counts"].isna().all() and examples["mean_rating"].isna().all()
    assert examples["example_id"].is_unique and set(examples["split"]) == {"train", "validation", "test"}


def test_the_same_command_again_runs_nothing(own_run):
    folder, _, command, _ = own_run
    assert "0 phases to run, 9 done already and skipped" in moodbench(*command, cwd=folder).stderr


def test_a_store_of_own_data_is_verified_like_any_other(own_run):
    moodbench("store", "verify", cwd=own_run[0])
