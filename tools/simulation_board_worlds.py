"""Simulated worlds for the leaderboard and `compare`: rank intervals by score, means over datasets, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # its parts load when first used
from simulation_draws import (
    FINE,
    ITEM_SD,
    NUM_DRAWS,
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

from moodbench.analysis.results import HALF_PANEL, ONE_RATER, reference_rows
from moodbench.analysis.scoring import utility_draws, with_score_ranks
from moodbench.metrics import Predictions
from moodbench.statistics.bootstrap import BootstrapDraws, bootstrap_draws, speed_noise
from moodbench.statistics.calibration import ece_null
from moodbench.statistics.composite import COMPOSITES, Weights, load_anchors, utilities_of
from moodbench.statistics.intervals import Interval, clipped, mean_of_independent
from moodbench.statistics.paired import paired_accuracy
from moodbench.statistics.rank_intervals import rank_all
from moodbench.statistics.smoothed import f1_of_confusion

GAP = 0.3
"""Logit gap of the second of two models that differ: about 4 points of accuracy."""
CELLS = {
    2: ((0.8, 0.2), ((0.95, 0.05), (0.3, 0.7))),
    3: ((0.6, 0.25, 0.15), ((0.9, 0.07, 0.03), (0.2, 0.6, 0.2), (0.05, 0.2, 0.75))),
}
"""Number of classes to their unequal shares, and how often each class (rows) is predicted as each label (columns)."""
SPEEDS_S = (0.010, 0.010, 0.004, 0.020, 0.002, 0.001)
"""Latency of each model in a world with scores; the last is the baseline."""

SPEED_SD, NUM_PROCESSES = 0.3, 3
"""Standard deviation of ln speed between fresh processes, and processes per model and seed, as in the full protocol."""
MOSTLY_SPEED = Weights(accuracy=0.1, f1=0.1, throughput=0.4, latency=0.4)


def board_worlds() -> list[World]:
    """Return the rows of the table on leaderboards and verdicts, in order."""
    rows: list[World] = []
    for n, num_seeds, sd in ((200, 1, 0.0), (1000, 1, 0.0), (300, 3, 0.3)):
        world = f"n = {n}, {_seeds(num_seeds, sd)}"
        rows.append(
            World(
                "rank intervals by score, all of 6 together", world, "covers", partial(_score_ranks, n, num_seeds, sd)
            )
        )
    for num_seeds, sd in ((1, 0.0), (3, 0.3)):
        world = f"4 datasets of n = 300, {_seeds(num_seeds, sd)}"
        rows.append(World("MOVER, mean macro-F1 of datasets", world, "covers", partial(_mean_f1, num_seeds, sd)))
    for num_seeds, sd in ((2, 0.3), (3, 0.0), (3, 0.3), (5, 0.3)):
        world = f"n = 300, {_seeds(num_seeds, sd)}, B lower by {GAP} on the logit"
        rows += [
            World("items x seeds, difference in accuracy", world, "covers", partial(_true_difference, num_seeds, sd)),
            World(
                "bootstrap with seeds, difference in macro-F1",
                world,
                "covers",
                partial(_true_f1_difference, 300, num_seeds, sd),
                FINE if num_seeds == 5 else 1,
            ),
        ]
    for n in (200, 1000):
        world = f"n = {n}, 1 seed, B lower by {GAP} on the logit"
        rows.append(
            World("bootstrap, difference in macro-F1", world, "covers", partial(_true_f1_difference, n, 1, 0.0))
        )
    for k, n in ((2, 300), (2, 2000), (3, 300), (3, 2000)):
        world = f"n = {n}, 1 seed, {k} classes of {' : '.join(f'{100 * s:g}' for s in CELLS[k][0])}"
        rows += [
            World("smoothed bootstrap, macro-F1", world, "covers", partial(_unequal_f1, k, n), FINE),
            World("bootstrap, difference in macro-F1", world, "covers", partial(_unequal_f1_difference, k, n), FINE),
        ]
    rows.append(
        World(
            "Newcombe, difference of two trainings of one recipe",
            "n = 300, these weights, seed sd 0.3",
            "covers",
            partial(_trainings, 300),
            SHARP,
        )
    )
    rows += [
        World("people: one rater", "300 texts of 9 raters", "covers", partial(_people, ONE_RATER)),
        World("people: half of the raters", "300 texts of 9 raters", "covers", partial(_people, HALF_PANEL)),
    ]
    rows.append(
        World(
            "rank intervals, 3 checkpoints and 3 recipes",
            "n = 300, 1 and 3 seeds, seed sd 0.3",
            "covers",
            partial(_mixed, 300, SPREAD),
        )
    )
    for n in (200, 1000):
        world = f"n = {n}, equal checkpoints"
        rows.append(World("verdict of compare, better or worse", world, "errs", partial(_verdict, n, 1, 0.0), SHARP))
    for num_seeds in (2, 3, 5):
        world = f"n = 300, equal recipes (A/A), {_seeds(num_seeds, 0.3)}"
        rows.append(World("verdict of compare, better or worse", world, "errs", partial(_verdict, 300, num_seeds, 0.3)))
    for num_seeds in (1, 3):
        world = f"n = 5000, A better by 1 point, {_seeds(num_seeds, 0.02 if num_seeds > 1 else 0.0)}"
        rows += [
            World("verdict of compare, worse or equivalent", world, "errs", partial(_wrong, num_seeds), SHARP),
            World("TOST at 1 point", f"{world}, shared difficulty", "errs", partial(_tost, num_seeds), SHARP),
        ]
    for k in (2, 3):
        world = f"n = 300, equal models, {k} unequal classes"
        rows.append(
            World("approximate randomisation, macro-F1", world, "errs", partial(_unequal_f1_test, k, 300), SHARP)
        )
    for n in (200, 2000):
        rows.append(World("ECE above its null", f"n = {n}, a calibrated model", "errs", partial(_ece, n), SHARP))
    rows.append(
        World(
            "max-T, any of 15 pairs",
            "n = 300, 3 checkpoints and 3 recipes, all equal, seed sd 0.3",
            "errs",
            partial(_mixed, 300, ()),
            SHARP,
        )
    )
    for n in (200, 1500):
        world = f"n = {n}, A better by 1 point, B never right alone"
        rows.append(World("TOST at 1 point", world, "errs", partial(_tost_one_sided, n), SHARP))
    for num_seeds, sd, weights in ((1, 0.0, Weights()), (1, 0.0, MOSTLY_SPEED), (3, 0.3, MOSTLY_SPEED)):
        shares = f"{100 * (weights.throughput + weights.latency):g} % of the weight on speed"
        world = f"n = {1000 if num_seeds == 1 else 300}, {_seeds(num_seeds, sd)}, speed noise sd {SPEED_SD}, {shares}"
        once = partial(_noisy_speed_ranks, 1000 if num_seeds == 1 else 300, num_seeds, sd, weights)
        rows.append(World("rank intervals by score with speed noise, all of 6 together", world, "covers", once))
    return rows


def _seeds(num_seeds: int, sd: float) -> str:
    return "1 seed" if num_seeds == 1 else f"{num_seeds} seeds, seed sd {sd}"


def _score_ranks(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    """Return whether every rank interval by score covers the true ranks; the first two models are equal in all."""
    drawn = joint(rng, outcomes(rng, n, NUM_MODELS, num_seeds, sd, ITEM_SD, SPREAD))
    return _ranges_hold(drawn, _speeds(np.array(SPEEDS_S)), sd, Weights())


def _noisy_speed_ranks(n: int, num_seeds: int, sd: float, weights: Weights, rng: Rng) -> Seen:
    """Return the result of `_score_ranks` with a random speed of each process, around the true one."""
    drawn = joint(rng, outcomes(rng, n, NUM_MODELS, num_seeds, sd, ITEM_SD, SPREAD))
    slower = np.exp(SPEED_SD * rng.standard_normal((NUM_MODELS, num_seeds, NUM_PROCESSES)))
    latency = np.array(SPEEDS_S)[:, None, None] * slower
    measured = pd.DataFrame(
        {
            "measurement_ids": [[str(rng.integers(2**63)) for _ in range(num_seeds)] for _ in SPEEDS_S],
            "process_speed": [[[_speeds(s) for s in seed] for seed in model] for model in latency],
            "provisional": False,
        }
    )
    noisy = replace(drawn, speed_noise=speed_noise(measured, NUM_DRAWS))
    return _ranges_hold(noisy, _speeds(np.median(np.median(latency, axis=2), axis=1)), sd, weights)


def _speeds(latency_s: Any) -> dict[str, Any]:
    """Return latency and the matching throughput, under the names in the records of processes."""
    return {"latency_p50_s": latency_s, "texts_per_s": 4 / latency_s}


def _ranges_hold(drawn: BootstrapDraws, measured: dict[str, Any], sd: float, weights: Weights) -> Seen:
    """Return whether all rank intervals from `drawn` and the `measured` speeds cover the ranks of the true scores."""
    true = np.array([truth(sd, ITEM_SD, below) for below in SPREAD])
    exact, _ = _scored(drawn.names, true, true, _speeds(np.array(SPEEDS_S)), weights)
    _, rows = _scored(drawn.names, drawn.accuracy, drawn.f1_macro, measured, weights)
    utilities = utility_draws(rows, drawn, load_anchors(), COMPOSITES["pinned"])
    assert utilities is not None
    ranked = with_score_ranks(rows, utilities.under(weights))
    first = 1 + (exact[None] > exact[:, None] + 1e-9).sum(axis=1)
    last = NUM_MODELS - (exact[None] < exact[:, None] - 1e-9).sum(axis=1)
    low, high = (ranked[c].to_numpy(dtype=float) for c in ("rank_low", "rank_high"))
    return bool(((low <= first) & (last <= high)).all()), float((high - low).mean())


def _scored(
    names: Sequence[str], accuracy: npt.ArrayLike, f1: npt.ArrayLike, speeds: dict[str, Any], weights: Weights
) -> tuple[npt.NDArray[np.float64], pd.DataFrame]:
    """Return the pinned scores of a world's models and their leaderboard rows; the last is the baseline."""
    rows = pd.DataFrame({"name": list(names), "accuracy": accuracy, "f1_macro": f1})
    rows = rows.assign(
        latency_p50_s=speeds["latency_p50_s"],
        throughput_texts_per_s=speeds["texts_per_s"],
        base_name=names[-1],
        base_accuracy=rows["accuracy"].iloc[-1],
        base_f1_macro=rows["f1_macro"].iloc[-1],
        ceiling_accuracy=np.nan,
        ceiling_f1_macro=np.nan,
    )
    pinned = COMPOSITES["pinned"]
    score = pinned.score(utilities_of(rows, pinned, load_anchors()), weights)
    return np.asarray(score, dtype=np.float64), rows.assign(
        score=score, rank=score.rank(ascending=False, method="min").astype("Int64")
    )


def _mean_f1(num_seeds: int, sd: float, rng: Rng) -> Seen:
    """Check the interval of mean macro-F1 over datasets of different difficulty, combined as on the leaderboard."""
    below = (0.0, 0.3, 0.6, 0.9)
    parts = [
        clipped(joint(rng, outcomes(rng, 300, 1, num_seeds, sd, ITEM_SD, (b,))).interval("a", "f1_macro"))
        for b in below
    ]
    return seen(mean_of_independent(parts), float(np.mean([truth(sd, ITEM_SD, b) for b in below])))


def _true_difference(num_seeds: int, sd: float, rng: Rng) -> Seen:
    found = paired_accuracy(*outcomes(rng, 300, 2, num_seeds, sd, ITEM_SD, (0.0, GAP)))
    return found.low <= _gap(sd) <= found.high, found.high - found.low


def _true_f1_difference(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    right = outcomes(rng, n, 2, num_seeds, sd, ITEM_SD, (0.0, GAP))
    return f1_difference(rng, labels(n), answers(right), _gap(sd))


def _gap(sd: float) -> float:
    return truth(sd, ITEM_SD) - truth(sd, ITEM_SD, GAP)


def _unequal(k: int, n: int, num_models: int, rng: Rng) -> tuple[npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """Return labels in fixed unequal shares, and predictions of equally good models.

    Each prediction of a model is, with probability 1/2, drawn in common with the other models.
    """
    shares, said = CELLS[k]
    truths = np.repeat(np.arange(k), np.rint(n * np.array(shares)).astype(int))
    upto = np.cumsum(said, axis=1)[truths]
    common, copied = rng.random(len(truths)), rng.random((num_models, len(truths))) < 0.5
    drawn = np.where(copied, common, rng.random((num_models, len(truths))))
    return truths, [np.minimum((d[:, None] > upto).sum(axis=1), k - 1) for d in drawn]


@cache
def _unequal_truth(k: int) -> float:
    shares, said = CELLS[k]
    return float(f1_of_confusion(np.array(shares)[:, None] * np.array(said)))


def _unequal_f1(k: int, n: int, rng: Rng) -> Seen:
    truths, said = _unequal(k, n, 1, rng)
    drawn = bootstrap_draws(truths, said, "a", k, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))
    return seen(drawn.interval("a", "f1_macro"), _unequal_truth(k))


def _unequal_f1_difference(k: int, n: int, rng: Rng) -> Seen:
    return f1_difference(rng, *_unequal(k, n, 2, rng), 0.0, k)


def _unequal_f1_test(k: int, n: int, rng: Rng) -> Seen:
    return f1_test(rng, *_unequal(k, n, 2, rng), k)


def _trainings(n: int, rng: Rng) -> Seen:
    """Check the difference of two trainings with their own seed effects: the truth is that of these weights."""
    effects = 0.3 * rng.standard_normal(2)
    found = paired_accuracy(*outcomes(rng, n, 2, 1, 0.0, ITEM_SD, effects.tolist()))
    true = float(_checkpoint(effects[0]) - _checkpoint(effects[1]))
    return found.low <= true <= found.high, found.high - found.low


def _checkpoint(below: float) -> float:
    """Return the expected accuracy of weights whose logits are lower by `below`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    return float((weights / (1 + np.exp(below - 1.5 - ITEM_SD * nodes))).sum() / weights.sum())


@cache
def _as_recipe(sd: float) -> float:
    """Return the logit gap of weights whose accuracy equals the mean accuracy of the recipe."""
    return float(scipy.optimize.brentq(lambda below: _checkpoint(below) - truth(sd, ITEM_SD), -2, 2))


def _mixed(n: int, spread: Sequence[float], rng: Rng) -> Seen:
    """Check three models with one seed and three with three.

    With a `spread`: whether all rank intervals cover the true ranks. Without: whether any pair differs significantly.
    """
    below = np.asarray(spread if len(spread) else [0.0] * NUM_MODELS)
    single = outcomes(rng, n, 3, 1, 0.0, ITEM_SD, (below[::2] + _as_recipe(0.3)).tolist())
    several = outcomes(rng, n, 3, 3, 0.3, ITEM_SD, below[1::2].tolist())
    tables = [t for pair in zip(answers(single), answers(several), strict=True) for t in pair]
    drawn = bootstrap_draws(labels(n), tables, "abcdef", 2, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))
    ranking = rank_all(drawn.names, drawn.accuracy, drawn.accuracy_draws, drawn.num_items)
    if not len(spread):
        return bool(ranking.p_adjusted.min() <= 0.05), None
    true = np.array(
        [_checkpoint(b + _as_recipe(0.3)) if m % 2 == 0 else truth(0.3, ITEM_SD, b) for m, b in enumerate(below)]
    )
    first = 1 + (true[None] > true[:, None] + 1e-6).sum(axis=1)
    last = NUM_MODELS - (true[None] < true[:, None] - 1e-6).sum(axis=1)
    return bool(((ranking.low <= first) & (last <= ranking.high)).all()), float((ranking.high - ranking.low).mean())


def _verdict(n: int, num_seeds: int, sd: float, rng: Rng) -> Seen:
    return paired_accuracy(*outcomes(rng, n, 2, num_seeds, sd, ITEM_SD)).verdict in ("better", "worse"), None


def _one_point(num_seeds: int, rng: Rng) -> Any:
    """Return the difference of two models where A is better by exactly the limit of the region of equivalence."""
    sd = 0.02 if num_seeds > 1 else 0.0
    return paired_accuracy(*outcomes(rng, 5000, 2, num_seeds, sd, 6.0, (0.0, _one_point_lower(sd))))


@cache
def _one_point_lower(sd: float) -> float:
    return float(scipy.optimize.brentq(lambda below: truth(sd, 6.0) - truth(sd, 6.0, below) - 0.01, 0, 2))


def _wrong(num_seeds: int, rng: Rng) -> Seen:
    return _one_point(num_seeds, rng).verdict in ("worse", "equivalent"), None


def _tost(num_seeds: int, rng: Rng) -> Seen:
    found = _one_point(num_seeds, rng)
    return -found.rope < found.rope_low and found.rope_high < found.rope, None


def _tost_one_sided(n: int, rng: Rng) -> Seen:
    """Check TOST with the fewest discordant items: only A is right on 1 % of the items, only B on none."""
    alone = rng.random(n) < 0.01
    b = (np.arange(n) % 2 == 0) & ~alone
    found = paired_accuracy(b | alone, b)
    return -found.rope < found.rope_low and found.rope_high < found.rope, None


def _ratings(n: int, rng: Rng) -> npt.NDArray[np.int64]:
    """Return counts `(n, 9)` of the ratings -4 to 4 by nine raters; the mean rating varies between items."""
    middle = 1.5 * rng.standard_normal((n, 1))
    ratings = np.clip(np.rint(middle + 1.5 * rng.standard_normal((n, 9))), -4, 4).astype(int)
    return np.stack([(ratings == r).sum(axis=1) for r in range(-4, 5)], axis=1)


@cache
def _people_truth() -> dict[str, float]:
    """Return the agreement of each reference row over 60,000 items of `_ratings`."""
    rows = reference_rows("t", _ratings(60_000, np.random.default_rng(0)), 2, 0.0)
    return {row["name"]: row["accuracy"] for row in rows}


def _people(name: str, rng: Rng) -> Seen:
    (row,) = [r for r in reference_rows("t", _ratings(300, rng), 2, 0.0) if r["name"] == name]
    interval = Interval(row["accuracy"], row["accuracy_low"], row["accuracy_high"], 0.95, "normal", "checkpoint", 300)
    return seen(interval, _people_truth()[name])


def _ece(n: int, rng: Rng) -> Seen:
    logits = np.stack([np.zeros(n), rng.normal(1.0, 2.0, n)], axis=1)
    said = (rng.random(n) < 1 / (1 + np.exp(-logits[:, 1]))).astype(np.int64)
    return ece_null(Predictions(logits, said), rng, num_draws=200).p_value <= 0.05, None
