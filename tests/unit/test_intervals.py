import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from moodbench.statistics.intervals import percentile_interval, two_way, two_way_variance, wilson


@pytest.mark.parametrize(("num_correct", "n"), [(0, 1), (1, 1), (0, 50), (7, 10), (800, 872), (25000, 25000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_agrees_with_statsmodels(num_correct, n, level):
    interval = wilson(num_correct, n, level)
    low, high = proportion_confint(num_correct, n, alpha=1 - level, method="wilson")
    assert (interval.low, interval.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert (interval.point, interval.n, interval.level) == (num_correct / n, n, level)
    assert (interval.method, interval.estimand) == ("wilson", "checkpoint")


def test_the_two_way_table_worked_by_hand():
    """Two items x two seeds, [[1, 2], [3, 6]]; mean 3.

    item means 1.5, 4.5: variance 4.5, / 2 = 2.25. seed means 2, 4: variance 2, / 2 = 1.
    half width t_1 sqrt(2.25 + 1)
    """
    values = np.array([[1, 2], [3, 6]])
    assert two_way_variance(values) == pytest.approx((3.0, 2.25, 1.0, 2, 2))
    interval = two_way(values)
    half = t.ppf(0.975, 1) * 3.25**0.5
    assert (interval.point, interval.low, interval.high) == pytest.approx((3, 3 - half, 3 + half))
    assert (interval.estimand, interval.n, interval.level) == ("recipe", 2, 0.95)


def test_where_only_items_or_only_seeds_differ_the_interval_is_the_t_interval_of_those():
    column = np.array([0.0, 1.0, 1.0, 1.0])
    expected = t.interval(0.95, 3, 0.75, column.std(ddof=1) / 2)
    for values in (np.tile(column[:, None], (1, 3)), np.tile(column, (50, 1))):
        interval = two_way(values)
        assert (interval.low, interval.high) == pytest.approx(expected)
        assert two_way_variance(values).p_value() == pytest.approx(2 * t.sf(0.75 / (column.std(ddof=1) / 2), 3))


def test_a_constant_table_has_an_interval_of_no_width():
    interval = two_way(np.ones((5, 3)))
    assert (interval.low, interval.point, interval.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_the_two_way_interval_covers_the_recipe_and_one_seed_would_not(num_seeds):
    """400 worlds of 300 items: difficulty by item, skill by seed (sd 3 points), chance in each cell."""
    rng = np.random.default_rng(11)
    truth = 0.1 + 0.8 * 4 / 5
    covered = covered_by_one_seed = 0
    for _ in range(400):
        chance = 0.1 + 0.8 * rng.beta(4, 1, (300, 1)) + rng.uniform(-0.05, 0.05, (1, num_seeds))
        right = rng.random((300, num_seeds)) < chance
        interval = two_way(right)
        covered += interval.low <= truth <= interval.high
        single = wilson(int(right[:, 0].sum()), 300)
        covered_by_one_seed += single.low <= truth <= single.high
    assert covered / 400 >= 0.93
    assert covered_by_one_seed < covered


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_items_and_seeds_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    values = rng.random((7, 3))
    shuffled = values[rng.permutation(7)][:, rng.permutation(3)]
    assert two_way_variance(shuffled) == pytest.approx(two_way_variance(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((5, 1)), "at least 2 of each"),
        (np.ones((1, 5)), "at least 2 of each"),
        (np.ones(5), "at least 2 of each"),
        (np.array([[1.0, np.nan], [1.0, 1.0]]), "needs a value for every seed"),
    ],
)
def test_tables_that_cannot_tell_items_from_seeds_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        two_way(values)


@pytest.mark.parametrize(("num_correct", "n", "level"), [(3, 2, 0.95), (-1, 2, 0.95), (0, 0, 0.95), (1, 2, 95)])
def test_impossible_shares_and_levels_are_refused(num_correct, n, level):
    with pytest.raises(ValueError, match=r"needed is|allowed is"):
        wilson(num_correct, n, level)


def test_a_percentile_interval_of_few_draws_holds_a_new_draw_at_its_level():
    """The ends of 39 draws at 95 % are the smallest and the largest: a 40th is beyond either once in 40 times."""
    drawn = np.random.default_rng(1).permutation(np.arange(1.0, 40.0))
    assert percentile_interval(drawn, 0.95) == pytest.approx((1.0, 39.0))
    assert percentile_interval(drawn, 0.90) == pytest.approx((2.0, 38.0))
