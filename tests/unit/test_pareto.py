import numpy as np
import pytest

from moodbench.statistics.composite import contributions, hypervolume, layers, membership, pareto_set


def test_the_set_worked_by_hand():
    """(1, 4) and (2, 2) and (4, 1) are beaten by none; (3, 3) by (2, 2); twins stay both; NaN is never in."""
    costs = [(1, 4), (2, 2), (3, 3), (4, 1), (2, 2), (0, np.nan)]
    assert pareto_set(costs).tolist() == [True, True, False, True, True, False]


def test_the_area_worked_by_hand():
    """Below (5, 5): (1, 4) gives 4 x 1, (2, 2) adds 3 x 2, (4, 1) adds 1 x 1; what is beaten or outside adds nothing."""
    assert hypervolume([(1, 4), (2, 2), (3, 3), (4, 1), (6, 0)], (5, 5)) == pytest.approx(4 + 6 + 1)
    assert hypervolume(np.empty((0, 2)), (5, 5)) == 0


def test_membership_is_the_share_of_draws():
    """The slower one is in where it errs less: in two of four draws, as equal error with more cost is beaten."""
    errors = [(0.2, 0.1), (0.2, 0.1), (0.1, 0.1), (0.1, 0.2)]
    assert membership(errors, [1.0, 2.0]).tolist() == [1.0, 0.5]


def test_membership_agrees_with_the_set_of_each_draw():
    rng = np.random.default_rng(0)
    errors, cost = rng.integers(0, 4, (50, 6)) / 10, np.array([1, 2, 2, 3, np.nan, 0.5])
    each = [pareto_set(np.stack([row, cost], axis=1)) for row in errors]
    assert membership(errors, cost).tolist() == np.mean(each, axis=0).tolist()


def test_the_area_is_that_of_counting_cells():
    """Costs on a grid of 10 x 10 cells: a cell is dominated where some point is at or below its lower corner."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        costs = rng.integers(0, 12, (6, 2))
        cells = [(x, y) for x in range(10) for y in range(10) if any(a <= x and b <= y for a, b in costs)]
        assert hypervolume(costs, (10, 10)) == len(cells)


def test_what_each_adds_worked_by_hand():
    """Of 11 below (5, 5), (1, 4) alone adds 1, (4, 1) 1, and (2, 2) 9 - 6 that the others cover; (3, 3) is beaten, twins add nothing, a gap is unknown."""
    assert contributions([(1, 4), (2, 2), (3, 3), (4, 1)], (5, 5)).tolist() == [1, 3, 0, 1]
    found = contributions([(2, 2), (2, 2), (np.nan, 0)], (5, 5))
    assert found[:2].tolist() == [0, 0] and np.isnan(found[2])


def test_layers_are_pareto_sets_of_what_is_left():
    found = layers([(1, 4), (2, 2), (3, 3), (4, 4), (2, 2), (0, np.nan)])
    assert found[:5].tolist() == [1, 1, 2, 3, 1] and np.isnan(found[5])
