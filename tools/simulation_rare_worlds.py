"""Simulated worlds where errors depend on the class, classes or errors are rare, or entries and datasets are unequal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
from simulation_draws import (
    FINE,
    ITEM_SD,
    NUM_DRAWS,
    Classes,
    Rng,
    Seen,
    Table,
    World,
    answers,
    f1_difference,
    f1_test,
    labels,
    outcomes,
    seen,
    truth,
)

from moodbench.statistics.bootstrap import FEW_TEXTS, BootstrapDraws, bootstrap_draws
from moodbench.statistics.intervals import clipped, mean_of_independent, two_way, wilson
from moodbench.statistics.overall import mean_draws
from moodbench.statistics.paired import paired_accuracy
from moodbench.statistics.rank_intervals import Ranking
from moodbench.statistics.seeds import SeedPrior, seed_priors
from moodbench.statistics.smoothed import f1_of_confusion

Recalls = tuple[float, float]
EQUAL: Sequence[tuple[int, Recalls, Recalls]] = (
    (500, (0.9, 0.6), (0.6, 0.9)),
    (2000, (0.95, 0.65), (0.65, 0.95)),
    (500, (1.0, 0.0), (0.5, 0.5)),
)
"""Number of texts, and the recalls of two entries that are equally accurate on two classes of equal size."""
RARE: Sequence[tuple[int, float, Recalls, str]] = (
    *((n, 0.05, (0.95, 0.05), "random labels") for n in (100, 200, 500)),
    (1000, 0.01, (0.99, 0.01), "random labels"),
    *((n, 0.05, (0.98, 0.5), "recalls 98 and 50 %") for n in (100, 200, 500)),
    (1000, 0.01, (0.995, 0.5), "recalls 99.5 and 50 %"),
    (200, 0.5, (0.99, 0.99), "accuracy 99 %"),
)
"""Number of texts, share of the rare class, recalls of an entry, and their description."""
HALF_UNSTEADY = (0.1, 0.1, 0.1, 0.3, 0.3, 0.3)
"""Seed sd on the logit of each of six recipes."""
LESS_STEADY: Sequence[tuple[Sequence[float], int, str]] = (
    ((0.17, 0.3), 2000, "two recipes with seed sd 0.17 and 0.3"),
    ((0.1,) * 5 + (0.3,), 2000, "five recipes with seed sd 0.1, one with 0.3"),
    ((0.1,) * 5 + (0.5,), 2000, "five recipes with seed sd 0.1, one with 0.5"),
)
"""Seed sds of recipes of which the last is less steady, number of texts, and their description."""
SIZES = (100, 1000, 1000, 1000)
"""Numbers of texts of one small dataset among large ones."""


def rare_worlds() -> list[World]:
    """Return the rows of the table, in order."""
    rows: list[World] = []
    for n, a, b in EQUAL:
        world = f"n = {n}, recalls {a[0]:g} and {a[1]:g} against {b[0]:g} and {b[1]:g}, equally accurate"
        rows.append(World("max-T of a pair", world, "errs", partial(_equal_pair, n, a, b), FINE))
    for n, share, recalls, what in RARE:
        world = f"n = {n}, 1 seed, classes of {100 * (1 - share):g} : {100 * share:g}, {what}"
        rows.append(World("smoothed bootstrap, macro-F1", world, "covers", partial(_rare_f1, n, share, recalls), FINE))
    for n, share, recalls, what in (RARE[1], RARE[2], RARE[5], RARE[6], RARE[8]):
        world = f"n = {n}, 1 seed, classes of {100 * (1 - share):g} : {100 * share:g}, {what}, equal entries"
        setting = (n, share, recalls)
        rows += [
            World("bootstrap, difference in macro-F1", world, "covers", partial(_rare_difference, *setting), FINE),
            World("max-T in macro-F1, any of 15 pairs", world, "errs", partial(_rare_family, *setting, "f1")),
            World("max-T, any of 15 pairs", world, "errs", partial(_rare_family, *setting, "accuracy")),
            World("approximate randomisation, macro-F1", world, "errs", partial(_rare_test, *setting), FINE),
        ]
    for num in (1, 2, 3):
        world = f"n = 60, {num} of the rare class, equal entries"
        rows += [
            World("max-T, any of 15 pairs", world, "errs", partial(_few_rare, num, "accuracy")),
            World("max-T in macro-F1, any of 15 pairs", world, "errs", partial(_few_rare, num, "f1")),
        ]
    for num_seeds in (2, 3):
        world = f"n = 300, {num_seeds} seeds, six recipes with seed sd 0.1 and 0.3"
        what = "moderated items x seeds, difference in accuracy"
        rows += [
            World("moderated items x seeds, accuracy", world, "covers", partial(_moderated, num_seeds)),
            World(
                "moderated items x seeds, accuracy",
                f"{world}: those of 0.3",
                "covers",
                partial(_unsteady, HALF_UNSTEADY, 300, num_seeds),
                FINE,
            ),
            World(what, world, "covers", partial(_moderated_pair, HALF_UNSTEADY, 300, num_seeds, None)),
            World("max-T, any of 15 pairs", f"{world}, equal", "errs", partial(_moderated_family, num_seeds)),
            World(
                "smoothed bootstrap with moderated seeds, macro-F1", world, "covers", partial(_moderated_f1, num_seeds)
            ),
        ]
        for sds, n, those in LESS_STEADY:
            world = f"n = {n}, {num_seeds} seeds, {those}: the last"
            rows += [
                World(
                    "moderated items x seeds, accuracy", world, "covers", partial(_unsteady, sds, n, num_seeds), FINE
                ),
                World(
                    what, f"{world} and the first", "covers", partial(_moderated_pair, sds, n, num_seeds, (-1, 0)), FINE
                ),
            ]
    sizes = "datasets of " + ", ".join(f"{n:,}" for n in SIZES[:2]) + ", 1,000 and 1,000 texts"
    rows += [
        World("MOVER, mean accuracy of datasets", f"{sizes}, 1 seed", "covers", _unequal_mean, FINE),
        World("max-T over datasets, any of 3 pairs", f"{sizes}, equal entries", "errs", _unequal_datasets),
    ]
    return rows


def _classes(n: int, share: float, rng: Rng) -> Classes:
    """Return labels of `n` random texts, of which a `share` is of class 1."""
    return (rng.random(n) < share).astype(np.int64)


def _said(truths: Classes, recalls: Recalls, rng: Rng) -> Classes:
    return np.where(rng.random(len(truths)) < np.array(recalls)[truths], truths, 1 - truths)


def _drawn(truths: Classes, said: Sequence[Classes], rng: Rng) -> BootstrapDraws:
    names, kinds = [chr(97 + m) for m in range(len(said))], ["recipe"] * len(said)
    return bootstrap_draws(truths, said, names, 2, kinds=kinds, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))


def _any(ranking: Ranking) -> bool:
    return bool((ranking.p_adjusted <= ranking.alpha).any())


def _equal_pair(n: int, a: Recalls, b: Recalls, rng: Rng) -> Seen:
    truths = _classes(n, 0.5, rng)
    return _any(_drawn(truths, [_said(truths, a, rng), _said(truths, b, rng)], rng).accuracy_ranking), None


@cache
def _rare_truth(share: float, recalls: Recalls) -> float:
    cells = np.array([[recalls[0], 1 - recalls[0]], [1 - recalls[1], recalls[1]]])
    return float(f1_of_confusion(np.array([1 - share, share])[:, None] * cells))


def _enough(n: int, share: float, rng: Rng) -> Classes:
    """Return labels of a world in which macro-F1 has an interval: others show none, with the reason."""
    truths = _classes(n, share, rng)
    while np.bincount(truths, minlength=2).min() < FEW_TEXTS:
        truths = _classes(n, share, rng)
    return truths


def _rare_f1(n: int, share: float, recalls: Recalls, rng: Rng) -> Seen:
    truths = _enough(n, share, rng)
    found = _drawn(truths, [_said(truths, recalls, rng)], rng).interval("a", "f1_macro")
    return seen(found, _rare_truth(share, recalls))


def _rare_difference(n: int, share: float, recalls: Recalls, rng: Rng) -> Seen:
    truths = _enough(n, share, rng)
    return f1_difference(rng, truths, [_said(truths, recalls, rng) for _ in range(2)], 0.0)


def _rare_family(n: int, share: float, recalls: Recalls, metric: str, rng: Rng) -> Seen:
    truths = _classes(n, share, rng)
    drawn = _drawn(truths, [_said(truths, recalls, rng) for _ in range(6)], rng)
    return _any(drawn.f1_ranking if metric == "f1" else drawn.accuracy_ranking), None


def _rare_test(n: int, share: float, recalls: Recalls, rng: Rng) -> Seen:
    truths = _enough(n, share, rng)
    return f1_test(rng, truths, [_said(truths, recalls, rng) for _ in range(2)])


def _few_rare(num: int, metric: str, rng: Rng) -> Seen:
    """Check six entries that guess the label of the rare texts and know that of nearly all others."""
    truths = np.repeat([0, 1], [60 - num, num])
    drawn = _drawn(truths, [_said(truths, (0.98, 0.5), rng) for _ in range(6)], rng)
    return _any(drawn.f1_ranking if metric == "f1" else drawn.accuracy_ranking), None


def _recipes(num_seeds: int, rng: Rng, sds: Sequence[float] = HALF_UNSTEADY, n: int = 300) -> list[Table]:
    """Return right or wrong `(n, seeds)` of recipes with these seed sds, on texts of shared difficulty."""
    item = 1.5 + ITEM_SD * rng.standard_normal((n, 1))
    effects = [sd * rng.standard_normal(num_seeds) for sd in sds]
    return [rng.random((n, num_seeds)) < 1 / (1 + np.exp(-item - effect)) for effect in effects]


def _priors(tables: Sequence[Table]) -> list[SeedPrior]:
    return seed_priors([table.mean(axis=0) for table in tables], ["recipe"] * len(tables), [True] * len(tables))


def _moderated(num_seeds: int, rng: Rng) -> Seen:
    tables, m = _recipes(num_seeds, rng), int(rng.integers(6))
    return seen(two_way(tables[m], prior=_priors(tables)[m]), truth(HALF_UNSTEADY[m], ITEM_SD))


def _unsteady(sds: Sequence[float], n: int, num_seeds: int, rng: Rng) -> Seen:
    tables = _recipes(num_seeds, rng, sds, n)
    return seen(two_way(tables[-1], prior=_priors(tables)[-1]), truth(sds[-1], ITEM_SD))


def _moderated_pair(sds: Sequence[float], n: int, num_seeds: int, which: tuple[int, int] | None, rng: Rng) -> Seen:
    """Check the difference of two recipes, random ones if `which` is None."""
    tables = _recipes(num_seeds, rng, sds, n)
    a, b = rng.choice(len(sds), 2, replace=False).tolist() if which is None else which
    priors = _priors(tables)
    found = paired_accuracy(tables[a], tables[b], prior=priors[a].of_difference(priors[b]))
    true = truth(sds[a], ITEM_SD) - truth(sds[b], ITEM_SD)
    return found.low <= true <= found.high, found.high - found.low


def _moderated_draws(num_seeds: int, rng: Rng) -> BootstrapDraws:
    return _drawn(labels(300), answers(np.stack(_recipes(num_seeds, rng))), rng)


def _moderated_family(num_seeds: int, rng: Rng) -> Seen:
    return _any(_moderated_draws(num_seeds, rng).accuracy_ranking), None


def _moderated_f1(num_seeds: int, rng: Rng) -> Seen:
    m = int(rng.integers(6))
    found = _moderated_draws(num_seeds, rng).interval("abcdef"[m], "f1_macro")
    return seen(clipped(found), truth(HALF_UNSTEADY[m], ITEM_SD))


def _unequal_mean(rng: Rng) -> Seen:
    below = (0.9, 0.0, 0.3, 0.6)
    parts = [
        wilson(int(outcomes(rng, n, 1, 1, 0.0, ITEM_SD, (b,)).sum()), n) for n, b in zip(SIZES, below, strict=True)
    ]
    return seen(mean_of_independent(parts), float(np.mean([truth(0.0, ITEM_SD, b) for b in below])))


def _unequal_datasets(rng: Rng) -> Seen:
    parts = {str(n): _drawn(labels(size), answers(outcomes(rng, size, 3, 1, 0.0, ITEM_SD)), rng)
             for n, size in enumerate(SIZES)}  # fmt: skip
    found = mean_draws(parts)
    assert found is not None
    return _any(found.accuracy_ranking), None
