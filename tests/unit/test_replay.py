"""Searches played again: the accounts checked by hand, and the schedulers on curves whose outcome is known."""

import numpy as np
import pytest

from moodbench.tuning.replay import Replay, replay, replays
from moodbench.tuning.schedulers import SCHEDULERS, scheduler_of

RISING = [[(t * 100, 0.5 + level * 0.01 * t) for t in range(1, 10)] for level in range(27)]
"""27 curves that never cross; the last is the best, 0.5 + 26 x 0.09."""


def test_without_early_stopping_everything_is_trained_and_the_best_is_found() -> None:
    assert replays(RISING, lambda: None, 3, 2) == [Replay(1.0, 0.0)] * 3


def test_asha_on_one_worker_by_hand() -> None:
    # Best first: the rung at 100 texts has no one to beat at first, and then keeps only who is in the top third of those
    # that came by. 8 is the best of all, so it runs through; every later one is below the quantile and stops at 100.
    curves = [[(t * 100, 0.5 + 0.01 * level * t) for t in range(1, 10)] for level in range(9)]
    found = replay(curves, scheduler_of("asha", 900, "max"), list(range(8, -1, -1)), 1)
    assert found == Replay(pytest.approx((900 + 8 * 100) / 8100), pytest.approx(0.0))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_under_every_scheduler_something_is_trained_to_its_end(name: str) -> None:
    found = replays(RISING, lambda: scheduler_of(name, 900, "max"), 20, 2)
    assert all(np.isfinite(r.regret) and r.share <= 1 for r in found)
    assert np.mean([r.share for r in found]) < 1 or name == "none"


def test_hyperband_spares_more_trials_than_asha() -> None:
    shares = {
        name: np.mean([r.share for r in replays(RISING, lambda name=name: scheduler_of(name, 900, "max"), 40, 2)])
        for name in ("asha", "hyperband")
    }
    assert shares["asha"] < shares["hyperband"] < 1


def test_what_a_stopped_best_costs_is_the_difference_to_the_pick() -> None:
    # The late bloomer is last at the first rung, so it is stopped, and 0.9 - 0.6 is lost.
    curves = [
        [(100, 0.55), (900, 0.6)],
        [(100, 0.54), (900, 0.58)],
        [(100, 0.53), (900, 0.57)],
        [(100, 0.1), (900, 0.9)],
    ]
    found = replay(curves, scheduler_of("asha", 900, "max"), [0, 1, 2, 3], 1)
    assert found.regret == pytest.approx(0.3)


def test_asha_saves_most_steps_where_curves_do_not_cross() -> None:
    found = replays(RISING, lambda: scheduler_of("asha", 900, "max"), 40, 2)
    assert np.mean([r.share for r in found]) < 0.5
    assert np.mean([r.regret <= 0.005 for r in found]) > 0.9
