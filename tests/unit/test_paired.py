import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test
from sklearn.metrics import f1_score

from moodbench.statistics.intervals import mcnemar_mid_p, newcombe_paired
from moodbench.statistics.paired import paired_accuracy, paired_f1


def outcomes(both, only_a, only_b, neither):
    a = [1] * (both + only_a) + [0] * (only_b + neither)
    b = [1] * both + [0] * only_a + [1] * only_b + [0] * neither
    return np.array(a), np.array(b)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mid_p_is_the_chance_of_a_rarer_split_plus_half_that_of_an_equally_rare_one(b, c):
    total = b + c
    chance = [math.comb(total, k) / 2**total for k in range(total + 1)]
    rarer = sum(p for k, p in enumerate(chance) if abs(2 * k - total) > abs(b - c))
    as_rare = sum(p for k, p in enumerate(chance) if abs(2 * k - total) == abs(b - c))
    expected = 1.0 if total == 0 else rarer + as_rare / 2
    assert mcnemar_mid_p(b, c) == pytest.approx(expected, abs=1e-12)


def test_the_published_example_of_airway_hyper_responsiveness():
    """Bentur et al. 2009 as worked in Fagerland, Lydersen & Laake 2014: 1, 1, 7, 12 of 21 children.

    Difference -0.286, Newcombe's interval -0.507 to -0.026, mid-p 10/256 = 0.039.
    """
    result = paired_accuracy(*outcomes(1, 1, 7, 12))
    assert (round(result.delta, 3), round(result.low, 3), round(result.high, 3)) == (-0.286, -0.507, -0.026)
    assert result.p_value == pytest.approx(10 / 256)
    assert (result.num_items, result.only_a, result.only_b, result.estimand) == (21, 1, 7, "checkpoint")


def test_with_a_positive_correlation_the_paired_interval_is_narrower_than_without_one():
    low, high = newcombe_paired(800, 30, 20, 150)
    unpaired_low, unpaired_high = newcombe_paired(689, 141, 131, 39)  # the same margins, independent
    assert high - low < 0.6 * (unpaired_high - unpaired_low)


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_swapping_a_and_b_turns_the_sign_and_nothing_else(both, only_a, only_b, neither):
    a, b = outcomes(both, only_a, only_b, neither)
    forth, back = paired_accuracy(a, b), paired_accuracy(b, a)
    assert (back.delta, back.low, back.high) == pytest.approx((-forth.delta, -forth.high, -forth.low), abs=1e-12)
    assert back.p_value == pytest.approx(forth.p_value)
    assert (back.only_a, back.only_b) == (forth.only_b, forth.only_a)
    assert -1 <= forth.low <= forth.delta <= forth.high <= 1


@given(st.integers(0, 2**32 - 1), st.sampled_from([(30,), (30, 3)]))
def test_the_order_of_items_changes_nothing(seed, shape):
    rng = np.random.default_rng(seed)
    a, b = rng.random(shape) < 0.8, rng.random(shape) < 0.7
    order = rng.permutation(30)
    left, right = paired_accuracy(a, b), paired_accuracy(a[order], b[order])
    assert (left.only_a, left.only_b) == (right.only_a, right.only_b)
    assert (left.low, left.high, left.p_value) == pytest.approx((right.low, right.high, right.p_value))


@pytest.mark.parametrize("shape", [(1,), (40,), (40, 1), (40, 5)])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_identical_predictions_do_not_differ(shape, share):
    correct = np.random.default_rng(0).random(shape) < share
    result = paired_accuracy(correct, correct)
    assert (result.delta, result.p_value, result.only_a, result.only_b) == (0.0, 1.0, 0, 0)
    assert result.low <= 0 <= result.high


def test_the_difference_is_that_of_the_accuracies_with_seeds_too():
    rng = np.random.default_rng(4)
    a, b = rng.random((200, 4)) < 0.9, rng.random((200, 4)) < 0.8
    result = paired_accuracy(a, b)
    assert result.delta == pytest.approx(a.mean() - b.mean())
    assert (result.only_a - result.only_b) / 800 == pytest.approx(result.delta)
    assert (result.num_items, result.estimand) == (200, "recipe")


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.03, 0.05, 0.1])
def test_with_seeds_the_p_value_and_the_interval_agree(gap):
    rng = np.random.default_rng(5)
    a = rng.random((300, 3)) < 0.8 + gap
    b = rng.random((300, 3)) < 0.8
    result = paired_accuracy(a, b)
    # the interval of level 1 - p has 0 at one of its ends
    touching = paired_accuracy(a, b, level=1 - result.p_value)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-9)


def test_a_constant_difference_over_all_items_and_seeds_has_no_doubt():
    result = paired_accuracy(np.ones((20, 3)), np.zeros((20, 3)))
    assert (result.delta, result.low, result.high, result.p_value) == (1.0, 1.0, 1.0, 0.0)


def test_newcombe_covers_and_mid_p_keeps_its_level():
    rng = np.random.default_rng(8)
    n, worlds = 200, 2000
    different = rng.multinomial(n, [0.80, 0.08, 0.04, 0.08], worlds)
    intervals = np.array([newcombe_paired(*row) for row in different])
    assert np.mean((intervals[:, 0] <= 0.04) & (intervals[:, 1] >= 0.04)) >= 0.94
    equal = rng.multinomial(n, [0.80, 0.05, 0.05, 0.10], worlds)
    assert np.mean([mcnemar_mid_p(row[1], row[2]) <= 0.05 for row in equal]) <= 0.06


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones(3), np.ones(4), "same items and seeds"),
        (np.ones(0), np.ones(0), "not empty"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), "needed is"),
        (np.array([0.5, 1]), np.ones(2), "right .1. or wrong .0."),
        (np.array([np.nan, 1]), np.ones(2), "right .1. or wrong .0."),
    ],
)
def test_outcomes_that_cannot_be_paired_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_accuracy(a, b)


def test_the_verdicts_and_the_reviews_that_would_settle_them():
    """1,000 items. Only A 60, only B 20: better. 3 and 3: within a point. 12 and 18: neither.

    The last: delta -0.006, variance of one review 0.030 - 0.000036 = 0.029964. Separation needs
    0.029964 (2.8016 / 0.006)^2 = 6,533; equivalence 0.029964 (2.9264 / 0.004)^2 = 16,038. The smaller settles it.
    """
    better, equivalent, undecided = (
        paired_accuracy(*outcomes(800, b, c, 200 - b - c)) for b, c in ((60, 20), (3, 3), (12, 18))
    )
    assert [d.verdict for d in (better, equivalent, undecided)] == ["better", "equivalent", "undecided"]
    assert (better.num_items_needed, equivalent.num_items_needed) == (None, None)
    assert undecided.num_items_needed == pytest.approx(6533, abs=2)
    assert paired_accuracy(*outcomes(800, 20, 60, 120)).verdict == "worse"
    assert paired_accuracy(*outcomes(800, 3, 3, 194), rope=0.001).verdict == "undecided"
    assert -0.01 < equivalent.rope_low < 0 < equivalent.rope_high < 0.01


def test_the_f1_difference_agrees_with_scikit_learn_and_scipys_permutations():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, 150)
    a = np.where(rng.random(150) < 0.8, labels, rng.integers(0, 3, 150))
    b = np.where(rng.random(150) < 0.72, labels, rng.integers(0, 3, 150))
    found = paired_f1(labels, a, b, 3)

    def statistic(x, y):
        return f1_score(labels, x, average="macro") - f1_score(labels, y, average="macro")

    assert found.delta == pytest.approx(statistic(a, b))
    oracle = permutation_test((a, b), statistic, permutation_type="samples", n_resamples=1500, rng=rng)
    assert found.p_value == pytest.approx(oracle.pvalue, abs=0.04)
    assert found.low < found.delta < found.high


@given(st.integers(0, 2**32 - 1), st.sampled_from([(40,), (40, 3)]))
@settings(max_examples=30, deadline=None)
def test_swapping_a_and_b_turns_the_sign_of_the_f1_difference_and_nothing_else(seed, shape):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 40)
    truths = labels if len(shape) == 1 else np.repeat(labels[:, None], 3, axis=1)
    a, b = (np.where(rng.random(shape) < share, truths, rng.integers(0, 3, shape)) for share in (0.8, 0.7))
    forth, back = (paired_f1(labels, *pair, 3, num_draws=100) for pair in ((a, b), (b, a)))
    assert (back.delta, back.low, back.high, back.p_value) == (-forth.delta, -forth.high, -forth.low, forth.p_value)
    order = rng.permutation(40)
    assert paired_f1(labels[order], a[order], b[order], 3, num_draws=100) == forth


def test_as_many_reviews_for_either_give_an_interval_around_zero():
    labels, a = np.zeros(60, int), np.arange(60) % 2
    forth, back = (paired_f1(labels, *pair, 2, num_draws=200) for pair in ((a, 1 - a), (1 - a, a)))
    assert forth == back and forth.low == -forth.high < 0 and forth.p_value == 1


def test_no_difference_in_f1_is_plus_zero_in_either_order():
    labels = np.repeat([0, 1, 2], 20)
    a, b = labels.copy(), labels.copy()
    a[0], b[1] = 1, 2  # the same slip, as classes 1 and 2 are alike
    for pair in ((a, b), (b, a)):
        assert str(paired_f1(labels, *pair, 3, num_draws=100).delta) == "0.0"


def test_identical_answers_differ_in_f1_with_p_one():
    labels = np.arange(20) % 2
    for table in (labels, np.stack([labels, 1 - labels, labels], axis=1)):
        found = paired_f1(labels, table, table, 2, num_draws=100)
        assert (found.delta, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_verdict_the_p_value_and_the_interval_never_contradict_each_other():
    """Over 200 items Newcombe's ends alone would contradict mid-p in some tables, such as 12 against 4."""
    contradicted = 0
    for num_apart in range(4, 32):
        for only_a in range(num_apart + 1):
            both, only_b, neither = 150, num_apart - only_a, 50 - num_apart
            right = [np.repeat(answers, [both, only_a, only_b, neither]) for answers in ([1, 1, 0, 0], [1, 0, 1, 0])]
            found = paired_accuracy(*right)
            low, high = newcombe_paired(both, only_a, only_b, neither)
            contradicted += (low > 0 or high < 0) != (found.p_value <= 0.05)
            assert (found.verdict in ("better", "worse")) == (found.p_value <= 0.05)
            assert found.low <= found.delta <= found.high
            if found.p_value <= 0.05:
                assert not found.low < 0 < found.high and found.verdict == ("better" if found.delta > 0 else "worse")
            else:
                assert found.low <= 0 <= found.high
    assert contradicted >= 2
