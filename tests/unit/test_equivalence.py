"""Equivalence where hardly any review tells two models apart, and the reviews that would settle an undecided pair."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from moodbench.report.tables import pair_sentence
from moodbench.statistics.intervals import TwoWay, newcombe_paired
from moodbench.statistics.paired import exact_ends, items_needed, paired_accuracy


def pair(both, only_a, only_b, neither):
    return [np.repeat(right, [both, only_a, only_b, neither]) for right in ([1, 1, 0, 0], [1, 0, 1, 0])]


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_identical_answers_are_equivalent_from_299_reviews_on(num_seeds):
    """A true difference of 1 point is not seen in n reviews with chance 0.99^n, which is 5.05 % for 298 and 4.995 % for 299."""
    for n, verdict in ((50, "undecided"), (298, "undecided"), (299, "equivalent")):
        right = np.repeat((np.arange(n) % 2 == 0)[:, None], num_seeds, axis=1)
        found = paired_accuracy(right, right)
        assert found.verdict == verdict, n
        assert (found.delta, found.p_value) == (0, 1)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_identical_answers_on_few_reviews_are_settled_by_at_most_so_many(num_seeds):
    """None of 50 differs: at most 1 - 0.05^(1/50) = 5.8 % do, and equivalence within 1 point needs that times (2.9264 / 0.01)^2."""
    right = np.repeat((np.arange(50) < 40)[:, None], num_seeds, axis=1)
    found = paired_accuracy(right, right)
    assert found.needed_at_most
    assert found.num_items_needed == pytest.approx((1 - 0.05 ** (1 / 50)) * 292.64**2, rel=1e-3)
    words = pair_sentence("a", "b", "t", found)
    assert "at most about 4,9" in words and "they differ on few texts" in words


def test_one_review_that_differs_gives_a_limit_too_and_many_give_a_number():
    few, many = paired_accuracy(*pair(80, 1, 0, 19)), paired_accuracy(*pair(800, 12, 18, 170))
    upper = proportion_confint(1, 100, 0.1, method="beta")[1]
    # 1 point apart is the region's own end: only separation is possible
    assert few.num_items_needed == pytest.approx((upper - 1e-4) * (2.801585 / 0.01) ** 2, rel=1e-3)
    assert (few.needed_at_most, many.needed_at_most) == (True, False)
    assert f"about {many.num_items_needed:,} texts would decide it if the difference stays" in pair_sentence(
        "a", "b", "t", many
    )


@given(st.integers(1, 150), st.integers(0, 12), st.integers(0, 12), st.integers(0, 60), st.sampled_from([0.002, 0.01]))
def test_an_undecided_pair_needs_more_reviews_than_it_has(both, only_a, only_b, neither, rope):
    found = paired_accuracy(*pair(both, only_a, only_b, neither), rope=rope)
    assert (found.num_items_needed is None) == (found.verdict != "undecided")
    if found.num_items_needed is not None:
        assert found.num_items_needed > found.num_items


@pytest.mark.parametrize(("n", "neither"), [(200, 100), (872, 90), (1500, 750), (3000, 1500)])
def test_a_model_that_is_a_point_worse_and_never_alone_right_is_seldom_called_equivalent(n, neither):
    """Summed over the binomial distribution. Newcombe's interval alone errs in 13 % of worlds of 200, 8 % of 3,000."""
    counts = range(int(stats.binom.ppf(1 - 1e-6, n, 0.01)) + 1)
    chance = stats.binom.pmf(np.array(counts), n, 0.01)
    tables = [(n - k - neither, k, 0, neither) for k in counts]
    called = []
    for table in tables:
        found = paired_accuracy(*pair(*table))
        called.append(-found.rope < found.rope_low and found.rope_high < found.rope)
    assert chance @ np.array(called) <= 0.056
    alone = chance @ np.array([newcombe_paired(*table, level=0.9)[1] < 0.01 for table in tables])
    if n in (200, 3000):
        assert alone > 0.07


def alone(count, num_items, share=1.0):
    return np.where(np.arange(num_items) < count, share, 0.0)


def test_the_exact_ends_are_those_of_statsmodels_joined():
    low, high = exact_ends(alone(7, 400), alone(3, 400), 0.9)
    (low_a, high_a), (low_b, high_b) = (proportion_confint(k, 400, 0.1, method="beta") for k in (7, 3))
    assert low == pytest.approx(0.01 - math.hypot(7 / 400 - low_a, high_b - 3 / 400))
    assert high == pytest.approx(0.01 + math.hypot(high_a - 7 / 400, 3 / 400 - low_b))
    none = np.zeros(400)
    assert exact_ends(none, none, 0.9) == pytest.approx((-(1 - 0.05 ** (1 / 400)), 1 - 0.05 ** (1 / 400)))
    assert exact_ends(np.zeros(5), np.ones(5), 0.9)[0] == -1


def test_seeds_that_err_on_different_reviews_count_as_more_of_them():
    """30 reviews with 1 of 3 seeds each vary as 30 of 3 x 1,000 would; of 9 such it is not known, and they count as 3 of 1,000."""
    none = np.zeros(1000)
    many, few = (exact_ends(alone(k, 1000, 1 / 3), none, 0.9)[1] for k in (30, 9))
    ends = [stats.beta.ppf(0.95, k + 1, n - k) for k, n in ((30, 3000), (3, 1000))]
    assert (many, few) == pytest.approx(ends)
    assert exact_ends(alone(30, 1000), none, 0.9)[1] == pytest.approx(stats.beta.ppf(0.95, 31, 970))


def test_where_seeds_vary_too_much_no_number_of_reviews_settles_it():
    assert items_needed(0.02, 0.03, 0.01, 0.01, num_seeds=3) is None
    assert items_needed(0.02, 0.03, 0.0, 0.01) == math.ceil(0.03 * (2.801585 / 0.02) ** 2)
    # 0.5 points from training again: three trainings bound that by 4.30 x 0.5 > 2 points, thirty by 2.05 x 0.5
    assert items_needed(0.02, 0.03, 0.005**2, 0.01, num_seeds=3) is None
    assert items_needed(0.02, 0.03, 0.005**2, 0.01, num_seeds=30) is not None


@pytest.mark.parametrize(("delta", "num_seeds"), [(0.03, 3), (0.05, 5), (0.002, 5)])
def test_with_that_many_reviews_the_interval_over_seeds_is_as_narrow_as_80_percent_power_asks(delta, num_seeds):
    needed = items_needed(delta, 0.05, 1e-6, 0.01, num_seeds=num_seeds)
    then = TwoWay(delta, 0.05 / needed, 1e-6, 10**9, num_seeds)
    if delta > 0.01:
        reach = then.half_width(0.95) + stats.norm.ppf(0.8) * math.sqrt(then.variance)
        assert reach == pytest.approx(delta, rel=1e-3)
    else:
        assert then.half_width(0.9) + stats.norm.ppf(0.9) * math.sqrt(then.variance) == pytest.approx(0.008, rel=1e-3)


def test_recipes_with_trainings_far_apart_need_more_seeds():
    rng = np.random.default_rng(1)
    a, b = (rng.random((300, 3)) < 0.8 + rng.normal(0, 0.05, 3) for _ in range(2))
    found = paired_accuracy(a, b)
    assert (found.verdict, found.num_items_needed) == ("undecided", None)
    assert "more seeds are needed, not more texts" in pair_sentence("a", "b", "t", found)
