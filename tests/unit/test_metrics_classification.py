"""A table by hand, scikit-learn and scipy as oracles, and properties that must hold.

By hand, 10 rows of two classes, each row's logits (0, x), positive = class 1:

    x      -3  -2  -1  -1   2 | -2   1   1   3   3
    label   0   0   0   0   0    1   1   1   1   1

    predicted 0  predicted 1
        4            1        true 0
        1            4        true 1

    AUROC: of 25 pairs, wins against (-3, -2, -1, -1, 2): x=-2: 1 + half; 1: 4; 1: 4; 3: 5; 3: 5 = 19.5 -> 0.78
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax
from sklearn import metrics as sk

from moodbench.metrics import score_all
from moodbench.metrics.classification import confusion

X = [-3, -2, -1, -1, 2, -2, 1, 1, 3, 3]
HAND_LOGITS = np.array([[0, x] for x in X], dtype=np.float32)
HAND_LABELS = np.array([0] * 5 + [1] * 5)


def test_the_table_worked_by_hand():
    scores = score_all(HAND_LOGITS, HAND_LABELS)
    assert confusion(HAND_LABELS, HAND_LOGITS.argmax(1), 2).tolist() == [[4, 1], [1, 4]]
    for name in ("accuracy", "f1_macro", "f1_positive", "precision_positive", "recall_positive"):
        assert scores[name] == pytest.approx(0.8), name
    assert scores["mcc"] == pytest.approx((4 * 4 - 1 * 1) / 25)
    assert scores["auroc"] == pytest.approx(0.78)


def random_case(k, seed, n=301):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)) * 2 + 1.5 * np.eye(k)[labels]
    return (np.round(logits * 8) / 8).astype(np.float32), labels  # eighths are exact, so that scores tie


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_scores_agree_with_scikit_learn(k, seed):
    logits, labels = random_case(k, seed)
    scores = score_all(logits, labels)
    predicted = logits.argmax(1)
    probabilities = softmax(logits.astype(np.float64), axis=1)
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "f1_macro": sk.f1_score(labels, predicted, **macro),
        "precision_macro": sk.precision_score(labels, predicted, **macro),
        "recall_macro": sk.recall_score(labels, predicted, **macro),
        "mcc": sk.matthews_corrcoef(labels, predicted),
        "nll": sk.log_loss(labels, probabilities),
        "brier": sk.brier_score_loss(labels, probabilities, scale_by_half=False, labels=range(k)),
    }
    if k == 2:
        expected |= {
            "f1_positive": sk.f1_score(labels, predicted),
            "precision_positive": sk.precision_score(labels, predicted),
            "recall_positive": sk.recall_score(labels, predicted),
            "auroc": sk.roc_auc_score(labels, logits[:, 1] - logits[:, 0]),
        }
    else:
        expected |= {"f1_positive": None, "precision_positive": None, "recall_positive": None}
        expected["auroc"] = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    for name, value in expected.items():
        assert scores[name] == (None if value is None else pytest.approx(value, abs=1e-9))
    assert confusion(labels, predicted, k).tolist() == sk.confusion_matrix(labels, predicted).tolist()


def test_a_class_never_predicted_has_precision_zero_and_one_absent_everywhere_does_not_count():
    labels = np.array([0, 0, 1])
    logits = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=np.float32)
    scores = score_all(logits, labels)
    assert scores["precision_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["recall_macro"] == pytest.approx((1 + 0) / 2)
    assert scores["f1_macro"] == pytest.approx((0.8 + 0) / 2)
    assert scores["mcc"] == 0.0 == sk.matthews_corrcoef(labels, logits.argmax(1))
    assert score_all(logits[:, :2], labels)["precision_positive"] == 0.0


@pytest.mark.parametrize(("k", "labels"), [(2, [1, 1, 1]), (3, [0, 0, 1])])
def test_auroc_is_undefined_when_a_class_has_no_rows_to_rank(k, labels):
    assert score_all(np.eye(3, dtype=np.float32)[:, :k], np.array(labels))["auroc"] is None


def test_auroc_still_ranks_where_probabilities_round_to_one():
    logits = np.array([[0, 100], [0, 101], [0, 102], [0, 103]], dtype=np.float32)
    assert np.unique(softmax(logits.astype(np.float64), axis=1)[:, 1]).size == 1
    assert score_all(logits, np.array([0, 0, 1, 1]))["auroc"] == 1.0


def test_ece_is_the_gap_between_confidence_and_accuracy_in_fifteen_equal_bins():
    confidence = np.linspace(0.51, 0.99, 45)  # 3 rows a bin, no ties
    logits = np.stack([np.zeros(45), np.log(confidence / (1 - confidence))], axis=1).astype(np.float32)
    labels = np.tile([1, 1, 0], 15)  # 2 of 3 right in each bin
    by_hand = np.mean([abs(2 / 3 - confidence[3 * b + 1]) for b in range(15)])  # evenly spaced: mean = middle
    assert score_all(logits, labels)["ece"] == pytest.approx(by_hand, abs=1e-6)


def test_ece_of_one_constant_confidence_is_a_single_gap():
    logits = np.tile(np.log([[1.0, 4.0]]), (100, 1)).astype(np.float32)  # confidence 0.8
    assert score_all(logits, np.array([1] * 70 + [0] * 30))["ece"] == pytest.approx(0.1, abs=1e-6)


def test_a_uniform_model_has_the_known_losses():
    scores = score_all(np.zeros((8, 4), dtype=np.float32), np.arange(8) % 4)
    assert scores["nll"] == pytest.approx(np.log(4))
    assert scores["brier"] == pytest.approx(0.75**2 + 3 * 0.25**2)
    assert scores["auroc"] == 0.5


def test_nll_is_the_picked_log_softmax():
    logits, labels = random_case(3, 7)
    picked = [log_softmax(row)[label] for row, label in zip(logits.astype(np.float64), labels, strict=True)]
    assert score_all(logits, labels)["nll"] == pytest.approx(-np.mean(picked))


@st.composite
def cases(draw):
    k, n = draw(st.integers(2, 4)), draw(st.integers(1, 40))
    # eighths are exact in float32, so a shift keeps every difference
    logits = draw(arrays(np.int32, (n, k), elements=st.integers(-80, 80))) / 8
    return logits.astype(np.float32), draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))


def assert_same_scores(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert right[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


@given(cases(), st.integers(0, 2**32 - 1))
def test_a_constant_added_to_a_row_changes_nothing(case, seed):
    logits, labels = case
    shift = np.random.default_rng(seed).integers(-500, 500, (len(labels), 1)).astype(np.float32)
    assert_same_scores(score_all(logits, labels), score_all(logits + shift, labels))


@given(cases(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(case, seed):
    logits, labels = case
    order = np.random.default_rng(seed).permutation(len(labels))
    assert_same_scores(score_all(logits, labels), score_all(logits[order], labels[order]))


@given(st.integers(2, 5), st.lists(st.integers(0, 4), max_size=30))
def test_sure_and_right_scores_best_on_everything(k, more):
    labels = np.array([*range(k), *(label % k for label in more)])
    scores = score_all((50 * np.eye(k)[labels]).astype(np.float32), labels)
    best = {"nll": 0.0, "brier": 0.0, "ece": 0.0}
    for name, value in scores.items():
        if k != 2 and name.endswith("_positive"):
            assert value is None
        else:
            assert value == pytest.approx(best.get(name, 1.0), abs=1e-9), name


@given(cases(), st.randoms(use_true_random=False))
def test_renumbering_the_classes_changes_no_symmetric_score(case, random):
    logits, labels = case
    new = np.array(random.sample(range(logits.shape[1]), logits.shape[1]))
    renumbered = np.empty_like(logits)
    renumbered[:, new] = logits
    left, right = score_all(logits, labels), score_all(renumbered, new[labels])
    assert right["auroc"] == (None if left["auroc"] is None else pytest.approx(left["auroc"], abs=1e-12))
    assert (right["nll"], right["brier"]) == (pytest.approx(left["nll"]), pytest.approx(left["brier"]))
