import numpy as np
import pytest

from moodbench.errors import UnknownNameError
from moodbench.metrics import METRICS, Predictions, get_metric, metric, score_all

BOARD = [
    "accuracy", "f1_macro", "f1_positive", "precision_macro", "precision_positive", "recall_macro", "recall_positive",
    "mcc", "auroc", "nll", "brier", "ece",
]  # fmt: skip


def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match="'accuracy' is already registered by accuracy"):
        metric("accuracy", higher_is_better=True)(lambda predictions: 0.0)


def test_an_unknown_metric_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'f1_macro'"):
        get_metric("f1_makro")


def test_only_losses_and_calibration_errors_are_better_when_lower():
    assert [name for name, m in METRICS.items() if not m.higher_is_better] == ["nll", "brier", "ece"]


def test_all_metrics_of_the_board_are_scored_in_order_as_plain_floats():
    scores = score_all(np.array([[2, -1], [0, 1], [1, 0]], dtype=np.float32), np.array([0, 1, 1]))
    assert list(scores) == BOARD
    assert {type(score) for score in scores.values()} == {float}


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, np.nan], [0.0, 1.0]], [0, 1], "1 of 2 rows of logits are not finite.*first is row 0"),
        ([[0.0, 1.0], [np.inf, 1.0]], [0, 1], "first is row 1"),
        ([[0.0, 1.0]], [2], "allowed are 0 to 1"),
        ([[0.0, 1.0]], [-1], "allowed are 0 to 1"),
        ([[0.0, 1.0]], [0, 1], r"labels have shape \(2,\)"),
        ([[0.0, 1.0]], [0.5], "needed are integers"),
        ([[1.0]], [0], "k >= 2"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "n >= 1"),
    ],
)
def test_impossible_input_is_refused_with_what_is_wrong(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        score_all(np.asarray(logits, dtype=np.float32), np.asarray(labels))


def test_log_probabilities_stay_finite_at_the_ends_of_float32():
    logits = np.array([[3e38, -3e38], [-3e38, 3e38]], dtype=np.float32)
    predictions = Predictions.checked(logits, [0, 0])
    assert predictions.log_probabilities[0, 0] == 0.0
    assert predictions.log_probabilities[1, 0] == pytest.approx(-6e38)
