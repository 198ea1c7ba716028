"""Whether a fit was trained enough: verdicts worked out by hand, and how often noise alone is called a fall."""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import scipy.stats

from moodbench.training.outcome import (
    CurvePoint,
    is_above_chance,
    is_falling,
    suggested_epochs,
    training_verdict,
    worst_training_verdict,
)

FALLING = [0.70, 0.69, 0.62, 0.61, 0.52, 0.51, 0.40, 0.41]
FLAT = [0.70, 0.60, 0.50, 0.41, 0.40, 0.41, 0.41, 0.40]


def curve(losses, validations, metric="f1_macro"):
    points = [CurvePoint(step, loss) for step, loss in enumerate(losses, start=1)]
    return points + [CurvePoint(step, None, metric, score) for step, score in validations.items()]


def verdict(losses, validations, best, metric="f1_macro", **changes):
    facts = {
        "num_steps": len(losses), "planned_steps": len(losses), "accuracy": 0.8, "num_validation": 200,
        "majority_share": 0.5, "validation_size": 200,
    }  # fmt: skip
    return training_verdict(curve(losses, validations, metric), best_step=best, **facts | changes)


def test_a_last_checkpoint_that_is_the_best_with_a_falling_loss_is_undertrained():
    # Last quarter 0.405, the one before 0.515: 21 % less; standard error sqrt((0.00005 + 0.00005) / 2) = 0.007.
    assert verdict(FALLING, {4: 0.6, 8: 0.8}, 8) == "undertrained"
    assert verdict(FLAT, {4: 0.6, 8: 0.8}, 8) == "ok", "0.405 and 0.405"
    assert verdict(FALLING, {4: 0.8, 8: 0.8}, 4) == "ok", "validation found nothing better later"


def test_a_fit_that_stopped_early_is_never_undertrained():
    assert verdict(FALLING, {4: 0.6, 8: 0.8}, 8, planned_steps=20) == "ok"


def test_accuracy_within_the_binomial_bound_of_the_most_frequent_class_is_chance():
    # Of 100 texts half in each class, P(X >= 58) = 0.0666 and P(X >= 59) = 0.0443.
    near = {"num_validation": 100, "majority_share": 0.5}
    assert verdict(FALLING, {8: 0.6}, 8, accuracy=0.58, **near) == "chance"
    assert verdict(FALLING, {8: 0.6}, 8, accuracy=0.59, **near) == "undertrained"
    assert verdict([0.7], {1: 0.3}, 1, accuracy=0.5, **near) == "chance", "which needs no curve"
    assert verdict(FALLING, {8: 0.6}, 8, accuracy=1.0, num_validation=50, majority_share=1.0) == "chance"


@pytest.mark.parametrize(("n", "p"), [(100, 0.5), (10, 0.3), (60, 0.155), (7, 1.0), (7, 0.0)])
def test_the_bound_is_that_of_the_exact_sum_over_the_right_answers(n, p):
    share = Fraction(str(p))
    ways = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    for k in range(n + 1):
        assert is_above_chance(k / n, n, p) == (sum(ways[k:]) < Fraction(5, 100)), k


def test_the_bound_is_the_lower_limit_of_clopper_and_pearson():
    for right in range(40, 80):
        low = scipy.stats.beta.ppf(0.05, right, 100 - right + 1)
        assert is_above_chance(right / 100, 100, 0.55) == (low > 0.55)


def test_a_last_score_clearly_below_the_best_is_overfitted():
    # 0.80 to 0.70 at 200 texts: mean 0.75, standard error 0.0306, two of them 0.0612.
    assert verdict(FLAT, {4: 0.80, 8: 0.70}, 4) == "overfitted"
    assert verdict(FLAT, {4: 0.80, 8: 0.745}, 4) == "ok"
    assert verdict(FLAT, {4: 0.80, 8: 0.70}, 4, validation_size=60) == "ok", "two standard errors are 0.112"
    assert verdict(FALLING, {4: 0.80, 8: 0.70}, 4, planned_steps=20) == "overfitted", "however it ended"
    assert verdict(FLAT, {4: 0.4, 8: 0.9}, 4, metric="nll") == "ok", "a log loss has no binomial error"


def test_fewer_than_four_losses_say_nothing():
    assert verdict([0.7, 0.5, 0.3], {3: 0.8}, 3) is None
    assert verdict([0.70, 0.69, 0.40, 0.41], {4: 0.8}, 4) == "undertrained", "with four, halves are compared"
    with pytest.raises(ValueError, match="3 losses; 4 or more"):
        is_falling([0.7, 0.5, 0.3])


def test_a_fall_must_be_large_and_beyond_noise():
    assert not is_falling([1.0] * 4 + [0.96] * 4), "4 %"
    assert is_falling([1.0] * 6 + [0.94] * 2), "6 % without noise"
    assert not is_falling([1.0, 1.0, 1.0, 1.0, 1.2, 0.8, 1.0, 0.7]), "a mean of 0.85 after 1.0, with an error of 0.25"


@pytest.mark.parametrize("num_points", [4, 5, 8, 11, 16, 32, 63])
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_flat_noisy_loss_is_rarely_called_falling(num_points, noise):
    rng = np.random.default_rng(num_points)
    called = [is_falling(rng.normal(0.6, noise, num_points).tolist()) for _ in range(2000)]
    # 3.1 standard errors of 2,000 draws: all 14 cases together fail by chance once in 70 tries at a true rate of 5 %.
    assert np.mean(called) <= 0.05 + 3.1 * np.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("num_points", [32, 63])
def test_a_clearly_falling_loss_is_called_falling(num_points):
    rng = np.random.default_rng(0)
    line = np.linspace(0.7, 0.3, num_points)  # from one of the last quarters to the other it falls by 0.1
    called = [is_falling((line + rng.normal(0, 0.05, num_points)).tolist()) for _ in range(2000)]
    assert np.mean(called) >= 0.9


def test_three_times_the_steps_and_one_epoch_more_are_suggested():
    assert suggested_epochs(num_steps=38, steps_per_epoch=19, epochs=2) == 6
    assert suggested_epochs(num_steps=100, steps_per_epoch=8, epochs=2) == 38, "min_steps made 12.5 epochs of the 2"
    assert suggested_epochs(num_steps=19, steps_per_epoch=19, epochs=9) == 10, "a fit that stopped early"
    assert suggested_epochs(num_steps=2, steps_per_epoch=100, epochs=0.02) == 2


def test_the_worst_verdict_stands_for_all_seeds():
    order = ["chance", "undertrained", "overfitted", "ok"]
    rest = list(accumulate(reversed([[v] for v in order]), lambda a, b: b + a))
    assert [worst_training_verdict(part) for part in rest] == ["ok", "overfitted", "undertrained", "chance"]
    assert worst_training_verdict([None, float("nan")]) is None
