from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from generated_store import generate

from moodbench.comparison.composite import Weights
from moodbench.hardware import hardware
from moodbench.visualization.leaderboard_view import answer, tied_best
from moodbench.visualization.page.reading import Reader
from moodbench.visualization.standing import Standing


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """Five contenders on two data sets of 500 texts, one seed."""
    store = generate(
        tmp_path_factory.mktemp("made") / "results", num_models=5, num_datasets=2, num_seeds=1, predictions=True
    )
    made = Reader(store, hardware()).current()
    results = made.results
    return replace(made, standing=Standing(store, results.contenders, results.evaluations, wait_s=None))


def test_draws_lie_around_the_scores_of_the_board(reading):
    weights = Weights(0.4, 0.2, 0.3, 0.1)
    view = reading.view(weights)
    for name in view.tracks:
        track = view.track(name)
        ranked = track[track["rank"].notna()]
        draws = reading.standing._scores(track, ranked, list(ranked["name"]), weights)
        assert draws.shape == (2000, 5)
        assert np.abs(draws.mean(axis=0) - ranked["score"].to_numpy(dtype=float)).max() < 1.0, "the skill has a floor"


def test_the_chance_to_be_best_is_that_of_a_bootstrap_text_by_text(reading):
    weights = Weights(1.0, 0.0, 0.0, 0.0)
    view = reading.view(weights)
    track = view.track(view.tracks[0])
    placed = reading.standing.placed(track, weights)
    assert placed["p_best"].sum() == pytest.approx(1.0)
    first = placed.iloc[0]
    ids = [row[0] for row in placed["evaluation_ids"]]
    said = reading.store.predictions(ids)
    right = said.assign(right=said["label"] == said["predicted"]).pivot(
        index="example_id", columns="evaluation_id", values="right")[ids].to_numpy(dtype=float)  # fmt: skip
    labels = said.drop_duplicates("example_id").set_index("example_id")["label"].sort_index().to_numpy()
    rng = np.random.default_rng(3)
    wins = 0
    for _ in range(2000):
        rows = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in (0, 1)])
        wins += right[rows].mean(axis=0).argmax() == 0
    assert first["p_best"] == pytest.approx(wins / 2000, abs=0.05)


def test_a_place_lies_in_its_range_and_weights_of_speed_leave_no_doubt(reading):
    weights = Weights(0.0, 0.0, 0.5, 0.5)
    view = reading.view(weights)
    placed = reading.standing.placed(view.track(view.tracks[-1]), weights)
    assert (placed["rank_low"] == placed["rank"].astype(int)).all() and (
        placed["rank_high"] == placed["rank_low"]
    ).all()
    assert placed["p_best"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0], "the draws do not vary speed"
    weights = Weights()
    view = reading.view(weights)
    placed = reading.standing.placed(view.track(view.tracks[-1]), weights)
    places = placed["rank"].astype(int)
    assert (placed["rank_low"] <= places).all() and (places <= placed["rank_high"]).all()


def test_who_is_not_separated_from_the_most_accurate_is_named_with_it(reading):
    view = reading.view(Weights())
    track = view.track(view.tracks[0])
    placed = reading.standing.placed(track, Weights())
    tied = set(placed.loc[placed["tied_accuracy"], "name"])
    best = placed.loc[placed["accuracy"].idxmax(), "name"]
    assert best in tied
    assert {placed.loc[i, "name"] for i in tied_best(placed)["accuracy"]} == tied
    worst = placed.loc[placed["accuracy"].idxmin()]
    assert placed["accuracy"].max() - worst["accuracy"] > 0.08 and worst["name"] not in tied, "500 texts tell 8 points"
    assert len(tied_best(track)["accuracy"]) == 1, "without draws the best alone"


def test_without_predictions_there_are_places_but_no_ranges(tmp_path):
    store = generate(tmp_path / "results", num_models=3, num_datasets=1, num_seeds=1, predictions=False)
    results = Reader(store, hardware()).current().results
    view = results.view()
    placed = Standing(store, results.contenders, results.evaluations, wait_s=None).placed(
        view.track(view.tracks[0]), Weights()
    )
    assert placed["rank_low"].isna().all() and placed["rank"].tolist() == [1, 2, 3]


def board(**columns):
    rows = pd.DataFrame({"name": ["a", "b", "c"], "score": [50.0, 49.0, 20.0], "rank": [1, 2, 3], "provisional": False})
    return rows.assign(**columns)


def test_the_answer_says_how_sure_it_is():
    assert answer(board()) == "a leads with a score of 50.0, 1.0 ahead of b."
    sure = board(rank_low=[1, 2, 3], rank_high=[1, 2, 3], p_best=[0.999, 0.001, 0.0])
    assert answer(sure) == (
        "a leads with a score of 50.0 and is the best with probability over 99 %; "
        "no other contender could be first on these data."
    )
    unsure = board(rank_low=[1, 1, 3], rank_high=[2, 2, 3], p_best=[0.6, 0.4, 0.0])
    assert answer(unsure).endswith("probability 60 %; b could be first as well: the data do not separate them.")
