"""The moderated variance between seeds, by hand, against t intervals, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from moodbench.statistics.all_pairs import pair_p_values
from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.intervals import two_way
from moodbench.statistics.paired import paired_accuracy
from moodbench.statistics.seeds import DETERMINISTIC, MAX_PRIOR_DF, NO_PRIOR, SeedPrior, seed_prior


def test_the_prior_worked_by_hand():
    """Variances 2, 8 and 0 with 1, 1 and 2 degrees of freedom: pooled 10 / 4; the other two of any have at least 2."""
    found = seed_prior([np.array([1.0, 3.0]), np.array([0.0, 4.0]), np.array([5.0, 5.0, 5.0]), np.array([9.0])])
    assert found == SeedPrior(2.5, 2.0)
    assert found.moderated(8.0, 2) == pytest.approx((2 * 2.5 + 8) / 3)
    assert seed_prior([np.array([1.0, 3.0]), np.array([2.0])]) == NO_PRIOR
    assert seed_prior([np.array([1.0, 3.0])] * 20).df == MAX_PRIOR_DF
    assert found.of_difference(SeedPrior(1.0, 4.0)) == SeedPrior(3.5, 2.0)
    assert found.of_difference(DETERMINISTIC) == found and DETERMINISTIC.of_difference(DETERMINISTIC) == NO_PRIOR


def test_the_interval_has_the_degrees_of_freedom_of_both():
    """All items alike within a seed, so that only seeds vary: mean +- t_(4 + 1) sqrt(moderated / 2)."""
    table = np.repeat([[0.4, 0.6]], 50, axis=0)
    found = two_way(table, prior=SeedPrior(0.01, 4.0))
    half = stats.t.ppf(0.975, 5) * np.sqrt((4 * 0.01 + 0.02) / 5 / 2)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), rel=1e-6)
    assert "moderated" in found.method and "moderated" not in two_way(table).method
    same = np.repeat([[0.0], [1.0]], [20, 30], axis=0).repeat(2, axis=1)
    assert two_way(same, prior=SeedPrior(0.01, 4.0)).low == two_way(same).low, (
        "a deterministic entry has no seed effect"
    )


def recipes(rng, sds, num_seeds, n=300):
    """Right or wrong `(n, seeds)` of each recipe, with seed effects of these sds of the probability."""
    effects = [np.clip(0.75 + sd * rng.standard_normal(num_seeds), 0.02, 0.98) for sd in sds]
    return [rng.random((n, num_seeds)) < effect for effect in effects]


@pytest.mark.parametrize("num_seeds", [2, 3])
@pytest.mark.parametrize("sds", [(0.04,) * 6, (0.02, 0.02, 0.02, 0.06, 0.06, 0.06)])
def test_moderated_intervals_are_narrow_and_cover_where_variances_differ(sds, num_seeds):
    rng, hits, widths, plain, num = np.random.default_rng(3), 0, [], [], 300
    for _ in range(num):
        tables = recipes(rng, sds, num_seeds)
        prior = seed_prior([t.mean(axis=0) for t in tables])
        for table in tables:
            found = two_way(table, prior=prior)
            hits += found.low <= 0.75 <= found.high
            widths.append(found.high - found.low)
            plain.append(two_way(table).high - two_way(table).low)
    assert hits / (6 * num) >= 0.93
    assert np.mean(widths) < (0.4 if num_seeds == 2 else 0.75) * np.mean(plain)


def test_all_pairs_and_compare_use_the_same_moderated_variance():
    rng, labels = np.random.default_rng(4), np.zeros(300, dtype=int)
    tables = recipes(rng, (0.04,) * 4, 3)
    p = pair_p_values(labels, [np.where(t, 0, 1) for t in tables], [[0, 1, 2]] * 4, ["lora"] * 4)
    prior = seed_prior([t.mean(axis=0) for t in tables])
    one = paired_accuracy(tables[0], tables[1], prior=prior.of_difference(prior))
    assert p[0, 1] == pytest.approx(one.p_value, rel=1e-3)
    assert one.high - one.low < paired_accuracy(tables[0], tables[1]).high - paired_accuracy(tables[0], tables[1]).low


def test_draws_have_the_moderated_variance_of_entries_of_their_kind_only():
    """Items alike within a seed: the draws of `a` are t_(1 + 1) with its prior from `b`, those of `c` are t_1 alone."""
    n, labels = 200, np.zeros(200, dtype=int)

    def entry(*shares):
        return np.stack([np.where(np.arange(n) < share * n, 0, 1) for share in shares], axis=1)

    tables = [entry(0.5, 0.6), entry(0.5, 0.8), entry(0.5, 0.6)]
    drawn = bootstrap_draws(labels, tables, "abc", 2, kinds=["x", "x", "y"], num_draws=40_000).accuracy_draws
    spread = np.quantile(drawn, 0.95, axis=0) - np.quantile(drawn, 0.05, axis=0)
    prior = seed_prior([np.array([0.5, 0.6]), np.array([0.5, 0.8])])
    moderated, alone = np.sqrt(prior.moderated(0.005, 2) / 2), np.sqrt(0.005 / 2)
    assert spread[0] == pytest.approx(2 * stats.t.ppf(0.95, 2) * moderated, rel=0.12)
    assert spread[2] == pytest.approx(2 * stats.t.ppf(0.95, 1) * alone, rel=0.12)
