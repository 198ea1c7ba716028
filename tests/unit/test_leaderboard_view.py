from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from generated_store import generate
from test_scoring import score

from moodbench.app import leaderboard
from moodbench.app.leaderboard_table import leaderboard_table
from moodbench.app.snapshot import SnapshotReader
from moodbench.app.tab import Services
from moodbench.app.url_state import State
from moodbench.hardware import hardware
from moodbench.report.files import REPORT, write
from moodbench.report.formatting import COLUMNS
from moodbench.report.leaderboard_view import StoreView, answer, tied_best
from moodbench.statistics.composite import Weights, latency_for_a_point, load_anchors

VIEWS = [
    (Weights(), "pinned"),
    (Weights(0, 0, 0.5, 0.5), "geomean"),
    (Weights(0.5, 0.5, 0, 0), "pinned"),
    (Weights(), "none"),
]


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """Five entries on two datasets of 500 texts, one seed, measured in one process."""
    store = generate(
        tmp_path_factory.mktemp("made") / "results", num_models=5, num_datasets=2, num_seeds=1, num_processes=1
    )
    return SnapshotReader(store, hardware()).current()


def test_what_a_plain_address_shows_was_computed_when_the_store_was_read(reading):
    before = reading._cached_view.cache_info()
    assert leaderboard.render(reading, State(), Services())[0].startswith('<p class="mb-answer"')
    assert reading._cached_view.cache_info().misses == before.misses


@pytest.mark.parametrize("composite", ["pinned", "geomean"])
def test_draws_lie_around_the_scores_of_the_board(reading, composite):
    weights = Weights(0.4, 0.2, 0.3, 0.1)
    results = reading.results
    board = reading.view(weights, composite).rows
    drawn = results.scoring(composite).draws(weights)
    assert len(drawn) == 2
    for name, draws in drawn.items():
        score = board[board["track"] == name].set_index("name")["score"].loc[list(draws.names)]
        assert draws.scores.shape == (2000, 5)
        assert np.abs(draws.scores.mean(axis=0) / score.to_numpy(dtype=float) - 1).max() < 0.05, "the skill has a floor"
    assert not np.allclose(*(d.scores - d.scores.mean(axis=0) for d in drawn.values())), "datasets are drawn apart"


def test_rank_intervals_hold_the_rank_on_each_data_set_and_on_all_together(reading):
    board = reading.view(Weights()).rows
    assert board["track"].nunique() == 3 and board["rank_low"].notna().all()
    assert (board["rank_low"] <= board["rank"]).all() and (board["rank"] <= board["rank_high"]).all()
    assert board.groupby("track")["p_best"].sum().tolist() == pytest.approx([1, 1, 1])


def test_weights_of_speed_leave_no_doubt_about_places(reading):
    placed = reading.view(Weights(0.0, 0.0, 0.5, 0.5)).rows
    assert (placed["rank_low"] == placed["rank"]).all() and (placed["rank_high"] == placed["rank"]).all()


def test_who_is_not_separated_from_the_most_accurate_is_named_with_it(reading):
    view = reading.view(Weights())
    track = view.track(view.tracks[0])
    best = track.loc[track["accuracy"].idxmax()]
    assert best["tied_best"] and "a" in best["accuracy_letters"]
    assert tied_best(track)["accuracy"] == set(track.index[track["tied_best"].astype(bool)])
    assert tied_best(track)["f1_macro"] == set(track.index[track["tied_f1"].astype(bool)])
    assert tied_best(track)["latency_p50_s"] == {track["latency_p50_s"].idxmin()}, "one process each: as measured"
    worst = track.loc[track["accuracy"].idxmin()]
    assert best["accuracy"] - worst["accuracy"] > 0.08 and not worst["tied_best"], "500 texts tell 8 points"
    assert len(tied_best(track.drop(columns=["tied_best", "tied_f1"]))["accuracy"]) == 1, "without draws the best alone"


def test_no_weights_change_groups_pareto_sets_and_intervals(reading):
    columns = ["accuracy_letters", "f1_low", "f1_high", "p_pareto_latency", "p_pareto_memory", "hypervolume_latency"]
    boards = [
        reading.view(Weights(*w), composite).rows.sort_values(["track", "name"])[columns].reset_index(drop=True)
        for w, composite in (((0.3, 0.3, 0.2, 0.2), "pinned"), ((1.0, 0, 0, 0), "minmax"), ((0, 0, 1.0, 0), "none"))
    ]
    pd.testing.assert_frame_equal(boards[0], boards[1])
    pd.testing.assert_frame_equal(boards[0], boards[2])


def test_without_weights_the_order_is_that_of_pareto_layers(reading):
    board = reading.view(Weights(), "none").rows
    for _, track in board.groupby("track"):
        costs = np.stack([1 - track["accuracy"], track["latency_p50_s"], track["memory_peak_batch1_bytes"]], axis=1)
        first = {
            name for name, own in zip(track["name"], costs, strict=True)
            if not any((other <= own).all() and (other < own).any() for other in costs)
        }  # fmt: skip
        assert set(track.loc[track["rank"] == 1, "name"]) == first
        assert track["score"].isna().all() and track["rank"].is_monotonic_increasing


def test_the_notes_say_what_weights_amount_to_and_what_dethrones_the_first(reading):
    view = reading.shown.leaderboard(with_robustness=True)
    notes = " ".join(view.notes)
    for words in (
        "Effective weights",
        "one point of accuracy offsets",
        "Smallest change of weights",
        "Kendall tau",
    ):
        assert words in notes
    record = view.robustness[0].to_record()
    assert [sum(chances) for chances in record["p_rank"].values()] == pytest.approx([1] * 5)
    assert "No score" in " ".join(reading.shown.leaderboard(composite="none", with_robustness=True).notes)


@pytest.mark.parametrize("composite", ["pinned", "geomean"])
def test_a_point_of_accuracy_costs_what_the_notes_say(reading, composite):
    """One more point and so much more latency leave the score as it is."""
    board, anchors = reading.view(Weights()).rows, load_anchors()
    row = board[board["dataset"] != "overall"].iloc[[0]]
    row = row.assign(accuracy=row["base_accuracy"] + 0.02, latency_p50_s=0.005)
    seconds = latency_for_a_point(composite, Weights(), anchors, row.iloc[0].to_dict(), 0.1, 0.1)
    other = row.assign(accuracy=row["accuracy"] + 0.01, latency_p50_s=row["latency_p50_s"] + seconds)
    before, after = (score(r, composite).iloc[0] for r in (row, other))
    assert seconds > 0 and after == pytest.approx(before, abs=1e-6)


def test_a_point_under_minmax_is_worked_by_hand():
    """0.01 of a span of 0.1 in accuracy at weight 0.3 is 0.03; of 20 ms at weight 0.2 that is 3 ms."""
    row = {"latency_p50_s": 0.02, "base_accuracy": 0.7, "accuracy": 0.85}
    assert latency_for_a_point("minmax", Weights(), load_anchors(), row, 0.1, 0.020) == pytest.approx(0.003)
    assert latency_for_a_point("minmax", Weights(0.5, 0.5, 0, 0), load_anchors(), row, 0.1, 0.020) is None


def test_without_predictions_there_are_places_but_no_ranges(tmp_path):
    store = generate(tmp_path / "results", num_models=3, num_datasets=1, num_seeds=1, predictions=False)
    placed = SnapshotReader(store, hardware()).current().view(Weights()).rows
    assert placed["rank_low"].isna().all() and placed["rank"].tolist() == [1, 2, 3]
    assert " ahead of " in answer(placed), "without ranges nothing is said of who else could be first"


def test_several_seeds_without_predictions_have_a_board_without_intervals(tmp_path):
    store = generate(tmp_path / "results", num_models=3, num_datasets=2, num_seeds=3, predictions=False)
    view = SnapshotReader(store, hardware()).current().view(Weights())
    assert view.rows["score"].notna().all() and view.rows["accuracy_low"].isna().all()
    assert any("No interval" in note for note in view.notes)
    assert len(write(view, store, REPORT, tmp_path / "report")) == 6 + 2 * (2 * 4 + 1), "accuracy, three costs; and F1"


def board(**columns):
    rows = pd.DataFrame({"name": ["a", "b", "c"], "score": [50.0, 49.0, 20.0], "rank": [1, 2, 3], "provisional": False})
    return rows.assign(**columns)


def test_the_answer_says_how_sure_it_is():
    assert answer(board()) == "a leads with a score of 50.0, 1.0 ahead of b."
    sure = board(rank_low=[1, 2, 3], rank_high=[1, 2, 3], p_best=[0.999, 0.001, 0.0])
    assert answer(sure) == (
        "a leads with a score of 50.0 and is the best with probability over 99 %; "
        "no other entry could rank first on these data."
    )
    unsure = board(rank_low=[1, 1, 3], rank_high=[2, 2, 3], p_best=[0.6, 0.4, 0.0])
    assert answer(unsure).endswith(
        "probability 60 %; b could rank first too: the difference in score is not significant."
    )


def test_the_answer_names_those_who_are_ahead_but_have_no_place():
    disturbed = board(rank=[None, 1, 2], provisional=[True, False, False])
    assert answer(disturbed) == (
        "b leads with a score of 49.0, 29.0 ahead of c. "
        "a scores higher, but without a rank, because other load disturbed the clock."
    )
    behind = board(rank=[1, None, None], provisional=[False, True, True])
    assert answer(behind) == "a leads with a score of 50.0; no other entry has a rank here."


def test_without_a_score_the_answer_names_the_pareto_set():
    rows = board(score=float("nan"), rank=[1, 1, 2])
    assert answer(rows) == "The Pareto set of error, latency and memory: a and b."


def test_cells_that_are_kept_read_as_made_anew(reading):
    kept = {}
    for weights in (Weights(), Weights(0.0, 0.0, 0.5, 0.5), Weights(0.1, 0.1, 0.4, 0.4)):
        view = reading.view(weights)
        for name in view.tracks:
            for pinned in ((), ("synthetic-2",)):
                track = view.track(name)
                anew = leaderboard_table(track, track, view.failures, pinned=pinned)
                assert leaderboard_table(track, track, view.failures, pinned=pinned, cache=kept) == anew
    assert {key[2] for key in kept} == {c.key for c in COLUMNS} - {"rank", "score"}


def test_a_view_after_others_is_that_of_a_fresh_reading(reading):
    before = [reading.shown.leaderboard(w, c).rows for w, c in VIEWS]
    fresh = [StoreView(replace(reading.results)).leaderboard(w, c).rows for w, c in VIEWS]
    for a, b in zip(before, fresh, strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)
