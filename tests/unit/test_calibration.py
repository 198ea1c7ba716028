"""Calibration against tables worked out by hand, scikit-learn, and what must hold of any forecast."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from moodbench.metrics import Predictions
from moodbench.statistics.calibration import (
    corp,
    corp_binary,
    ece_null,
    fit_temperature,
    reliability_curve,
    scores,
    tempered,
    top_label,
)


def simulated(num_texts, num_classes, true_temperature, seed):
    """A model whose labels are drawn from its own probabilities at `true_temperature`; calibrated at 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num_texts, num_classes))
    powers = np.exp(logits / true_temperature)
    chances = powers / powers.sum(axis=1, keepdims=True)
    labels = (rng.random((num_texts, 1)) > np.cumsum(chances, axis=1)).sum(axis=1)
    return Predictions.checked(logits, np.minimum(labels, num_classes - 1))


def test_the_decomposition_of_four_forecasts_is_that_worked_out_by_hand():
    # stated .2 .4 .6 .8, happened 0 1 0 1: the middle two are pooled to 1/2, so recalibrated 0 .5 .5 1
    found = corp_binary([0.2, 0.4, 0.6, 0.8], [0, 1, 0, 1])
    # Brier (.04 + .36 + .36 + .04) / 4, recalibrated (0 + .25 + .25 + 0) / 4, always 1/2: 1/4
    assert found == pytest.approx((0.2, 0.2 - 0.125, 0.25 - 0.125, 0.25))


def test_equal_forecasts_are_recalibrated_together():
    # .3 three times with one success, .9 once with one: recalibrated 1/3 and 1
    found = corp_binary([0.3, 0.9, 0.3, 0.3], [1, 1, 0, 0])
    brier, best = (0.49 + 0.01 + 0.09 + 0.09) / 4, (4 / 9 + 1 / 9 + 1 / 9 + 0) / 4
    assert found == pytest.approx((brier, brier - best, 0.25 - best, 0.25))


def test_a_forecast_of_the_class_share_neither_discriminates_nor_is_miscalibrated():
    assert corp_binary([0.25] * 4, [0, 0, 1, 0]) == pytest.approx((0.1875, 0, 0, 0.1875))


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
@settings(max_examples=60, deadline=None)
def test_corp_agrees_with_scikit_learn_and_its_parts_add_up(rows):
    stated, happened = np.array([p / 20 for p, _ in rows]), np.array([y for _, y in rows], dtype=float)
    found = corp_binary(stated, happened)
    assert found.brier == pytest.approx(brier_score_loss(happened, stated, pos_label=1, labels=[0, 1]))
    fitted = IsotonicRegression(y_min=0, y_max=1).fit_transform(stated, happened)
    assert found.brier - found.miscalibration == pytest.approx(brier_score_loss(happened, fitted, labels=[0, 1]))
    assert found.brier == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty)
    assert found.miscalibration >= -1e-12
    assert found.discrimination >= -1e-12


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_the_parts_add_up_to_the_brier_score_of_all_classes(num_classes):
    predictions = simulated(400, num_classes, 1.7, seed=num_classes)
    found = corp(predictions)
    assert found.brier == pytest.approx(scores(predictions).brier, abs=1e-12)
    assert found.brier == pytest.approx(found.miscalibration - found.discrimination + found.uncertainty, abs=1e-12)
    shares = np.bincount(predictions.labels, minlength=num_classes) / 400
    assert found.uncertainty == pytest.approx(1 - (shares**2).sum())  # Gini's index


def test_the_line_of_the_reliability_diagram_is_scikit_learns_and_increases():
    predictions = simulated(300, 2, 2.0, seed=8)
    curve = reliability_curve(predictions, np.random.default_rng(0), 50)
    confidence, right = top_label(predictions)
    oracle = IsotonicRegression(y_min=0, y_max=1).fit(confidence, right)
    assert curve.right == pytest.approx(oracle.predict(curve.stated))
    for line in (curve.stated, curve.right, curve.low, curve.high):
        assert (np.diff(line) >= 0).all()
    assert len(curve.stated) <= 60
    assert (curve.stated[0], curve.stated[-1]) == (confidence.min(), confidence.max())


def test_a_calibrated_model_lies_in_its_band_and_in_its_null_and_an_overconfident_one_does_not():
    inside, rejected = [], 0
    for seed in range(60):
        predictions = simulated(500, 2 + seed % 2, 1.0, seed)
        null = ece_null(predictions, np.random.default_rng(seed), 200)
        assert null.low < null.expected < null.high
        assert null.ece == scores(predictions).ece > 0
        rejected += null.p_value <= 0.05
        inside.append(null.low <= null.ece <= null.high)
    # 60 worlds at 95 %: 57 inside and 3 rejected are expected; the chance of 51 or fewer, or 9 or more, is 1 in 300
    assert sum(inside) >= 52
    assert rejected <= 8
    sure = simulated(500, 2, 2.5, seed=1)
    null = ece_null(sure, np.random.default_rng(1), 200)
    assert null.p_value == pytest.approx(1 / 201)
    assert null.ece > null.high
    curve = reliability_curve(sure, np.random.default_rng(1), 200)
    assert (curve.right < curve.low).mean() > 0.5


def test_the_band_of_a_calibrated_model_covers_its_line_nearly_everywhere():
    covered = []
    for seed in range(20):
        curve = reliability_curve(simulated(500, 2, 1.0, seed), np.random.default_rng(seed), 100)
        covered.append(((curve.low - 1e-12 <= curve.right) & (curve.right <= curve.high + 1e-12)).mean())
    assert np.mean(covered) > 0.9


def test_the_null_of_one_text_in_a_bin_is_exact():
    # two texts stated .75: ECE is |right - 1.5| / 2, so .25 where both or one is right, .75 where none is
    predictions = Predictions.checked([[np.log(3), 0.0]] * 2, [0, 1])
    null = ece_null(predictions, np.random.default_rng(0), 4000)
    assert null.ece == pytest.approx(0.25)
    assert null.p_value == 1
    assert null.expected == pytest.approx(15 / 16 * 0.25 + 1 / 16 * 0.75, abs=0.01)


def test_temperature_is_the_inverse_slope_of_a_logistic_regression():
    predictions = simulated(600, 2, 2.0, seed=3)
    difference = (predictions.logits[:, 1] - predictions.logits[:, 0])[:, None]
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(difference, predictions.labels).coef_
    found = fit_temperature(predictions)
    assert found.value == pytest.approx(1 / slope[0, 0], rel=1e-4)
    assert found.num_texts == 600
    assert not found.at_limit


@pytest.mark.parametrize(("true_temperature", "num_classes"), [(0.5, 2), (3.0, 2), (2.0, 4)])
def test_temperature_chosen_on_some_texts_mends_others(true_temperature, num_classes):
    found = fit_temperature(simulated(3000, num_classes, true_temperature, seed=4))
    assert found.value == pytest.approx(true_temperature, rel=0.1)
    test = simulated(2000, num_classes, true_temperature, seed=5)
    before, after = scores(test), scores(tempered(test, found.value))
    assert all(a < b for a, b in zip(after, before, strict=True))


@given(st.floats(0.02, 50), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_no_temperature_changes_which_label_is_chosen(temperature, seed):
    predictions = simulated(40, 3, 1.0, seed)
    assert (tempered(predictions, temperature).predicted == predictions.predicted).all()


def test_where_no_temperature_is_best_it_is_said():
    always_right = Predictions.checked([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]], [0, 1, 0])
    assert fit_temperature(always_right).at_limit
    assert fit_temperature(always_right).value == pytest.approx(0.02)
    silent = fit_temperature(Predictions.checked(np.zeros((4, 2)), [0, 1, 0, 0]))
    assert (silent.value, silent.at_limit) == (1.0, True)


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(ValueError, match="temperature is 0"):
        tempered(simulated(5, 2, 1.0, 0), 0)


def test_the_order_of_texts_changes_no_figure():
    predictions = simulated(200, 3, 1.5, seed=6)
    turned = Predictions.checked(predictions.logits[::-1], predictions.labels[::-1])
    assert corp(turned) == pytest.approx(corp(predictions))
    assert scores(turned) == pytest.approx(scores(predictions))
