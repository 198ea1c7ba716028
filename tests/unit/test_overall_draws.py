"""All datasets together: the mean of joint draws, by hand, and against the spread of a mean of independent numbers."""

import numpy as np
import pytest

from moodbench.statistics.bootstrap import FEW_TEXTS, bootstrap_draws
from moodbench.statistics.overall import items_of_mean, mean_draws, mean_ties, separated


def track(names, shares, seed, n=400):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    said = [np.where(np.arange(n) < share * n, labels, 1 - labels) for share in shares]
    return bootstrap_draws(labels, said, names, 2, num_draws=2000, seed=seed)


def test_the_mean_over_tracks_keeps_those_that_all_have_and_averages_draw_by_draw():
    one, two = track(["a", "b", "c"], [0.9, 0.8, 0.7], 1), track(["c", "a"], [0.5, 0.7], 2)
    found = mean_draws({"one": one, "two": two})
    assert found.names == ("a", "c")
    assert found.accuracy.tolist() == pytest.approx([0.8, 0.6])
    assert found.accuracy_draws[7, 1] == pytest.approx((one.accuracy_draws[7, 2] + two.accuracy_draws[7, 0]) / 2)
    # The variance of a mean of two independent numbers is a quarter of the sum of theirs.
    expected = (one.accuracy_draws[:, 0].var() + two.accuracy_draws[:, 1].var()) / 4
    assert found.accuracy_draws[:, 0].var() == pytest.approx(expected, rel=0.15)
    assert mean_draws({}) is None and mean_draws({"x": track(["a"], [0.5], 1), "y": track(["b"], [0.5], 1)}) is None


def test_each_data_set_weighs_with_its_own_number_of_texts():
    """The variance of the mean of D datasets of one-text variance v is v / D^2 x sum of 1 / n: as n texts at once."""
    assert items_of_mean([300] * 4) == 1200 and items_of_mean([100]) == 100
    assert items_of_mean([100, 10_000, 10_000, 10_000]) == 1553
    parts = {"small": track(["a", "b"], [0.8, 0.7], 1, 100), "large": track(["a", "b"], [0.8, 0.7], 2, 4000)}
    assert mean_draws(parts).num_items == round(4 / (1 / 100 + 1 / 4000))


def test_what_one_data_set_leaves_open_several_may_separate():
    parts = {str(s): track(["a", "b", "c"], [0.90, 0.86, 0.5], s) for s in range(6)}
    whole = mean_draws(parts)
    assert separated(whole, "a", "c") and separated(whole, "a", "b")
    ties = mean_ties(whole)
    assert ties["tied_best"].to_dict() == {"a": True, "b": False, "c": False}
    level = mean_draws({str(s): track(["a", "b", "c"], [0.9, 0.9, 0.5], s) for s in range(2)})
    assert not separated(level, "a", "b")
    assert mean_ties(level)["tied_best"].to_dict() == {"a": True, "b": True, "c": False}


def test_a_tiny_class_in_one_data_set_leaves_the_mean_of_macro_f1_without_places():
    """As that data set alone does; accuracy separates them all the same. Macro-F1 rests on as many texts as it does there."""

    def rare(num, seed):
        labels = np.repeat([0, 1], [400 - num, num])
        wrong = np.random.default_rng(seed).random((2, 400)) < np.array([[0.05], [0.3]])
        return bootstrap_draws(labels, np.where(wrong, 1 - labels, labels), ["a", "b"], 2, seed=seed)

    one, two = rare(FEW_TEXTS - 1, 1), rare(40, 2)
    assert two.f1_ranking.separated("a", "b") and not one.f1_ranking.separated("a", "b")
    found = mean_draws({"one": one, "two": two})
    assert found.accuracy_ranking.separated("a", "b") and not found.f1_ranking.separated("a", "b")
    assert found.has_tiny_class and found.f1_items == items_of_mean([2 * (FEW_TEXTS - 1), 80])
    assert mean_draws({"two": two, "three": rare(40, 3)}).f1_ranking.separated("a", "b")
