"""Joint draws and what is read off them, against scipy, statsmodels and tables worked by hand."""

import math
from itertools import combinations
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from moodbench.metrics import score_all
from moodbench.statistics import rank_intervals
from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.rank_intervals import (
    across_datasets,
    compact_letters,
    holm,
    minimum_detectable_effect,
    rank_all,
    step_down,
)


def answers(rng, labels, accuracy, num_seeds=None):
    shape = (len(labels),) if num_seeds is None else (len(labels), num_seeds)
    right = rng.random(shape) < accuracy
    truth = labels if num_seeds is None else labels[:, None]
    return np.where(right, truth, 1 - truth)


@pytest.mark.parametrize("k", [2, 3])
def test_the_points_are_the_metrics_of_that_name(k):
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, k, 60), rng.integers(0, k, (60, 2))
    joint = bootstrap_draws(labels, [predicted, predicted[:, 0]], ["two", "one"], k, num_draws=10)
    scores = [score_all(np.eye(k)[predicted[:, s]], labels) for s in (0, 1)]
    assert joint.accuracy == pytest.approx([np.mean([s["accuracy"] for s in scores]), scores[0]["accuracy"]])
    assert joint.f1_macro == pytest.approx([np.mean([s["f1_macro"] for s in scores]), scores[0]["f1_macro"]])
    assert (joint.interval("one").estimand, joint.interval("two").estimand) == ("checkpoint", "recipe")


def test_the_draws_are_those_of_resampling_reviews_of_all_classes_together():
    """Patterns against row-wise resampling: same mean, spread and correlation within the error of 20,000 draws."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [30, 50])
    a = answers(rng, labels, 0.8)
    b = np.where(rng.random(80) < 0.7, a, 1 - a)
    joint = bootstrap_draws(labels, [a, b], ["a", "b"], 2, num_draws=20_000)
    rows = rng.integers(0, 80, (20_000, 80))
    plain = np.stack([(x == labels)[rows].mean(axis=1) for x in (a, b)], axis=1)
    assert joint.accuracy_draws.mean(axis=0) == pytest.approx(plain.mean(axis=0), abs=0.002)
    assert np.cov(joint.accuracy_draws.T) == pytest.approx(np.cov(plain.T), rel=0.05)
    tp, fp = ((a == 1) & (labels == 1))[rows].sum(axis=1), ((a == 1) & (labels == 0))[rows].sum(axis=1)
    positive = (labels == 1)[rows].sum(axis=1)
    tn = 80 - positive - fp
    f1 = (2 * tp / (tp + fp + positive) + 2 * tn / (tn + (positive - tp) + 80 - positive)) / 2
    assert joint.f1_draws[:, 0].std() == pytest.approx(f1.std(), rel=0.03)


def world(rng, shares, recalls, n):
    """Labels of random classes, and answers of entries with these recalls of classes 0 and 1."""
    labels = (rng.random(n) < shares[1]).astype(int)
    return labels, [np.where(rng.random(n) < np.array(recall)[labels], labels, 1 - labels) for recall in recalls]


@pytest.mark.parametrize(
    ("shares", "recalls", "n"),
    [
        ((0.5, 0.5), [(0.9, 0.6), (0.6, 0.9)], 500),
        ((0.5, 0.5), [(0.95, 0.65), (0.65, 0.95)], 2000),
        ((0.5, 0.5), [(1.0, 0.0), (0.5, 0.5)], 500),
    ],
)
def test_equal_entries_whose_errors_depend_on_the_class_are_separated_in_five_percent_of_worlds(shares, recalls, n):
    """With fixed class shares it was 9 to 16 %; 400 worlds of a test at 5 % show more than 7.3 % once in fifty times."""
    rng, found = np.random.default_rng(5), 0
    for number in range(400):
        labels, said = world(rng, shares, recalls, n)
        drawn = bootstrap_draws(labels, said, "ab", 2, num_draws=400, seed=number)
        found += drawn.accuracy_ranking.separated("a", "b")
    assert found / 400 <= 0.073


@pytest.mark.parametrize("num_rare", [1, 2, 3])
def test_a_handful_of_texts_of_a_rare_class_separates_none_of_six_equal_entries(num_rare):
    """Of each rare text every entry guesses the label; with fixed class shares, luck there separated them in 95 %."""
    rng, labels, found = np.random.default_rng(6), np.repeat([0, 1], [60 - num_rare, num_rare]), 0
    for number in range(60):
        said = [np.where(rng.random(60) < np.where(labels, 0.5, 1.0), labels, 1 - labels) for _ in range(6)]
        drawn = bootstrap_draws(labels, said, "abcdef", 2, num_draws=400, seed=number)
        found += any((r.p_adjusted <= r.alpha).any() for r in (drawn.accuracy_ranking, drawn.f1_ranking))
    assert found <= 7, "5.6 % of 60 worlds are 3.4; more than 7 are seen in one of fifty runs"


def test_the_seed_effect_is_t_distributed_with_the_standard_error_of_the_seed_means():
    """All reviews alike within a seed, so that only seeds vary: mean +- t_2 x se."""
    labels = np.zeros(10, dtype=int)
    predicted = np.repeat([[0], [0], [1]], 10, axis=1).T
    joint = bootstrap_draws(labels, [predicted], ["a"], 2, num_draws=50_000)
    t = (joint.accuracy_draws[:, 0] - 2 / 3) / (np.std([1, 1, 0], ddof=1) / np.sqrt(3))
    for q in (0.05, 0.5, 0.8, 0.95):
        assert np.quantile(t, q) == pytest.approx(stats.t.ppf(q, 2), abs=0.08)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_reviews_and_of_entries_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40)
    tables = [answers(rng, labels, p, s) for p, s in ((0.9, 3), (0.8, None), (0.6, 3))]
    rows, models = rng.permutation(40), rng.permutation(3)
    one = bootstrap_draws(labels, tables, "abc", 2, num_draws=50)
    other = bootstrap_draws(
        labels[rows], [tables[m][rows] for m in models], ["abc"[m] for m in models], 2, num_draws=50
    )
    np.testing.assert_allclose(other.accuracy_draws, one.accuracy_draws[:, models], atol=1e-12)
    np.testing.assert_allclose(other.f1_draws, one.f1_draws[:, models], atol=1e-12)


def test_identical_answers_have_p_one_and_share_every_rank():
    labels = np.arange(50) % 2
    same = np.where(np.arange(50) < 40, labels, 1 - labels)
    joint = bootstrap_draws(labels, [same, same, same], "abc", 2, num_draws=200)
    ranking = rank_all(joint.names, joint.accuracy, joint.accuracy_draws, joint.num_items)
    assert (ranking.p_adjusted == 1).all()
    assert (ranking.low.tolist(), ranking.high.tolist(), ranking.letters) == ([1] * 3, [3] * 3, ("a",) * 3)
    assert ranking.tied_best.all()


def test_clear_differences_are_ranked_and_small_ones_are_not():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 2000)
    good = answers(rng, labels, 0.9)
    near = np.where(rng.random(2000) < 0.995, good, 1 - good)
    joint = bootstrap_draws(labels, [answers(rng, labels, 0.6), near, good], ["poor", "near", "good"], 2)
    ranking = rank_all(joint.names, joint.accuracy, joint.accuracy_draws, joint.num_items)
    assert (ranking.low.tolist(), ranking.high.tolist()) == ([3, 1, 1], [3, 2, 2])
    assert ranking.letters == ("b", "a", "a")
    assert (ranking.separated("poor", "good"), ranking.separated("near", "good")) == (True, False)


def test_step_down_worked_by_hand():
    """Two pairs, four null draws, both scales 1 (given by the error itself being standardised by the same number).

    |error|: pair 1: 1 1 1 1, pair 2: 2 0.5 1 1 with signs; observed T of pair 1 is 1.5 scales, of pair 2 3 scales.
    """
    error = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]])
    raw, adjusted = step_down(np.array([0.5, 3.0]), error, 10**9)
    # both scales are 1: pair 2 exceeds every draw, (1 + 0) / 5; pair 1 is exceeded by all, 5 / 5
    assert raw == pytest.approx([1.0, 0.2])
    assert adjusted == pytest.approx([1.0, 0.2])


def test_one_pair_is_tested_with_mcnemars_variance():
    """30 reviews of 100 only A got right, 14 only B: z = 16 / sqrt(44), not Wald's 16 / sqrt(44 - 16^2 / 100)."""
    labels = np.zeros(100, dtype=int)
    a, b = np.repeat([0, 1, 0], [30, 14, 56]), np.repeat([1, 0, 0], [30, 14, 56])
    joint = bootstrap_draws(labels, [a, b], "ab", 2, num_draws=100_000)
    ranking = rank_all(joint.names, joint.accuracy, joint.accuracy_draws, 100)
    mcnemar, wald = (2 * stats.norm.sf(16 / np.sqrt(v)) for v in (44, 44 - 2.56))
    assert ranking.p_adjusted[0, 1] == pytest.approx(mcnemar, abs=0.0015), "the draws are a lattice"
    assert ranking.p_adjusted[0, 1] - wald > 0.5 * (mcnemar - wald) > 0.001


def test_adjusted_p_values_lie_between_the_unadjusted_and_bonferroni():
    rng = np.random.default_rng(4)
    error = rng.standard_normal((4000, 10))
    difference = np.linspace(0.2, 3.5, 10)
    raw, adjusted = step_down(difference, error, 10**9)
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(1, 10 * raw) + 1e-9).all()
    sidak = 1 - (1 - raw) ** np.arange(1, 11)  # independent pairs; the least extreme stands alone at the last step
    assert adjusted == pytest.approx(np.maximum.accumulate(sidak[::-1])[::-1], abs=0.03)


@pytest.mark.parametrize("at_once", [1, 7, 2048])
def test_all_pairs_are_tested_as_one_after_another_however_many_at_once(monkeypatch, at_once):
    rng = np.random.default_rng(5)
    draws = rng.standard_normal((50, 8)) @ np.diag(rng.random(8)) + np.linspace(0, 2, 8)
    draws[:, 3] = draws[:, 2] + 0.5  # a pair whose difference never varies
    point = draws.mean(axis=0)
    monkeypatch.setattr(rank_intervals, "PAIRS_AT_ONCE", at_once)
    found = rank_all("abcdefgh", point, draws, 40).p_adjusted

    def extreme(i, j, values):
        error = draws[:, i] - draws[:, j] - (point[i] - point[j])
        low, high = np.quantile(error, stats.norm.cdf([-1, 1]))
        return np.abs(values) / ((high - low) / 2 or max(float(error.std()), 1e-12)), error

    observed, null = {}, {}
    for i, j in combinations(range(8), 2):
        t, error = extreme(i, j, point[i] - point[j])
        observed[i, j], null[i, j] = t / math.sqrt(1 + t**2 / 40), extreme(i, j, error)[0]
    least = 0.0
    for pair in sorted(observed, key=observed.get, reverse=True):  # the most extreme first, then without it
        rest = [null[other] for other in observed if observed[other] <= observed[pair]]
        least = max(least, (1 + (np.max(rest, axis=0) >= observed[pair] - 1e-12).sum()) / 51)
        assert found[pair] == pytest.approx(least), pair


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p):
    with mock.patch("gc.collect"):  # statsmodels collects at each call, half a second where much is loaded
        expected = multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx(expected)


def test_the_letters_of_a_table_worked_by_hand():
    """a=4, b=3, c=2, d=1; separated: a-c, a-d, b-d. Groups {a, b}, {b, c}, {c, d}."""
    apart = np.zeros((4, 4), dtype=bool)
    for i, j in ((0, 2), (0, 3), (1, 3)):
        apart[i, j] = apart[j, i] = True
    assert compact_letters([4, 3, 2, 1], apart) == ("a", "ab", "bc", "c")


@settings(max_examples=50)
@given(st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_two_share_a_letter_exactly_where_they_are_not_separated(m, seed):
    rng = np.random.default_rng(seed)
    apart = np.triu(rng.random((m, m)) < 0.4, 1)
    apart |= apart.T
    letters = compact_letters(rng.random(m), apart)
    for i in range(m):
        for j in range(m):
            assert bool(set(letters[i]) & set(letters[j])) != apart[i, j]
    groups = {frozenset(i for i in range(m) if letter in letters[i]) for letter in set("".join(letters))}
    alike = [
        frozenset(chosen)
        for size in range(1, m + 1)
        for chosen in combinations(range(m), size)
        if not any(apart[i, j] for i, j in combinations(chosen, 2))
    ]
    assert groups == {one for one in alike if not any(one < other for other in alike)}, (
        "each group is as large as can be"
    )


def test_letters_of_hundreds_of_entries_are_there_at_once():
    """400 in a row, each alike with the 20 nearest on either side: 380 groups of 21, told by the first and last of each."""
    place = np.arange(400)
    letters = compact_letters(-place, np.abs(place[:, None] - place) > 20)
    assert letters[0] == "a" and letters[1] == "ab" and len(set(letters)) == 400


def test_more_groups_than_anybody_could_read_have_no_letters():
    """Ten separated pairs: a group takes one of each, so there are 2^10."""
    apart = np.zeros((20, 20), dtype=bool)
    for i in range(0, 20, 2):
        apart[i, i + 1] = apart[i + 1, i] = True
    assert compact_letters(range(20), apart) == ("",) * 20
    assert len(set("".join(compact_letters(range(8), apart[:8, :8])))) == 16


def test_the_minimum_detectable_effect_is_that_of_the_published_table():
    assert round(100 * minimum_detectable_effect(872, 0.06), 1) == 2.3
    assert round(100 * minimum_detectable_effect(872, 0.06, 153), 1) == 3.7
    assert round(100 * minimum_detectable_effect(25_000, 0.06), 2) == 0.43


def test_tests_over_data_sets_wait_for_ten_of_them_and_agree_with_scipy():
    scores = np.random.default_rng(5).random((12, 4)) + np.array([0, 0.1, 0.5, 1.0])
    assert across_datasets(scores[:9]) is None
    found = across_datasets(scores)
    assert found.mean_ranks == pytest.approx(stats.rankdata(-scores, axis=1).mean(axis=0))
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    raw = [stats.wilcoxon(scores[:, i], scores[:, j]).pvalue for i, j in pairs]
    expected = multipletests(raw, method="holm")[1]
    assert [found.p_wilcoxon_holm[i, j] for i, j in pairs] == pytest.approx(expected)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), rel=1e-3)  # Demsar, table 5


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one table"):
        bootstrap_draws([0, 1], [[0, 1], [0, 1]], ["a", "a"], 2)
    with pytest.raises(ValueError, match="needed are"):
        rank_all("ab", [1.0], np.ones((5, 2)), 10)


def test_seeds_are_paired_by_their_number_wherever_they_stand():
    """B is A with its seeds in another order: told so, the two differ in nothing; seeds that none shares are independent."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    a = np.stack([answers(rng, labels, share) for share in (0.9, 0.8, 0.7)], axis=1)
    paired = bootstrap_draws(labels, [a, a[:, [2, 0, 1]]], "ab", 2, seeds=[(4, 5, 6), (6, 4, 5)], num_draws=400)
    assert np.ptp(paired.accuracy_draws[:, 0] - paired.accuracy_draws[:, 1]) < 1e-12
    apart = bootstrap_draws(labels, [a, a], "ab", 2, seeds=[(4, 5, 6), (7, 8, 9)], num_draws=400)
    assert (apart.accuracy_draws[:, 0] - apart.accuracy_draws[:, 1]).std() > 0.03
    with pytest.raises(ValueError, match="a different one for each column"):
        bootstrap_draws(labels, [a, a], "ab", 2, seeds=[(4, 5, 6), (7, 7, 9)])
