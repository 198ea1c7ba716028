import numpy as np
import pytest

from moodbench.comparison.pareto import hypervolume, membership, pareto_set


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
