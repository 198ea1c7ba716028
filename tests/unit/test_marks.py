"""What must be known of a row stands beside its name, in every output."""

import numpy as np
import pandas as pd
import pytest

from moodbench.analysis.leaderboard import valid
from moodbench.report.formatting import MARKS, marked, marks


@pytest.mark.parametrize(
    ("verdict", "provisional", "quick", "expected"),
    [
        ("clean", False, False, "m"),
        ("clean", np.True_, False, "m (provisional)"),
        ("contaminated", True, True, "m (contaminated, quick)"),
        ("invalid", False, np.True_, "m (invalid, quick)"),
        ("unknown", False, None, "m (unknown)"),
        (None, np.nan, np.nan, "m"),
    ],
)
def test_a_name_carries_its_marks(verdict, provisional, quick, expected):
    row = pd.Series({"name": "m", "verdict": verdict, "provisional": provisional, "quick": quick})
    assert marked(row) == expected
    assert set(marks(row)) <= set(MARKS), "each mark is explained"


@pytest.mark.parametrize(("on_all", "expected"), [(np.False_, "m (partial)"), (True, "m"), (np.nan, "m"), (None, "m")])
def test_a_mean_over_fewer_data_sets_than_the_others_have_is_marked(on_all, expected):
    assert marked(pd.Series({"name": "m", "verdict": "clean", "on_all": on_all})) == expected


def test_an_invalid_measurement_says_nothing_of_speed_and_memory_and_all_of_quality():
    rows = pd.DataFrame(
        {"verdict": ["invalid", "clean", None], "accuracy": [0.9, 0.8, 0.7], "latency_p50_s": [1.0, 2.0, 3.0],
         "memory_peak_batch1_bytes": [1.0, 2.0, 3.0], "train_time_s": [1.0, 2.0, 3.0]}
    )  # fmt: skip
    kept = valid(rows)
    assert (
        kept["latency_p50_s"].isna().tolist()
        == [True, False, False]
        == kept["memory_peak_batch1_bytes"].isna().tolist()
    )
    assert kept["accuracy"].tolist() == [0.9, 0.8, 0.7] and kept["train_time_s"].tolist() == [1.0, 2.0, 3.0]
