"""All pairs of a track: their own tests against the tests of one pair, and the smallest difference that is found."""

import numpy as np
import pytest
from scipy import stats

from moodbench.statistics.all_pairs import all_pairs, detectable, pair_p_values
from moodbench.statistics.bootstrap import bootstrap_draws
from moodbench.statistics.overall import mean_draws
from moodbench.statistics.paired import paired_accuracy
from moodbench.statistics.rank_intervals import holm

SEEDS = [(0, 1, 2), (0, 1, 2), (0,), (2, 3), (1, 2, 3), (7,)]


@pytest.fixture(scope="module")
def world():
    """Labels, answers of six entries with their seeds (sd 0.3 on the logit), and names."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 400)
    ease = rng.normal(1.5, 1.5, 400)
    said = []
    for number, own in enumerate(SEEDS):
        margin = ease[:, None] - 0.2 * number + 0.3 * rng.standard_normal(len(own)) + rng.logistic(size=(400, len(own)))
        said.append(np.where(margin > 0, labels[:, None], 1 - labels[:, None]))
    return labels, said, "abcdef"


def test_every_pair_has_the_p_value_of_its_own_test(world):
    """Two common seeds or more: those, else the first common one, else the first of each."""
    labels, said, _ = world
    found = pair_p_values(labels, said, SEEDS)
    assert (found == found.T).all() and (found.diagonal() == 1).all()
    for a in range(len(SEEDS)):
        for b in range(a):
            common = sorted(set(SEEDS[a]) & set(SEEDS[b]))
            columns = [
                (
                    [SEEDS[m].index(s) for s in common]
                    if len(common) > 1
                    else [SEEDS[m].index(common[0]) if common else 0]
                )
                for m in (a, b)
            ]
            right = [said[m][:, at] == labels[:, None] for m, at in zip((a, b), columns, strict=True)]
            assert found[a, b] == pytest.approx(paired_accuracy(*right).p_value, rel=1e-6), (a, b)


def test_the_exact_tests_separate_what_bootstrap_p_values_with_holm_never_could():
    """18 entries, 153 pairs: the smallest p of 2,000 draws is 1 / 2001, times 153 above 5 %."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 3000)
    said = [np.where(rng.random(3000) < share, labels, 1 - labels) for share in np.linspace(0.7, 0.95, 18)]
    joint = bootstrap_draws(labels, said, [f"m{i}" for i in range(18)], 2)
    found = all_pairs(joint, pair_p_values(labels, said, [(0,)] * 18))
    assert 153 / 2001 > 0.05
    assert found.num_pairs == 153 and 90 < found.num_holm <= found.num_separated + 8 and found.num_separated > 90
    assert found.estimand == "checkpoint"


def test_identical_answers_are_separated_by_neither(world):
    labels, said, _ = world
    joint = bootstrap_draws(labels, [said[0]] * 3, "abc", 2, num_draws=200)
    p = pair_p_values(labels, [said[0]] * 3, [SEEDS[0]] * 3)
    found = all_pairs(joint, p)
    assert (p == 1).all() and (holm(p[np.triu_indices(3, 1)]) == 1).all()
    assert (found.num_separated, found.num_holm) == (0, 0)


def test_the_draws_find_the_difference_that_the_formula_finds():
    """One seed: for one pair both are (1.96 + 0.84) sqrt(d / n), and Bonferroni is near the maximum's quantile."""
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 2, 2000)
    base = np.where(rng.random(2000) < 0.85, labels, 1 - labels)
    said = [np.where(rng.random(2000) < 0.9, base, 1 - base) for _ in range(4)]
    joint = bootstrap_draws(labels, said, "abcd", 2, num_draws=20_000)
    exact, drawn = (detectable(joint, joint.accuracy_draws, formula=f) for f in (True, False))
    assert drawn[0] == pytest.approx(exact[0], rel=0.05)
    assert exact[0] < drawn[1] < exact[1] * 1.02


def test_seeds_raise_the_difference_that_is_found_as_two_trainings_say_little(world):
    """With S seeds the quantile is that of t with S - 1 degrees of freedom where seeds vary most, not 1.96."""
    labels, said, names = world
    rng = np.random.default_rng(8)
    scattered = [
        np.where(rng.random((400, 3)) < rng.uniform(0.6, 0.95, 3), labels[:, None], 1 - labels[:, None])
        for _ in range(2)
    ]
    joint = bootstrap_draws(labels, scattered, "ab", 2, num_draws=20_000)
    one, every = detectable(joint, joint.accuracy_draws, formula=False)
    means = [(s == labels[:, None]).mean(axis=0) for s in scattered]
    difference = means[0] - means[1]
    sd = difference.std(ddof=1) / np.sqrt(3)
    assert one == every
    # scale: the 68.3 % half-width of t2 x sd, which is 1.32 sd; quantile 4.30 sd
    assert one == pytest.approx(sd * (stats.t.ppf(0.975, 2) + 0.8416 * stats.t.ppf(0.8413, 2)), rel=0.15)
    assert all_pairs(bootstrap_draws(labels, said, names, 2, seeds=SEEDS), None).estimand == "recipe"


def test_over_two_data_sets_the_difference_that_is_found_is_that_of_the_mean():
    """Two sets of one kind: the mean varies by 1 / sqrt(2) of each."""
    rng = np.random.default_rng(9)
    parts = {}
    for track in ("x", "y"):
        labels = rng.integers(0, 2, 1500)
        said = [np.where(rng.random(1500) < 0.8, labels, 1 - labels) for _ in range(2)]
        parts[track] = bootstrap_draws(labels, said, "ab", 2, num_draws=20_000, seed=ord(track))
    each = [detectable(j, j.accuracy_draws, formula=True)[0] for j in parts.values()]
    whole = all_pairs(mean_draws(parts), None)
    assert whole.one_pair == pytest.approx(np.hypot(*each) / 2, rel=0.05) and whole.num_holm is None


def test_one_entry_has_no_pairs(world):
    labels, said, _ = world
    with pytest.raises(ValueError, match="needed are 2 or more"):
        all_pairs(bootstrap_draws(labels, said[:1], "a", 2, num_draws=10), None)
