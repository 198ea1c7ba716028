import math

import numpy as np
import pytest
from scipy.stats import binom

from moodbench.metrics.measurement import interval_ranks, quantile_with_interval, samples_needed


@pytest.mark.parametrize(
    ("n", "ranks"),
    [
        (100, (97, None)),
        (300, (293, None)),
        (367, (359, None)),
        (368, (360, 368)),
        (662, (650, 661)),
        (1000, (983, 997)),
        (2000, (1971, 1989)),
        (10000, (9880, 9920)),
    ],
)
def test_the_ranks_for_p99_are_those_of_the_protocol(n, ranks):
    assert interval_ranks(n, 0.99) == ranks


@pytest.mark.parametrize("n", [6, 20, 101, 500])
@pytest.mark.parametrize("q", [0.3, 0.5, 0.9])
def test_the_ranks_hold_the_level_by_a_sum_of_binomial_terms(n, q):
    low, high = interval_ranks(n, q)
    # X(low) <= x_q <= X(high) exactly when low ... high-1 of the samples lie below x_q
    inside = sum(
        math.comb(n, j) * q**j * (1 - q) ** (n - j) for j in range(low or 0, high or n + 1) if j < (high or n + 1)
    )
    assert inside >= 0.95


def test_a_median_needs_six_samples_for_both_ends():
    assert interval_ranks(5, 0.5) == (None, None)
    assert interval_ranks(6, 0.5) == (1, 6)  # 2 * 0.5^6 = 3.1 %


@pytest.mark.parametrize(("q", "needed"), [(0.5, 11), (0.9, 64), (0.95, 130), (0.99, 662), (0.01, 662), (0.999, 6636)])
def test_the_samples_needed_follow_the_loadgen_rule(q, needed):
    tail = min(q, 1 - q)

    def at_most_one_beyond(n):
        return (1 - tail) ** n + n * tail * (1 - tail) ** (n - 1)

    assert samples_needed(q) == needed
    assert at_most_one_beyond(needed) <= 0.01 < at_most_one_beyond(needed - 1)


def test_p99_of_661_samples_is_withheld_and_of_662_is_given():
    samples = np.arange(1.0, 663.0)
    assert quantile_with_interval(samples[:-1], 0.99).point is None
    estimate = quantile_with_interval(samples[::-1], 0.99)
    assert estimate.point == pytest.approx(1 + 0.99 * 661)
    assert (estimate.low, estimate.high) == (650.0, 661.0)
    assert (estimate.q, estimate.level, estimate.num_samples, estimate.num_needed) == (0.99, 0.95, 662, 662)


def test_p99_of_100_samples_has_a_lower_end_only():
    estimate = quantile_with_interval(np.arange(1.0, 101.0), 0.99)
    assert (estimate.point, estimate.low, estimate.high) == (None, 97.0, None)


@pytest.mark.parametrize(("q", "n"), [(0.5, 60), (0.9, 120)])
def test_the_interval_covers_a_skewed_population_as_promised(q, n):
    rng = np.random.default_rng(20)
    truth = math.exp(0.8 * {0.5: 0.0, 0.9: 1.2815515655446004}[q])  # lognormal
    hits = 0
    for _ in range(1500):
        estimate = quantile_with_interval(rng.lognormal(0, 0.8, n), q)
        hits += estimate.low <= truth <= estimate.high
    low, high = interval_ranks(n, q)
    exact = binom.cdf(high - 1, n, q) - binom.cdf(low - 1, n, q)
    assert exact >= 0.95
    assert hits / 1500 == pytest.approx(exact, abs=0.015)


@pytest.mark.parametrize(
    ("samples", "q", "level"),
    [([], 0.5, 0.95), ([[1.0]], 0.5, 0.95), ([np.nan], 0.5, 0.95), ([1.0], 99, 0.95), ([1.0], 0.5, 95)],
)
def test_impossible_requests_are_refused(samples, q, level):
    with pytest.raises(ValueError, match=r"needed is|allowed is"):
        quantile_with_interval(samples, q, level)
