"""Simulated worlds with known truth, one for each printed interval and each test.

Items of a world share their difficulty between models, as real examples do; recipes have seed effects; the rest is
chance.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy  # its parts load when first used
from simulation_board_worlds import board_worlds
from simulation_draws import (
    FINE,
    ITEM_SD,
    NUM_MODELS,
    SHARP,
    SPREAD,
    Rng,
    Seen,
    World,
    answers,
    f1_difference,
    f1_test,
    joint,
    labels,
    outcomes,
    seen,
    truth,
)
from simulation_rare_worlds import rare_worlds

from moodbench.metrics.measurement import quantile_with_interval, request_quantiles
from moodbench.statistics.intervals import clipped, mean_of_independent, newcombe_paired, two_way, wilson
from moodbench.statistics.paired import paired_accuracy
from moodbench.statistics.rank_intervals import across_datasets, rank_all


def worlds() -> list[World]:
    """Return all rows of the table, in order."""
    rows: list[World] = []
    for n in (200, 1000):
        one = f"n = {n}, 1 seed"
        rows += [
            World("smoothed bootstrap, macro-F1", one, "covers", partial(_f1, n, 1, 0.0), FINE),
            World(
                "Newcombe, difference in accuracy", f"{one}, difference 0.03", "covers", partial(_newcombe, n), SHARP
            ),
            World("bootstrap, difference in macro-F1", one, "covers", partial(_f1_difference, n, 1, 0.0)),
            World("rank intervals, all of 6 checkpoints together", one, "covers", partial(_ranks, n, 1, 0.0)),
        ]
    for num_seeds in (2, 3, 5):
        for sd in (0.0, 0.3):
            world = f"n = 300, {num_seeds} seeds, seed sd {sd}"
            rows += [
                World("items x seeds, accuracy", world, "covers", partial(_recipe, num_seeds, sd)),
                World("items x seeds, difference in accuracy", world, "covers", partial(_difference, num_seeds, sd)),
                World("smoothed bootstrap with seeds, macro-F1", world, "covers", partial(_f1, 300, num_seeds, sd)),
            ]
        rows += [
            World(
                "bootstrap with seeds, difference in macro-F1",
                world,
                "covers",
                partial(_f1_difference, 300, num_seeds, sd),
            ),
            World("rank intervals, all of 6 recipes together", world, "covers", partial(_ranks, 300, num_seeds, sd)),
        ]
    rows += [
        World("MOVER, mean accuracy of datasets", "4 datasets of n = 300, 1 seed", "covers", partial(_mean, 1, 0.0)),
        World(
            "MOVER, mean accuracy of datasets",
            "4 datasets of n = 300, 3 seeds, seed sd 0.3",
            "covers",
            partial(_mean, 3, 0.3),
        ),
        World(
            "order statistics, median latency", "200 requests, log-normal", "covers", partial(_quantile, 200, 0.5), FINE
        ),
        World(
            "order statistics, 99th percentile", "1000 requests, log-normal", "covers", partial(_quantile, 1000, 0.99)
        ),
    ]
    for parts in (
        "independent requests",
        "requests that swing with the 50 before them, sd 0.1",
        "processes with levels of their own, sd 0.05",
    ):
        world = f"3 processes of 400 requests, {parts}"
        rows.append(World("P50, widest of three intervals", world, "covers", partial(_processes, parts), FINE))
    for n in (200, 1000):
        one = f"n = {n}, equal checkpoints"
        rows += [
            World("McNemar mid-p", one, "errs", partial(_mcnemar, n), SHARP),
            World("approximate randomisation, macro-F1", one, "errs", partial(_f1_test, n, 1, 0.0), SHARP),
            World("max-T, any of 15 pairs", one, "errs", partial(_family, n, 1, 0.0, ITEM_SD), SHARP),
        ]
    rows.append(
        World(
            "max-T, any of 15 pairs",
            "n = 200, equal checkpoints, 10 % discordant",
            "errs",
            partial(_family, 200, 1, 0.0, 8.0),
            SHARP,
        )
    )
    for num_seeds in (2, 3, 5):
        for sd in (0.0, 0.3):
            world = f"n = 300, {num_seeds} seeds, equal recipes, seed sd {sd}"
            fine, sharp = (FINE, SHARP) if sd else (1, 1)
            rows += [
                World("items x seeds, p of the difference", world, "errs", partial(_recipe_test, num_seeds, sd), sharp),
                World("bootstrap with seeds, macro-F1", world, "errs", partial(_f1_test, 300, num_seeds, sd), fine),
                World("max-T, any of 15 pairs", world, "errs", partial(_family, 300, num_seeds, sd, ITEM_SD)),
            ]
    rows += [
        World("TOST at 1 point", "n = 5000, difference 0.01, 1 seed", "errs", _equivalence, SHARP),
        World("Friedman", "12 datasets, 4 equal entries", "errs", partial(_datasets, "friedman"), SHARP),
        World(
            "Wilcoxon with Holm, any of 6 pairs",
            "12 datasets, 4 equal entries",
            "errs",
            partial(_datasets, "wilcoxon"),
            SHARP,
        ),
    ]
    return [*rows, *board_worlds(), *rare_worlds()]


def wilson_coverage(n: int, p: float) -> tuple[float, float]:
    """Return the exact coverage of Wilson's interval and its mean width, summed over the binomial distribution."""
    chance = scipy.stats.binom.pmf(np.arange(n + 1), n, p)
    low, high = _wilson_ends(n)
    return float(chance[(low <= p) & (p <= high)].sum()), float(chance @ (high - low))


@cache
def _wilson_ends(n: int) -> npt.NDArray[np.float64]:
    """Return both ends `(2, n + 1)` for each number of right predictions."""
    return np.array([(i.low, i.high) for i in (wilson(k, n) for k in range(n + 1))]).T


def _f1(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    """Check the interval of macro-F1.

    With classes of equal size and symmetric errors, macro-F1 in the population equals the accuracy.
    """
    drawn = joint(rng, outcomes(rng, n, 1, num_seeds, sd, ITEM_SD))
    return seen(drawn.interval("a", "f1"), truth(sd, ITEM_SD))


def _recipe(num_seeds: int, sd: float, rng: Rng) -> Seen:
    return seen(two_way(outcomes(rng, 300, 1, num_seeds, sd, ITEM_SD)[0]), truth(sd, ITEM_SD))


def _difference(num_seeds: int, sd: float, rng: Rng) -> Seen:
    found = paired_accuracy(*outcomes(rng, 300, 2, num_seeds, sd, ITEM_SD))
    return found.low <= 0 <= found.high, found.high - found.low


def _recipe_test(num_seeds: int, sd: float, rng: Rng) -> Seen:
    return paired_accuracy(*outcomes(rng, 300, 2, num_seeds, sd, ITEM_SD)).p_value <= 0.05, None


def _f1_difference(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    return f1_difference(rng, labels(n), answers(outcomes(rng, n, 2, num_seeds, sd, ITEM_SD)), 0.0)


def _f1_test(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    return f1_test(rng, labels(n), answers(outcomes(rng, n, 2, num_seeds, sd, ITEM_SD)))


def _newcombe(n: int, rng: Rng) -> Seen:
    low, high = newcombe_paired(*(int(x) for x in rng.multinomial(n, (0.80, 0.07, 0.04, 0.09))))
    return low <= 0.03 <= high, high - low


def _mcnemar(n: int, rng: Rng) -> Seen:
    a, b = outcomes(rng, n, 2, 1, 0, ITEM_SD)
    return paired_accuracy(a, b).p_value <= 0.05, None


def _family(n: int, num_seeds: int, sd: float, item_sd: float, rng: Rng) -> Seen:
    drawn = joint(rng, outcomes(rng, n, NUM_MODELS, num_seeds, sd, item_sd))
    return bool(
        rank_all(drawn.names, drawn.accuracy, drawn.accuracy_draws, drawn.num_items).p_adjusted.min() <= 0.05
    ), None


def _ranks(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    """Return whether every rank interval covers all true ranks of its model; two true accuracies are equal."""
    drawn = joint(rng, outcomes(rng, n, NUM_MODELS, num_seeds, sd, ITEM_SD, SPREAD))
    ranking = rank_all(drawn.names, drawn.accuracy, drawn.accuracy_draws, drawn.num_items)
    below = np.asarray(SPREAD)
    first = 1 + (below[None] < below[:, None]).sum(axis=1)
    last = NUM_MODELS - (below[None] > below[:, None]).sum(axis=1)
    covered = bool(((ranking.low <= first) & (last <= ranking.high)).all())
    return covered, float((ranking.high - ranking.low).mean())


def _mean(num_seeds: int, sd: float, rng: Rng) -> Seen:
    """Check the interval of the mean over four datasets of different difficulty, with independent items and seeds."""
    below = (0.0, 0.3, 0.6, 0.9)
    parts = []
    for b in below:
        right = outcomes(rng, 300, 1, num_seeds, sd, ITEM_SD, (b,))[0]
        parts.append(wilson(int(right.sum()), 300) if num_seeds == 1 else clipped(two_way(right)))
    return seen(mean_of_independent(parts), float(np.mean([truth(sd, ITEM_SD, b) for b in below])))


def _quantile(n: int, q: float, rng: Rng) -> Seen:
    found = quantile_with_interval(rng.lognormal(sigma=0.3, size=n), q)
    true = float(np.exp(0.3 * scipy.stats.norm.ppf(q)))
    low, high = found.low, found.high
    assert low is not None and high is not None, "such samples bound such quantiles"
    return low <= true <= high, None


def _processes(parts: str, rng: Rng) -> Seen:
    """Check the interval of the median of requests that depend on each other; the true median is 1."""
    logs = rng.normal(0, 0.2, (3, 400))
    if parts.startswith("processes"):
        logs += rng.normal(0, 0.05, (3, 1))
    elif parts.startswith("requests"):
        state = rng.normal(0, 0.1, 3)
        for request in range(400):
            logs[:, request] += state
            state = 0.98 * state + rng.normal(0, 0.1 * np.sqrt(1 - 0.98**2), 3)
    (found,) = request_quantiles(np.exp(logs).reshape(3, 16, 25), (0.5,))
    assert found.low is not None and found.high is not None, "1,200 requests bound a median"
    return found.low <= 1 <= found.high, None


def _equivalence(rng: Rng) -> Seen:
    both, only_a, only_b, neither = rng.multinomial(5000, (0.80, 0.02, 0.01, 0.17))
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    pair = paired_accuracy(a, b)
    return -pair.rope < pair.rope_low and pair.rope_high < pair.rope, None


def _datasets(test: Literal["friedman", "wilcoxon"], rng: Rng) -> Seen:
    found = across_datasets(0.8 + 0.1 * rng.standard_normal((12, 1)) + 0.02 * rng.standard_normal((12, 4)))
    assert found is not None, "12 datasets are enough"
    return (found.friedman_p if test == "friedman" else float(found.p_wilcoxon_holm.min())) <= 0.05, None
