"""Boards from small records made by hand. The first row's score is worked out in test_composite.py: 59.5."""

import numpy as np
import pandas as pd
import pytest
from board_records import (
    ANCHORS,
    BASELINE,
    OTHER,
    WORKED,
    board_of,
    leaderboard,
    no_items,
    ranks,
    records,
    right,
    row_of,
)
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from moodbench.analysis.leaderboard import ENTRY
from moodbench.analysis.trials import choose_machine, memory_parts, trials_frame
from moodbench.config import load_catalogue
from moodbench.statistics.intervals import two_way


def test_the_score_is_that_worked_out_by_hand_with_the_zero_of_the_baselines_row():
    board = board_of(WORKED, BASELINE)
    row = row_of(board, "mini")
    assert row["score"] == pytest.approx(59.5)
    assert (row["base_accuracy"], row["base_f1_macro"]) == (0.80, 0.82)
    # the baseline: no skill, 4 of 5 decades of throughput, 3 of 4 of latency
    assert row_of(board, "tfidf-logreg")["score"] == pytest.approx(20 * 0.8 + 20 * 0.75)
    assert ranks(board) == {"mini": 1, "tfidf-logreg": 2}
    assert set(board["track"]) == {"movie (3,000 training texts)"}


def test_the_best_comes_first_and_equal_scores_share_a_rank():
    board = board_of(BASELINE, OTHER, WORKED, WORKED | {"model": "twin"})
    assert board["name"].tolist() == ["mini", "twin", "other", "tfidf-logreg"]
    assert ranks(board) == {"mini": 1, "twin": 1, "other": 3, "tfidf-logreg": 4}


def test_without_the_baseline_or_a_measurement_there_is_no_score_but_the_row_stays():
    assert board_of(WORKED)["score"].isna().all()
    board = board_of(BASELINE, WORKED | {"measured": False}, OTHER)
    assert ranks(board) == {"other": 1, "tfidf-logreg": 2, "mini": None}
    assert row_of(board, "mini")["accuracy"] == 0.90
    assert (row_of(board, "mini")["measured"], pd.isna(row_of(board, "mini")["verdict"])) == (0, True)


def test_a_board_without_any_measurement_still_ranks_quality():
    board = board_of(*(t | {"measured": False} for t in (BASELINE, OTHER, WORKED)))
    assert board["name"].tolist() == ["mini", "other", "tfidf-logreg"]
    assert board["score"].isna().all()
    assert not board["quick"].any()


def test_seeds_are_averaged_quality_by_the_mean_and_speed_by_the_median():
    seeds = [
        WORKED | {"seed": 0, "accuracy": 0.90, "latency_s": 0.010, "train_time_s": 10.0},
        WORKED | {"seed": 1, "accuracy": 0.80, "latency_s": 0.012, "train_time_s": 90.0},
        WORKED | {"seed": 2, "accuracy": 0.85, "latency_s": 0.099, "train_time_s": 20.0},
    ]
    row = row_of(board_of(BASELINE, *seeds, correct=right), "mini")
    assert row["accuracy"] == pytest.approx(0.85)
    assert (row["latency_p50_s"], row["train_time_s"]) == (0.012, 20.0)
    assert (row["num_seeds"], row["measured"], len(row["fit_ids"])) == (3, 3, 3)


@pytest.mark.parametrize("accuracy", [0.0, 0.805, 0.9, 1.0])
def test_one_seed_has_wilsons_interval_for_these_weights(accuracy):
    row = row_of(board_of(BASELINE, WORKED | {"accuracy": accuracy}), "mini")
    expected = proportion_confint(round(accuracy * 200), 200, method="wilson")
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx(expected)
    assert (row["interval_method"], row["estimand"]) == ("wilson", "checkpoint")


def test_several_seeds_have_the_two_way_interval_for_the_recipe():
    asked = []

    def correct(evaluation_ids):
        asked.append(evaluation_ids)
        return right(evaluation_ids)

    row = row_of(board_of(BASELINE, *(WORKED | {"seed": s} for s in (2, 0, 1)), correct=correct), "mini")
    expected = two_way(right(range(3)))
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((expected.low, expected.high))
    assert (row["interval_method"], row["estimand"]) == ("two-way items x seeds", "recipe")
    assert asked == [row["evaluation_ids"]]
    assert [e[-1] for e in row["evaluation_ids"]] == ["0", "1", "2"]


def test_seeds_that_agree_on_every_item_have_the_interval_of_the_items_alone():
    def same(evaluation_ids):
        return np.repeat(np.arange(200) < 180, len(evaluation_ids)).reshape(200, -1)

    row = row_of(board_of(BASELINE, *(WORKED | {"seed": s} for s in range(3)), correct=same), "mini")
    # the t interval of a mean of 200 zeros and ones, n - 1 below
    half = stats.t.ppf(0.975, 199) * np.sqrt(0.9 * 0.1 / 199)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((0.9 - half, 0.9 + half))


def test_a_contaminated_row_is_provisional_scored_by_cpu_time_and_not_ranked_beside_clean_ones():
    disturbed = WORKED | {
        "verdict": "contaminated",
        "texts_per_s": 1.0,
        "latency_s": 1.0,
        "texts_per_cpu_s": 1000.0,
        "cpu_s": 0.01,
    }
    board = board_of(BASELINE, disturbed, OTHER)
    row = row_of(board, "mini")
    assert (row["provisional"], row["score"]) == (True, pytest.approx(59.5))
    assert (row["latency_p50_s"], row["throughput_texts_per_s"]) == (1.0, 1.0)
    assert ranks(board) == {"other": 1, "tfidf-logreg": 2, "mini": None}
    assert board["name"].tolist()[-1] == "mini"


def test_cpu_time_summed_over_threads_stands_for_no_latency():
    summed = WORKED | {"verdict": "contaminated", "protocol_version": 1}
    row = row_of(board_of(BASELINE, summed), "mini")
    assert (row["provisional"], np.isnan(row["score"]), np.isnan(row["texts_per_cpu_s"])) == (True, True, True)
    assert not np.isnan(row_of(board_of(BASELINE, summed | {"protocol_version": 2}), "mini")["score"])


def test_where_all_are_contaminated_all_are_ranked_and_provisional():
    board = board_of(*(t | {"verdict": "contaminated"} for t in (BASELINE, WORKED, OTHER)))
    assert ranks(board) == {"mini": 1, "other": 2, "tfidf-logreg": 3}
    assert board["provisional"].all()


def test_one_disturbed_seed_makes_the_entry_provisional():
    board = board_of(BASELINE, WORKED, WORKED | {"seed": 1, "verdict": "contaminated"}, correct=right)
    assert (row_of(board, "mini")["provisional"], row_of(board, "mini")["verdict"]) == (True, "contaminated")


@pytest.mark.parametrize("composite", ["pinned", "minmax", "geomean", "none"])
def test_the_majority_baseline_and_what_is_no_better_never_has_a_rank(composite):
    """They are a million times faster; the geometric mean gave the first place to them."""
    trivial = {"accuracy": 0.5, "f1_macro": 1 / 3, "texts_per_s": 1e9, "latency_s": 1e-6}
    names = ("majority", "constant", "poor")
    board = board_of(
        BASELINE, WORKED, *(trivial | {"model": name, "accuracy": 0.5 - 0.1 * (name == "poor")} for name in names),
        composite=composite,
    )  # fmt: skip
    assert {name: rank for name, rank in ranks(board).items() if name in names} == dict.fromkeys(names)
    assert sorted(rank for name, rank in ranks(board).items() if name not in names) in ([1, 2], [1, 1])
    assert board["name"].iloc[0] not in names
    assert not row_of(board, "mini")["trivial"]


def test_an_invalid_measurement_gives_no_score_and_leaves_quality():
    board = board_of(BASELINE, WORKED | {"verdict": "invalid"}, OTHER)
    assert ranks(board) == {"other": 1, "tfidf-logreg": 2, "mini": None}
    row = row_of(board, "mini")
    assert np.isnan(row["score"])
    assert (row["accuracy"], row["verdict"], row["provisional"]) == (0.90, "invalid", False)


def test_entries_that_learned_from_different_rows_are_never_compared():
    few = [t | {"num_train": 100} for t in (BASELINE | {"accuracy": 0.6}, WORKED | {"accuracy": 0.7})]
    board = board_of(BASELINE, WORKED, *few)
    small, large = "movie (100 training texts)", "movie (3,000 training texts)"
    assert row_of(board, "mini", small)["base_accuracy"] == 0.6
    assert row_of(board, "mini", large)["base_accuracy"] == 0.8
    for track in (small, large):
        assert ranks(board[board["track"] == track]) == {"mini": 1, "tfidf-logreg": 2}
    assert "overall (2 tracks)" in set(board["track"])


def test_two_revisions_of_one_data_set_are_two_tracks_with_two_names():
    board = board_of(BASELINE, WORKED, *(t | {"revision": "abcdefgh"} for t in (BASELINE, OTHER)))
    tracks = ["movie (3,000 training texts, revision abcdef)", "movie (3,000 training texts, revision r1)"]
    assert list(dict.fromkeys(board["track"]))[:2] == tracks
    assert all(sorted(board.loc[board["track"] == t, "rank"]) == [1, 2] for t in tracks)


def test_two_recipes_of_one_model_are_two_entries_with_ids_in_their_names():
    board = board_of(BASELINE, WORKED | {"recipe": "a"}, WORKED | {"recipe": "b", "accuracy": 0.8})
    assert board["name"].tolist() == ["mini #aaaaaa", "mini #bbbbbb", "tfidf-logreg"]


def test_a_quantised_entry_says_so_in_its_name_beside_the_plain_one():
    nf4 = WORKED | {"recipe": "b", "accuracy": 0.8, "quantization": "nf4"}
    board = board_of(BASELINE, WORKED, nf4)
    assert board.set_index("name")["quantization"].to_dict() == {
        "mini": "none", "mini nf4": "nf4", "tfidf-logreg": "none",
    }  # fmt: skip
    both = board_of(BASELINE, nf4, nf4 | {"recipe": "c"}, WORKED)
    assert set(both["name"]) == {"mini", "mini nf4 #bbbbbb", "mini nf4 #cccccc", "tfidf-logreg"}


def test_the_zero_is_the_pinned_configuration_of_the_baseline_whatever_its_other_recipes_reach():
    ours = {"tfidf": dict(ANCHORS.baseline_tfidf), "preparation": [], "augmentation": None}
    other = ours | {"tfidf": ours["tfidf"] | {"max_ngram": 1}}
    plain = board_of(BASELINE | {"recipe": "z", "spec": ours}, WORKED)
    both = board_of(
        BASELINE | {"recipe": "z", "spec": ours}, BASELINE | {"recipe": "a", "spec": other, "accuracy": 0.9}, WORKED
    )
    assert row_of(both, "mini")["score"] == row_of(plain, "mini")["score"] == pytest.approx(59.5)
    assert set(both["base_name"]) == {"tfidf-logreg #zzzzzz"}
    alone = board_of(BASELINE | {"recipe": "a", "spec": other, "accuracy": 0.85}, WORKED)
    assert row_of(alone, "mini")["base_accuracy"] == 0.85, "with no other there, that is the zero"


def test_the_parts_of_memory_add_up_to_the_memory_that_is_compared():
    measurements = pd.DataFrame(
        {
            "memory_imports_bytes": [100, 100, 100, None],
            "memory_loaded_bytes": [250, 250, 90, 250],
            "memory_peak_batch1_bytes": [300, 240, 300, 300],
        }
    )
    parts = pd.DataFrame(memory_parts(measurements))
    # the second gave memory back after loading, the third after its imports; of the last the imports are not known
    by_hand = {
        "memory_libraries_bytes": [100, 100, 100],
        "memory_weights_bytes": [150, 140, 0],
        "memory_working_bytes": [50, 0, 200],
    }
    assert parts[:3].to_dict("list") == by_hand
    assert parts.loc[3, ["memory_libraries_bytes", "memory_weights_bytes"]].isna().all()
    row = row_of(board_of(BASELINE, WORKED), "mini")
    assert [row[f"memory_{part}_bytes"] for part in ("libraries", "weights", "working")] == [0.25, 0.5, 0.25]


def test_the_pinned_configuration_is_the_catalogues():
    assert load_catalogue().training.tfidf.model_dump(mode="json") == ANCHORS.baseline_tfidf


def test_shares_are_clipped_to_what_shares_can_be():
    """Two seeds of 0.96 and 0.90: the t interval of one degree of freedom is 80 points wide."""

    def far_apart(evaluation_ids):
        return np.stack([np.arange(200) < 192, np.arange(200) < 180], axis=1)

    two = [WORKED | {"seed": s, "accuracy": a} for s, a in ((0, 0.96), (1, 0.90))]
    row = row_of(board_of(BASELINE, *two, correct=far_apart), "mini")
    assert two_way(far_apart(None)).high > 1.2
    assert (row["accuracy_low"], row["accuracy_high"]) == (pytest.approx(two_way(far_apart(None)).low), 1.0)


def test_several_seeds_without_stored_predictions_have_no_interval():
    def none(evaluation_ids):
        return np.zeros((0, len(evaluation_ids)), dtype=bool)

    seeds = [WORKED | {"seed": s} for s in (0, 1)]
    row = row_of(board_of(BASELINE, *seeds, correct=none), "mini")
    assert row["accuracy"] == 0.90 and row["score"] == pytest.approx(59.5)
    assert np.isnan(row["accuracy_low"]) and np.isnan(row["accuracy_high"]) and pd.isna(row["interval_method"])


MANY = [
    BASELINE, WORKED | {"verdict": "contaminated"}, OTHER, WORKED | {"model": "twin"}, OTHER | {"seed": 1, "accuracy": 0.8},
    BASELINE | {"dataset": "tweets"}, WORKED | {"dataset": "tweets"}, OTHER | {"dataset": "tweets", "measured": False},
]  # fmt: skip


@pytest.mark.parametrize("composite", ["pinned", "minmax"])
@pytest.mark.parametrize("seed", [None, 1, 2, 3, 4, 5])
def test_the_order_of_the_records_changes_nothing(seed, composite):
    trials = MANY[::-1] if seed is None else [MANY[i] for i in np.random.default_rng(seed).permutation(len(MANY))]
    board, shuffled = (board_of(*t, correct=right, composite=composite) for t in (MANY, trials))
    pd.testing.assert_frame_equal(board, shuffled, rtol=1e-12)


def test_no_records_make_an_empty_board():
    empty = tuple(frame.iloc[:0] for frame in records(WORKED))
    board = leaderboard(trials_frame(*empty), no_items)
    assert board.empty
    assert {*ENTRY, "track", "score", "rank"} <= set(board.columns)


def test_a_fit_that_is_not_evaluated_is_not_on_the_board():
    fits, evaluations, measurements = records(BASELINE, WORKED)
    trials = trials_frame(fits, evaluations[evaluations["model"] != "mini"], measurements)
    assert trials["model"].tolist() == ["tfidf-logreg"]


@pytest.mark.parametrize(
    ("measurements", "latency"),
    [
        ([(True, 5, 0.1), (False, 1, 0.2)], 0.2),  # full before quick, whatever their age
        ([(False, 1, 0.1), (False, 5, 0.2)], 0.2),  # the newest of equals
        ([(False, 5, 0.1), (False, 1, 0.2)], 0.1),
    ],
)
def test_of_several_measurements_of_a_fit_the_full_and_then_the_newest_counts(measurements, latency):
    trials = trials_frame(*records(*(WORKED | {"quick": q, "at": at, "latency_s": s} for q, at, s in measurements)))
    assert trials["latency_p50_s"].tolist() == [latency]


def test_speed_is_that_of_weights_in_the_format_of_the_evaluation():
    two = [
        {"measured_in": None, "at": 1, "latency_s": 0.2, "quick": True},
        {"measured_in": "bf16", "at": 5, "latency_s": 0.1},
    ]
    for evaluated_in, latency in (("fp32", 0.2), (None, 0.2), ("bf16", 0.1)):
        trials = trials_frame(*records(*(WORKED | {"evaluated_in": evaluated_in} | each for each in two)))
        assert trials["latency_p50_s"].tolist() == [latency], evaluated_in
    trials = trials_frame(*records(WORKED | {"evaluated_in": "fp16", "measured_in": "bf16"}))
    assert trials["measurement_id"].isna().tolist() == [True]


def test_speeds_of_one_kind_of_machine_are_shown_the_readers_own_if_there_are_any():
    _, _, measurements = records(*(WORKED | {"machine": m, "seed": i} for i, m in enumerate(["b", "a", "b", "c", "c"])))
    shown = [choose_machine(measurements, key)["machine_key"].tolist() for key in ("a", "c", "z")]
    assert shown == [["a"], ["c", "c"], ["b", "b"]]
    assert choose_machine(measurements.iloc[:0], "a").empty
