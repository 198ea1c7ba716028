"""Simulate how often each printed interval covers the truth and each test errs: the table of docs/STATISTICS.md.

`python tools/simulate_coverage.py --output docs/STATISTICS.md` writes the document; without --output it is
printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from simulation_draws import NUM_DRAWS, Seen
from simulation_worlds import wilson_coverage, worlds

COVERS, ERRS = 0.93, 0.056
"""Requirements: nominal 95 % intervals cover at least the first share, tests at 5 % err in at most the second."""
CHUNK = 250
"""Worlds simulated by one task.

Each chunk has its own random numbers, so that the number of processes does not change the results.
"""
WILSON = ((200, 0.7), (200, 0.9), (200, 0.97), (2000, 0.86), (25_000, 0.95))
TEXT = """# How often the intervals cover and the tests err

Written by `python tools/simulate_coverage.py --worlds {worlds} --seed {seed} --output docs/STATISTICS.md`.

Every row is a world in which the truth is known, drawn {worlds} times, or up to {sharp} times where the share found is \
near the requirement. An interval of nominally 95 % must cover the truth
in at least 93 % of the worlds, and a test at 5 % must err in at most 5.6 %. \
`±` is the standard error of the share found, from the
number of worlds; rows marked *exact* are summed over all outcomes instead. \
The bootstrap has {draws} draws in each world.

Reviews of a world share their difficulty between models (sd 1.5 on the logit, mean accuracy about 75 %). \
A recipe has a seed
effect for each training with the sd named \
(0.3 on the logit is about 4 points of accuracy from one training to the next).
With *one seed* the statements are about these trained weights on new reviews (the estimand *checkpoint*); \
with *several* they are
about the recipe trained again (*recipe*). Two trainings say little about a third: rows \
of an entry alone show how
wide its interval is with 2 or 3 seeds; rows *moderated*, draws and rank intervals pool the variance between seeds with \
the other recipes of
the world, except that of a recipe which is less steady than the others by a test at 25 %. Macro-F1 has an interval where the rarest class has 5 texts or more: other worlds are not in its rows. With *speed noise* each of three fresh processes measures a speed of its own, \
with the sd named on the logarithm.

{table}

{verdict}

Two entries that are trainings of one recipe are never ranked by `compare`: \
it names no winner, whatever the p-value. On the board,
*max-T, any of 15 pairs* says how often any of six equally good entries is declared better than another.

Wilson's interval is known to miss near the ends of the scale: just above 0.1765 / n, \
or as near to 1, it covers 83.8 % (Brown, Cai &
DasGupta 2001). From 50 to 99 % accuracy at n = 200 it covers {least} to {most} %, {mean} % in the mean.
"""


@dataclass(frozen=True)
class Finding:
    """Row of the table."""

    what: str
    world: str
    kind: Literal["covers", "errs"]
    share: float
    width: float | None
    """Mean width of the interval in its own unit."""
    num_worlds: int | None
    """Number of simulated worlds; None if the share is exact."""

    @property
    def standard_error(self) -> float:
        """Standard error of the share, from the number of worlds."""
        return 0.0 if self.num_worlds is None else float(np.sqrt(self.share * (1 - self.share) / self.num_worlds))

    @property
    def reached(self) -> bool:
        """Whether the share meets the requirement."""
        return self.share >= COVERS if self.kind == "covers" else self.share <= ERRS


def simulate(num_worlds: int, seed: int = 0, pool: Executor | None = None, *, reduced: bool = False) -> list[Finding]:
    """Return all rows of the table, each simulated `num_worlds` times or a multiple of that (`World.times`).

    It takes about 1.4 s of one core per world. With `reduced`, for CI, every row has the same number of worlds, but
    slow rows a fifth of it: 0.3 s per world.
    Raises: ValueError if `num_worlds` is less than 1.
    """
    if num_worlds < 1:
        raise ValueError(f"worlds is {num_worlds}; allowed is 1 or more")
    exact = [(f"n = {n:,}, accuracy {p}", *wilson_coverage(n, p)) for n, p in WILSON]
    found = [Finding("Wilson, accuracy", world, "covers", share, width, None) for world, share, width in exact]
    rows = worlds()
    few = max(1, num_worlds // 5)
    totals = [(few if row.slow else num_worlds) if reduced else num_worlds * row.times for row in rows]
    sizes = [[min(CHUNK, total - start) for start in range(0, total, CHUNK)] for total in totals]
    tasks = [(row, size, (seed, row, chunk)) for row, each in enumerate(sizes) for chunk, size in enumerate(each)]
    results: Iterator[list[Seen]] = iter(
        [_simulated(task) for task in tasks] if pool is None else _gathered([pool.submit(_simulated, t) for t in tasks])
    )
    for row, each in zip(rows, sizes, strict=True):
        seen = [one for _ in each for one in next(results)]
        widths = [width for _, width in seen if width is not None]
        share = float(np.mean([hit for hit, _ in seen]))
        found.append(
            Finding(row.what, row.world, row.kind, share, float(np.mean(widths)) if widths else None, len(seen))
        )
    return found


def _gathered(futures: Sequence[Future[list[Seen]]]) -> Iterator[list[Seen]]:
    for future in futures:
        yield future.result()


def _simulated(task: tuple[int, int, tuple[int, int, int]]) -> list[Seen]:
    """Return the result of each world of one chunk: `task` is (row number, number of worlds, entropy of the rng)."""
    row, size, entropy = task
    rng, once = np.random.default_rng(entropy), worlds()[row].once
    return [once(rng) for _ in range(size)]


def as_markdown(findings: Sequence[Finding]) -> str:
    """Return the table of docs/STATISTICS.md."""
    lines = ["| what | world | nominal | found | mean width |", "| :-- | :-- | --: | --: | --: |"]
    for f in findings:
        nominal = "covers 95 %" if f.kind == "covers" else "errs 5 %"
        error = "exact" if f.num_worlds is None else f"± {100 * f.standard_error:.1f}"
        unit = " places" if f.what.startswith("rank") else " points"
        scale = 1 if f.what.startswith("rank") else 100
        width = "" if f.width is None else f"{scale * f.width:.1f}{unit}"
        lines.append(f"| {f.what} | {f.world} | {nominal} | {100 * f.share:.1f} % ({error}) | {width} |")
    return "\n".join(lines)


def document(findings: Sequence[Finding], seed: int) -> str:
    """Return the text of docs/STATISTICS.md, without a date."""
    missed = [f"{f.what} ({f.world}): {100 * f.share:.1f} %" for f in findings if not f.reached]
    verdict = "Not reached: " + "; ".join(missed) + "." if missed else "Every row reaches what is asked."
    over = [wilson_coverage(200, p)[0] for p in np.arange(0.5, 0.9901, 0.005)]
    least, mean, most = (f"{100 * x:.1f}" for x in (min(over), float(np.mean(over)), max(over)))
    drawn = [f.num_worlds for f in findings if f.num_worlds is not None]
    return TEXT.format(
        worlds=min(drawn),
        sharp=max(drawn),
        seed=seed,
        draws=NUM_DRAWS,
        table=as_markdown(findings),
        verdict=verdict,
        least=least,
        mean=mean,
        most=most,
    )


def main() -> int:
    """Print or write the document; return 1 if a row misses its requirement, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="simulated worlds for each row; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; default: %(default)s")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the document there")
    arguments = parser.parse_args()
    for name in ("worlds", "processes"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: allowed is 1 or more")
    with ProcessPoolExecutor(arguments.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = simulate(arguments.worlds, arguments.seed, pool)
    text = document(found, arguments.seed)
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    return 0 if all(f.reached for f in found) else 1


if __name__ == "__main__":
    sys.exit(main())
