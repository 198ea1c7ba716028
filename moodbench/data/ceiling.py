"""How well people agree with people: the accuracy above which a score measures noise in the labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.data.examples import labels_of_ratings
from moodbench.metrics import score_all

RATINGS = np.arange(-4, 5)


class Ceiling(NamedTuple):
    """Scores of one half of the raters against the other half."""

    accuracy: float
    f1_macro: float


def split_half_ceiling(
    rating_counts: npt.NDArray[np.int64],
    num_labels: int,
    neutral_band: float,
    rng: np.random.Generator,
    num_splits: int = 20,
) -> Ceiling:
    """The agreement of two independent halves of the raters, averaged over `num_splits` random halvings.

    `rating_counts` (items, 9) counts the ratings -4 .. +4 of each item that the data set keeps. Each half is labelled by
    the data set's own rule; the label of half A plays the prediction and that of half B the truth. With two labels a
    half is forced to a side by its mean (a mean of 0 by a fair coin). A model that predicts the whole panel can exceed
    this a little, because a half panel is noisier than the whole.
    Source: split-half reliability, Spearman (1910), Brown (1910), without the step-up correction.
    """
    first, second = _halvings(rating_counts, num_labels, neutral_band, rng, num_splits)
    scores = score_all(np.eye(num_labels)[first.ravel()], second.ravel())
    accuracy, f1_macro = scores["accuracy"], scores["f1_macro"]
    assert accuracy is not None and f1_macro is not None
    return Ceiling(accuracy, f1_macro)


def split_half_agreement(
    rating_counts: npt.NDArray[np.int64],
    num_labels: int,
    neutral_band: float,
    rng: np.random.Generator,
    num_splits: int = 20,
) -> npt.NDArray[np.float64]:
    """How often the two halves agree on each item, `(items,)`: its mean is the accuracy of `split_half_ceiling`."""
    first, second = _halvings(rating_counts, num_labels, neutral_band, rng, num_splits)
    return np.asarray((first == second).mean(axis=0))


def leave_one_out_agreement(
    rating_counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float
) -> npt.NDArray[np.float64]:
    """How often one rater of an item agrees with all its other raters together, `(items,)`, exactly.

    A rater is labelled by their one rating, the others by their mean, both by the data set's own rule; each rater counts
    once. With two labels a rating or a mean of 0 is a fair coin, so that such a rater agrees half of the time. NaN for an
    item with fewer than two raters.
    """
    num_raters, total = rating_counts.sum(axis=1), rating_counts @ RATINGS
    agreed = np.zeros(len(rating_counts))
    for rating, count in zip(RATINGS, rating_counts.T, strict=True):
        others = (total - rating) / np.maximum(num_raters - 1, 1)
        if num_labels == 2:
            sides = np.sign(others) * np.sign(rating)
            agrees = np.where(sides == 0, 0.5, sides > 0)
        else:
            own = labels_of_ratings(np.full(len(others), float(rating)), num_labels, neutral_band)
            agrees = own == labels_of_ratings(others, num_labels, neutral_band)
        agreed += count * agrees
    return np.where(num_raters > 1, agreed / np.maximum(num_raters, 1), np.nan)


def _halvings(
    counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float, rng: np.random.Generator, num_splits: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The labels of the one and the other half in each random halving, each `(num_splits, items)`."""
    first, second = [], []
    for _ in range(num_splits):
        half = _draw_half(counts, rng)
        first.append(_labels(half, num_labels, neutral_band, rng))
        second.append(_labels(counts - half, num_labels, neutral_band, rng))
    return np.array(first), np.array(second)


def _draw_half(counts: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Counts (items, 9) of a random half of each item's ratings, without replacement."""
    left = counts.sum(axis=1)
    wanted = (left + rng.integers(0, 2, size=len(left))) // 2
    drawn = np.zeros_like(counts)
    for k in range(counts.shape[1]):
        left = left - counts[:, k]
        drawn[:, k] = rng.hypergeometric(counts[:, k], left, np.minimum(wanted, counts[:, k] + left))
        wanted = wanted - drawn[:, k]
    return drawn


def _labels(
    counts: npt.NDArray[np.int64], num_labels: int, neutral_band: float, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    means = (counts @ RATINGS) / np.maximum(counts.sum(axis=1), 1)
    if num_labels == 2:
        coin = rng.choice([-1.0, 1.0], size=len(means))
        return labels_of_ratings(np.where(means == 0, coin, means), 2, 0.0)
    return labels_of_ratings(means, num_labels, neutral_band)
