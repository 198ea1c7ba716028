"""Simulated worlds in which the truth is known: how often each interval covers it, and how often each test errs.

`python -m moodbench.comparison.simulation --worlds 2000` prints the table of docs/STATISTICS.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from moodbench.comparison.intervals import two_way, wilson
from moodbench.comparison.joint import JointDraws, joint_draws
from moodbench.comparison.paired import newcombe_paired, paired_accuracy, paired_f1
from moodbench.comparison.ranks import rank_all

Rng = np.random.Generator
NUM_DRAWS = 400
"""Bootstrap draws in each world; fewer than the board's, which only coarsens p-values."""


class Finding(NamedTuple):
    """One row of the table."""

    what: str
    world: str
    kind: str
    """covers (target: at least 93 %) or errs (target: at most 5.6 %)."""
    share: float
    width: float | None
    """Mean width of the interval, as a share."""
    num_worlds: int


def outcomes(
    rng: Rng, n: int, num_models: int, num_seeds: int, seed_sd: float, item_sd: float
) -> npt.NDArray[np.bool_]:
    """Right or wrong `(models, n, seeds)` of equally good recipes: shared item difficulty, own seed effects, own chance."""
    item = 1.5 + item_sd * rng.standard_normal((1, n, 1))
    seed = seed_sd * rng.standard_normal((num_models, 1, num_seeds))
    return np.asarray(rng.random((num_models, n, num_seeds)) < 1 / (1 + np.exp(-item - seed)))


def truth(seed_sd: float, item_sd: float) -> float:
    """The expected accuracy of such a recipe, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    logits = 1.5 + np.hypot(item_sd, seed_sd) * nodes
    return float((weights / (1 + np.exp(-logits))).sum() / weights.sum())


def simulate(num_worlds: int, seed: int = 0) -> list[Finding]:
    """The whole table; about 35 ms for each world on one core."""
    found: list[Finding] = []

    def run(what: str, world: str, kind: str, once: Callable[[Rng], tuple[bool, float | None]]) -> None:
        rng = np.random.default_rng([seed, len(found)])
        hits = [once(rng) for _ in range(num_worlds)]
        widths = [width for _, width in hits if width is not None]
        share = float(np.mean([hit for hit, _ in hits]))
        found.append(Finding(what, world, kind, share, float(np.mean(widths)) if widths else None, num_worlds))

    for n, p in ((200, 0.7), (200, 0.9), (2000, 0.86)):

        def wilsons(rng: Rng, n: int = n, p: float = p) -> tuple[bool, float | None]:
            interval = wilson(int(rng.binomial(n, p)), n)
            return interval.low <= p <= interval.high, interval.high - interval.low

        run("Wilson, accuracy", f"n = {n}, accuracy {p}", "covers", wilsons)
    for n in (200, 1000):

        def bootstrap(rng: Rng, n: int = n) -> tuple[bool, float | None]:
            right = outcomes(rng, n, 1, 1, 0, 1.5)[0, :, 0]
            labels = np.arange(n) % 2
            interval = _joint(rng, labels, [right]).interval("a", "f1")
            return interval.low <= truth(0, 1.5) <= interval.high, interval.high - interval.low

        run("stratified bootstrap, macro-F1", f"n = {n}, 1 seed", "covers", bootstrap)
    for num_seeds in (2, 3, 5):
        for seed_sd in (0.0, 0.1, 0.3):
            world = f"n = 300, {num_seeds} seeds, seed sd {seed_sd}"

            def recipe(rng: Rng, s: int = num_seeds, sd: float = seed_sd) -> tuple[bool, float | None]:
                interval = two_way(outcomes(rng, 300, 1, s, sd, 1.5)[0])
                return interval.low <= truth(sd, 1.5) <= interval.high, interval.high - interval.low

            def difference(rng: Rng, s: int = num_seeds, sd: float = seed_sd) -> tuple[bool, float | None]:
                a, b = outcomes(rng, 300, 2, s, sd, 1.5)
                pair = paired_accuracy(a, b)
                return pair.low <= 0 <= pair.high, pair.high - pair.low

            def recipe_f1(rng: Rng, s: int = num_seeds, sd: float = seed_sd) -> tuple[bool, float | None]:
                right = outcomes(rng, 300, 1, s, sd, 1.5)[0]
                interval = _joint(rng, np.arange(300) % 2, [right]).interval("a", "f1")
                return interval.low <= truth(sd, 1.5) <= interval.high, interval.high - interval.low

            def family(rng: Rng, s: int = num_seeds, sd: float = seed_sd) -> tuple[bool, float | None]:
                right = outcomes(rng, 300, 6, s, sd, 1.5)
                return _any_separated(rng, np.arange(300) % 2, list(right)), None

            run("items x seeds, accuracy", world, "covers", recipe)
            run("items x seeds, difference of two recipes", world, "covers", difference)
            run("bootstrap with seeds, macro-F1", world, "covers", recipe_f1)
            run("max-T, any of 15 pairs of equal recipes", world, "errs", family)
    for n in (200, 1000):

        def newcombe(rng: Rng, n: int = n) -> tuple[bool, float | None]:
            low, high = newcombe_paired(*(int(x) for x in rng.multinomial(n, (0.80, 0.07, 0.04, 0.09))))
            return low <= 0.03 <= high, high - low

        run("Newcombe, difference of two checkpoints", f"n = {n}, difference 0.03", "covers", newcombe)

        def mcnemar(rng: Rng, n: int = n) -> tuple[bool, float | None]:
            a, b = outcomes(rng, n, 2, 1, 0, 1.5)
            return paired_accuracy(a, b).p_value <= 0.05, None

        def randomisation(rng: Rng, n: int = n) -> tuple[bool, float | None]:
            labels = np.arange(n) % 2
            a, b = (np.where(right[:, 0], labels, 1 - labels) for right in outcomes(rng, n, 2, 1, 0, 1.5))
            pair = paired_f1(labels, a, b, 2, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))
            return pair.p_value <= 0.05, None

        def one_seed(rng: Rng, n: int = n) -> tuple[bool, float | None]:
            return _any_separated(rng, np.arange(n) % 2, list(outcomes(rng, n, 6, 1, 0, 1.5))), None

        run("McNemar mid-p", f"n = {n}, equal checkpoints", "errs", mcnemar)
        run("approximate randomisation, macro-F1", f"n = {n}, equal checkpoints", "errs", randomisation)
        run("max-T, any of 15 pairs of equal checkpoints", f"n = {n}, 1 seed", "errs", one_seed)

    def equivalence(rng: Rng) -> tuple[bool, float | None]:
        both, only_a, only_b, neither = rng.multinomial(5000, (0.80, 0.02, 0.01, 0.17))
        a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
        b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
        pair = paired_accuracy(a, b)
        return -pair.rope < pair.rope_low and pair.rope_high < pair.rope, None

    run("TOST at 1 point", "n = 5000, difference 0.01", "errs", equivalence)
    return found


def _joint(rng: Rng, labels: npt.NDArray[np.int64], right: list[npt.NDArray[np.bool_]]) -> JointDraws:
    said = [np.where(r.T == 1, labels, 1 - labels).T for r in right]
    names = [chr(97 + m) for m in range(len(right))]
    return joint_draws(labels, said, names, 2, num_draws=NUM_DRAWS, seed=int(rng.integers(2**31)))


def _any_separated(rng: Rng, labels: npt.NDArray[np.int64], right: list[npt.NDArray[np.bool_]]) -> bool:
    joint = _joint(rng, labels, right)
    return bool(rank_all(joint.names, joint.accuracy, joint.accuracy_draws).p_adjusted.min() <= 0.05)


def as_markdown(findings: list[Finding]) -> str:
    """The table of docs/STATISTICS.md."""
    lines = ["| what | world | nominal | found | mean width, points |", "| --- | --- | --- | --- | --- |"]
    for f in findings:
        nominal = "covers 95 %" if f.kind == "covers" else "errs 5 %"
        width = "" if f.width is None else f"{100 * f.width:.1f}"
        lines.append(f"| {f.what} | {f.world} | {nominal} | {100 * f.share:.1f} % | {width} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="simulated worlds for each row; default: %(default)s")
    sys.stdout.write(as_markdown(simulate(parser.parse_args().worlds)) + "\n")
