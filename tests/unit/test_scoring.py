"""Where entries may stand, on joint draws made by hand."""

import numpy as np
import pandas as pd
import pytest

from moodbench.analysis.leaderboard import QUALITY_COLUMNS, track_with_quality_columns
from moodbench.analysis.scoring import SCORE_COLUMNS, utility_draws, with_score_ranks
from moodbench.statistics.bootstrap import BootstrapDraws, bootstrap_draws
from moodbench.statistics.composite import COMPOSITES, Weights, load_anchors, utilities_of

ANCHORS = load_anchors()
NAMES = ("fast", "good", "tfidf-logreg")


def track():
    rows = pd.DataFrame(
        {
            "name": NAMES,
            "accuracy": [0.82, 0.90, 0.80],
            "f1_macro": [0.82, 0.90, 0.80],
            "throughput_texts_per_s": [1e4, 1e3, 1e4],
            "latency_p50_s": [0.001, 0.010, 0.001],
            "base_name": "tfidf-logreg",
            "base_accuracy": 0.80,
            "base_f1_macro": 0.80,
            "ceiling_accuracy": np.nan,
            "ceiling_f1_macro": np.nan,
            "provisional": False,
        }
    )
    scores = score(rows)
    return rows.assign(score=scores, rank=scores.rank(ascending=False).astype("Int64"))


def joint(noise):
    point = np.array([0.82, 0.90, 0.80])
    draws = point + noise * np.random.default_rng(0).standard_normal((500, 3))
    return BootstrapDraws(NAMES, point, point, draws, draws, 1000, (1, 1, 1), 0.1)


def score(rows, composite="pinned"):
    scheme = COMPOSITES[composite]
    return scheme.score(utilities_of(rows, scheme, ANCHORS), Weights())


def score_draws(rows, draws, composite="pinned"):
    return utility_draws(rows, draws, ANCHORS, COMPOSITES[composite]).under(Weights())


def placed(rows, noise, composite="pinned"):
    return with_score_ranks(rows, score_draws(rows, joint(noise), composite))


def grouped(rows, drawn):
    rows = rows.assign(memory_peak_batch1_bytes=[1.0, 2.0, 3.0], train_time_s=[1.0, np.nan, 0.5])
    return track_with_quality_columns(rows, drawn, rows["latency_p50_s"])


def test_draws_without_noise_have_the_pinned_utilities_and_leave_one_place_each():
    rows = track()
    found = placed(rows, 0.0)
    pinned = COMPOSITES["pinned"]
    utilities = utility_draws(rows, joint(0.0), ANCHORS, pinned).utilities
    assert utilities[0] == pytest.approx(utilities_of(rows, pinned, ANCHORS).to_numpy())
    # 60 x 0.5 + 20 x 0.6 + 20 x 0.5 = 52; 60 x 0.1 + 20 x 0.8 + 20 x 0.75 = 37; 31
    assert rows["score"].tolist() == pytest.approx([37, 52, 31])
    assert found["rank_low"].tolist() == found["rank_high"].tolist() == [2, 1, 3]
    assert found["p_best"].sum() == pytest.approx(1)
    assert found["p_best"].idxmax() == 1


@pytest.mark.parametrize("composite", ["minmax", "geomean"])
def test_without_noise_the_draws_are_the_scores_of_the_board_under_every_composite(composite):
    rows = track()
    scores = score(rows, composite)
    rows = rows.assign(score=scores, rank=scores.rank(ascending=False).astype("Int64"))
    draws = score_draws(rows, joint(0.0), composite)
    assert draws.scores == pytest.approx(np.tile(scores.to_numpy(), (500, 1)))
    found = placed(rows, 0.0, composite=composite)
    assert (found["rank_low"] == rows["rank"]).all() and (found["rank_high"] == rows["rank"]).all()


def test_noise_opens_places_and_they_hold_the_rank():
    rows = track()
    found = placed(rows, 0.05)
    assert (found["rank_low"] <= rows["rank"]).all() and (rows["rank"] <= found["rank_high"]).all()
    assert (found["rank_high"] - found["rank_low"]).max() >= 1
    assert grouped(rows, joint(0.05))["accuracy_letters"].str.contains("a").sum() >= 2


def test_groups_and_pareto_sets_need_no_score():
    """Without noise: fast and good are beaten by none in error and latency, the baseline is (0.80 at 1 ms against 0.82)."""
    found = grouped(track(), joint(0.0))
    assert found["accuracy_letters"].tolist() == ["b", "a", "c"]
    assert found["tied_best"].tolist() == [False, True, False]
    assert found["p_pareto_latency"].tolist() == [1, 1, 0]
    assert found["p_pareto_memory"].tolist() == [1, 1, 0]
    assert found["p_pareto_train_time"].tolist() == [1, 0, 1], "good has no training time"
    # error x slowness: good (0.10, 0.5) alone adds 0.08 x 0.5; fast (0.18, 0.25) adds 0.82 x 0.25 but the baseline keeps 0.80 x 0.25
    assert found["hypervolume_latency"].tolist() == pytest.approx([0.02 * 0.25, 0.08 * 0.5, 0])


def test_areas_of_memory_and_training_time_lie_between_fixed_ends():
    """Costs at 0, 1/2 and all of the scale: fast (0.18, 0) adds 0.82 x 0.5, good (0.10, 0.5) adds 0.08 x 0.5, the last nothing."""
    rows = track().assign(memory_peak_batch1_bytes=[2.0**25, 2.0**30.5, 2.0**36], train_time_s=[0.1, 10**2.5, np.nan])
    found = track_with_quality_columns(rows, joint(0.0), rows["latency_p50_s"])
    assert found["hypervolume_memory"].tolist() == pytest.approx([0.82 * 0.5, 0.08 * 0.5, 0])
    assert found["hypervolume_train_time"].tolist() == pytest.approx([0.82 * 0.5, 0.08 * 0.5, np.nan], nan_ok=True)


def test_where_nothing_is_known_all_is_null():
    rows = track()
    unranked = rows.assign(rank=pd.array([None] * 3, dtype="Int64"))
    assert placed(unranked, 0.0)[list(SCORE_COLUMNS)].isna().all(axis=None)
    assert with_score_ranks(rows, None)[list(SCORE_COLUMNS)].isna().all(axis=None)
    unknown = [c for c in QUALITY_COLUMNS if not c.startswith("hypervolume")]
    assert grouped(rows, None)[unknown].isna().all(axis=None)


def test_what_is_no_better_than_chance_is_in_no_pareto_set_and_takes_nobody_else_out():
    labels = np.arange(300) % 2
    good = np.where(np.arange(300) < 270, labels, 1 - labels)
    coin = np.random.default_rng(0).integers(0, 2, 300)
    drawn = bootstrap_draws(labels, [good, labels * 0, coin], NAMES, 2)
    rows = track().assign(accuracy=drawn.accuracy, latency_p50_s=[0.010, 1e-6, 1e-6])
    made = grouped(rows, drawn).set_index("name")
    assert made["trivial"].tolist() == [False, True, True]
    for column in ("p_pareto_latency", "p_pareto_memory", "p_pareto_train_time"):
        assert made[column].tolist() == [1.0, 0.0, 0.0]
    assert made["tied_best"].tolist() == [True, False, False]
    assert made["tied_latency"].fillna(False).tolist() == [True, False, False]
    assert made["hypervolume_latency"].isna().tolist() == [False, True, True]


def test_rank_interval_and_probability_to_be_the_best_are_of_the_score_under_the_weights_shown():
    """Weights drawn around those shown would move the first place; here nothing else varies, so that it is certain."""
    rows = track()
    row = placed(rows, 0.0).set_index("name")
    assert row["p_best"].tolist() == [float(rank == 1) for rank in row["rank"]]
    drawn = score_draws(rows, joint(0.03))
    share = (drawn.scores == drawn.scores.max(axis=1, keepdims=True)).mean(axis=0)
    assert with_score_ranks(rows, drawn)["p_best"].tolist() == pytest.approx(share.tolist())
