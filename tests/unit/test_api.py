"""What the Python interface allows is what the commands allow."""

from typing import get_args, get_type_hints

import pytest
from toy_store import write_toy_store

from moodbench import api
from moodbench.errors import MoodBenchError
from moodbench.statistics.composite import COMPOSITES


def test_the_leaderboard_takes_every_composite_of_the_command():
    assert get_args(get_type_hints(api.leaderboard)["composite"]) == tuple(COMPOSITES)


@pytest.mark.parametrize("composite", COMPOSITES)
def test_each_composite_gives_a_board(tmp_path, composite):
    write_toy_store(tmp_path / "results")
    board = api.leaderboard(tmp_path / "results", composite=composite)
    assert len(board) == 1


ODD = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "nowhere",
    b"x",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    object(),
    float("nan"),
    ("a", 2),
    "a\0b",
]
RUN = {"models": "majority", "datasets": "icwsm-tweets", "max_train_examples": 100, "executor": "inline"}
FINE = {
    "models": [], "datasets": [], "preset": [None, ""], "seeds": [None, [1]], "config": [None], "cluster": [None],
    "address": [None, "", "nowhere", "a\0b"], "listen": [None], "executor": [], "store": ["nowhere"], "max_train_examples": [None],
    "protocol": [None], "label_map": [None, {}], "lora": [{}], "neutral_band": [None, 0, 1.5, True], "seed": [],
    "device": [],
}  # fmt: skip
"""Values of ODD that mean something, by argument of run."""


@pytest.fixture
def nothing_runs(empty_folder, monkeypatch):
    """A run that would begin is as good as its end here."""
    monkeypatch.setattr(api.RunContext, "run", lambda *_: pytest.fail("the request was accepted"))
    return empty_folder


@pytest.mark.parametrize("argument", FINE)
def test_run_refuses_values_of_other_types_before_anything_runs(argument, nothing_runs):
    for value in ODD:
        if any(value is fine or (type(value), value) == (type(fine), fine) for fine in FINE[argument]):
            continue
        with pytest.raises(MoodBenchError) as refused:
            api.run(**RUN | {argument: value})
        assert str(refused.value), (argument, value)
    assert list(nothing_runs.iterdir()) == []


@pytest.mark.parametrize("given", [{"executor": "slurm"}, {"store": None}, {"store": ""}, {"store": 3}])
def test_an_executor_that_does_not_exist_and_no_store_are_refused(given, nothing_runs):
    with pytest.raises(MoodBenchError, match=next(iter(given))):
        api.run(**RUN | given)
    assert list(nothing_runs.iterdir()) == []


@pytest.mark.parametrize("argument", ["store", "dataset", "weights", "composite"])
def test_the_leaderboard_refuses_values_of_other_types(argument, tmp_path):
    write_toy_store(tmp_path / "results")
    fine = {"store": ["nowhere"], "dataset": [None], "weights": [None, {}], "composite": []}[argument]
    for value in ODD:
        if not any((type(value), value) == (type(each), each) for each in fine):
            with pytest.raises(MoodBenchError):
                api.leaderboard(**{"store": tmp_path / "results", argument: value})


@pytest.mark.parametrize("argument", ["model", "store", "device"])
def test_loading_refuses_values_of_other_types(argument, majority_store):
    for value in ODD:
        with pytest.raises(MoodBenchError):
            api.load_predictor(**{"model": "majority", "store": "results", argument: value})


def test_a_classifier_refuses_what_is_no_list_of_texts(majority_store):
    classifier = api.load_predictor("majority")
    for texts in (None, 3, 1.5, "a text", [None], [1], [b"x"], object(), ["\ud800"]):
        with pytest.raises(MoodBenchError):
            classifier.predict(texts)
    for size in (0, -1, 1.5, None, "8"):
        with pytest.raises(MoodBenchError):
            classifier.predict(["a"], batch_size=size)
    assert len(classifier.predict(iter(["a", ""]))) == 2
