"""Small panels whose agreement can be counted by hand, and halves against exact probabilities."""

import numpy as np
import pytest
from scipy.stats import hypergeom

from moodbench.data.examples import RATINGS
from moodbench.evaluation.predicting import (
    _draw_half,
    leave_one_out_agreement,
    split_half_ceiling,
)


def panels(*ratings, copies=1):
    """Counts (items, 9) of panels such as (2, 2, -1)."""
    counts = [[panel.count(r) for r in RATINGS] for panel in ratings]
    return np.array(counts * copies, dtype=np.int64)


def ceiling(counts, num_labels=2, band=0.5, num_splits=20):
    return split_half_ceiling(counts, num_labels, band, np.random.default_rng(7), num_splits)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_unanimous_raters_agree_with_themselves(num_labels):
    counts = panels((3,) * 10, (-2,) * 10, (1,) * 7, (0,) * 10 if num_labels == 3 else (-4,) * 10)
    assert ceiling(counts, num_labels)[:2] == (1.0, 1.0)


def test_raters_who_toss_coins_agree_half_of_the_time():
    rng = np.random.default_rng(1)
    plus = rng.binomial(20, 0.5, size=4000)
    counts = np.zeros((4000, 9), dtype=np.int64)
    counts[:, 5], counts[:, 3] = plus, 20 - plus
    # 4,000 items: a standard deviation of .008 between items, whatever the number of halvings
    assert ceiling(counts).accuracy == pytest.approx(0.5, abs=0.032)


BY_HAND = [
    # panel, chance that its two halves get the same label of two
    ((1, 1), 1),
    ((1, -1), 0),
    ((2, -1), 0),
    ((2, 0), 1 / 2),  # the half of mean 0 tosses a coin
    ((0, 0), 1 / 2),
    # one against two: + against (+, -), a coin, in two of three draws; - against (+, +) in the third
    ((1, 1, -1), 2 / 3 * 1 / 2),
    # pairs of four: (+ +) against (- -) in two of six draws, else both of mean 0
    ((1, 1, -1, -1), 4 / 6 * 1 / 2),
    # the strong one decides its half: (4, -1) or (4, -1) against (-1, -1)
    ((4, -1, -1, -1), 0),
    ((3,), 1 / 2),  # one rater against nobody
]


@pytest.mark.parametrize(("panel", "agreement"), BY_HAND)
def test_the_agreement_of_a_small_panel_is_that_counted_by_hand(panel, agreement):
    # 6,000 independent halvings: a standard deviation of at most .0065
    counts = panels(panel, copies=300)
    assert ceiling(counts).accuracy == pytest.approx(agreement, abs=0.026)


ONE_AGAINST_THE_OTHERS = [
    # panel, share of its raters who say what the mean of the others says, of two labels
    ((1, 2), 1),
    ((1, -1), 0),
    ((2, 2, -1), 2 / 3),  # each 2 sees a mean of 1/2, the -1 sees 2
    ((4, -1, -1), 0),  # the 4 sees -1, each -1 sees 3/2
    ((1, 1, -2), 0),  # each 1 sees -1/2, the -2 sees 1
    ((3, 1, 0), 1 / 3 + 1 / 3 + 1 / 3 * 1 / 2),  # the 0 tosses a coin
    ((1, 2, -1, -1), 1 / 2 / 4),  # the 1 sees 0 and tosses, the 2 sees -1/3, each -1 sees 2/3
    ((0, 0), 1 / 2),
]


@pytest.mark.parametrize(("panel", "share"), ONE_AGAINST_THE_OTHERS)
def test_one_rater_against_the_others_is_that_counted_by_hand(panel, share):
    found = leave_one_out_agreement(panels(panel, copies=2), 2, 0.5)
    assert found.tolist() == pytest.approx([share, share])


def test_with_three_labels_a_rater_and_the_others_are_labelled_by_the_band():
    # band 1.5: 1 is neutral and sees a mean of 2 (positive); each 2 sees 1.5 (positive)
    assert leave_one_out_agreement(panels((1, 2, 2)), 3, 1.5)[0] == pytest.approx(2 / 3)
    # band .5: all positive
    assert leave_one_out_agreement(panels((1, 2, 2)), 3, 0.5)[0] == 1


def test_one_rater_alone_has_nobody_to_agree_with():
    assert np.isnan(leave_one_out_agreement(panels((3,)), 2, 0.5)[0])


def test_one_rater_against_the_others_by_going_through_all_of_them():
    rng = np.random.default_rng(2)
    ratings = rng.integers(-4, 5, size=(30, 7))
    counts = np.stack([[(row == r).sum() for r in RATINGS] for row in ratings])
    for num_labels in (2, 3):
        found = leave_one_out_agreement(counts, num_labels, 0.5)
        for row, share in zip(ratings, found, strict=True):
            agreed = []
            for i, own in enumerate(row):
                others = np.delete(row, i).mean()
                if num_labels == 2:
                    agreed.append(0.5 if own == 0 or others == 0 else (own > 0) == (others > 0))
                else:
                    side = [0 if abs(x) < 0.5 else np.sign(x) for x in (own, others)]
                    agreed.append(side[0] == side[1])
            assert share == pytest.approx(np.mean(agreed))


def test_the_agreement_of_the_items_averages_to_the_ceiling():
    counts = panels((1, 1, -1), (2, -1), (0, 3, -2), (2, 2, 2, -1), copies=20)
    items = ceiling(counts).agreement
    assert items.shape == (80,)
    assert items.mean() == pytest.approx(ceiling(counts).accuracy, abs=1e-12)


def test_items_count_equally():
    # 1, 0 and 0: a third, exactly, as no coin is tossed
    assert ceiling(panels((1, 1), (1, -1), (-3, 2), copies=5)).accuracy == pytest.approx(1 / 3, abs=1e-12)


def test_with_three_labels_the_band_is_the_data_sets_own():
    # halves of mean 1 and 0: the same class within a band of 1.5, different ones within .5
    counts = np.concatenate([panels((1, 0), copies=10), panels((4, 4), (-4, -4), copies=10)])
    assert ceiling(counts, 3, 1.5).accuracy == 1
    assert ceiling(counts, 3, 0.5).accuracy == pytest.approx(2 / 3, abs=1e-12)


def test_the_same_seed_gives_the_same_ceiling():
    counts = panels((1, 1, -1), (2, -1), (0, 3, -2), copies=20)
    assert ceiling(counts)[:2] == ceiling(counts)[:2]


@pytest.mark.parametrize("panel", [(1, 1, 1, -1, -1, -1, 0, 0), (-4, -4, 3), (2, 2, 2, 2, 0)])
def test_a_half_is_drawn_without_replacement(panel):
    counts = panels(panel, copies=20_000)
    half = _draw_half(counts, np.random.default_rng(3))
    assert (half >= 0).all()
    assert (half <= counts).all()
    sizes = half.sum(axis=1)
    n = len(panel)
    assert set(sizes) == {n // 2, (n + 1) // 2}
    for size in set(sizes):
        chosen = half[sizes == size]
        for k in np.flatnonzero(counts[0]):
            chances = hypergeom.pmf(np.arange(size + 1), n, counts[0, k], size)
            seen = np.bincount(chosen[:, k], minlength=size + 1) / len(chosen)
            # shares of about 10,000 draws: 4.5 standard deviations of at most .005
            assert seen == pytest.approx(chances, abs=0.0225)
            assert chosen[:, k].mean() == pytest.approx(size * counts[0, k] / n, abs=0.045)


def test_an_odd_rater_goes_to_either_half_as_often():
    sizes = _draw_half(panels((1, 1, -1), copies=20_000), np.random.default_rng(5)).sum(axis=1)
    assert sizes.mean() == pytest.approx(1.5, abs=4 * 0.5 / np.sqrt(20_000))
