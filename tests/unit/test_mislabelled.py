"""Doubtful labels: a table worked out by hand, noise that was put in, and texts that stay private."""

import json

import numpy as np
import pandas as pd
import pytest
from generated_store import generate
from toy_store import SECRET, change_row, path_of, toy_fit, write_toy_store, write_toy_trial

from moodbench.analysis.mislabelled import find_label_issues, mislabelled
from moodbench.cli import main
from moodbench.errors import StoreError


def table(*positive):
    """Probabilities (n, 2) from those of the second class."""
    p = np.array(positive)
    return np.stack([1 - p, p], axis=1)


LABELS = [0, 0, 0, 1, 1]
A = table(0.1, 0.9, 0.6, 0.8, 0.2)
B = table(0.2, 0.8, 0.4, 0.7, 0.1)
CONSTANT = table(0.9, 0.9, 0.9, 0.9, 0.9)


def test_the_queue_of_five_texts_is_that_worked_out_by_hand():
    # means of class 1: .15 .85 .5 .75 .15; thresholds: class 0 (.85 + .15 + .5) / 3 = .5, class 1 (.75 + .15) / 2 = .45
    # both miss texts 1 (.85 >= .45) and 4 (.85 >= .5); B alone is right on text 2
    found = find_label_issues(LABELS, {"a": A, "b": B, "constant": CONSTANT})
    assert found["row"].tolist() == [1, 4]
    assert found["suggested"].tolist() == [1, 0]
    assert found["num_wrong"].tolist() == [2, 2]
    assert set(found["num_entries"]) == {2}
    assert found["given"].tolist() == pytest.approx([0.15, 0.15])
    assert found["stated"].tolist() == pytest.approx([0.85, 0.85])


def test_one_reader_alone_doubts_nothing():
    assert find_label_issues(LABELS, {"a": A, "constant": CONSTANT}).empty


def test_four_of_five_entries_are_enough_and_three_are_not():
    dissenter = table(0.1, 0.1, 0.1, 0.8, 0.9)
    four = {str(i): A for i in range(4)} | {"d": dissenter}
    assert find_label_issues(LABELS, four)["row"].tolist() == [1, 4]
    three = {str(i): A for i in range(3)} | {"d": dissenter, "e": dissenter}
    assert find_label_issues(LABELS, three).empty


def test_labels_that_were_turned_are_found_among_the_first():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 600)
    models = {}
    for name in range(5):
        logits = 3.0 * np.eye(3)[truth] + rng.normal(0, 1, (600, 3))
        models[str(name)] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    turned = np.arange(30)
    given = truth.copy()
    given[turned] = (truth[turned] + 1) % 3
    found = find_label_issues(given, models)
    assert set(found["row"]) <= set(turned)
    # those stated less surely than the average of their class are let go: about a third here
    assert len(found) >= 18
    assert (found["suggested"].to_numpy() == truth[found["row"]]).all()


def test_the_order_of_texts_and_entries_changes_nothing():
    turned = find_label_issues(LABELS[::-1], {"b": B[::-1], "a": A[::-1]})
    assert sorted(4 - turned["row"]) == [1, 4]


@pytest.fixture
def store(tmp_path):
    """Two entries with the same logits: both miss the fourth and the seventh test text."""
    store = write_toy_store(tmp_path / "store")
    write_toy_trial(store, toy_fit("other", max_train_examples=9), "e1" + "1" * 18, "c1" + "1" * 18)
    return store


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code, *capsys.readouterr()


def test_the_command_lists_them_and_keeps_texts_not_known_to_be_public(store, tmp_path, capsys):
    # by hand, P(1) of a text is s(l1 - l0) with s logistic: thresholds s(...) averaged; the fourth has .73 against label 0
    code, out, _ = run(capsys, "mislabelled", "--store", store.uri, "--json")
    assert code == 0
    found = json.loads(out)
    assert [(r["label"], r["suggested"], r["num_wrong"]) for r in found] == [
        ("negative", "positive", 2),
        ("positive", "negative", 2),
    ]
    assert found[0]["stated"] == pytest.approx(1 / (1 + np.exp(-1)))
    assert [r["text"] for r in found] == [None, None]
    file = tmp_path / "doubtful.csv"
    code, out, _ = run(capsys, "mislabelled", "--store", store.uri, "--out", str(file))
    assert SECRET not in out + file.read_text()
    assert "2 of 8 test texts have a doubtful label" in out
    assert len(pd.read_csv(file)) == 2
    run(capsys, "mislabelled", "--store", store.uri, "--out", str(file), "--with-text")
    assert SECRET in file.read_text()
    json_file = tmp_path / "doubtful.json"
    run(capsys, "mislabelled", "--store", store.uri, "--out", str(json_file))
    assert [r["example_id"] for r in json.loads(json_file.read_text())] == [r["example_id"] for r in found]


def test_a_public_text_is_shown_with_what_raters_said(store, capsys):
    rows = pd.read_parquet(path_of(store, "examples/*/*.parquet"), partitioning=None)
    place = rows.index[rows["split"] == "test"][3]  # the fourth, labelled 0
    change_row(store, "examples/*/*.parquet", int(place), private=False, rating_counts=[0, 0, 1, 1, 1, 2, 3, 0, 0])
    _, out, _ = run(capsys, "mislabelled", "--store", store.uri, "--json")
    first = json.loads(out)[0]
    assert first["text"] == f"{SECRET} {place}"
    assert first["raters"] == pytest.approx(2 / 8)
    _, out, _ = run(capsys, "mislabelled", "--store", store.uri)
    assert "2 of 8 test texts have a doubtful label; for 0 of them most raters" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--most", "0"], "--most 0: allowed is 1 or more"),
        (["--out", "queue.txt"], "ends in .csv or .json"),
        (["--dataset", "toy-sat"], "unknown dataset in"),
    ],
)
def test_requests_that_cannot_be_honoured_are_refused(store, capsys, arguments, message):
    code, out, errors = run(capsys, "mislabelled", "--store", store.uri, *arguments)
    assert (code, out) == (2, "")
    assert message in errors


def test_one_entry_is_not_enough(tmp_path, capsys):
    code, _, errors = run(capsys, "mislabelled", "--store", write_toy_store(tmp_path).uri)
    assert code == 2
    assert "at least 2 entries" in errors


def test_where_the_answers_are_not_stored_the_message_says_so(tmp_path):
    store = generate(tmp_path / "results", num_models=6, num_datasets=1, num_seeds=2, num_test=20, predictions=False)
    with pytest.raises(StoreError, match="the predictions of evaluation"):
        mislabelled(store)


def test_seeds_are_averaged_as_if_read_one_by_one(tmp_path):
    store = generate(tmp_path / "results", num_models=6, num_datasets=1, num_seeds=2, num_test=400)
    (issues,) = mislabelled(store)
    evaluations = store.records("evaluations").sort_values("config_id")
    tables = {}
    for recipe, own in evaluations.groupby("config_id"):
        said = [store.predictions([i]).set_index("example_id").sort_index() for i in own["evaluation_id"]]
        odds = [np.exp(np.stack(each["logits"].to_list()).astype(float)) for each in said]
        tables[recipe] = np.mean([each / each.sum(axis=1, keepdims=True) for each in odds], axis=0)
    expected = find_label_issues(said[0]["label"].to_numpy(), tables)
    assert len(expected) == len(issues.rows) > 0
    assert issues.rows["stated"].tolist() == pytest.approx(expected["stated"].tolist())
