"""Cells of the leaderboard on the page, and which of them are the best of their column."""

import pandas as pd

from moodbench.app.leaderboard_table import Axis, _drawing
from moodbench.report.leaderboard_view import tied_best


def test_an_accuracy_without_an_interval_is_a_dot_alone():
    row = {"accuracy": 0.75, "accuracy_low": 0.7, "accuracy_high": 0.8}
    whole = _drawing("accuracy", pd.Series(row), Axis(0.5, 1.0))
    bare = _drawing("accuracy", pd.Series(row | {"accuracy_low": None, "accuracy_high": None}), Axis(0.5, 1.0))
    # 96 pixels with 4 at each side: 0.75 is in the middle, 0.7 and 0.8 are 0.1 of 88 from it.
    assert 'd="M39.2 8.0H56.8M39.2 4V12M56.8 4V12"' in whole and 'cx="48.0"' in whole
    assert 'cx="48.0"' in bare and "nan" not in bare and bare.count("<path") == 1


def test_the_best_of_a_column_is_one_of_those_run_on_all_datasets():
    track = pd.DataFrame({"accuracy": [0.8, 0.7, 0.9], "provisional": False, "on_all": [True, True, False]})
    assert tied_best(track, ["accuracy"]) == {"accuracy": {0}}
    assert tied_best(track.drop(columns="on_all"), ["accuracy"]) == {"accuracy": {2}}
