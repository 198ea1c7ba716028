"""Where contenders may stand, on joint draws made by hand."""

import numpy as np
import pandas as pd
import pytest

from moodbench.comparison.composite import Weights, load_anchors, pinned, pinned_utilities
from moodbench.comparison.joint import JointDraws
from moodbench.comparison.standing import COLUMNS, utility_draws, with_standing

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
            "base_accuracy": 0.80,
            "base_f1_macro": 0.80,
            "ceiling_accuracy": np.nan,
            "ceiling_f1_macro": np.nan,
        }
    )
    score = pinned(rows, Weights(), ANCHORS)
    return rows.assign(score=score, rank=score.rank(ascending=False).astype("Int64"))


def joint(noise):
    point = np.array([0.82, 0.90, 0.80])
    draws = point + noise * np.random.default_rng(0).standard_normal((500, 3))
    return JointDraws(NAMES, point, point, draws, draws, 1000, (1, 1, 1), 0.1)


def speed(rows):
    return {c: rows[c] for c in ("throughput_texts_per_s", "latency_p50_s")}


def test_draws_without_noise_have_the_pinned_utilities_and_leave_one_place_each():
    rows = track()
    found = with_standing(rows, joint(0.0), speed(rows), Weights(), ANCHORS)
    utilities = utility_draws(rows, joint(0.0), ANCHORS)
    assert utilities[0] == pytest.approx(pinned_utilities(rows, ANCHORS).to_numpy())
    # 60 x 0.5 + 20 x 0.6 + 20 x 0.5 = 52; 60 x 0.1 + 20 x 0.8 + 20 x 0.75 = 37; 31
    assert rows["score"].tolist() == pytest.approx([37, 52, 31])
    assert found["rank_low"].tolist() == found["rank_high"].tolist() == [2, 1, 3]
    assert found["accuracy_letters"].tolist() == ["b", "a", "c"]
    assert found["tied_best"].tolist() == [False, True, False]
    assert found["p_best"].sum() == pytest.approx(1)
    assert found["p_best"].idxmax() == 1


def test_noise_opens_places_and_they_hold_the_rank():
    rows = track()
    found = with_standing(rows, joint(0.05), speed(rows), Weights(), ANCHORS)
    assert (found["rank_low"] <= rows["rank"]).all() and (rows["rank"] <= found["rank_high"]).all()
    assert (found["rank_high"] - found["rank_low"]).max() >= 1
    assert found["accuracy_letters"].str.contains("a").sum() >= 2


def test_accuracy_groups_need_no_score_and_unknown_draws_leave_all_null():
    rows = track().assign(rank=pd.array([None] * 3, dtype="Int64"), score=np.nan)
    found = with_standing(rows, joint(0.0), speed(rows), Weights(), ANCHORS)
    assert found["accuracy_letters"].tolist() == ["b", "a", "c"]
    assert found[["rank_low", "rank_high", "p_best"]].isna().all(axis=None)
    assert with_standing(rows, None, speed(rows), Weights(), ANCHORS)[list(COLUMNS)].isna().all(axis=None)
