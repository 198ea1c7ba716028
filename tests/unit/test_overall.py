"""The overall score: the mean of the tracks that most entries share, and who has one. Its records are in board_records.py."""

import numpy as np
import pandas as pd
import pytest
from board_records import BASELINE, OTHER, WORKED, board_of, ranks, right, row_of
from statsmodels.stats.proportion import proportion_confint

from moodbench.report.formatting import marked, marks
from moodbench.report.notes import coverage_note


def test_overall_is_the_unweighted_mean_of_the_tracks_whatever_their_size():
    tweets = [t | {"dataset": "tweets", "num_test": 20, "accuracy": t["accuracy"] - 0.1} for t in (BASELINE, WORKED)]
    board = board_of(BASELINE, WORKED, *tweets)
    overall = row_of(board, "mini", "overall (2 datasets)")
    parts = board[(board["name"] == "mini") & (board["dataset"] != "overall")]
    assert overall["accuracy"] == pytest.approx((0.90 + 0.80) / 2)
    # on tweets the skill is (.8 - .7) / (1 - .7) = 1/3 in place of 1/2
    assert overall["score"] == pytest.approx((59.5 + 59.5 - 30 * (1 / 2 - 1 / 3)) / 2)
    assert (overall["rank"], overall["num_test"], overall["num_train"]) == (1, 220, 6000)
    low = [proportion_confint(180, 200, method="wilson")[0], proportion_confint(16, 20, method="wilson")[0]]
    assert overall["accuracy_low"] == pytest.approx(0.85 - np.hypot(0.9 - low[0], 0.8 - low[1]) / 2)
    assert (parts["accuracy_low"].mean() < overall["accuracy_low"] < 0.85, overall["interval_method"]) == (
        True,
        "mover",
    )


TWIN = WORKED | {"model": "twin"}


def test_an_entry_that_misses_a_track_has_no_overall_score():
    tweets = [t | {"dataset": "tweets"} for t in (BASELINE, WORKED, TWIN)]
    board = board_of(BASELINE, WORKED, TWIN, OTHER, *tweets)
    overall = board[board["dataset"] == "overall"]
    assert ranks(overall) == {"mini": 1, "twin": 1, "tfidf-logreg": 3, "other": None}
    assert overall["name"].tolist()[-1] == "other"
    assert [marked(row) for _, row in overall.iterrows()][-1] == "other (partial)"
    assert not any(marks(row) for _, row in board[board["dataset"] != "overall"].iterrows())


def test_one_entry_on_one_more_data_set_takes_nobodys_overall_score():
    both = [t | {"dataset": d} for t in (BASELINE, WORKED, OTHER) for d in ("movie", "tweets")]
    before = board_of(*both)
    for more in ([BASELINE, WORKED], [WORKED]):  # with and without a baseline there
        after = board_of(*both, *(t | {"dataset": "shop"} for t in more))
        assert set(after["track"]) - set(before["track"]) == {
            "shop (3,000 training texts)", "overall (2 of 3 datasets)",
        }  # fmt: skip
        whole = after[after["dataset"] == "overall"]
        assert set(whole["covers"]) == {("movie (3,000 training texts)", "tweets (3,000 training texts)")}
        kept = ["name", "score", "rank", "accuracy", "accuracy_low", "accuracy_high", "num_test"]
        pd.testing.assert_frame_equal(
            whole[kept].reset_index(drop=True),
            before.loc[before["dataset"] == "overall", kept].reset_index(drop=True),
        )
        (note,) = coverage_note(after, list(dict.fromkeys(after.loc[after["dataset"] != "overall", "track"])))
        assert "Omitted" in note and "shop (3,000 training texts)" in note.split("Omitted")[1]


def test_where_only_one_track_is_shared_by_most_there_is_no_overall():
    board = board_of(BASELINE, WORKED, OTHER, *(t | {"dataset": "tweets"} for t in (BASELINE, WORKED)))
    assert set(board["dataset"]) == {"movie", "tweets"}


def test_recipes_of_one_name_count_once_for_what_overall_covers():
    """The id in a name differs between datasets, as the recipe holds the data: such rows have no overall score."""
    twice = [WORKED | {"recipe": r, "dataset": d} for r, d in (("a", "movie"), ("b", "movie"), ("c", "tweets"), ("d", "tweets"))]  # fmt: skip
    rest = [t | {"dataset": d} for t in (BASELINE, OTHER) for d in ("movie", "tweets")]
    overall = board_of(*twice, *rest).query("dataset == 'overall'")
    assert {name: rank for name, rank in ranks(overall).items() if rank} == {"other": 1, "tfidf-logreg": 2}


def test_overall_says_mixed_where_one_track_speaks_of_weights_and_another_of_the_recipe():
    seeds = [t | {"seed": s} for t in (BASELINE, WORKED) for s in (0, 1, 2)]
    board = board_of(*seeds, *(t | {"dataset": "tweets"} for t in (BASELINE, WORKED)), correct=right)
    assert board.groupby("dataset")["estimand"].unique().map(list).to_dict() == {
        "movie": ["recipe"], "tweets": ["checkpoint"], "overall": ["mixed"],
    }  # fmt: skip


def test_a_score_missing_on_one_track_is_missing_overall_and_a_provisional_one_stays_provisional():
    tweets = [BASELINE, WORKED | {"verdict": "invalid"}, OTHER | {"verdict": "contaminated"}]
    board = board_of(BASELINE, WORKED, OTHER, *(t | {"dataset": "tweets"} for t in tweets))
    overall = board[board["dataset"] == "overall"]
    assert ranks(overall) == {"tfidf-logreg": 1, "mini": None, "other": None}
    assert overall.set_index("name")["provisional"].to_dict() == {"tfidf-logreg": False, "mini": False, "other": True}
