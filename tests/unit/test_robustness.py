"""P(rank), Kendall's tau and the closest flip, against scipy and a linear programme."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog

from moodbench.analysis.robustness import closest_flip, kendall_tau, stability
from moodbench.analysis.scoring import drawn_weights


def test_the_chances_of_places_worked_by_hand():
    """Four draws of a, b, c: abc, abc, bac, and a tie of a and b before c."""
    found = stability("abc", [3, 2, 1], [[3, 2, 1], [9, 5, 0], [2, 3, 1], [2, 2, 1]])
    assert found.p_rank.tolist() == [[2.5 / 4, 1.5 / 4, 0], [1.5 / 4, 2.5 / 4, 0], [0, 0, 1]]
    assert found.expected_rank.tolist() == pytest.approx([1.375, 1.625, 3])
    # tau 1, 1, 1/3 (one of three pairs turned round), and with the tie (2 - 0) / sqrt(3 x 2)
    assert found.kendall_tau == pytest.approx((1 + 1 + 1 / 3 + 2 / np.sqrt(6)) / 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_rank_probabilities_are_those_of_scipys_ranks_whatever_the_order_of_the_entries(seed):
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((60, 5))
    found = stability("abcde", draws[0], draws)
    ranks = stats.rankdata(-draws, axis=1)
    expected = [[(ranks[:, m] == place).mean() for place in range(1, 6)] for m in range(5)]
    assert found.p_rank == pytest.approx(np.array(expected))
    shuffle = rng.permutation(5)
    other = stability(["abcde"[m] for m in shuffle], draws[0, shuffle], draws[:, shuffle])
    assert other.p_rank == pytest.approx(found.p_rank[shuffle])
    assert other.kendall_tau == pytest.approx(found.kendall_tau)


def test_drawn_weights_lie_around_the_weights_and_none_stays_none():
    drawn = drawn_weights(np.array([0.5, 0.3, 0.2, 0.0]), 20_000)
    assert drawn.sum(axis=1) == pytest.approx(1)
    assert drawn.mean(axis=0) == pytest.approx([0.5, 0.3, 0.2, 0], abs=0.005)
    assert drawn[:, 0].var() == pytest.approx(0.25 / 21, rel=0.05), "w (1 - w) / (20 + 1)"
    assert (drawn[:, 3] == 0).all()


def test_the_flip_worked_by_hand():
    """b leads in y by 0.4, a in x by 0.2; at 0.8 / 0.2 a is ahead by 0.08, level at x = 2/3."""
    flip = closest_flip("ab", [[0.6, 0.2], [0.4, 0.6]], [0.8, 0.2])
    assert flip.rival == "b"
    assert flip.weights == pytest.approx([2 / 3, 1 / 3])
    assert flip.distance == pytest.approx(2 * (0.8 - 2 / 3))


def test_nobody_dethrones_who_is_ahead_in_everything():
    assert closest_flip("ab", [[0.6, 0.6], [0.5, 0.5]], [0.5, 0.5]) is None
    assert closest_flip("a", [[0.6, 0.6]], [0.5, 0.5]) is None


def programme(utilities, weights):
    """The smallest sum of absolute changes by linprog over (w', t) with |w' - w| <= t; None where no rival can."""
    first, c = int(np.argmax(utilities @ weights)), len(weights)
    best = None
    for rival in set(range(len(utilities))) - {first}:
        d, eye = utilities[rival] - utilities[first], np.eye(c)
        bounds = np.vstack([np.hstack([-d, np.zeros(c)])[None], np.hstack([eye, -eye]), np.hstack([-eye, -eye])])
        found = linprog(
            np.r_[np.zeros(c), np.ones(c)], A_ub=bounds, b_ub=np.r_[0, weights, -weights],
            A_eq=np.r_[np.ones(c), np.zeros(c)][None], b_eq=[1], bounds=[(0, None)] * (2 * c),
        )  # fmt: skip
        if found.status == 0 and (best is None or found.fun < best):
            best = found.fun
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_the_flip_is_the_optimum_of_the_linear_programme(seed, m):
    rng = np.random.default_rng(seed)
    utilities, weights = rng.random((m, 4)), rng.dirichlet(np.ones(4))
    if seed % 3 == 0:
        utilities = utilities.round(1)  # equal utilities, and rivals that are better in nothing
    if seed % 5 == 0:
        weights = np.array([0.5, 0.5, 0, 0])
    found, expected = closest_flip("abcde"[:m], utilities, weights), programme(utilities, weights)
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.distance == pytest.approx(expected, abs=1e-7)
        assert found.weights.sum() == pytest.approx(1) and (found.weights >= -1e-12).all()
        rival = "abcde".index(found.rival)
        ahead = int(np.argmax(utilities @ weights))
        assert (utilities[rival] - utilities[ahead]) @ found.weights == pytest.approx(0, abs=1e-9)


def test_kendalls_tau_is_scipys_with_ties_and_without_constant_draws():
    rng = np.random.default_rng(7)
    point, draws = rng.integers(0, 4, 9).astype(float), rng.integers(0, 3, (40, 9)).astype(float)
    draws[5] = 1.0
    expected = [stats.kendalltau(point, row).statistic for row in draws]
    np.testing.assert_allclose(kendall_tau(point, draws), [tau for tau in expected if np.isfinite(tau)], atol=1e-12)
    assert len(kendall_tau(point, draws)) == 39 and len(kendall_tau(np.ones(9), draws)) == 0
